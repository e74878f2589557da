/* Conversation history in SQLite (WAL, synchronous FULL): one writer thread, results on the main context.
 * A turn that was acknowledged survives a kill at any moment. */
#pragma once
#include <gio/gio.h>
#include <jansson.h>

typedef struct ChoirHistory ChoirHistory;
#define CHOIR_HISTORY_ERROR (choir_history_error_quark())
GQuark choir_history_error_quark(void);
enum { CHOIR_HISTORY_ERROR_OPEN, CHOIR_HISTORY_ERROR_WRITE, CHOIR_HISTORY_ERROR_NOT_FOUND, CHOIR_HISTORY_ERROR_BUSY };

typedef struct {
  const char *role;      /* "user" "assistant" */
  const char *text;      /* for a cut reply: the words that were heard */
  const char *source;    /* "voice" "page" "ws" "api" "realtime" "cli" "internal" */
  gboolean cut;          /* the reply was interrupted */
  const char *full_text; /* what was generated, when cut; NULL otherwise */
  gint64 wall_us;
} ChoirHistoryEntry;

typedef void (*ChoirHistoryDone)(gint64 id, const GError *error, gpointer user);

/* Opens, migrates stepwise, recovers. A newer schema than ours is an error that says so. Blocking (start-up only). */
ChoirHistory *choir_history_open(const char *path, GError **error);
void choir_history_close(ChoirHistory *history); /* drains the queue */
/* Current conversation (created on demand). Bounded queue of 256 writes: full gives CHOIR_HISTORY_ERROR_BUSY. */
gint64 choir_history_current(ChoirHistory *history);
void choir_history_append(ChoirHistory *history, gint64 conversation, const ChoirHistoryEntry *entry,
                          ChoirHistoryDone done, gpointer user);
/* Both entries of a turn in one transaction: after a kill there are both or none. The id is the assistant's; an
 * assistant entry with an empty text (interrupted before a word was heard) is left out, the id is then the user's. */
void choir_history_append_turn(ChoirHistory *history, gint64 conversation, const ChoirHistoryEntry *user_entry,
                               const ChoirHistoryEntry *assistant_entry, ChoirHistoryDone done, gpointer user);
/* Creates, does not select. title may be NULL: the first thing said becomes the title. */
void choir_history_new_conversation(ChoirHistory *history, const char *title, ChoirHistoryDone done, gpointer user);
void choir_history_select(ChoirHistory *history, gint64 conversation, ChoirHistoryDone done, gpointer user);
void choir_history_rename(ChoirHistory *history, gint64 conversation, const char *title, ChoirHistoryDone done,
                          gpointer user);
void choir_history_delete(ChoirHistory *history, gint64 conversation, ChoirHistoryDone done, gpointer user);
/* Reads (short, indexed, own connection): [{"id","title","turns","updated"}] newest first; caller decrefs. */
json_t *choir_history_list(ChoirHistory *history, guint limit, GError **error);
/* [{"id","role","text","source","cut","time"}] oldest first, the last `limit` ones (0 = all). */
json_t *choir_history_entries(ChoirHistory *history, gint64 conversation, guint limit, GError **error);
/* How often the user spoke in it; 0 when it cannot be read. */
guint choir_history_turns(ChoirHistory *history, gint64 conversation);
/* {"format":"choir-conversation","version":1,"title",...,"entries":[...]} */
json_t *choir_history_export(ChoirHistory *history, gint64 conversation, GError **error);
/* Writes waiting for the writer thread. */
guint choir_history_queued(ChoirHistory *history);
/* Turns that were ever saved here; grows by one with each that is acknowledged, and never falls. */
gint64 choir_history_saved(const ChoirHistory *history);
/* written runs after every successful write, before the writer's own done. At most four. */
guint choir_history_observe(ChoirHistory *history, void (*written)(gpointer user), gpointer user);
void choir_history_unobserve(ChoirHistory *history, guint id);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirHistory, choir_history_close)
