#include "agent/steps.h"
#include <string.h>
#include "agent/decide.h"
#include "agent/gist.h"
#include "agent/twin_private.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define SAID_AS_IS 400 /* bytes of a trusted output that are the answer themselves */
#define NOTES_MAX 2000 /* bytes of outputs shown to the model that writes the answer */
#define FINAL "final_answer.submit_task"
#define LATE                                                                                                           \
  "I did not find out in time which tool that needs, or with what, so I did nothing. Please say it again, in fewer "   \
  "words."
#define NOT_MADE "I could not make a call of that, so I did nothing. Please say it in other words."

struct ChoirSteps {
  ChoirStepsRequest request;
  char *text, *session, *turn_id, *among;
  ChoirStepsHandlers handlers;
  gpointer user;
  ChoirTaint *taint;
  guint step, repairs;
  GPtrArray *used;   /* names of actions; NULL-ended */
  GHashTable *calls; /* "name args" of every call: the loop detector */
  ChoirDecide *deciding;
  guint tool_call;
  char *name, *arguments; /* of the call under way */
  gboolean again;         /* the same action, with other arguments than those of wrong */
  json_t *wrong;
  GString *notes;
  char *answer;
  gboolean spoke; /* a piece of the answer went out already */
  guint idle;
};

static void steps_free(ChoirSteps *steps) {
  g_clear_handle_id(&steps->idle, g_source_remove);
  g_clear_pointer(&steps->deciding, choir_decide_cancel);
  if (!steps->request.taint)
    choir_taint_free(steps->taint);
  g_free(steps->among);
  g_ptr_array_unref(steps->used);
  g_hash_table_unref(steps->calls);
  g_string_free(steps->notes, TRUE);
  g_free(steps->text);
  g_free(steps->session);
  g_free(steps->turn_id);
  g_free(steps->name);
  g_free(steps->arguments);
  json_decref(steps->wrong);
  g_free(steps->answer);
  g_free(steps);
}

static gboolean on_finish(gpointer user) {
  ChoirSteps *steps = user;
  steps->idle = 0;
  steps->handlers.done(steps->answer, steps->answer || steps->notes->len == 0 ? NULL : steps->notes->str, steps->user);
  steps_free(steps);
  return G_SOURCE_REMOVE;
}

static void finish(ChoirSteps *steps) {
  if (steps->idle == 0)
    steps->idle = g_idle_add(on_finish, steps);
}

gboolean choir_steps_near(const ChoirShortlist *shortlist, const char *text) {
  return choir_decide_near(shortlist, text);
}

gboolean choir_steps_wanted(const ChoirShortlist *shortlist, const char *text) {
  return choir_decide_wanted(shortlist, text);
}

static void decide(ChoirSteps *steps);

/* Another make of server takes no grammar, and tells no size: what it serves writes calls by itself, or none. */
static gboolean is_plain(const ChoirSteps *steps) {
  return choir_chat_plain(choir_llm_server_chat(steps->request.llm));
}

static gboolean is_small(const ChoirSteps *steps) {
  guint64 params = choir_llm_server_params(steps->request.llm);
  return !is_plain(steps) && (params == 0 || params < CHOIR_SMALL_PARAMS);
}

/* A tool's output, told to whoever writes the answer. */
static void add_note(ChoirSteps *steps, const char *text) {
  gsize room = steps->notes->len < NOTES_MAX ? NOTES_MAX - steps->notes->len : 0;
  g_autofree char *cut = g_strndup(text, choir_turn_utf8_floor(text, MIN(room, strlen(text))));
  g_string_append_printf(steps->notes, "%s%s", steps->notes->len ? "\n" : "", cut);
}

static gboolean answers_itself(const ChoirSteps *steps) {
  const ChoirToolAction *action = choir_toolbox_find(steps->request.toolbox, steps->name, NULL);
  return action && action->answers && steps->handlers.speak;
}

