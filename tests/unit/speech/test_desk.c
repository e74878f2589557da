/* The desk with two workers that only keep what they were sent. */
#include "speech/desk.h"
#include <string.h>
#include "base/names.h"
#include "base/text.h"
#include "speech/jobs.h"

typedef struct {
  guint16 type, flags;
  guint32 session, gen;
  GBytes *payload;
} Sent;

struct ChoirWorker {
  gboolean ready, refuses;
  GArray *sent; /* Sent */
};

gboolean choir_worker_ready(const ChoirWorker *worker) {
  return worker->ready;
}

const char *choir_worker_info(const ChoirWorker *worker) {
  return worker->ready ? "{\"engine\":\"fake\",\"model\":\"m\"}" : NULL;
}

gboolean choir_worker_send(ChoirWorker *worker, guint16 type, guint16 flags, guint32 session, guint32 gen, guint32 aux,
                           const void *payload, gsize length) {
  Sent sent = {type, flags, session, gen, g_bytes_new(payload, length)};
  g_array_append_val(worker->sent, sent);
  return !worker->refuses;
}

static ChoirWorker stt, tts;
static ChoirDesk *desk;

static void sent_clear(gpointer data) {
  g_bytes_unref(((Sent *)data)->payload);
}

static void worker_init(ChoirWorker *worker) {
  *worker = (ChoirWorker){.ready = TRUE, .sent = g_array_new(FALSE, FALSE, sizeof(Sent))};
  g_array_set_clear_func(worker->sent, sent_clear);
}

static void begin(void) {
  worker_init(&stt);
  worker_init(&tts);
  desk = choir_desk_new();
  choir_desk_set_workers(desk, &stt, &tts);
}

static void end(void) {
  choir_desk_free(desk);
  g_array_unref(stt.sent);
  g_array_unref(tts.sent);
}

static const Sent *last(const ChoirWorker *worker) {
  g_assert_cmpuint(worker->sent->len, >, 0);
  return &g_array_index(worker->sent, Sent, worker->sent->len - 1);
}

/* The worker answers what it got last. */
static void answer(const ChoirWorker *worker, guint16 type, const char *payload, gsize length) {
  const Sent *job = last(worker);
  const ChoirWireFrame frame = {.type = type,
                                .session = job->session,
                                .gen = job->gen,
                                .length = (guint32)length,
                                .payload = (const guint8 *)payload};
  g_assert_true(choir_desk_frame(desk, &frame));
}

static void say_text(const char *text) {
  g_autofree char *json = g_strdup_printf("{\"text\":\"%s\",\"language\":\"en\",\"no_speech\":0.25}", text);
  answer(&stt, CHOIR_WIRE_STT_TEXT, json, strlen(json));
}

static void settle(void) {
  while (g_main_context_iteration(NULL, FALSE))
    ;
}

typedef struct {
  GString *text;
  guint done, hungry;
  guint64 end_ms, samples;
  GError *error;
  ChoirDeskListen *cancels; /* inside the next text */
} Client;

static void on_text(const ChoirDeskText *piece, gpointer user) {
  Client *client = user;
  g_string_append_printf(client->text, "%s|", piece->text);
  g_assert_cmpuint(piece->begin_ms, ==, client->end_ms);
  client->end_ms = piece->end_ms;
  if (client->cancels)
    choir_desk_listen_cancel(client->cancels);
}

static void on_hungry(gpointer user) {
  ((Client *)user)->hungry++;
}

static void on_done(const GError *error, gpointer user) {
  Client *client = user;
  client->done++;
  g_clear_error(&client->error);
  client->error = error ? g_error_copy(error) : NULL;
}

static void on_pcm(const gint16 *samples, gsize n, gpointer user) {
  ((Client *)user)->samples += n;
}

static const ChoirDeskListenHandlers listening = {.text = on_text, .hungry = on_hungry, .done = on_done};
static const ChoirDeskSpeakHandlers speaking = {.pcm = on_pcm, .done = on_done};

static void client_init(Client *client) {
  *client = (Client){.text = g_string_new(NULL)};
}

static void client_clear(Client *client) {
  g_string_free(client->text, TRUE);
  g_clear_error(&client->error);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Client, client_clear)

static ChoirDeskListen *listen_to(Client *client, guint piece_ms) {
  ChoirDeskWish wish = {.language = "de", .piece_ms = piece_ms};
  ChoirDeskListen *listen = choir_desk_listen(desk, &wish, &listening, client, NULL);
  g_assert_nonnull(listen);
  return listen;
}

