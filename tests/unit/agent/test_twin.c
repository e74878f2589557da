/* The turn engine against a chat server in this process. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "agent/twin_private.h"
#include "base/text.h"
#include "mock_llm.h"

typedef struct {
  char *dir, *path;
  MockLlm *mock;
  ChoirHttpClient *http;
  ChoirLlmServer *llm;
  ChoirHistory *history;
  ChoirTwin *twin;
  GString *events; /* "user:hi;agent_delta:.." */
} Fixture;

typedef struct {
  Fixture *f;
  ChoirTurn *turn;
  gboolean started;
  guint done;
  char *reply;
  GError *error;
  GString *deltas, *clauses;
  gsize last_end;
  guint cancel_at; /* deltas */
  guint n;
} Said;

static void wait_for(gboolean (*ready)(gpointer), gpointer data) {
  while (!ready(data))
    g_main_context_iteration(NULL, TRUE);
}

static void on_event(const ChoirTwinEvent *event, gpointer user) {
  Fixture *f = user;
  if (!g_str_equal(event->type, "status"))
    g_string_append_printf(f->events, "%s:%s;", event->type, event->text);
}

static gboolean settled(gpointer user) {
  return choir_twin_settled(((Fixture *)user)->twin);
}

static void write_persona(Fixture *f, const char *text) {
  g_autofree char *path = g_build_filename(f->dir, "router.txt", NULL);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void twin_up(Fixture *f) {
  g_autoptr(GError) error = NULL;
  ChoirTwinOptions options = {.prompts_dir = f->dir, .max_reply_tokens = 50};
  f->history = choir_history_open(f->path, &error);
  g_assert_no_error(error);
  f->twin = choir_twin_new(&options, f->llm, f->history, &error);
  g_assert_no_error(error);
  choir_twin_observe(f->twin, on_event, f);
}

static void setup(Fixture *f, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  f->dir = g_dir_make_tmp("choir-twin-XXXXXX", NULL);
  f->path = g_build_filename(f->dir, "history.db", NULL);
  f->events = g_string_new(NULL);
  f->mock = mock_llm_new();
  f->http = choir_http_client_new();
  write_persona(f, "# a comment\nBe brief.\n");
  ChoirLlmServerOptions options = {.external_url = mock_llm_url(f->mock), .model_name = "mock", .state_dir = f->dir};
  f->llm = choir_llm_server_new(&options, f->http, &error);
  g_assert_no_error(error);
  twin_up(f);
  choir_llm_server_start(f->llm);
}

static void teardown(Fixture *f, gconstpointer data) {
  choir_twin_free(f->twin);
  choir_llm_server_stop(f->llm, NULL, NULL);
  choir_llm_server_free(f->llm);
  choir_history_close(f->history);
  choir_http_client_free(f->http);
  for (int i = 0; i < 50; i++)
    g_main_context_iteration(NULL, FALSE);
  mock_llm_free(f->mock);
  for (const char *const *name =
           (const char *const[]){"history.db", "history.db-wal", "history.db-shm", "router.txt", NULL};
       *name; name++) {
    g_autofree char *file = g_build_filename(f->dir, *name, NULL);
    g_unlink(file);
  }
  g_rmdir(f->dir);
  g_free(f->dir);
  g_free(f->path);
  g_string_free(f->events, TRUE);
}

static void on_started(ChoirTurn *turn, gpointer user) {
  ((Said *)user)->started = TRUE;
}

static void on_delta(ChoirTurn *turn, const char *text, gpointer user) {
  Said *said = user;
  g_string_append(said->deltas, text);
  if (++said->n == said->cancel_at)
    choir_turn_cancel(turn);
}

static void on_clause(ChoirTurn *turn, const char *text, gsize begin, gsize end, gpointer user) {
  Said *said = user;
  g_assert_cmpuint(begin, ==, said->last_end);
  said->last_end = end;
  g_string_append_printf(said->clauses, "%s|", text);
}

static void on_done(ChoirTurn *turn, const char *reply, const GError *error, gpointer user) {
  Said *said = user;
  said->done++;
  said->reply = g_strdup(reply);
  said->error = error ? g_error_copy(error) : NULL;
}

static Said *say_as(Fixture *f, const char *text, gboolean spoken, gboolean speculative) {
  g_autoptr(GError) error = NULL;
  ChoirTurnRequest request = {
      .text = text, .source = "cli", .spoken = spoken, .request_id = "r1", .speculative = speculative};
  ChoirTurnHandlers handlers = {on_started, on_delta, spoken ? on_clause : NULL, on_done};
  Said *said = g_new0(Said, 1);
  said->f = f;
  said->deltas = g_string_new(NULL);
  said->clauses = g_string_new(NULL);
  said->turn = choir_twin_begin(f->twin, &request, &handlers, said, &error);
  g_assert_no_error(error);
  return said;
}

static Said *say(Fixture *f, const char *text, gboolean spoken) {
  return say_as(f, text, spoken, FALSE);
}

static gboolean is_done(gpointer user) {
  return ((Said *)user)->done > 0;
}

static gboolean has_clause(gpointer user) {
  return ((Said *)user)->clauses->len > 0;
}

static void said_free(Said *said) {
  g_assert_cmpuint(said->done, ==, 1);
  g_string_free(said->deltas, TRUE);
  g_string_free(said->clauses, TRUE);
  g_free(said->reply);
  g_clear_error(&said->error);
  g_free(said);
}

static void exchange(Fixture *f, const char *text, const char *reply) {
  mock_llm_push(f->mock, MOCK_OK, reply, 1);
  Said *said = say(f, text, FALSE);
  wait_for(is_done, said);
  g_assert_no_error(said->error);
  said_free(said);
}

static void on_barrier(gint64 id, const GError *error, gpointer user) {
  *(gboolean *)user = TRUE;
}

static gboolean is_set(gpointer user) {
  return *(gboolean *)user;
}

/* "u:text a:text a!:cut text ..." of the current conversation */
static char *story(Fixture *f) {
  GString *out = g_string_new(NULL);
  gboolean done = FALSE;
  /* Writes are done in order: behind this one, all others are. */
  choir_history_rename(f->history, choir_history_current(f->history), "story", on_barrier, &done);
  wait_for(is_set, &done);
  json_t *entries = choir_history_entries(f->history, choir_history_current(f->history), 0, NULL);
  gsize i;
  json_t *entry;
  json_array_foreach(entries, i, entry)
      g_string_append_printf(out, "%s%c%s:%s", i ? " " : "", choir_json_string(entry, "role", "?")[0],
                             choir_json_bool(entry, "cut", FALSE) ? "!" : "", choir_json_string(entry, "text", ""));
  json_decref(entries);
  return g_string_free(out, FALSE);
}

/* "s:text u:text a:text ..." of a request to the model */
static char *prompt(Fixture *f, guint index) {
  GString *out = g_string_new(NULL);
  json_t *messages = json_object_get(mock_llm_request(f->mock, index), "messages");
  gsize i;
  json_t *message;
  json_array_foreach(messages, i, message)
      g_string_append_printf(out, "%s%c:%s", i ? " " : "", choir_json_string(message, "role", "?")[0],
                             choir_json_string(message, "content", ""));
  return g_string_free(out, FALSE);
}

static void test_typed(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "Hel|lo.", 1);
  Said *said = say(f, "  hi \n", FALSE);
  g_assert_cmpstr(choir_twin_state(f->twin), ==, "waiting for the model");
  wait_for(is_done, said);
  g_assert_no_error(said->error);
  g_assert_true(said->started);
  g_assert_cmpstr(said->reply, ==, "Hello.");
  g_assert_cmpstr(said->deltas->str, ==, "Hello.");
  g_assert_cmpstr(f->events->str, ==, "user:hi;agent_delta:Hel;agent_delta:lo.;agent:Hello.;");
  g_autofree char *stored_text = story(f);
  g_assert_cmpstr(stored_text, ==, "u:hi a:Hello.");
  g_autofree char *sent = prompt(f, 0);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:hi");
  g_assert_cmpint(choir_json_int(mock_llm_request(f->mock, 0), "id_slot", -1), ==, CHOIR_SLOT_LIVE);
  said_free(said);
}

