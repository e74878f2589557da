/* One question to an expert whose servers answer, break off, hang, are full or gone. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cluster/ask.h"
#include "cluster/experts_private.h"
#include "mock_llm.h"

typedef struct {
  MockLlm *a, *b, *light;
  ChoirHttpClient *http;
  ChoirLlmServer *llm;
  ChoirExperts *experts;
  char *dir;
  GString *text, *notes;
  gboolean done;
  GError *error;
} House;

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

#define UNTIL(condition)                                                                                               \
  do {                                                                                                                 \
    guint ticker = g_timeout_add(10, tick, NULL);                                                                      \
    gint64 end = g_get_monotonic_time() + 40 * G_USEC_PER_SEC;                                                         \
    while (!(condition) && g_get_monotonic_time() < end)                                                               \
      g_main_context_iteration(NULL, TRUE);                                                                            \
    g_source_remove(ticker);                                                                                           \
    g_assert_true(condition);                                                                                          \
  } while (0)

static House *house_new(gboolean with_light) {
  House *house = g_new0(House, 1);
  g_autoptr(GError) error = NULL;
  house->dir = g_dir_make_tmp("choir-ask-XXXXXX", NULL);
  house->a = mock_llm_new();
  house->b = mock_llm_new();
  house->light = mock_llm_new();
  house->http = choir_http_client_new();
  ChoirLlmServerOptions options = {.external_url = mock_llm_url(house->light), .state_dir = house->dir};
  house->llm = choir_llm_server_new(&options, house->http, &error);
  g_assert_no_error(error);
  if (with_light) {
    choir_llm_server_start(house->llm);
    UNTIL(choir_llm_server_ready(house->llm));
  }
  g_autofree char *list = g_strdup_printf("coding=%s %s", mock_llm_url(house->a), mock_llm_url(house->b));
  ChoirExpertsOptions experts = {.http = house->http, .llm = house->llm, .prompts_dir = house->dir, .list = list};
  house->experts = choir_experts_new(&experts);
  house->text = g_string_new(NULL);
  house->notes = g_string_new(NULL);
  const ChoirExpert *coding = choir_experts_get(house->experts, 0);
  UNTIL(((ChoirReplica *)coding->replicas->pdata[1])->params > 0 &&
        ((ChoirReplica *)coding->replicas->pdata[0])->params > 0);
  return house;
}

static void house_free(House *house) {
  choir_experts_free(house->experts);
  choir_llm_server_free(house->llm);
  choir_http_client_free(house->http);
  for (guint i = 0; i < 50; i++)
    g_main_context_iteration(NULL, FALSE);
  mock_llm_free(house->a);
  mock_llm_free(house->b);
  mock_llm_free(house->light);
  g_autofree char *command = g_strdup_printf("rm -rf '%s'", house->dir);
  g_assert_cmpint(system(command), ==, 0);
  g_string_free(house->text, TRUE);
  g_string_free(house->notes, TRUE);
  g_clear_error(&house->error);
  g_free(house->dir);
  g_free(house);
}

static void on_text(const char *text, gpointer user) {
  g_string_append(((House *)user)->text, text);
}

static void on_note(const char *text, gpointer user) {
  g_string_append_printf(((House *)user)->notes, "%s;", text);
}

static void on_done(const GError *error, gpointer user) {
  House *house = user;
  g_assert_false(house->done);
  house->done = TRUE;
  house->error = error ? g_error_copy(error) : NULL;
}

static ChoirAsk *ask(House *house, const char *query) {
  static const ChoirAskHandlers handlers = {on_text, on_note, on_done};
  house->done = FALSE;
  g_clear_error(&house->error);
  g_string_truncate(house->text, 0);
  g_string_truncate(house->notes, 0);
  return choir_ask_begin(house->experts, &(ChoirAskRequest){.expert = "coding", .query = query, .conversation = 7},
                         &handlers, house);
}

static const char *content(MockLlm *mock, guint request, int message) {
  const json_t *list = json_object_get(mock_llm_request(mock, request), "messages");
  return choir_json_string(json_array_get(list, message < 0 ? json_array_size(list) + message : (gsize)message),
                           "content", "");
}

static ChoirReplica *replica(House *house, guint index) {
  return choir_experts_get(house->experts, 0)->replicas->pdata[index];
}

static void test_answer_and_follow_up(void) {
  House *house = house_new(FALSE);
  mock_llm_push(house->a, MOCK_OK, "Use |qsort.", 1);
  ask(house, "How do I sort?");
  g_assert_false(house->done);
  UNTIL(house->done);
  g_assert_no_error(house->error);
  g_assert_cmpstr(house->text->str, ==, "Use qsort.");
  g_assert_cmpstr(house->notes->str, ==, "");
  g_assert_cmpstr(content(house->a, 0, -1), ==, "How do I sort?");
  /* The next question of the conversation goes to the same server, behind the same words. */
  ask(house, "And in Rust?");
  UNTIL(house->done);
  g_assert_cmpuint(mock_llm_requests(house->a), ==, 2);
  g_assert_cmpuint(mock_llm_requests(house->b), ==, 0);
  g_assert_cmpstr(content(house->a, 1, 1), ==, "How do I sort?");
  g_assert_cmpstr(content(house->a, 1, 2), ==, "Use qsort.");
  g_assert_cmpstr(content(house->a, 1, 0), ==, content(house->a, 0, 0));
  const ChoirExpert *coding = choir_experts_get(house->experts, 0);
  g_assert_cmpuint(coding->answered, ==, 2);
  g_assert_cmpuint(coding->failed, ==, 0);
  house_free(house);
}

