/* Function calls that cannot be malformed, by a model that knows nothing of functions. Main thread only.
 *
 * Which one: the model is shown what somebody said and, as text to go on with, the name of each function in plain words
 * ("set timer") and "answer question". A name's score is the log-probability of its first two tokens minus the same for
 * something that says nothing; the best score wins (facts: n_probs of llama-server, no sampling). The arguments:
 * value by value, each one completion bound by a grammar made of its schema (call_grammar.h), behind what is certain
 * and therefore in the prompt (call_fill.h); then checked as a whole by an independent validator. If no grammar can be
 * made, nothing is decoded. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "agent/call_grammar.h"
#include "llm/complete.h"

#define CHOIR_CALL_MAX_TOOLS 64
#define CHOIR_CALL_SHORTLIST 6 /* functions that are scored; of more, those whose texts fit what was said best */

typedef struct ChoirCallTools ChoirCallTools; /* a checked list; counted */
typedef struct ChoirCall ChoirCall;           /* one decision under way */

/* tools: OpenAI's list, in the form of chat completions ({"type","function":{...}}) or of Realtime ({"type","name",
 * ...}); NULL or empty gives an empty list. NULL with error; ret_param: the member that is wrong
 * ("tools[1].parameters"), caller frees, may be NULL. */
ChoirCallTools *choir_call_tools_new(const json_t *tools, char **ret_param, GError **error);
ChoirCallTools *choir_call_tools_ref(ChoirCallTools *tools);
void choir_call_tools_unref(ChoirCallTools *tools);
guint choir_call_tools_count(const ChoirCallTools *tools); /* NULL is 0 */
gboolean choir_call_tools_has(const ChoirCallTools *tools, const char *name);
/* The list as it was given; borrowed. */
const json_t *choir_call_tools_json(const ChoirCallTools *tools);

typedef enum {
  CHOIR_CALL_NONE,     /* never */
  CHOIR_CALL_AUTO,     /* a function or an answer in words */
  CHOIR_CALL_REQUIRED, /* one of the functions */
  CHOIR_CALL_NAMED,    /* this one */
} ChoirCallChoice;

/* tool_choice of both protocols: "none" "auto" "required" {"type":"function","name"} {"type":"function",
 * "function":{"name"}}. NULL and null are auto. ret_name: caller frees. FALSE: not a choice, or a function not in
 * tools. */
gboolean choir_call_choice_read(const json_t *choice, const ChoirCallTools *tools, ChoirCallChoice *ret_choice,
                                char **ret_name);

/* Something said and the arguments (JSON) that it means. */
typedef struct {
  const char *said, *args;
} ChoirCallShot;

typedef struct {
  ChoirCallTools *tools; /* a reference is kept; what is remembered of the model stays in it */
  ChoirCallChoice choice;
  const char *name;        /* of CHOIR_CALL_NAMED */
  const char *text;        /* what was said */
  const char *const *used; /* names that this text called already: not offered again by AUTO; may be NULL */
  const char *model;       /* name of the loaded one: what is remembered of another is forgotten */
  int slot;
  /* The rest may be left out. */
  gboolean choice_only; /* no arguments are filled in: done gets "{}" */
  const double
      *favour; /* nats added to the score of each function, in the order of tools, -INFINITY = not offered; NULL = 0 */
  double answer_favour;       /* ... of the answer in words */
  const ChoirCallShot *shots; /* of CHOIR_CALL_NAMED: what is shown instead of the general examples, best last */
  guint n_shots;
  gboolean small; /* a model that does not find an end: texts are short from the start, and there is no second try */
  double temperature; /* of the arguments; 0 = the most likely ones */
  guint limit_ms;     /* 0 = none; or 5 times the time of the first answer, on a machine where that is longer */
} ChoirCallRequest;

/* Exactly once, from the main loop. name NULL: an answer in words is wanted (AUTO only). arguments: compact JSON that
 * fits the schema. usage: of all that was evaluated and decoded. */
typedef void (*ChoirCallDone)(const char *name, const char *arguments, const ChoirChatTimings *usage,
                              const GError *error, gpointer user);
ChoirCall *choir_call_begin(ChoirChat *chat, const ChoirCallRequest *request, ChoirCallDone done, gpointer user);
void choir_call_cancel(ChoirCall *call); /* done does not run */

/* Pure parts. */
/* "getWeather_now" is "get weather now"; caller frees. */
char *choir_call_words(const char *name);
/* Indices of the at most `most` tools whose name, description and arguments share most with text, best first. */
guint choir_call_shortlist(const ChoirCallTools *tools, const char *text, guint *ret_indices, guint most);
/* The best of n scores over their priors; the last one is the answer in words when with_answer, favoured by a bias that
 * was chosen so that chatter calls nothing.
 * -1 = the answer. */
gint choir_call_pick(const double *scores, const double *priors, guint n, gboolean with_answer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirCallTools, choir_call_tools_unref)