static void test_refusals(Fixture *f, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  ChoirTurnHandlers handlers = {.done = on_done};
  ChoirTurnRequest request = {.text = " \n "};
  g_assert_null(choir_twin_begin(f->twin, &request, &handlers, NULL, &error));
  g_assert_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_EMPTY);
  g_clear_error(&error);
  g_autofree char *large = g_strnfill(10001, 'x');
  request.text = large;
  g_assert_null(choir_twin_begin(f->twin, &request, &handlers, NULL, &error));
  g_assert_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_TOO_LONG);
  g_clear_error(&error);
  Said *said[16];
  for (int i = 0; i < 16; i++) {
    g_autofree char *text = g_strdup_printf("n%d", i);
    said[i] = say(f, text, FALSE);
  }
  request.text = "one too many";
  g_assert_null(choir_twin_begin(f->twin, &request, &handlers, NULL, &error));
  g_assert_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_BUSY);
  /* One in the middle changes its mind. */
  choir_turn_cancel(said[7]->turn);
  for (int i = 0; i < 16; i++) {
    wait_for(is_done, said[i]);
    g_assert_cmpint(said[i]->error != NULL, ==, i == 7);
  }
  g_assert_error(said[7]->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED);
  g_assert_cmpuint(mock_llm_requests(f->mock), ==, 15);
  g_autofree char *order = story(f);
  g_assert_cmpstr(
      order, ==,
      "u:n0 a:Fine. u:n1 a:Fine. u:n2 a:Fine. u:n3 a:Fine. u:n4 a:Fine. u:n5 a:Fine. u:n6 a:Fine. u:n8 a:Fine. "
      "u:n9 a:Fine. u:n10 a:Fine. u:n11 a:Fine. u:n12 a:Fine. u:n13 a:Fine. u:n14 a:Fine. u:n15 a:Fine.");
  for (int i = 0; i < 16; i++)
    said_free(said[i]);
}