static void on_output(const char *text, gsize length, gpointer user) {
  ChoirSteps *steps = user;
  if (answers_itself(steps)) {
    steps->spoke = TRUE;
    steps->handlers.speak(text, length, steps->user);
  } else if (steps->handlers.output)
    steps->handlers.output(text, length, steps->user);
}

/* Who says what a tool found? A small model, shown a list of files or a page, goes on with a sentence of its own that
 * has nothing to do with it, and does what a stranger wrote there. So where a person is shown the output as it is, the
 * output is the answer: of a small model nothing is wanted but the call, and what is said is made of the output.
 * A larger model may read it and speak, and so may one that wrote the call by itself; and any where nobody sees the
 * output, as its notes are then all there is. */
static gboolean output_is_answer(const ChoirSteps *steps) {
  return steps->handlers.output && is_small(steps) && !steps->request.name && steps->notes->len == 0;
}

static char *sentence_of(const ChoirSteps *steps, const ChoirToolResult *result) {
  const ChoirToolAction *action = choir_toolbox_find(steps->request.toolbox, steps->name, NULL);
  json_auto_t *args = choir_json_parse(steps->arguments, strlen(steps->arguments), NULL);
  char *text = action->gist ? action->gist(args, result->text) : NULL;
  return text ? text
              : choir_gist(action->about ? choir_json_string(args, action->about, NULL) : NULL, result->text,
                           result->cut);
}

static void on_result(const ChoirToolResult *result, const GError *error, gpointer user) {
  ChoirSteps *steps = user;
  steps->tool_call = 0;
  if (g_error_matches(error, CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_ARGUMENTS) && steps->repairs < CHOIR_STEPS_REPAIRS) {
    steps->repairs++;
    choir_info(CHOIR_TOPIC_AGENT, "%s %s: %s", steps->name, steps->arguments, error->message);
    json_array_append_new(steps->wrong, choir_json_parse(steps->arguments, strlen(steps->arguments), NULL));
    g_free(steps->answer);
    steps->answer = g_strdup(error->message); /* unless it can be repaired */
    steps->again = TRUE;
    decide(steps);
    return;
  }
  steps->step++;
  g_clear_pointer(&steps->answer, g_free);
  if (steps->spoke) {
    if (error)
      steps->answer = g_strdup_printf(" (%s)", error->message);
    g_string_truncate(steps->notes, 0);
    finish(steps);
    return;
  }
  if (error) {
    /* What went wrong is the answer: a small model would make something up. */
    choir_info(CHOIR_TOPIC_AGENT, "%s: %s", steps->name, error->message);
    steps->answer = *result->text ? g_strdup_printf("%s (%s)", error->message, g_strstrip((char *)result->text))
                                  : g_strdup(error->message);
    finish(steps);
    return;
  }
  if (!result->trusted) {
    g_autofree char *origin = g_strdup_printf("tool %s", steps->name);
    choir_taint_stranger(steps->taint, result->origin ? result->origin : origin, result->text);
  }
  guint most = steps->request.max_steps ? steps->request.max_steps : is_small(steps) ? 1 : CHOIR_STEPS_MAX;
  gboolean last = steps->step >= most || g_str_equal(steps->name, FINAL);
  gboolean plain = strlen(result->text) <= SAID_AS_IS && (result->trusted || g_str_equal(steps->name, FINAL));
  if (last && plain && steps->notes->len == 0) {
    steps->answer = g_strdup(*result->text ? result->text : "Done.");
    finish(steps);
    return;
  }
  if (last && output_is_answer(steps)) {
    steps->answer = sentence_of(steps, result);
    finish(steps);
    return;
  }
  g_autofree char *note = g_strdup_printf("%s says: %s%s", steps->name, *result->text ? result->text : "done",
                                          result->cut ? " (the rest was cut)" : "");
  add_note(steps, note);
  if (last)
    finish(steps);
  else
    decide(steps);
}

