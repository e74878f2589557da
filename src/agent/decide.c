#include "agent/decide.h"
#include <math.h>
#include <string.h>
#include "agent/spans.h"
#include "base/log.h"
#include "base/names.h"
#include "llm/server.h"

#define SHORTLIST 5
/* Weights chosen on the tuning half of tests/data/utterances. */
#define WANTED 0.10      /* likeness of the best action below which no tool is meant */
#define CERTAIN 0.35     /* ... above which the model is not asked which one */
#define MARGIN 0.12      /* ... when the next one is so much less like it */
#define NATS 40.0        /* what a likeness of 1 is worth beside the model's scores */
#define ANSWER_LIKE 0.10 /* likeness of the answer in words at least */
#define SHOTS 4
#define SMALL_MS 8000
#define LARGE_MS 60000
#define FINAL "final_answer"

struct ChoirDecide {
  ChoirDecideRequest request;
  char *text, *model, *name;
  json_t *wrong;
  ChoirDecideDone done;
  gpointer user;
  ChoirCall *call;
  char *arguments;
  GError *error;
  guint idle;
};

static void decide_free(ChoirDecide *decide) {
  g_clear_handle_id(&decide->idle, g_source_remove);
  g_clear_pointer(&decide->call, choir_call_cancel);
  g_clear_error(&decide->error);
  json_decref(decide->wrong);
  g_free(decide->text);
  g_free(decide->model);
  g_free(decide->name);
  g_free(decide->arguments);
  g_free(decide);
}

void choir_decide_cancel(ChoirDecide *decide) {
  decide_free(decide);
}

static gboolean on_finish(gpointer user) {
  ChoirDecide *decide = user;
  decide->idle = 0;
  const char *name = decide->error ? NULL : decide->name;
  decide->done(name, name ? decide->arguments : NULL, decide->error, decide->user);
  decide_free(decide);
  return G_SOURCE_REMOVE;
}

static void finish(ChoirDecide *decide, const GError *error) {
  if (error)
    decide->error = g_error_copy(error);
  if (decide->idle == 0)
    decide->idle = g_idle_add(on_finish, decide);
}

static gboolean is_final(const ChoirShortlistEntry *entry) {
  return g_str_equal(entry->tool->id, FINAL);
}

static char *name_of(const ChoirShortlistEntry *entry) {
  return g_strdup_printf("%s.%s", entry->tool->id, entry->action->name);
}

/* The best actions without those of used and without the answer, whose likeness comes apart. */
static guint candidates(const ChoirShortlist *shortlist, const char *text, const char *const *used,
                        ChoirShortlistEntry *ret_entries, double *ret_answer) {
  ChoirShortlistEntry all[64];
  guint found = choir_shortlist_find(shortlist, text, all, G_N_ELEMENTS(all)), n = 0;
  *ret_answer = ANSWER_LIKE;
  for (guint i = 0; i < found; i++) {
    g_autofree char *name = name_of(&all[i]);
    if (is_final(&all[i]))
      *ret_answer = MAX(*ret_answer, all[i].score);
    else if (n < SHORTLIST && !(used && g_strv_contains(used, name)))
      ret_entries[n++] = all[i];
  }
  return n;
}

gboolean choir_decide_wanted(const ChoirShortlist *shortlist, const char *text) {
  ChoirShortlistEntry entries[SHORTLIST];
  double answer;
  guint n = candidates(shortlist, text, NULL, entries, &answer);
  return n > 0 && entries[0].score >= WANTED && entries[0].score >= answer - MARGIN;
}

static guint limit_of(const ChoirDecide *decide) {
  return decide->request.small ? SMALL_MS : LARGE_MS;
}

/* --- arguments */

static void on_filled(const char *name, const char *arguments, const ChoirChatTimings *usage, const GError *error,
                      gpointer user) {
  ChoirDecide *decide = user;
  decide->call = NULL;
  decide->arguments = g_strdup(arguments);
  finish(decide, error);
}