static void test_cancel(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "One |two |three |four |five", 20);
  Said *said = say(f, "count", FALSE);
  said->cancel_at = 2;
  wait_for(is_done, said);
  g_assert_error(said->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED);
  g_assert_cmpuint(mock_llm_left(f->mock) + 1, >=, 1);
  g_autofree char *text = story(f);
  g_assert_cmpstr(text, ==, "u:count a!:One two ");
  exchange(f, "and?", "Yes.");
  g_autofree char *sent = prompt(f, 1);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:count a:One two u:and?");
  g_assert_nonnull(strstr(f->events->str, "cut:One two ;"));
  said_free(said);
}

static void test_spoken(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "Yes. |It rains |today. |Bye.", 1);
  Said *said = say(f, "weather?", TRUE);
  wait_for(is_done, said);
  g_assert_no_error(said->error);
  g_assert_cmpstr(said->clauses->str, ==, "Yes.| It rains today.| Bye.|");
  g_autofree char *before = story(f);
  g_assert_cmpstr(before, ==, ""); /* not before it was heard */
  choir_turn_first_audio(said->turn, g_get_monotonic_time());
  choir_turn_heard(said->turn, strlen("Yes. It rains"), TRUE);
  g_autofree char *after = story(f);
  g_assert_cmpstr(after, ==, "u:weather? a!:Yes. It rains");
  exchange(f, "go on", "Well.");
  g_autofree char *sent = prompt(f, 1);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:weather? a:Yes. It rains u:go on");
  json_t *export = choir_history_export(f->history, choir_history_current(f->history), NULL);
  json_t *entry = json_array_get(json_object_get(export, "entries"), 1);
  g_assert_cmpstr(choir_json_string(entry, "full_text", ""), ==, "Yes. It rains today. Bye.");
  json_decref(export);
  said_free(said);
}

static void on_done_heard(ChoirTurn *turn, const char *reply, const GError *error, gpointer user) {
  choir_turn_heard(turn, error ? 0 : strlen(reply), error != NULL);
  on_done(turn, reply, error, user);
}

/* The voice releases a turn from inside its done handler, after a success and after a failure. */
static void test_heard_in_done(Fixture *f, gconstpointer data) {
  static const MockMode modes[] = {MOCK_OK, MOCK_STATUS_500, MOCK_CUT};
  for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
    g_autoptr(GError) error = NULL;
    ChoirTurnRequest request = {.text = "weather?", .source = "realtime", .spoken = TRUE};
    ChoirTurnHandlers handlers = {on_started, on_delta, on_clause, on_done_heard};
    mock_llm_push(f->mock, modes[i], "It rains.", 1);
    Said *said = g_new0(Said, 1);
    said->f = f;
    said->deltas = g_string_new(NULL);
    said->clauses = g_string_new(NULL);
    g_assert_nonnull(choir_twin_begin(f->twin, &request, &handlers, said, &error));
    wait_for(is_done, said);
    g_assert_cmpint(said->error == NULL, ==, modes[i] == MOCK_OK);
    said_free(said);
  }
}

