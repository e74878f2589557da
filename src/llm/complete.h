/* Raw completions of a llama-server beside its chat: tokens of a text, probabilities of the next token, text bound by a
 * grammar. The means of constrained decoding. Main thread only. */
#pragma once
#include <gio/gio.h>
#include "llm/chat.h"

typedef struct ChoirComplete ChoirComplete; /* one request in flight */

typedef struct {
  gint id; /* of the token */
  double logprob;
} ChoirTokenProb;

typedef struct {
  const char *prompt; /* no chat template is applied */
  const gint *tokens; /* what follows the prompt, already cut into tokens; may be NULL */
  guint n_tokens;
  int slot;         /* id_slot, -1 = any */
  guint max_tokens; /* at least 1 */
  guint top;        /* probabilities of so many most likely first tokens, 0 = none */
  double temperature;
  guint64 seed;        /* 0 = random */
  const char *grammar; /* GBNF or NULL */
} ChoirCompleteRequest;

typedef struct {
  const char *text;            /* what was written */
  const ChoirTokenProb *probs; /* of the first token, most likely first */
  guint n_probs;
  gboolean cut; /* max_tokens came before the end */
  ChoirChatTimings timings;
} ChoirCompleteResult;

/* Exactly once, result NULL on error. Not after choir_complete_cancel(). */
typedef void (*ChoirCompleteDone)(const ChoirCompleteResult *result, const GError *error, gpointer user);
typedef void (*ChoirTokensDone)(const gint *tokens, guint n, const GError *error, gpointer user);

ChoirComplete *choir_complete_begin(ChoirChat *chat, const ChoirCompleteRequest *request, ChoirCompleteDone done,
                                    gpointer user);
ChoirComplete *choir_complete_tokens(ChoirChat *chat, const char *text, ChoirTokensDone done, gpointer user);
/* The connection is closed at once (the server drops the work); done does not run. */
void choir_complete_cancel(ChoirComplete *complete);

/* The request's body, and the reading of an answer: pure, for tests and fuzzing. Errors: CHOIR_CHAT_ERROR. */
json_t *choir_complete_json(const ChoirCompleteRequest *request);
/* probs: an array of ChoirTokenProb that is filled. ret_text belongs to root. */
gboolean choir_complete_read(json_t *root, GArray *probs, ChoirCompleteResult *ret_result, GError **error);