/* llama-server repeats what it goes on with; others do not. Both give one whole answer. */
static void test_cut_in_the_middle(void) {
  static const char *const rest[] = {"One, two, | three, four.", "three, |four."};
  for (guint i = 0; i < G_N_ELEMENTS(rest); i++) {
    House *house = house_new(TRUE);
    mock_llm_push(house->a, MOCK_CUT, "One, |two, |three, |four.", 1);
    mock_llm_push(house->b, MOCK_OK, rest[i], 1);
    ask(house, "Count.");
    UNTIL(house->done);
    g_assert_no_error(house->error);
    g_assert_cmpstr(house->text->str, ==, "One, two, three, four.");
    g_assert_cmpstr(house->notes->str, ==, "");
    g_assert_cmpstr(content(house->b, 0, -1), ==, "One, two,");
    g_assert_cmpuint(mock_llm_requests(house->light), ==, 0);
    /* It rests; the other is home now. */
    ask(house, "Again.");
    UNTIL(house->done);
    g_assert_cmpuint(mock_llm_requests(house->a), ==, 1);
    g_assert_cmpstr(content(house->b, 1, 2), ==, "One, two, three, four.");
    house_free(house);
  }
}

static void test_light(void) {
  House *house = house_new(TRUE);
  mock_llm_push(house->a, MOCK_CUT, "One |two |three |four", 1);
  mock_llm_push(house->b, MOCK_ERROR_EVENT, "One two|three|four|five", 1);
  mock_llm_push(house->light, MOCK_OK, "One two three| and so on.", 1);
  ask(house, "Count.");
  UNTIL(house->done);
  g_assert_no_error(house->error);
  g_assert_cmpstr(house->notes->str, ==, "The coding expert broke off; the light local model goes on.;");
  g_assert_nonnull(strstr(house->text->str, "and so on."));
  g_assert_true(g_str_has_prefix(house->text->str, "One two "));
  g_assert_cmpuint(choir_experts_get(house->experts, 0)->failed, ==, 1);
  house_free(house);
}

static void test_all_gone(void) {
  House *house = house_new(FALSE); /* nor is the light one ready */
  mock_llm_push(house->a, MOCK_STATUS_500, "", 1);
  mock_llm_push(house->b, MOCK_HTML, "", 1);
  ask(house, "Count.");
  UNTIL(house->done);
  g_assert_error(house->error, CHOIR_ASK_ERROR, CHOIR_ASK_ERROR_AWAY);
  g_assert_cmpstr(house->text->str, ==, "");
  /* Both rest, and are asked nonetheless when there is nobody else. */
  ask(house, "Count.");
  UNTIL(house->done);
  g_assert_no_error(house->error);
  g_assert_cmpstr(house->text->str, ==, "Fine.");
  house_free(house);
}

/* The network cable is pulled: no word, no end, no sign of life. */
static void test_lost(void) {
  House *house = house_new(TRUE);
  mock_llm_push(house->a, MOCK_HANG, "", 1);
  mock_llm_push(house->b, MOCK_OK, "Here.", 1);
  ask(house, "Count.");
  UNTIL(mock_llm_requests(house->a) == 1);
  gint64 from = g_get_monotonic_time();
  mock_llm_mute(house->a);
  UNTIL(house->done);
  g_test_message("%.1f s", (double)(g_get_monotonic_time() - from) / G_USEC_PER_SEC);
  g_assert_cmpstr(house->text->str, ==, "Here.");
  g_assert_cmpuint(mock_llm_left(house->a), ==, 1);
  house_free(house);
}

/* Slow is not lost: as long as it says that it lives, it is waited for. */
static void test_slow(void) {
  House *house = house_new(TRUE);
  mock_llm_push(house->a, MOCK_OK, "At last.", 5000);
  ask(house, "Count.");
  UNTIL(house->done);
  g_assert_cmpstr(house->text->str, ==, "At last.");
  g_assert_cmpuint(mock_llm_requests(house->b), ==, 0);
  house_free(house);
}