static gboolean give(ChoirDeskListen *listen, guint seconds) {
  g_autofree gint16 *samples = g_new0(gint16, (gsize)seconds * CHOIR_RATE_MIC);
  return choir_desk_listen_audio(listen, samples, (gsize)seconds * CHOIR_RATE_MIC);
}

static void test_listen(void) {
  g_auto(Client) client = {0};
  begin();
  client_init(&client);
  ChoirDeskListen *listen = listen_to(&client, 0);
  g_assert_true(give(listen, 2));
  g_assert_cmpuint(stt.sent->len, ==, 0); /* it may go on */
  choir_desk_listen_end(listen);
  const Sent *job = last(&stt);
  gsize length;
  const guint8 *payload = g_bytes_get_data(job->payload, &length);
  g_assert_cmpint(job->type, ==, CHOIR_WIRE_STT_JOB);
  g_assert_cmpint(job->flags, ==, CHOIR_JOB_BACKGROUND | CHOIR_JOB_OPTIONS);
  g_assert_true(job->session >= 0x80000000u); /* no live client has such a number */
  g_assert_cmpuint(length, ==, 2 + payload[0] + 2 * 2 * CHOIR_RATE_MIC);
  g_assert_nonnull(g_strstr_len((const char *)payload + 2, payload[0], "\"language\":\"de\""));
  say_text("hello");
  g_assert_cmpuint(client.done, ==, 0); /* from the loop only */
  settle();
  g_assert_cmpstr(client.text->str, ==, "hello|");
  g_assert_cmpuint(client.done, ==, 1);
  g_assert_no_error(client.error);
  g_assert_cmpuint(client.end_ms, ==, 2000);
  say_text("late"); /* nobody is there any more */
  end();
}

/* Pieces while the rest still comes in, and a sender that is asked to wait. */
static void test_pieces(void) {
  g_auto(Client) client = {0};
  begin();
  client_init(&client);
  ChoirDeskListen *listen = listen_to(&client, 0);
  g_assert_true(give(listen, 29));
  g_assert_cmpuint(stt.sent->len, ==, 1);
  g_assert_false(give(listen, 40));
  say_text("one");
  g_assert_cmpuint(client.hungry, ==, 0);
  say_text("two");
  g_assert_cmpuint(client.hungry, ==, 1);
  choir_desk_listen_end(listen);
  say_text("three");
  settle();
  g_assert_cmpstr(client.text->str, ==, "one|two|three|");
  g_assert_cmpuint(client.end_ms, ==, 69000);
  g_assert_cmpuint(client.done, ==, 1);
  end();
}

static void test_no_audio(void) {
  g_auto(Client) client = {0};
  begin();
  client_init(&client);
  choir_desk_listen_end(listen_to(&client, 0));
  g_assert_cmpuint(client.done, ==, 0);
  settle();
  g_assert_cmpuint(client.done, ==, 1);
  g_assert_cmpuint(stt.sent->len, ==, 0);
  end();
}

/* One job at a time; a short question is served before the rest of a long recording. */
static void test_turns(void) {
  g_auto(Client) client = {0}, other = {0};
  begin();
  client_init(&client);
  client_init(&other);
  ChoirDeskListen *listen = listen_to(&client, 0);
  give(listen, 69);
  guint32 session = last(&stt)->session;
  ChoirDeskListen *second = listen_to(&other, 0);
  give(second, 1);
  choir_desk_listen_end(second);
  g_assert_cmpuint(stt.sent->len, ==, 1);
  say_text("long 1");
  g_assert_cmpuint(last(&stt)->session, !=, session);
  say_text("short");
  settle();
  g_assert_cmpuint(other.done, ==, 1);
  g_assert_cmpuint(last(&stt)->session, ==, session);
  choir_desk_listen_cancel(listen);
  g_assert_cmpint(last(&stt)->type, ==, CHOIR_WIRE_STT_CANCEL);
  settle();
  g_assert_cmpuint(client.done, ==, 0);
  end();
}

static void test_cancel_inside(void) {
  g_auto(Client) client = {0}, other = {0};
  begin();
  client_init(&client);
  client_init(&other);
  client.cancels = listen_to(&client, 0);
  give(client.cancels, 69);
  ChoirDeskListen *second = listen_to(&other, 0);
  give(second, 30);
  say_text("only");
  g_assert_cmpstr(client.text->str, ==, "only|");
  g_assert_cmpint(last(&stt)->type, ==, CHOIR_WIRE_STT_JOB); /* the other one's turn */
  choir_desk_listen_end(second);
  say_text("a");
  say_text("b");
  settle();
  g_assert_cmpuint(other.done, ==, 1);
  g_assert_cmpuint(client.done, ==, 0);
  end();
}

