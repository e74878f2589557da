/* The part of the conversation that the model sees: append-only, so that its cache stays valid, and cut rarely, in one
 * go. Main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_WINDOW_MAX 20 /* turns; at this many it wants to be cut */
#define CHOIR_WINDOW_KEEP 10

typedef struct ChoirWindow ChoirWindow;

ChoirWindow *choir_window_new(void);
void choir_window_free(ChoirWindow *window);
void choir_window_clear(ChoirWindow *window);
guint choir_window_turns(const ChoirWindow *window);
/* text: what the user said, at wall_us. reply may be empty. key tells the turn apart later, NULL for none. */
void choir_window_add(ChoirWindow *window, gconstpointer key, const char *text, gint64 wall_us, const char *reply);
/* Whether messages begin with the local date and time at which they were said. It changes with the persona alone, and
 * the stamps are made from what the history keeps, so they are the same after a restart. */
void choir_window_set_stamped(ChoirWindow *window, gboolean stamped);
/* The user's message as the model sees it; caller frees. */
char *choir_window_message(const ChoirWindow *window, const char *text, gint64 wall_us);
/* The reply was heard only in part. FALSE: that turn is not there any more. */
gboolean choir_window_amend(ChoirWindow *window, gconstpointer key, const char *reply);
void choir_window_remove(ChoirWindow *window, gconstpointer key);
/* From choir_history_entries(): user and assistant in turn; strays are kept as half turns. total: turns of the whole
 * conversation. The window begins where it began before the restart, so that a saved prompt still fits. */
void choir_window_load(ChoirWindow *window, json_t *entries, guint total);
/* How many turns to keep at a cut: 10 and those since the last multiple of 10, a function of the total alone. */
guint choir_window_target(const ChoirWindow *window);
/* Drops the oldest turns down to `keep`; FALSE when there was nothing to drop. */
gboolean choir_window_cut(ChoirWindow *window, guint keep);
/* Bytes of all messages. */
gsize choir_window_bytes(const ChoirWindow *window);
/* [{system}, {user}, {assistant}, ..., {user: next}]; next as choir_window_message() makes it, NULL for the prefix
 * alone. Messages of one role in a row are joined, because many templates insist on alternation. Caller decrefs. */
json_t *choir_window_messages(const ChoirWindow *window, const char *persona, const char *next);
/* SHA-256 of the messages, hexadecimal; caller frees. */
char *choir_window_hash(json_t *messages);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirWindow, choir_window_free)
