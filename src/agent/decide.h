/* One decision: does what was said need an action, which, and with what arguments. The likeness of the shortlist and
 * the model's scores are weighed together; the arguments are filled in beside the most like examples. Main thread only.
 */
#pragma once
#include "agent/call.h"
#include "agent/shortlist.h"

typedef struct ChoirDecide ChoirDecide;

typedef struct {
  ChoirToolbox *toolbox;
  ChoirShortlist *shortlist;
  ChoirChat *chat;
  const char *text;
  const char *model;       /* its name */
  gboolean small;          /* CHOIR_SMALL_PARAMS */
  const char *const *used; /* names of actions that are not to be chosen; may be NULL */
  const char *among;       /* ids of the tools that may be chosen, "shell clock"; NULL = all */
  const char *name;        /* not NULL: this action, only its arguments are wanted */
  gboolean choice_only;    /* arguments are not filled in: "{}" */
  double temperature;      /* of the arguments; 0 = the most likely ones */
  guint limit_ms;          /* of each question to the model; 0 = 8 s for a small one, a minute for others (call.h) */
  const json_t *wrong;     /* arguments of it that did not work; may be NULL */
  const char *notes;       /* what tools found already, for a model that writes calls by itself; may be NULL */
} ChoirDecideRequest;

/* A model behind another make of server takes no grammar: it is asked with OpenAI's tools, and what it writes is
 * validated (wire.h). */
/* Exactly once, on its own loop turn. name NULL: an answer in words. arguments: JSON that fits the action's schema. */
typedef void (*ChoirDecideDone)(const char *name, const char *arguments, const GError *error, gpointer user);
ChoirDecide *choir_decide_begin(const ChoirDecideRequest *request, ChoirDecideDone done, gpointer user);
void choir_decide_cancel(ChoirDecide *decide); /* at once; done does not run */

/* May there be anything to decide? By words alone, at once: where not, not even an embedding is asked for. */
gboolean choir_decide_near(const ChoirShortlist *shortlist, const char *text);
/* Is there anything to decide? No model is asked; by the meaning, too, where choir_shortlist_prepare() made it known.
 */
gboolean choir_decide_wanted(const ChoirShortlist *shortlist, const char *text);