static void fill(ChoirDecide *decide) {
  if (decide->request.choice_only) {
    decide->arguments = g_strdup("{}");
    finish(decide, NULL);
    return;
  }
  const ChoirToolAction *action = choir_toolbox_find(decide->request.toolbox, decide->name, NULL);
  const ChoirToolShot *shots[SHOTS];
  const char *keys[SHOTS + 1] = {NULL};
  ChoirCallShot shown[SHOTS];
  g_autoptr(GError) error = NULL;
  guint n = choir_shortlist_shots(decide->request.shortlist, action, decide->text, shots, SHOTS);
  for (guint i = 0; i < n; i++) { /* the most like one stands last, next to what is asked for */
    shown[i] = (ChoirCallShot){shots[n - 1 - i]->said, shots[n - 1 - i]->args};
    keys[i] = shots[i]->args;
  }
  json_t *schema = choir_spans_bind(choir_toolbox_schema(decide->request.toolbox, action), decide->text, keys,
                                    decide->wrong, decide->request.small);
  json_auto_t *list = json_pack("[{s:s,s:{s:s,s:s,s:o}}]", "type", "function", "function", "name", decide->name,
                                "description", action->help, "parameters", schema);
  g_autoptr(ChoirCallTools) tools = choir_call_tools_new(list, NULL, &error);
  if (!tools) {
    finish(decide, error);
    return;
  }
  ChoirCallRequest request = {.tools = tools,
                              .choice = CHOIR_CALL_NAMED,
                              .name = decide->name,
                              .text = decide->text,
                              .model = decide->model,
                              .slot = CHOIR_SLOT_API,
                              .shots = shown,
                              .n_shots = n,
                              .small = decide->request.small,
                              .temperature = decide->request.temperature,
                              .limit_ms = limit_of(decide)};
  decide->call = choir_call_begin(decide->request.chat, &request, on_filled, decide);
}

/* --- choice */

static void on_chosen(const char *name, const char *arguments, const ChoirChatTimings *usage, const GError *error,
                      gpointer user) {
  ChoirDecide *decide = user;
  decide->call = NULL;
  if (error || !name) {
    finish(decide, error);
    return;
  }
  decide->name = g_strdup(name);
  fill(decide);
}

static void choose(ChoirDecide *decide) {
  ChoirShortlistEntry entries[SHORTLIST];
  double favour[CHOIR_CALL_MAX_TOOLS], answer;
  g_autoptr(GError) error = NULL;
  guint n = candidates(decide->request.shortlist, decide->text, decide->request.used, entries, &answer);
  if (n == 0 || entries[0].score < WANTED || entries[0].score < answer - MARGIN) {
    finish(decide, NULL);
    return;
  }
  double next = MAX(answer, n > 1 ? entries[1].score : 0);
  g_autofree char *first = name_of(&entries[0]);
  gboolean certain = entries[0].score >= CERTAIN && entries[0].score - next >= MARGIN;
  choir_debug(CHOIR_TOPIC_AGENT, "shortlist: %s %.2f, next %.2f%s", first, entries[0].score, next,
              certain ? ", certain" : "");
  if (certain) {
    decide->name = g_steal_pointer(&first);
    fill(decide);
    return;
  }
  ChoirCallTools *tools = choir_shortlist_tools(decide->request.shortlist, &error);
  if (!tools) {
    finish(decide, error);
    return;
  }
  for (guint i = 0; i < CHOIR_CALL_MAX_TOOLS; i++)
    favour[i] = -INFINITY;
  for (guint i = 0; i < n; i++)
    favour[entries[i].index] = NATS * entries[i].score;
  ChoirCallRequest request = {.tools = tools,
                              .choice = CHOIR_CALL_AUTO,
                              .text = decide->text,
                              .model = decide->model,
                              .slot = CHOIR_SLOT_API,
                              .choice_only = TRUE,
                              .favour = favour,
                              .answer_favour = NATS * answer,
                              .limit_ms = limit_of(decide)};
  decide->call = choir_call_begin(decide->request.chat, &request, on_chosen, decide);
}

ChoirDecide *choir_decide_begin(const ChoirDecideRequest *request, ChoirDecideDone done, gpointer user) {
  ChoirDecide *decide = g_new0(ChoirDecide, 1);
  decide->request = *request;
  decide->text = g_strdup(request->text);
  decide->model = g_strdup(request->model);
  decide->name = g_strdup(request->name);
  decide->wrong = json_incref((json_t *)request->wrong);
  decide->done = done;
  decide->user = user;
  if (decide->name)
    fill(decide);
  else
    choose(decide);
  return decide;
}
