#include "agent/steps.h"
#include <string.h>
#include "agent/call.h"
#include "agent/twin_private.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define SHORTLIST 5
#define WANTED 0.30    /* likeness of the best action below which no tool is meant */
#define CERTAIN 0.70   /* ... above which the model is not asked which one */
#define MARGIN 0.15    /* ... when the next one is so much less like it */
#define SAID_AS_IS 400 /* bytes of a trusted output that are the answer themselves */
#define NOTES_MAX 2000 /* bytes of outputs shown to the model that writes the answer */
#define SPAN_WORDS 16  /* of a copied argument */
#define SPANS_MAX 250
#define FINAL "final_answer.submit_task"

struct ChoirSteps {
  ChoirStepsRequest request;
  char *text, *session, *turn_id;
  ChoirStepsHandlers handlers;
  gpointer user;
  ChoirTaint *taint;
  guint step, repairs;
  GPtrArray *used;   /* names of actions; NULL-ended */
  GHashTable *calls; /* "name args" of every call: the loop detector */
  ChoirCall *deciding;
  guint tool_call;
  char *name; /* of the call under way */
  GString *notes;
  char *answer;
  guint idle;
};

static void steps_free(ChoirSteps *steps) {
  g_clear_handle_id(&steps->idle, g_source_remove);
  g_clear_pointer(&steps->deciding, choir_call_cancel);
  choir_taint_free(steps->taint);
  g_ptr_array_unref(steps->used);
  g_hash_table_unref(steps->calls);
  g_string_free(steps->notes, TRUE);
  g_free(steps->text);
  g_free(steps->session);
  g_free(steps->turn_id);
  g_free(steps->name);
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

gboolean choir_steps_wanted(const ChoirShortlist *shortlist, const char *text) {
  ChoirShortlistEntry best;
  return choir_shortlist_find(shortlist, text, &best, 1) == 1 && best.score >= WANTED;
}

static void decide(ChoirSteps *steps);

static gboolean is_small(const ChoirSteps *steps) {
  guint64 params = choir_llm_server_params(steps->request.llm);
  return params == 0 || params < CHOIR_SMALL_PARAMS;
}

/* A tool's output, told to whoever writes the answer. */
static void add_note(ChoirSteps *steps, const char *text) {
  gsize room = steps->notes->len < NOTES_MAX ? NOTES_MAX - steps->notes->len : 0;
  g_autofree char *cut = g_strndup(text, choir_turn_utf8_floor(text, MIN(room, strlen(text))));
  g_string_append_printf(steps->notes, "%s%s", steps->notes->len ? "\n" : "", cut);
}

static void on_output(const char *text, gsize length, gpointer user) {
  ChoirSteps *steps = user;
  if (steps->handlers.output)
    steps->handlers.output(text, length, steps->user);
}

static void on_result(const ChoirToolResult *result, const GError *error, gpointer user) {
  ChoirSteps *steps = user;
  steps->tool_call = 0;
  steps->step++;
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
    choir_taint_stranger(steps->taint, origin, result->text);
  }
  guint most = steps->request.max_steps ? steps->request.max_steps : is_small(steps) ? 1 : CHOIR_STEPS_MAX;
  gboolean last = steps->step >= most || g_str_equal(steps->name, FINAL);
  gboolean plain = strlen(result->text) <= SAID_AS_IS && (result->trusted || g_str_equal(steps->name, FINAL));
  if (last && plain && steps->notes->len == 0) {
    steps->answer = g_strdup(*result->text ? result->text : "Done.");
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
  g_free(steps->name);
  steps->name = g_strdup(name);
  g_ptr_array_insert(steps->used, (gint)steps->used->len - 1, g_strdup(name));
  if (steps->handlers.started)
    steps->handlers.started(name, arguments, steps->user);
  ChoirToolRequest request = {
      .name = name, .args = args, .taint = steps->taint, .session = steps->session, .turn_id = steps->turn_id};
  steps->tool_call = choir_toolbox_call(steps->request.toolbox, &request, on_output, on_result, steps);
}

static void on_decided(const char *name, const char *arguments, const ChoirChatTimings *usage, const GError *error,
                       gpointer user) {
  ChoirSteps *steps = user;
  steps->deciding = NULL;
  if (error && steps->repairs++ < CHOIR_STEPS_REPAIRS) {
    choir_info(CHOIR_TOPIC_AGENT, "a call could not be made: %s", error->message);
    decide(steps);
  } else if (error || !name) {
    finish(steps);
  } else {
    run(steps, name, arguments);
  }
}

/* Every run of words of a text, at most max characters long, without the punctuation around it; at most SPANS_MAX,
 * short ones first. */
static json_t *spans_of(const char *text, gsize max) {
  g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_auto(GStrv) words = g_strsplit_set(text, " \t\n", -1);
  json_t *list = json_array();
  for (guint length = 1; length <= SPAN_WORDS && json_array_size(list) < SPANS_MAX; length++)
    for (guint first = 0; words[first] && json_array_size(list) < SPANS_MAX; first++) {
      g_autoptr(GString) span = g_string_new(NULL);
      guint n = 0;
      for (guint i = first; words[i] && n < length; i++)
        if (*words[i]) {
          g_string_append_printf(span, "%s%s", n ? " " : "", words[i]);
          n++;
        }
      if (n < length)
        break;
      while (span->len > 0 && strchr(".,;:!?\"()", span->str[span->len - 1]))
        g_string_truncate(span, span->len - 1);
      gsize skip = strspn(span->str, "\"(");
      if (span->len > skip && span->len <= max && !g_hash_table_contains(seen, span->str + skip)) {
        g_hash_table_add(seen, g_strdup(span->str + skip));
        json_array_append_new(list, json_string(span->str + skip));
      }
    }
  return list;
}

static json_t *function_of(const ChoirSteps *steps, const ChoirShortlistEntry *entry) {
  g_autofree char *name = g_strdup_printf("%s.%s", entry->tool->id, entry->action->name);
  json_t *schema = choir_toolbox_schema(steps->request.toolbox, entry->action), *property;
  const char *key;
  json_object_foreach(json_object_get(schema, "properties"), key, property) {
    if (strcmp(choir_json_string(property, "$comment", ""), "copied") != 0 || json_object_get(property, "enum"))
      continue;
    json_t *spans = spans_of(steps->text, (gsize)choir_json_int(property, "maxLength", 200));
    if (json_array_size(spans) > 0)
      json_object_set(property, "enum", spans);
    json_decref(spans);
  }
  return json_pack("{s:s,s:{s:s,s:s,s:o}}", "type", "function", "function", "name", name, "description",
                   entry->action->help, "parameters", schema);
}

static gboolean was_used(const ChoirSteps *steps, const ChoirShortlistEntry *entry) {
  g_autofree char *name = g_strdup_printf("%s.%s", entry->tool->id, entry->action->name);
  for (guint i = 0; i + 1 < steps->used->len; i++)
    if (g_str_equal(steps->used->pdata[i], name))
      return TRUE;
  return FALSE;
}

/* Shortlist, then the model's own probabilities among it, unless there is nothing to choose. */
static void decide(ChoirSteps *steps) {
  ChoirShortlistEntry entries[SHORTLIST + CHOIR_STEPS_MAX], kept[SHORTLIST];
  guint found = choir_shortlist_find(steps->request.shortlist, steps->text, entries, G_N_ELEMENTS(entries)), n = 0;
  g_autoptr(GError) error = NULL;
  json_auto_t *list = json_array();
  for (guint i = 0; i < found && n < SHORTLIST; i++)
    if (!was_used(steps, &entries[i])) {
      kept[n++] = entries[i];
      json_array_append_new(list, function_of(steps, &entries[i]));
    }
  if (n == 0 || kept[0].score < WANTED) {
    finish(steps);
    return;
  }
  g_autofree char *first = g_strdup_printf("%s.%s", kept[0].tool->id, kept[0].action->name);
  gboolean certain = kept[0].score >= CERTAIN && (n == 1 || kept[0].score - kept[1].score >= MARGIN);
  g_autoptr(ChoirCallTools) tools = choir_call_tools_new(list, NULL, &error);
  if (!tools) {
    choir_warning(CHOIR_TOPIC_AGENT, "the tools cannot be offered: %s", error->message);
    finish(steps);
    return;
  }
  ChoirCallRequest request = {.tools = tools,
                              .choice = certain ? CHOIR_CALL_NAMED : CHOIR_CALL_AUTO,
                              .name = certain ? first : NULL,
                              .text = steps->text,
                              .used = (const char *const *)steps->used->pdata,
                              .model = choir_llm_server_model(steps->request.llm),
                              .slot = CHOIR_SLOT_API};
  choir_debug(CHOIR_TOPIC_AGENT, "shortlist: %s %.2f%s", first, kept[0].score, certain ? ", certain" : "");
  steps->deciding = choir_call_begin(choir_llm_server_chat(steps->request.llm), &request, on_decided, steps);
}

ChoirSteps *choir_steps_begin(const ChoirStepsRequest *request, const ChoirStepsHandlers *handlers, gpointer user) {
  ChoirSteps *steps = g_new0(ChoirSteps, 1);
  steps->request = *request;
  steps->text = g_strdup(request->text);
  steps->session = g_strdup(request->session ? request->session : "");
  steps->turn_id = g_strdup(request->turn_id ? request->turn_id : "");
  steps->handlers = *handlers;
  steps->user = user;
  steps->taint = choir_taint_new();
  choir_taint_person(steps->taint, request->text);
  steps->used = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(steps->used, NULL);
  steps->calls = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  steps->notes = g_string_new(NULL);
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
