/* What a copy of the agent's state is made of: {"format","version","epoch","generation","turns","node","made","choir",
 * "files":[{"name","mode","bytes","sha256","blocks":["sha256",...]}]}. A copy is newer than another when its epoch is
 * higher (each takeover begins one), or the epoch is the same and its generation higher. Pure but for the files it is
 * told to read; any thread. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_STATE_BLOCK 65536u
#define CHOIR_STATE_FILES_MAX 4096u
#define CHOIR_STATE_BYTES_MAX (2ull << 30)
#define CHOIR_STATE_OWN "standby" /* our own folder inside of the state folder; no part of a copy */

#define CHOIR_STATE_ERROR (choir_state_error_quark())
GQuark choir_state_error_quark(void);
enum {
  CHOIR_STATE_ERROR_IO,
  CHOIR_STATE_ERROR_DAMAGED, /* not what its sums say */
  CHOIR_STATE_ERROR_OLDER,   /* there is a newer one */
  CHOIR_STATE_ERROR_LIMIT,
  CHOIR_STATE_ERROR_CHANGED, /* a file became another while it was read */
};

typedef struct {
  gint64 epoch, generation;
} ChoirStateAge;

ChoirStateAge choir_state_age(const json_t *manifest); /* zeros for NULL */
int choir_state_age_compare(ChoirStateAge a, ChoirStateAge b);
/* choir_relative_ok(), and nothing of CHOIR_STATE_OWN. */
gboolean choir_state_name_ok(const char *name);
/* Everything in it can be used as it is; FALSE with a sentence. */
gboolean choir_state_manifest_check(const json_t *manifest, GError **error);
guint64 choir_state_bytes(const json_t *manifest);
json_t *choir_state_manifest_new(ChoirStateAge age, gint64 turns, const char *node, json_t *files /* stolen */);
/* The entry of one file. blocks are read from fd, which is at its begin, up to `length` bytes. NULL with error. Caller
 * decrefs. */
json_t *choir_state_file(int fd, const char *name, guint mode, guint64 length, GError **error);
/* Where each block is: sum -> ChoirStatePlace. Keys and names belong to the manifest. Caller unrefs. */
typedef struct {
  const char *name;
  guint64 offset;
  gsize length;
} ChoirStatePlace;
GHashTable *choir_state_places(const json_t *manifest);
/* The same names, modes and sums. */
gboolean choir_state_same_files(const json_t *a, const json_t *b);
/* Reads exactly length bytes at offset. */
gboolean choir_state_read_at(int fd, void *data, gsize length, guint64 offset, GError **error);
gboolean choir_state_write_all(int fd, const void *data, gsize length, GError **error);
char *choir_state_sum(const void *data, gsize length); /* caller frees */
void choir_state_remove_tree(const char *path);
/* Folder and everything above it, and synced names where it matters. FALSE with error. */
gboolean choir_state_make_above(const char *path, GError **error);
void choir_state_sync_folder(const char *path);
/* Bytes that are free where path is; G_MAXUINT64 when unknown. */
guint64 choir_state_room(const char *path);
gboolean choir_state_fail(GError **error, const char *verb, const char *path); /* with errno */
