#include <math.h>
#include <string.h>
#include "agent/call_fill.h"
#include "agent/call_private.h"
#include "agent/schema.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"

#define MAX_TEXT 600     /* bytes of what was said that the decision looks at, from its end */
#define TOP_TOKENS 400   /* what is below them counts as one step rarer than the rarest */
#define ANSWER_BIAS 1.25 /* nats in favour of words */
#define ARGUMENT_TOKENS 200
#define SMALL_TOKENS 64    /* of an argument, by a small model */
#define PLAIN_TOKENS 1200  /* ... in CHOIR_CALL_PLAIN at least; more than it can have */
#define PLAIN_RULES 3      /* ... where the grammar is long: no value is longer than this many times its rules */
#define SLOW_MACHINE 5     /* the limit is this many times the first answer's time at least */
#define NOTHING_SAID "N/A" /* what priors are taken from */

/* One prompt for every list of functions: it stays in the slot's cache, and a new list costs nothing. */
static const char CHOOSE[] = "A helper sorts what people say.\n\n"
                             "Said: I need to get to Rome by rail on Friday.\nFunction: book train\n\n"
                             "Said: Who invented the radio?\nFunction: answer question\n\n"
                             "Said: Put milk on my shopping list.\nFunction: add to list\n\n"
                             "Said: Hello there!\nFunction: answer question\n\n"
                             "Said: ";
static const char FILL[] =
    "Arguments are copied from what was said.\n\n"
    "Function: book train\nArguments: city (text: where to go), day (text)\n"
    "Said: I need to get to Rome by rail on Friday.\nJSON: {\"city\": \"Rome\", \"day\": \"Friday\"}\n\n"
    "Function: set volume\nArguments: percent (integer), room (text)\n"
    "Said: Make it thirty percent loud in the garage.\nJSON: {\"percent\": 30, \"room\": \"garage\"}\n\n";

typedef enum { STEP_TOKENS, STEP_PRIOR, STEP_SCORE, STEP_FILL, STEP_DONE } Step;

struct ChoirCall {
  ChoirChat *chat;
  ChoirCallTools *tools;
  ChoirCallChoice choice;
  char *text;
  int slot;
  ChoirCallDone done;
  gpointer user;
  Step step;
  CallName *names[CHOIR_CALL_SHORTLIST + 1]; /* the answer comes last, with AUTO */
  const CallTool *candidates[CHOIR_CALL_SHORTLIST];
  double scores[CHOIR_CALL_SHORTLIST + 1];
  guint n_names, n_candidates;
  gint nodes[CHOIR_CALL_SHORTLIST + 2]; /* first tokens to look behind; nodes[0] is the place before any */
  guint n_nodes, node;
  guint name; /* whose tokens are asked for */
  const CallTool *chosen;
  gboolean tight; /* the second try of the arguments */
  CallFill *filling;
  char *prompt; /* before the arguments */
  char *arguments;
  GError *error;
  ChoirComplete *running;
  guint idle;
  ChoirChatTimings usage;
  gboolean choice_only, small;
  double temperature;
  double favour[CHOIR_CALL_SHORTLIST + 1];
  char *shots; /* part of the prompt, or NULL */
  guint limit_ms, limit;
  gint64 begin_us, first_us; /* first_us: when the model answered first, 0 = not yet */
};

static void go_on(ChoirCall *call);

static void call_free(ChoirCall *call) {
  g_clear_handle_id(&call->idle, g_source_remove);
  g_clear_handle_id(&call->limit, g_source_remove);
  g_clear_pointer(&call->running, choir_complete_cancel);
  choir_call_tools_unref(call->tools);
  call_fill_free(call->filling);
  g_free(call->prompt);
  g_clear_error(&call->error);
  g_free(call->arguments);
  g_free(call->shots);
  g_free(call->text);
  g_free(call);
}

void choir_call_cancel(ChoirCall *call) {
  call_free(call);
}