static void test_overloaded(void) {
  House *house = house_new(TRUE);
  mock_llm_set_slots(house->a, 2, 0);
  mock_llm_set_slots(house->b, 2, 1);
  ask(house, "One.");
  UNTIL(house->done);
  g_assert_cmpuint(mock_llm_requests(house->a), ==, 1);
  mock_llm_set_slots(house->a, 2, 2);
  ask(house, "Two.");
  UNTIL(house->done);
  g_assert_cmpuint(mock_llm_requests(house->a), ==, 1);
  g_assert_cmpuint(mock_llm_requests(house->b), ==, 1);
  g_assert_cmpstr(content(house->b, 0, 1), ==, "One."); /* the conversation went with it */
  mock_llm_set_slots(house->a, 2, 0);                   /* and stays where its prompt is now */
  ask(house, "Three.");
  UNTIL(house->done);
  g_assert_cmpuint(mock_llm_requests(house->b), ==, 2);
  mock_llm_mute(house->b); /* it does not even say how busy it is */
  ask(house, "Four.");
  UNTIL(house->done);
  g_assert_cmpuint(mock_llm_requests(house->a), ==, 2);
  house_free(house);
}

static void test_fallback(void) {
  House *house = house_new(TRUE);
  replica(house, 0)->fallback = replica(house, 1)->fallback = TRUE;
  ask(house, "One.");
  UNTIL(house->done);
  g_assert_cmpstr(house->notes->str, ==, "This is the small fallback model of the coding expert.;");
  replica(house, 1)->fallback = FALSE; /* rather the whole one, though the other is home */
  ask(house, "Two.");
  UNTIL(house->done);
  g_assert_cmpstr(house->notes->str, ==, "");
  g_assert_cmpuint(mock_llm_requests(house->b), ==, 1);
  house_free(house);
}

static void test_context(void) {
  House *house = house_new(FALSE);
  for (guint i = 0; i < 4; i++) {
    ask(house, "More.");
    UNTIL(house->done);
  }
  mock_llm_push(house->a, MOCK_CONTEXT, "", 1);
  ask(house, "Last.");
  UNTIL(house->done);
  g_assert_no_error(house->error);
  g_assert_cmpuint(mock_llm_requests(house->b), ==, 0);
  g_assert_cmpuint(json_array_size(json_object_get(mock_llm_request(house->a, 4), "messages")), ==, 10);
  g_assert_cmpuint(json_array_size(json_object_get(mock_llm_request(house->a, 5), "messages")), ==, 6);
  house_free(house);
}

static void test_cancel(void) {
  House *house = house_new(TRUE);
  choir_ask_cancel(ask(house, "Before anything is sent.")); /* while it looks around */
  mock_llm_push(house->a, MOCK_OK, "a|b|c|d|e|f|g|h|i|j|k", 100);
  ChoirAsk *asked = ask(house, "Count.");
  UNTIL(house->text->len > 2);
  choir_ask_cancel(asked);
  UNTIL(mock_llm_left(house->a) == 1);
  g_assert_false(house->done);
  g_assert_cmpuint(mock_llm_requests(house->b), ==, 0);
  /* The agent stops in the middle of one. */
  mock_llm_push(house->a, MOCK_OK, "a|b|c|d|e|f|g|h|i|j|k", 100);
  ask(house, "Count.");
  UNTIL(house->text->len > 2);
  house_free(house);
}

static void test_unknown(void) {
  House *house = house_new(TRUE);
  static const ChoirAskHandlers handlers = {on_text, on_note, on_done};
  choir_ask_begin(house->experts, &(ChoirAskRequest){.expert = "cooking", .query = "Soup?"}, &handlers, house);
  g_assert_false(house->done);
  UNTIL(house->done);
  g_assert_error(house->error, CHOIR_ASK_ERROR, CHOIR_ASK_ERROR_UNKNOWN);
  house_free(house);
}

static void test_same_model(void) {
  House *house = house_new(TRUE);
  g_assert_true(choir_experts_same_as_main(house->experts, choir_experts_get(house->experts, 0)));
  replica(house, 1)->params = 7000000000;
  g_assert_false(choir_experts_same_as_main(house->experts, choir_experts_get(house->experts, 0)));
  house_free(house);
}

int main(int argc, char **argv) {
  alarm(100);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/ask/answer-and-follow-up", test_answer_and_follow_up);
  g_test_add_func("/ask/cut-in-the-middle", test_cut_in_the_middle);
  g_test_add_func("/ask/light", test_light);
  g_test_add_func("/ask/all-gone", test_all_gone);
  g_test_add_func("/ask/lost", test_lost);
  g_test_add_func("/ask/slow", test_slow);
  g_test_add_func("/ask/overloaded", test_overloaded);
  g_test_add_func("/ask/fallback", test_fallback);
  g_test_add_func("/ask/context", test_context);
  g_test_add_func("/ask/cancel", test_cancel);
  g_test_add_func("/ask/unknown", test_unknown);
  g_test_add_func("/ask/same-model", test_same_model);
  return g_test_run();
}