/* The person speaks while the model still writes; heard() comes before done. */
static void test_barge_in(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "First part. |Second |part |goes |on.", 30);
  Said *said = say(f, "tell", TRUE);
  wait_for(has_clause, said);
  choir_turn_heard(said->turn, strlen("First"), TRUE);
  wait_for(is_done, said);
  g_assert_error(said->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED);
  g_autofree char *text = story(f);
  g_assert_cmpstr(text, ==, "u:tell a!:First");
  /* Interrupted before a word was heard: the question stays, the next message joins it. */
  mock_llm_push(f->mock, MOCK_OK, "Some |words |here", 30);
  Said *second = say(f, "again", TRUE);
  while (!second->n)
    g_main_context_iteration(NULL, TRUE);
  choir_turn_cancel(second->turn);
  wait_for(is_done, second);
  choir_turn_heard(second->turn, 0, TRUE);
  exchange(f, "no, stop", "Good.");
  g_autofree char *sent = prompt(f, 2);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:tell a:First u:again\nno, stop");
  g_autofree char *all = story(f);
  g_assert_cmpstr(all, ==, "u:tell a!:First u:again u:no, stop a:Good.");
  said_free(said);
  said_free(second);
}

static void test_discard(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "A guess. |More.", 10);
  Said *said = say(f, "what is", TRUE);
  wait_for(has_clause, said);
  choir_turn_discard(said->turn);
  wait_for(is_done, said);
  exchange(f, "what is this", "It.");
  g_autofree char *sent = prompt(f, 1);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:what is this");
  g_autofree char *text = story(f);
  g_assert_cmpstr(text, ==, "u:what is this a:It.");
  said_free(said);
}

/* A guess that was overtaken leaves no trace: not with observers, not in a prompt, not in the history, and what is in
 * the slot is evaluated again before it could be saved. */
static void test_speculation_dropped(Fixture *f, gconstpointer data) {
  wait_for(settled, f);
  guint warmed = mock_llm_requests(f->mock);
  mock_llm_push(f->mock, MOCK_OK, "A guess.", 1);
  Said *said = say_as(f, "what is", TRUE, TRUE);
  wait_for(is_done, said);
  g_assert_no_error(said->error);
  g_assert_false(choir_twin_settled(f->twin));
  exchange(f, "typed meanwhile", "Yes.");
  g_autofree char *sent = prompt(f, warmed + 1);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:typed meanwhile");
  choir_turn_discard(said->turn);
  g_assert_null(strstr(f->events->str, "what is"));
  g_assert_null(strstr(f->events->str, "guess"));
  g_assert_null(strstr(f->events->str, "cut"));
  g_autofree char *text = story(f);
  g_assert_cmpstr(text, ==, "u:typed meanwhile a:Yes.");
  said_free(said);
}

static void test_speculation_confirmed(Fixture *f, gconstpointer data) {
  for (int early = 0; early < 2; early++) {
    g_string_truncate(f->events, 0);
    mock_llm_push(f->mock, MOCK_OK, "One. |Two.", 5);
    Said *said = say_as(f, "count", TRUE, TRUE);
    wait_for(early ? has_clause : is_done, said);
    g_assert_cmpstr(f->events->str, ==, "");
    choir_turn_confirm(said->turn);
    choir_turn_confirm(said->turn);
    wait_for(is_done, said);
    choir_turn_heard(said->turn, said->last_end, FALSE);
    g_assert_true(g_str_has_prefix(f->events->str, "user:count;agent_delta:One."));
    g_assert_true(g_str_has_suffix(f->events->str, "agent:One. Two.;"));
    said_free(said);
  }
  g_autofree char *text = story(f);
  g_assert_cmpstr(text, ==, "u:count a:One. Two. u:count a:One. Two.");
  exchange(f, "and?", "Three.");
  g_autofree char *sent = prompt(f, mock_llm_requests(f->mock) - 1);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:count a:One. Two. u:count a:One. Two. u:and?");
}

static gboolean not_warming(gpointer user) {
  return ((Fixture *)user)->twin->warm == NULL;
}