static void run(ChoirSteps *steps, const char *name, const char *arguments) {
  g_autofree char *key = g_strconcat(name, " ", arguments, NULL);
  g_autoptr(GError) error = NULL;
  if (!g_hash_table_add(steps->calls, g_steal_pointer(&key))) {
    choir_info(CHOIR_TOPIC_AGENT, "%s would be called again with the same arguments; the loop ends", name);
    finish(steps);
    return;
  }
  json_auto_t *args = choir_json_parse(arguments, strlen(arguments), &error);
  char *copy = g_strdup(arguments), *its = g_strdup(name); /* they may be our own of a call before */
  g_free(steps->arguments);
  steps->arguments = copy;
  g_free(steps->name);
  steps->name = its;
  g_ptr_array_insert(steps->used, (gint)steps->used->len - 1, g_strdup(its));
  if (steps->handlers.started)
    steps->handlers.started(its, copy, steps->user);
  ChoirToolRequest request = {
      .name = its, .args = args, .taint = steps->taint, .session = steps->session, .turn_id = steps->turn_id};
  steps->tool_call = choir_toolbox_call(steps->request.toolbox, &request, on_output, on_result, steps);
}

/* A tool was meant, or may have been, and no call came of it: that is said. An answer in words instead would be about
 * something else, or tell of a call that was never made. What writes calls by itself may well write none. */
static char *why_not(const ChoirSteps *steps, const GError *error) {
  if (g_error_matches(error, CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_LATE))
    return g_strdup(LATE);
  return is_plain(steps) ? NULL : g_strdup(NOT_MADE);
}

static void on_decided(const char *name, const char *arguments, const GError *error, gpointer user) {
  ChoirSteps *steps = user;
  steps->deciding = NULL;
  if (error)
    choir_info(CHOIR_TOPIC_AGENT, "%s", error->message);
  if (error && !steps->answer && steps->notes->len == 0)
    steps->answer = why_not(steps, error);
  if (error || !name) {
    finish(steps);
  } else {
    run(steps, name, arguments);
  }
}

static void decide(ChoirSteps *steps) {
  ChoirDecideRequest request = {.toolbox = steps->request.toolbox,
                                .shortlist = steps->request.shortlist,
                                .chat = choir_llm_server_chat(steps->request.llm),
                                .text = steps->text,
                                .model = choir_llm_server_model(steps->request.llm),
                                .small = is_small(steps),
                                .used = is_plain(steps) ? NULL : (const char *const *)steps->used->pdata,
                                .among = steps->among,
                                .notes = steps->notes->str,
                                .name = steps->again ? steps->name : NULL,
                                .wrong = steps->wrong};
  steps->again = FALSE;
  steps->deciding = choir_decide_begin(&request, on_decided, steps);
}

ChoirSteps *choir_steps_begin(const ChoirStepsRequest *request, const ChoirStepsHandlers *handlers, gpointer user) {
  ChoirSteps *steps = g_new0(ChoirSteps, 1);
  steps->request = *request;
  steps->text = g_strdup(request->text);
  steps->session = g_strdup(request->session ? request->session : "");
  steps->turn_id = g_strdup(request->turn_id ? request->turn_id : "");
  steps->handlers = *handlers;
  steps->user = user;
  steps->among = g_strdup(request->among);
  steps->taint = request->taint ? request->taint : choir_taint_new();
  if (!request->taint)
    choir_taint_person(steps->taint, request->text);
  steps->used = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(steps->used, NULL);
  steps->calls = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  steps->notes = g_string_new(NULL);
  steps->wrong = json_array();
  if (request->name)
    run(steps, request->name, request->args);
  else
    decide(steps);
  return steps;
}

void choir_steps_cancel(ChoirSteps *steps) {
  if (steps->tool_call == 0) {
    steps_free(steps);
    return;
  }
  /* Its result comes later, to nobody. */
  guint call = steps->tool_call;
  ChoirToolbox *toolbox = steps->request.toolbox;
  choir_toolbox_forget(toolbox, call);
  choir_toolbox_cancel(toolbox, call);
  steps_free(steps);
}
