/* Where a node keeps copies of another node's state: DIR/g-EPOCH-GENERATION/{manifest.json,files/}, the newest two, and
 * DIR/blocks/ with what has come of the next one. A copy appears whole or not at all. Blocking; one thread. */
#pragma once
#include "cluster/state_manifest.h"

typedef struct ChoirStandbyStore ChoirStandbyStore;

/* Looks through the newest copy; a damaged one is put aside. NULL with error. */
ChoirStandbyStore *choir_standby_store_open(const char *dir, GError **error);
void choir_standby_store_free(ChoirStandbyStore *store);
const json_t *choir_standby_store_newest(const ChoirStandbyStore *store); /* its manifest, NULL = none */
/* NULL with error. Else the sums of the blocks that must be put before (an array; caller decrefs): empty when the copy
 * is stored. A copy that is not newer than what is there is refused with CHOIR_STATE_ERROR_OLDER. */
json_t *choir_standby_store_commit(ChoirStandbyStore *store, const json_t *manifest, GError **error);
gboolean choir_standby_store_put(ChoirStandbyStore *store, const void *block, gsize length, GError **error);
/* Bytes of a file of a stored copy, fewer at its end. NULL with error. */
GBytes *choir_standby_store_read(ChoirStandbyStore *store, ChoirStateAge age, const char *name, guint64 offset,
                                 gsize length, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirStandbyStore, choir_standby_store_free)