/* What somebody says is evaluated while they go on. */
static void test_prefill(Fixture *f, gconstpointer data) {
  wait_for(settled, f);
  guint warms = mock_llm_warms(f->mock);
  choir_twin_prefill(f->twin, " what is the ");
  choir_twin_prefill(f->twin, "what is the capital"); /* while the first is evaluated: left out */
  wait_for(not_warming, f);
  g_assert_cmpuint(mock_llm_warms(f->mock), ==, warms + 1);
  g_assert_false(choir_twin_settled(f->twin)); /* the slot holds what may never be said */
  exchange(f, "what is the capital of France", "Paris.");
  g_assert_cmpuint(mock_llm_warms(f->mock), ==, warms + 1);
  g_autofree char *sent = prompt(f, mock_llm_requests(f->mock) - 1);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:what is the capital of France");
  wait_for(settled, f);
}

static void test_failures(Fixture *f, gconstpointer data) {
  static const MockMode modes[] = {MOCK_STATUS_500, MOCK_CUT,         MOCK_EARLY_END,
                                   MOCK_GARBAGE,    MOCK_ERROR_EVENT, MOCK_HTML};
  for (gsize i = 0; i < G_N_ELEMENTS(modes); i++) {
    mock_llm_push(f->mock, modes[i], "some|thing|went|wrong", 1);
    Said *said = say(f, "q", i % 2);
    wait_for(is_done, said);
    g_assert_error(said->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_MODEL);
    if (i % 2)
      choir_turn_heard(said->turn, 0, TRUE);
    said_free(said);
    exchange(f, "still there?", "Yes.");
  }
  g_assert_nonnull(strstr(f->events->str, "error:the language model failed"));
}

static void test_window(Fixture *f, gconstpointer data) {
  wait_for(settled, f);
  g_autofree char *previous = g_strdup("s:Be brief.");
  for (int i = 1; i <= 20; i++) {
    g_autofree char *text = g_strdup_printf("q%d", i), *reply = g_strdup_printf("a%d", i);
    exchange(f, text, reply);
    char *sent = prompt(f, (guint)i - 1);
    g_assert_true(g_str_has_prefix(sent, previous)); /* append-only: the cache stays valid */
    g_free(previous);
    previous = g_strdup_printf("%s a:%s", sent, reply);
    g_free(sent);
  }
  guint warms = mock_llm_warms(f->mock);
  wait_for(settled, f); /* a second of silence, then the cut */
  g_assert_cmpuint(mock_llm_warms(f->mock), >, warms);
  exchange(f, "q21", "a21");
  g_autofree char *sent = prompt(f, 20);
  g_assert_true(g_str_has_prefix(sent, "s:Be brief. u:q11 a:a11 u:q12"));
  g_assert_true(g_str_has_suffix(sent, "a:a20 u:q21"));
  /* After a restart the window begins at the same turn: a saved prompt still fits. */
  choir_twin_free(f->twin);
  choir_history_close(f->history);
  twin_up(f);
  exchange(f, "q22", "a22");
  g_autofree char *again = prompt(f, 21);
  g_assert_true(g_str_has_prefix(again, sent));
}

static void test_context(Fixture *f, gconstpointer data) {
  for (int i = 1; i <= 6; i++)
    exchange(f, "q", "a");
  mock_llm_push(f->mock, MOCK_CONTEXT, "", 1);
  exchange(f, "long", "fits now"); /* exchange() pushes the second answer */
  json_t *messages = json_object_get(mock_llm_request(f->mock, 7), "messages");
  g_assert_cmpint(json_array_size(messages), ==, 1 + 2 * 3 + 1);
  g_autofree char *large = g_strnfill(9000, 'x');
  mock_llm_push(f->mock, MOCK_CONTEXT, "", 1);
  mock_llm_push(f->mock, MOCK_CONTEXT, "", 1);
  Said *said = say(f, large, FALSE);
  wait_for(is_done, said);
  g_assert_error(said->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_TOO_LONG);
  said_free(said);
}