static gboolean on_finish(gpointer user) {
  ChoirCall *call = user;
  call->idle = 0;
  const char *name = call->chosen && !call->error ? call->chosen->name : NULL;
  const char *labels = call->error ? "result=\"refused\"" : name ? "result=\"call\"" : "result=\"answer\"";
  choir_counter_add(choir_counter("choir_call_decisions_total", labels, "Decisions between functions and an answer."),
                    1);
  call->done(name, name ? call->arguments : NULL, &call->usage, call->error, call->user);
  call_free(call);
  return G_SOURCE_REMOVE;
}

/* From the loop: the owner may still be inside choir_call_begin(). */
static void finish(ChoirCall *call, GError *error /* taken, may be NULL */) {
  call->step = STEP_DONE;
  call->error = error;
  g_clear_handle_id(&call->limit, g_source_remove);
  if (call->idle == 0)
    call->idle = g_idle_add(on_finish, call);
}

static gboolean on_limit(gpointer user) {
  ChoirCall *call = user;
  gint64 now = g_get_monotonic_time();
  gint64 first = (call->first_us ? call->first_us : now) - call->begin_us;
  gint64 left = MAX(call->limit_ms * G_TIME_SPAN_MILLISECOND, SLOW_MACHINE * first) - (now - call->begin_us);
  call->limit = 0;
  /* Without any answer yet the machine cannot be judged: once more the same time. */
  if (left > 0 && (call->first_us || now - call->begin_us < 2 * call->limit_ms * G_TIME_SPAN_MILLISECOND)) {
    call->limit = g_timeout_add((guint)MIN(left / 1000 + 1, call->limit_ms), on_limit, call);
    return G_SOURCE_REMOVE;
  }
  g_clear_pointer(&call->running, choir_complete_cancel);
  finish(call, g_error_new(CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_LATE,
                           "no function was chosen and filled in within %.0f s, so none is called",
                           (double)(now - call->begin_us) / G_USEC_PER_SEC));
  return G_SOURCE_REMOVE;
}

static void count(ChoirCall *call, const ChoirChatTimings *timings) {
  if (call->first_us == 0)
    call->first_us = g_get_monotonic_time();
  call->usage.prompt_tokens += timings->prompt_tokens;
  call->usage.cached_tokens += timings->cached_tokens;
  call->usage.evaluated_tokens += timings->evaluated_tokens;
  call->usage.reply_tokens += timings->reply_tokens;
  call->usage.prompt_ms += timings->prompt_ms;
  call->usage.reply_ms += timings->reply_ms;
}

/* --- tokens of the names -------------------------------------------------------------------------------------------
 */

static void on_tokens(const gint *tokens, guint n, const GError *error, gpointer user) {
  ChoirCall *call = user;
  call->running = NULL;
  if (error) {
    finish(call, g_error_copy(error));
    return;
  }
  CallName *name = call->names[call->name++];
  name->n_tokens = MIN(n, CALL_NAME_TOKENS);
  memcpy(name->tokens, tokens, name->n_tokens * sizeof *tokens);
  go_on(call);
}

/* FALSE: all names have theirs. */
static gboolean ask_tokens(ChoirCall *call) {
  while (call->name < call->n_names && call->names[call->name]->n_tokens > 0)
    call->name++;
  if (call->name >= call->n_names)
    return FALSE;
  g_autofree char *text = g_strconcat(" ", call->names[call->name]->words, NULL);
  call->running = choir_complete_tokens(call->chat, text, on_tokens, call);
  return TRUE;
}

/* --- scores --------------------------------------------------------------------------------------------------------
 */

static double logprob(const ChoirCompleteResult *result, gint token) {
  double rarest = 0;
  for (guint i = 0; i < result->n_probs; i++) {
    if (result->probs[i].id == token)
      return result->probs[i].logprob;
    rarest = MIN(rarest, result->probs[i].logprob);
  }
  return rarest - 1;
}

/* The nodes of the tree of names: before the first token, and behind each first token that has a second. */
static void plan_nodes(ChoirCall *call) {
  call->n_nodes = 1;
  call->node = 0;
  for (guint i = 0; i < call->n_names; i++) {
    gboolean known = call->names[i]->n_tokens < 2;
    for (guint k = 1; k < call->n_nodes && !known; k++)
      known = call->nodes[k] == call->names[i]->tokens[0];
    if (!known)
      call->nodes[call->n_nodes++] = call->names[i]->tokens[0];
    call->scores[i] = 0;
  }
}

