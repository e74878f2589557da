#include "agent/decide.h"
#include <math.h>
#include <string.h>
#include "agent/schema.h"
#include "agent/spans.h"
#include "agent/wire.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "llm/server.h"

#define SHORTLIST 5
/* Weights chosen on the tuning half of tests/data/utterances. */
#define NEAR 0.14         /* likeness in words of the best action below which nothing more is looked at */
#define NEAR_BELOW 0.05   /* ... and how far it may be below that of the answer in words */
#define WANTED 0.22       /* ... below which, the meaning unknown, no tool is meant */
#define WANTED_APART 0.04 /* ... and how far it must be above that of the answer in words */
#define CERTAIN 0.35      /* ... above which the model is not asked which one */
#define MARGIN 0.12       /* ... when the next one is so much less like it */
/* The same where the meaning is known, too. */
#define MEANT 0.26
#define MEANT_MARGIN 0.06
#define MEANT_CERTAIN 0.42
#define MEANT_CLEAR 0.08
/* So far above the answer in words: which action it is, the list knows better than a small model. */
#define MEANT_APART 0.12
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
  ChoirWire *wire;
  char *notes;
  char *arguments;
  GError *error;
  guint idle, preparing;
};

static void decide_free(ChoirDecide *decide) {
  g_clear_handle_id(&decide->idle, g_source_remove);
  if (decide->preparing)
    choir_shortlist_forget(decide->request.shortlist, decide->preparing);
  g_clear_pointer(&decide->call, choir_call_cancel);
  g_clear_pointer(&decide->wire, choir_wire_cancel);
  g_free(decide->notes);
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

typedef struct {
  ChoirShortlistEntry entries[SHORTLIST];
  guint n;
  double words;                /* the likeness in words of the action that is most like it in words */
  double answer, answer_words; /* ... of the answer in words */
  gboolean known;              /* the meaning, too */
} Candidates;

/* "shell clock" or NULL for all. */
static gboolean among(const char *tools, const char *id) {
  g_auto(GStrv) list = tools ? g_strsplit(tools, " ", -1) : NULL;
  return !list || g_strv_contains((const char *const *)list, id);
}

/* Numbers alone ("5, 5") are an answer or a reading, never an order: a recogniser writes many of them. */
static gboolean has_words(const char *text) {
  for (; *text; text++)
    if (g_ascii_isalpha(*text) || (guchar)*text >= 0x80)
      return TRUE;
  return FALSE;
}

/* The best actions without those of used and without the answer, whose likeness comes apart. */
static void find_candidates(const ChoirShortlist *shortlist, const char *text, const char *const *used,
                            const char *tools, Candidates *ret) {
  ChoirShortlistEntry all[96];
  guint found = has_words(text) ? choir_shortlist_find(shortlist, text, all, G_N_ELEMENTS(all)) : 0;
  *ret = (Candidates){.answer = ANSWER_LIKE, .known = choir_shortlist_knows(shortlist, text)};
  for (guint i = 0; i < found; i++) {
    g_autofree char *name = name_of(&all[i]);
    if (is_final(&all[i])) {
      ret->answer = MAX(ret->answer, all[i].score);
      ret->answer_words = all[i].words;
      continue;
    }
    if ((used && g_strv_contains(used, name)) || !among(tools, all[i].tool->id))
      continue;
    ret->words = MAX(ret->words, all[i].words);
    if (ret->n < SHORTLIST)
      ret->entries[ret->n++] = all[i];
    else if (all[i].action->like) /* on every list */
      ret->entries[ret->n - 1] = all[i];
  }
}

/* Worth a look at the meaning, which costs an embedding and no word of the model. */
static gboolean is_near(const Candidates *found) {
  return found->n > 0 && found->words >= NEAR && found->words >= found->answer_words - NEAR_BELOW;
}

/* Worth asking the model, or calling the tool. */
static gboolean worth(const Candidates *found) {
  if (!is_near(found))
    return FALSE;
  return found->known ? found->entries[0].score >= MEANT && found->entries[0].score >= found->answer + MEANT_MARGIN
                      : found->words >= WANTED && found->words >= found->answer_words + WANTED_APART;
}

gboolean choir_decide_near(const ChoirShortlist *shortlist, const char *text) {
  Candidates found;
  find_candidates(shortlist, text, NULL, NULL, &found);
  return is_near(&found);
}

gboolean choir_decide_wanted(const ChoirShortlist *shortlist, const char *text) {
  Candidates found;
  find_candidates(shortlist, text, NULL, NULL, &found);
  return worth(&found);
}

static guint limit_of(const ChoirDecide *decide) {
  return decide->request.limit_ms ? decide->request.limit_ms : decide->request.small ? SMALL_MS : LARGE_MS;
}

/* --- a model that writes calls by itself */

static void on_written(const char *name, const char *args, const GError *error, gpointer user) {
  ChoirDecide *decide = user;
  g_autoptr(GError) why = NULL;
  decide->wire = NULL;
  if (error || !name) {
    finish(decide, error);
    return;
  }
  const ChoirTool *tool = NULL;
  const ChoirToolAction *action = choir_toolbox_find(decide->request.toolbox, name, &tool);
  json_auto_t *json = choir_json_parse(args, strlen(args), &why);
  gboolean offered =
      action && among(decide->request.among, tool->id) && (!decide->name || g_str_equal(decide->name, name));
  if (!offered && !why)
    g_set_error(&why, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_BROKEN, "the model called %s, which was not offered", name);
  if (!offered || why || !choir_toolbox_accept(decide->request.toolbox, action, json, &why)) {
    g_prefix_error(&why, "the call of '%s' is refused: ", name);
    finish(decide, why);
    return;
  }
  g_free(decide->name);
  decide->name = g_strdup_printf("%s.%s", tool->id, action->name);
  decide->arguments = choir_json_dump(json);
  finish(decide, NULL);
}

static void ask_for_call(ChoirDecide *decide, const ChoirShortlistEntry *entries, guint n) {
  const ChoirToolAction *actions[SHORTLIST];
  char *names[SHORTLIST + 1] = {NULL};
  for (guint i = 0; i < n; i++) {
    actions[i] = entries[i].action;
    names[i] = name_of(&entries[i]);
  }
  ChoirWireRequest request = {.chat = decide->request.chat,
                              .toolbox = decide->request.toolbox,
                              .actions = actions,
                              .names = (const char *const *)names,
                              .n = n,
                              .text = decide->text,
                              .notes = decide->notes,
                              .wrong = decide->wrong};
  decide->wire = choir_wire_begin(&request, on_written, decide);
  for (guint i = 0; i < n; i++)
    g_free(names[i]);
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
  if (action->fill)
    decide->arguments = action->fill(choir_toolbox_house(decide->request.toolbox), decide->text);
  if (decide->arguments) {
    finish(decide, NULL);
    return;
  }
  const ChoirToolShot *shots[SHOTS];
  ChoirCallShot shown[SHOTS];
  g_autoptr(GError) error = NULL;
  guint n = choir_shortlist_shots(decide->request.shortlist, action, decide->text, shots, SHOTS);
  for (guint i = 0; i < n; i++) { /* the most like one stands last, next to what is asked for */
    shown[i] = (ChoirCallShot){shots[n - 1 - i]->said, shots[n - 1 - i]->args};
  }
  ChoirSpanShots examples = {.all = action->shots, .near = shots, .n_near = n};
  json_t *schema = choir_spans_bind(choir_toolbox_schema(decide->request.toolbox, action), decide->text, &examples,
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
  double favour[CHOIR_CALL_MAX_TOOLS];
  g_autoptr(GError) error = NULL;
  Candidates found;
  find_candidates(decide->request.shortlist, decide->text, decide->request.used, decide->request.among, &found);
  if (!worth(&found)) {
    finish(decide, NULL);
    return;
  }
  const ChoirShortlistEntry *entries = found.entries;
  if (choir_chat_plain(decide->request.chat)) {
    ask_for_call(decide, entries, found.n);
    return;
  }
  double next = MAX(found.answer, found.n > 1 ? entries[1].score : 0), ahead = entries[0].score - next;
  g_autofree char *first = name_of(&entries[0]);
  gboolean apart = entries[0].score - found.answer >= MEANT_APART;
  gboolean certain = found.known ? apart || (entries[0].score >= MEANT_CERTAIN && ahead >= MEANT_CLEAR)
                                 : entries[0].score >= CERTAIN && ahead >= MARGIN;
  choir_debug(CHOIR_TOPIC_AGENT, "shortlist: %s %.2f, next %.2f%s%s", first, entries[0].score, next,
              found.known ? ", by meaning" : "", certain ? ", certain" : "");
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
  for (guint i = 0; i < found.n; i++)
    favour[entries[i].index] = NATS * entries[i].score;
  ChoirCallRequest request = {.tools = tools,
                              .choice = CHOIR_CALL_AUTO,
                              .text = decide->text,
                              .model = decide->model,
                              .slot = CHOIR_SLOT_API,
                              .choice_only = TRUE,
                              .favour = favour,
                              .answer_favour = NATS * found.answer,
                              .limit_ms = limit_of(decide)};
  decide->call = choir_call_begin(decide->request.chat, &request, on_chosen, decide);
}

static void on_prepared(gpointer user) {
  ChoirDecide *decide = user;
  decide->preparing = 0;
  choose(decide);
}

ChoirDecide *choir_decide_begin(const ChoirDecideRequest *request, ChoirDecideDone done, gpointer user) {
  ChoirDecide *decide = g_new0(ChoirDecide, 1);
  decide->request = *request;
  decide->text = g_strdup(request->text);
  decide->model = g_strdup(request->model);
  decide->name = g_strdup(request->name);
  decide->wrong = json_incref((json_t *)request->wrong);
  decide->notes = g_strdup(request->notes);
  decide->done = done;
  decide->user = user;
  if (decide->name) {
    fill(decide);
    return decide;
  }
  Candidates found;
  find_candidates(request->shortlist, decide->text, request->used, request->among, &found);
  if (is_near(&found))
    decide->preparing = choir_shortlist_prepare(request->shortlist, decide->text, on_prepared, decide);
  if (!decide->preparing)
    choose(decide);
  return decide;
}
