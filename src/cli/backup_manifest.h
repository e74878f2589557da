/* What a backup says of itself, in its last member manifest.json: {"format","version","choir","made","files":[{"name",
 * "bytes","sha256","mode"}],"work"}. Members are state/..., work/... and settings/...; "work" says where the second
 * ones were. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define BACKUP_MANIFEST "manifest.json"
#define BACKUP_MANIFEST_MAX (16u << 20)
#define BACKUP_STATE "state/"
#define BACKUP_WORK "work/"
#define BACKUP_SETTINGS "settings/"
#define BACKUP_WORK_SUFFIX "-work" /* the agent's own folder stands beside the state folder */

json_t *backup_manifest_new(void);
void backup_manifest_add(json_t *manifest, const char *name, guint64 bytes, const char *sha256, guint mode);
/* Against what was unpacked: the same kind of object. FALSE with a sentence that names the first difference. */
gboolean backup_manifest_check(const char *archive, const char *text, const json_t *unpacked, GError **error);