static void on_probs(const ChoirCompleteResult *result, const GError *error, gpointer user) {
  ChoirCall *call = user;
  call->running = NULL;
  if (error || result->n_probs == 0) {
    finish(call, error ? g_error_copy(error)
                       : g_error_new_literal(CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_MODEL,
                                             "the language model server gives no probabilities, so no function can be "
                                             "chosen; send tool_choice 'none' or name the function"));
    return;
  }
  count(call, &result->timings);
  for (guint i = 0; i < call->n_names; i++) {
    const CallName *name = call->names[i];
    if (call->node == 0)
      call->scores[i] += logprob(result, name->tokens[0]);
    else if (name->n_tokens > 1 && name->tokens[0] == call->nodes[call->node])
      call->scores[i] += logprob(result, name->tokens[1]);
  }
  call->node++;
  go_on(call);
}

/* FALSE: every node was looked at. */
static gboolean ask_probs(ChoirCall *call, const char *said) {
  if (call->node >= call->n_nodes)
    return FALSE;
  g_autofree char *prompt = g_strconcat(CHOOSE, said, "\nFunction:", NULL);
  ChoirCompleteRequest request = {.prompt = prompt,
                                  .tokens = &call->nodes[call->node],
                                  .n_tokens = call->node > 0 ? 1 : 0,
                                  .slot = call->slot,
                                  .max_tokens = 1,
                                  .top = TOP_TOKENS};
  call->running = choir_complete_begin(call->chat, &request, on_probs, call);
  return TRUE;
}

gint choir_call_pick(const double *scores, const double *priors, guint n, gboolean with_answer) {
  gint best = -1;
  double most = with_answer ? scores[n - 1] - priors[n - 1] + ANSWER_BIAS : -1e300;
  for (guint i = 0; i < (with_answer ? n - 1 : n); i++)
    if (scores[i] - priors[i] > most) {
      most = scores[i] - priors[i];
      best = (gint)i;
    }
  return best;
}

static void keep_priors(ChoirCall *call) {
  for (guint i = 0; i < call->n_names; i++) {
    call->names[i]->prior = call->scores[i];
    call->names[i]->has_prior = TRUE;
  }
}

static gboolean lacks_prior(const ChoirCall *call) {
  for (guint i = 0; i < call->n_names; i++)
    if (!call->names[i]->has_prior)
      return TRUE;
  return FALSE;
}

static void choose(ChoirCall *call) {
  double priors[CHOIR_CALL_SHORTLIST + 1] = {0};
  guint n = MIN(call->n_names, G_N_ELEMENTS(priors));
  for (guint i = 0; i < n; i++) {
    priors[i] = call->names[i]->prior;
    choir_debug(CHOIR_TOPIC_AGENT, "function '%s': %.2f above its prior, favoured by %.2f", call->names[i]->words,
                call->scores[i] - priors[i], call->favour[i]);
    call->scores[i] += call->favour[i];
  }
  gint best = choir_call_pick(call->scores, priors, n, call->choice == CHOIR_CALL_AUTO);
  call->chosen = best >= 0 ? call->candidates[best] : NULL;
}

/* --- arguments -----------------------------------------------------------------------------------------------------
 */

static GError *broken(const ChoirCall *call, const char *why) {
  return g_error_new(CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_BROKEN,
                     "the call of '%s' is refused, its arguments could not be made: %s", call->chosen->name, why);
}

/* The grammar is not trusted either: an independent validator has the last word. */
static gboolean take_arguments(ChoirCall *call, const char *text, GError **error) {
  json_t *json = choir_json_parse(text, strlen(text), error);
  gboolean good = json && choir_schema_validate(call->chosen->schema, json, error);
  if (good) {
    g_free(call->arguments);
    call->arguments = choir_json_dump(json);
  }
  json_decref(json);
  return good;
}

static void ask_value(ChoirCall *call);