static void test_repeats(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "The cat is grey. |It is old. |The cat |is grey. |It is|old.|And|so|on", 10);
  Said *said = say(f, "q", TRUE);
  wait_for(is_done, said);
  g_assert_no_error(said->error);
  g_assert_cmpstr(said->reply, ==, "The cat is grey. It is old.");
  g_assert_cmpstr(said->clauses->str, ==, "The cat is grey.| It is old.|");
  choir_turn_heard(said->turn, strlen(said->reply), FALSE);
  g_autofree char *text = story(f);
  g_assert_cmpstr(text, ==, "u:q a:The cat is grey. It is old.");
  said_free(said);
}

static void test_persona_edit(Fixture *f, gconstpointer data) {
  exchange(f, "one", "1");
  write_persona(f, "Be long and kind.\n#context: time\n");
  exchange(f, "two", "2");
  exchange(f, "three", "3");
  g_autofree char *sent = prompt(f, 2);
  g_assert_true(g_str_has_prefix(sent, "s:Be long and kind. u:["));
  g_assert_true(g_str_has_suffix(sent, "] three"));
  g_assert_nonnull(strstr(sent, "] one a:1 u:["));
  g_autofree char *text = story(f); /* the stamp is the model's business */
  g_assert_cmpstr(text, ==, "u:one a:1 u:two a:2 u:three a:3");
  /* After a restart the stamps are the same, or the saved prompt would fit no more. */
  choir_twin_free(f->twin);
  choir_history_close(f->history);
  twin_up(f);
  exchange(f, "still three", "3");
  g_autofree char *again = prompt(f, 3);
  g_assert_true(g_str_has_prefix(again, sent));
  g_autofree char *path = g_build_filename(f->dir, "router.txt", NULL);
  g_unlink(path);
  exchange(f, "four", "4");
  g_autofree char *generic = prompt(f, 4);
  g_assert_true(g_str_has_prefix(generic, "s:You are a helpful voice assistant."));
}

static gboolean conversation_changed(gpointer user) {
  return strstr(((Fixture *)user)->events->str, "conversation:") != NULL;
}

static void test_conversations(Fixture *f, gconstpointer data) {
  exchange(f, "one", "1");
  gint64 first = choir_history_current(f->history);
  choir_twin_open_conversation(f->twin, 0);
  Said *said = say(f, "fresh", FALSE); /* said into the new one */
  wait_for(is_done, said);
  g_assert_true(conversation_changed(f));
  g_autofree char *sent = prompt(f, 1);
  g_assert_cmpstr(sent, ==, "s:Be brief. u:fresh");
  g_assert_cmpint(choir_history_current(f->history), !=, first);
  g_string_truncate(f->events, 0);
  choir_twin_open_conversation(f->twin, first);
  wait_for(conversation_changed, f);
  exchange(f, "two", "2");
  g_autofree char *back = prompt(f, 2);
  g_assert_cmpstr(back, ==, "s:Be brief. u:one a:1 u:two");
  said_free(said);
  /* After a restart the conversation is in the prompt again. */
  choir_twin_free(f->twin);
  choir_history_close(f->history);
  twin_up(f);
  exchange(f, "three", "3");
  g_autofree char *again = prompt(f, 3);
  g_assert_cmpstr(again, ==, "s:Be brief. u:one a:1 u:two a:2 u:three");
}

static void test_free_while_running(Fixture *f, gconstpointer data) {
  mock_llm_push(f->mock, MOCK_OK, "a|b|c|d|e|f", 50);
  Said *running = say(f, "q", FALSE), *waiting = say(f, "r", TRUE);
  while (!running->n)
    g_main_context_iteration(NULL, TRUE);
  choir_twin_free(f->twin);
  choir_history_close(f->history);
  g_assert_cmpuint(running->done + waiting->done, ==, 0);
  for (int i = 0; i < 20; i++)
    g_main_context_iteration(NULL, FALSE);
  running->done = waiting->done = 1;
  said_free(running);
  said_free(waiting);
  twin_up(f);
  exchange(f, "again", "ok");
}

static char *keep(gpointer self, const char *text) {
  return g_str_has_prefix(text, "keep ") ? g_strdup_printf("Kept: %s.", text + strlen("keep ")) : NULL;
}

static void on_said(gpointer self, const char *text, const char *source, const char *turn_id) {
  g_string_append_printf(self, "%s;", text);
}