static void test_speak(void) {
  g_auto(Client) client = {0};
  begin();
  client_init(&client);
  ChoirDeskSpeak *speak = choir_desk_speak(desk, 1.5, &speaking, &client, NULL);
  choir_desk_speak_clause(speak, "One.");
  choir_desk_speak_clause(speak, "Two.");
  choir_desk_speak_end(speak);
  g_assert_cmpuint(tts.sent->len, ==, 1);
  gsize length;
  const guint8 *payload = g_bytes_get_data(last(&tts)->payload, &length);
  g_assert_cmpmem(payload + length - 4, 4, "One.", 4);
  g_assert_nonnull(g_strstr_len((const char *)payload + 2, payload[0], "\"speed\":1.5"));
  answer(&tts, CHOIR_WIRE_TTS_PCM, "12345678", 8);
  choir_desk_speak_hold(speak, TRUE); /* its listener is behind */
  answer(&tts, CHOIR_WIRE_TTS_DONE, "{}", 2);
  g_assert_cmpuint(tts.sent->len, ==, 1);
  choir_desk_speak_hold(speak, FALSE);
  g_assert_cmpuint(tts.sent->len, ==, 2);
  answer(&tts, CHOIR_WIRE_TTS_PCM, "123456", 6);
  answer(&tts, CHOIR_WIRE_TTS_DONE, "{}", 2);
  settle();
  g_assert_cmpuint(client.samples, ==, 7);
  g_assert_cmpuint(client.done, ==, 1);
  end();
}

static void test_failures(void) {
  g_auto(Client) client = {0}, other = {0}, third = {0};
  g_autoptr(GError) error = NULL, busy = NULL;
  begin();
  client_init(&client);
  client_init(&other);
  client_init(&third);
  give(listen_to(&client, 0), 30);
  answer(&stt, CHOIR_WIRE_ERROR, "no\xff", 3);
  settle();
  g_assert_error(client.error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_FAILED);
  ChoirDeskListen *listen = listen_to(&other, 0);
  give(listen, 30);
  answer(&stt, CHOIR_WIRE_STT_TEXT, "rubbish", 7);
  settle();
  g_assert_error(other.error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_FAILED);
  /* The worker dies with one at work and seven that wait. */
  for (guint i = 0; i < CHOIR_DESK_OPEN; i++)
    give(listen_to(&third, 0), 1);
  ChoirDeskWish wish = {0};
  g_assert_null(choir_desk_listen(desk, &wish, &listening, &third, &busy));
  g_assert_error(busy, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_BUSY);
  stt.ready = FALSE;
  choir_desk_worker_state(desk, &stt, FALSE);
  g_clear_error(&third.error);
  settle();
  g_assert_cmpuint(third.done, ==, CHOIR_DESK_OPEN);
  g_assert_error(third.error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_UNAVAILABLE);
  g_assert_null(choir_desk_listen(desk, &wish, &listening, &third, &error));
  g_assert_error(error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_UNAVAILABLE);
  end();
}

static void test_refused_frame(void) {
  g_auto(Client) client = {0};
  begin();
  client_init(&client);
  stt.refuses = TRUE;
  give(listen_to(&client, 0), 30);
  settle();
  g_assert_error(client.error, CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_UNAVAILABLE);
  g_assert_cmpuint(client.done, ==, 1);
  end();
}

static void test_not_ours(void) {
  begin();
  const ChoirWireFrame frame = {.type = CHOIR_WIRE_STT_TEXT, .session = 7, .gen = 1};
  g_assert_false(choir_desk_frame(desk, &frame));
  end();
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/speech/desk/listen", test_listen);
  g_test_add_func("/speech/desk/pieces", test_pieces);
  g_test_add_func("/speech/desk/no-audio", test_no_audio);
  g_test_add_func("/speech/desk/turns", test_turns);
  g_test_add_func("/speech/desk/cancel-inside", test_cancel_inside);
  g_test_add_func("/speech/desk/speak", test_speak);
  g_test_add_func("/speech/desk/failures", test_failures);
  g_test_add_func("/speech/desk/refused-frame", test_refused_frame);
  g_test_add_func("/speech/desk/not-ours", test_not_ours);
  return g_test_run();
}