static void start_filling(ChoirCall *call) {
  g_autoptr(GError) error = NULL;
  ChoirCallWidth width = call->tight || call->small ? CHOIR_CALL_TIGHT : CHOIR_CALL_WIDE;
  g_clear_pointer(&call->filling, call_fill_free);
  call->filling = call_fill_new(call->chosen->schema, call->text, width, &error);
  if (call->filling)
    ask_value(call);
  else
    finish(call, broken(call, error->message));
}

static void try_again(ChoirCall *call, const GError *why) {
  if (call->tight || call->small) {
    finish(call, broken(call, why->message));
    return;
  }
  call->tight = TRUE; /* the schema wants more than its grammar says */
  start_filling(call);
}

static void on_value(const ChoirCompleteResult *result, const GError *error, gpointer user) {
  ChoirCall *call = user;
  g_autoptr(GError) why = NULL;
  call->running = NULL;
  if (error) {
    finish(call, broken(call, error->message));
    return;
  }
  count(call, &result->timings);
  /* Half a value (it did not find an end), half a character: only this value once more, so that it cannot be wrong. */
  if (call_fill_take(call->filling, result->text, &why) || call_fill_plain(call->filling))
    ask_value(call);
  else
    finish(call, broken(call, why->message));
}

/* What is certain stands in the prompt already; the server has the part before in its cache. */
static void ask_value(ChoirCall *call) {
  const char *grammar = call_fill_grammar(call->filling);
  g_autoptr(GError) why = NULL;
  if (!grammar) {
    if (take_arguments(call, call_fill_text(call->filling), &why))
      finish(call, NULL);
    else
      try_again(call, why);
    return;
  }
  guint most = call->small ? SMALL_TOKENS : ARGUMENT_TOKENS;
  if (call_fill_is_plain(call->filling))
    most = MAX(PLAIN_TOKENS, PLAIN_RULES * (guint)strlen(grammar));
  g_autofree char *prompt = g_strconcat(call->prompt, call_fill_text(call->filling), NULL);
  ChoirCompleteRequest request = {
      .prompt = prompt, .slot = call->slot, .max_tokens = most, .temperature = call->temperature, .grammar = grammar};
  call->running = choir_complete_begin(call->chat, &request, on_value, call);
}

static void fill(ChoirCall *call) {
  const CallTool *tool = call->chosen;
  g_autoptr(GError) error = NULL;
  if (call->choice_only) {
    call->arguments = g_strdup("{}");
    finish(call, NULL);
    return;
  }
  if (json_object_size(json_object_get(tool->schema, "properties")) == 0) {
    if (take_arguments(call, "{}", &error))
      finish(call, NULL);
    else
      finish(call, broken(call, error->message));
    return;
  }
  g_autofree char *arguments = choir_call_arguments_text(tool->schema);
  g_autofree char *cut = g_strndup(tool->description, 200);
  g_autofree char *description = choir_utf8(cut, -1);
  call->prompt = g_strdup_printf("%sFunction: %s%s%s\nArguments: %s\n%sSaid: %s\nJSON:", call->shots ? "" : FILL,
                                 tool->label.words, *description ? ", " : "", description, arguments,
                                 call->shots ? call->shots : "", call->text);
  start_filling(call);
}

/* --- steps ---------------------------------------------------------------------------------------------------------
 */

static void go_on(ChoirCall *call) {
  switch (call->step) {
  case STEP_TOKENS:
    if (ask_tokens(call))
      return;
    call->step = lacks_prior(call) ? STEP_PRIOR : STEP_SCORE;
    plan_nodes(call);
    go_on(call);
    return;
  case STEP_PRIOR:
    if (ask_probs(call, NOTHING_SAID))
      return;
    keep_priors(call);
    call->step = STEP_SCORE;
    plan_nodes(call);
    go_on(call);
    return;
  case STEP_SCORE:
    if (ask_probs(call, call->text))
      return;
    choose(call);
    call->step = STEP_FILL;
    go_on(call);
    return;
  case STEP_FILL:
    if (call->chosen)
      fill(call);
    else
      finish(call, NULL);
    return;
  case STEP_DONE:
    return;
  }
}

