/* The audit log: append-only JSON lines, each with the SHA-256 of the line before it, so that a change or a cut in the
 * middle shows. Written and synced before the thing it tells of happens. Main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct ChoirAudit ChoirAudit;

/* A line of the log by its number and the SHA-256 of its bytes; number 0 is before the first. */
typedef struct {
  guint64 seq;
  char hash[65];
} ChoirAuditHead;

/* Continues the file (its last whole line; a torn last line is kept aside as PATH.torn). NULL with error: then no tool
 * may run. */
ChoirAudit *choir_audit_open(const char *path, GError **error);
void choir_audit_close(ChoirAudit *audit);
/* kind: "turn" "tool" "approval" "run" "result" "memory" "policy" "login". fields: an object (borrowed), secrets
 * scrubbed here. FALSE with error when it did not reach the disk: the caller must not go on. */
gboolean choir_audit_write(ChoirAudit *audit, const char *kind, const json_t *fields, GError **error);
/* The last n entries, newest first; caller decrefs. */
json_t *choir_audit_tail(ChoirAudit *audit, guint n, GError **error);
const char *choir_audit_path(const ChoirAudit *audit);
/* The line that was written last. */
void choir_audit_head(const ChoirAudit *audit, ChoirAuditHead *ret_head);
/* Walks a whole file. FALSE with error naming the first bad line; *ret_lines = lines that are good. Any thread. */
gboolean choir_audit_verify(const char *path, guint64 *ret_lines, GError **error);
/* The same, and the line `known`, seen earlier, must be in it as it was: a chain cannot tell by itself that its end was
 * cut off or written anew. known may be NULL; ret_head (may be NULL): the last good line. Any thread. */
gboolean choir_audit_verify_from(const char *path, const ChoirAuditHead *known, ChoirAuditHead *ret_head,
                                 GError **error);
/* "12:9f86d0…" as choir_audit_head_text() makes it; FALSE: it is none. */
gboolean choir_audit_head_parse(const char *text, ChoirAuditHead *ret_head);
char *choir_audit_head_text(const ChoirAuditHead *head); /* caller frees */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirAudit, choir_audit_close)
