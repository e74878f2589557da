/* One moment of the state folder, copied into STATE/standby/copy so that it stays as it is while it is sent: databases
 * by SQLite's own backup, logs up to their last whole line. What did not change since the last time is not read again.
 * Blocking; one thread at a time. */
#pragma once
#include "cluster/state_manifest.h"

typedef struct ChoirSnapshot ChoirSnapshot;

ChoirSnapshot *choir_snapshot_new(const char *state);
void choir_snapshot_free(ChoirSnapshot *snapshot); /* removes the copy */
/* The entries of all files (see state_manifest.h); caller decrefs. NULL with error. */
json_t *choir_snapshot_take(ChoirSnapshot *snapshot, GError **error);
/* Something in the state folder looks other than at the last time; a few stat() calls. */
gboolean choir_snapshot_stale(ChoirSnapshot *snapshot);
char *choir_snapshot_path(const ChoirSnapshot *snapshot, const char *name); /* in the copy; caller frees */
/* How many turns a history database has saved, -1 when it has none or cannot be read. */
gint64 choir_snapshot_turns(const char *database);
/* The daemon makes it anew, or it belongs to this machine: no part of a copy. relative: below the state folder. */
gboolean choir_snapshot_left_out(const char *relative);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirSnapshot, choir_snapshot_free)
/* A log that grows meanwhile: bytes of the first `length` of it up to its last whole line. */
guint64 choir_snapshot_whole_lines(int fd, guint64 length);