/* One line, its end when it is long: what is asked for comes last. */
static char *one_line(const char *text) {
  gsize length = strlen(text);
  g_autofree char *valid = choir_utf8(length > MAX_TEXT ? text + length - MAX_TEXT : text, -1);
  char *line = g_strdelimit(g_steal_pointer(&valid), "\r\n\t", ' ');
  return g_strstrip(line);
}

static gboolean was_used(const char *const *used, const char *name) {
  return used && g_strv_contains(used, name);
}

static void find_candidates(ChoirCall *call, const ChoirCallRequest *request) {
  guint indices[CHOIR_CALL_MAX_TOOLS];
  guint n = choir_call_shortlist(call->tools, call->text, indices, CHOIR_CALL_MAX_TOOLS);
  for (guint i = 0; i < n && call->n_candidates < CHOIR_CALL_SHORTLIST; i++) {
    CallTool *tool = call->tools->list->pdata[indices[i]];
    gboolean offered = !request->favour || isfinite(request->favour[indices[i]]);
    if (!offered || (call->choice == CHOIR_CALL_AUTO && was_used(request->used, tool->name)))
      continue;
    call->candidates[call->n_candidates++] = tool;
    call->favour[call->n_names] = request->favour ? request->favour[indices[i]] : 0;
    call->names[call->n_names++] = &tool->label;
  }
  if (call->choice == CHOIR_CALL_AUTO) {
    call->favour[call->n_names] = request->answer_favour;
    call->names[call->n_names++] = &call->tools->answer;
  }
}

/* Another model cuts words in other places. */
static void forget_tokens(ChoirCallTools *tools, const char *model) {
  if (tools->model && g_strcmp0(tools->model, model ? model : "") == 0)
    return;
  g_free(tools->model);
  tools->model = g_strdup(model ? model : "");
  tools->answer.n_tokens = 0;
  tools->answer.has_prior = FALSE;
  for (guint i = 0; i < tools->list->len; i++) {
    CallTool *tool = tools->list->pdata[i];
    tool->label.n_tokens = 0;
    tool->label.has_prior = FALSE;
  }
}

static char *shots_text(const ChoirCallRequest *request) {
  g_autoptr(GString) text = g_string_new(NULL);
  for (guint i = 0; i < request->n_shots; i++)
    g_string_append_printf(text, "Said: %s\nJSON: %s\n\n", request->shots[i].said, request->shots[i].args);
  return request->n_shots > 0 ? g_strdup(text->str) : NULL;
}

ChoirCall *choir_call_begin(ChoirChat *chat, const ChoirCallRequest *request, ChoirCallDone done, gpointer user) {
  ChoirCall *call = g_new0(ChoirCall, 1);
  call->chat = chat;
  call->tools = choir_call_tools_ref(request->tools);
  call->choice = request->choice;
  call->text = one_line(request->text);
  call->slot = request->slot;
  call->done = done;
  call->user = user;
  call->choice_only = request->choice_only;
  call->small = request->small;
  call->temperature = request->temperature;
  call->shots = shots_text(request);
  call->limit_ms = request->limit_ms;
  call->begin_us = g_get_monotonic_time();
  if (request->limit_ms)
    call->limit = g_timeout_add(request->limit_ms, on_limit, call);
  if (choir_chat_plain(chat)) {
    finish(call,
           g_error_new_literal(CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_MODEL,
                               "the language model server that is set up takes no grammar, so functions cannot be "
                               "called through it; use the local model or send tool_choice 'none'"));
    return call;
  }
  forget_tokens(call->tools, request->model);
  find_candidates(call, request);
  call->step = STEP_TOKENS;
  if (call->choice == CHOIR_CALL_NAMED || (call->choice == CHOIR_CALL_REQUIRED && call->n_candidates == 1)) {
    call->chosen =
        call->choice == CHOIR_CALL_NAMED ? choir_call_tools_find(call->tools, request->name) : call->candidates[0];
    call->step = STEP_FILL;
  } else if (call->choice == CHOIR_CALL_NONE || call->n_candidates == 0) {
    call->step = STEP_FILL; /* nothing chosen: an answer in words */
  }
  go_on(call);
  return call;
}