/* An order to remember is said back without the model, is stored, and the next turn knows of it. */
static void test_acknowledged(Fixture *f, gconstpointer data) {
  g_autoptr(GString) heard = g_string_new(NULL);
  choir_twin_use_memory(f->twin, &(ChoirTwinMemory){.self = heard, .acknowledge = keep, .said = on_said});
  Said *typed = say(f, "keep a", FALSE);
  wait_for(is_done, typed);
  g_assert_no_error(typed->error);
  g_assert_true(typed->started);
  g_assert_cmpstr(typed->reply, ==, "Kept: a.");
  said_free(typed);
  g_assert_cmpstr(f->events->str, ==, "user:keep a;agent_delta:Kept: a.;agent:Kept: a.;");
  /* Spoken: a guess that is dropped leaves nothing behind, one that holds is heard and stored. */
  Said *dropped = say_as(f, "keep b", TRUE, TRUE);
  wait_for(is_done, dropped);
  choir_turn_discard(dropped->turn);
  said_free(dropped);
  Said *spoken = say_as(f, "keep c", TRUE, TRUE);
  wait_for(has_clause, spoken);
  choir_turn_confirm(spoken->turn);
  wait_for(is_done, spoken);
  choir_turn_heard(spoken->turn, strlen("Kept: c."), FALSE);
  said_free(spoken);
  Said *cancelled = say(f, "keep d", FALSE);
  choir_turn_cancel(cancelled->turn);
  wait_for(is_done, cancelled);
  g_assert_error(cancelled->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED);
  said_free(cancelled);
  g_assert_cmpuint(mock_llm_requests(f->mock), ==, 0);
  exchange(f, "and now", "ok");
  g_assert_cmpstr(heard->str, ==, "keep a;keep c;and now;");
  g_autofree char *stored = story(f);
  g_assert_cmpstr(stored, ==, "u:keep a a:Kept: a. u:keep c a:Kept: c. u:and now a:ok");
  choir_twin_use_memory(f->twin, NULL);
}

/* Another make of server: it gets the name of the model and nothing that only llama-server knows. */
static void test_plain_server(Fixture *f, gconstpointer data) {
  mock_llm_set_plain(f->mock);
  exchange(f, "one", "1");
  wait_for(settled, f);
  exchange(f, "two", "2");
  json_t *request = mock_llm_request(f->mock, 1);
  g_assert_cmpstr(choir_json_string(request, "model", ""), ==, "mock");
  g_assert_null(json_object_get(request, "id_slot"));
  g_assert_null(json_object_get(request, "cache_prompt"));
  g_assert_cmpuint(mock_llm_warms(f->mock), ==, 0);
}

static void test_latency_block(Fixture *f, gconstpointer data) {
  ChoirTurn turn = {.twin = f->twin,
                    .spoken = TRUE,
                    .speech_end_us = 1000000,
                    .transcript_us = 1250000,
                    .begin_us = 1250100,
                    .first_text_us = 1750000,
                    .first_audio_us = 2000000};
  g_autofree char *spoken = choir_latency_block(&turn, 3000000);
  g_assert_cmpstr(spoken, ==,
                  "--- BENCHMARK RESULTS ---\nSTT Latency: 0.2500s\nLLM Time to First Token: 0.5000s\n"
                  "TTS Time to First Audio: 0.2500s\nTotal Pipeline Latency: 1.0000s\n-------------------------\n");
  ChoirTurn typed = {.twin = f->twin, .begin_us = 1000000, .first_text_us = 1500000};
  g_autofree char *text = choir_latency_block(&typed, 3000000);
  g_assert_cmpstr(text, ==,
                  "--- BENCHMARK RESULTS ---\nSTT Latency: 0.0000s\nLLM Time to First Token: 0.5000s\n"
                  "TTS Time to First Audio: 0.0000s\nTotal Pipeline Latency: 0.5000s\n-------------------------\n");
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(80);
#define ADD(name) g_test_add("/agent/twin/" #name, Fixture, NULL, setup, test_##name, teardown)
  ADD(typed);
  ADD(refusals);
  ADD(cancel);
  ADD(spoken);
  ADD(heard_in_done);
  ADD(barge_in);
  ADD(discard);
  ADD(speculation_dropped);
  ADD(speculation_confirmed);
  ADD(prefill);
  ADD(failures);
  ADD(window);
  ADD(context);
  ADD(repeats);
  ADD(persona_edit);
  ADD(conversations);
  ADD(free_while_running);
  ADD(acknowledged);
  ADD(plain_server);
  ADD(latency_block);
  return g_test_run();
}
