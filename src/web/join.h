/* Machines that ask to become workers of this controller: one-shot tokens, requests, and what became of them. Kept in
 * DIR/join.json (0600, replaced as a whole). What is approved goes as one file each into DIR/approved, where the root
 * half (tools/join-apply) fetches it: it alone edits the inventory and hands out secrets, as READY/ID.tar.gz or
 * READY/ID.error. Main thread only. Times are seconds since 1970. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct ChoirJoin ChoirJoin;

#define CHOIR_JOIN_ERROR (choir_join_error_quark())
GQuark choir_join_error_quark(void);
enum {
  CHOIR_JOIN_ERROR_INVALID, /* a field that cannot be */
  CHOIR_JOIN_ERROR_TOKEN,   /* unknown, expired or used by another machine */
  CHOIR_JOIN_ERROR_TAKEN,   /* the host name belongs to another machine */
  CHOIR_JOIN_ERROR_UNKNOWN, /* no such request */
  CHOIR_JOIN_ERROR_STATE,   /* not in this state of things */
  CHOIR_JOIN_ERROR_FULL,
  CHOIR_JOIN_ERROR_FILE,
};

#define CHOIR_JOIN_MINUTES 60        /* a token lasts, unless asked otherwise */
#define CHOIR_JOIN_MINUTES_MAX 10080 /* a week */

/* Makes the folders. NULL with error when join.json is not whole. */
ChoirJoin *choir_join_open(const char *dir, const char *ready, GError **error);
void choir_join_free(ChoirJoin *join);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirJoin, choir_join_free)

/* "cj1.SECRET.FINGERPRINT": the secret is kept as SHA-256 only, the fingerprint is that of our certificate authority.
 * Caller frees. */
char *choir_join_token_new(ChoirJoin *join, guint minutes, gboolean at_once, const char *fingerprint, gint64 now,
                           GError **error);
/* [{"id","expires","auto","used_by"}]; caller decrefs. */
json_t *choir_join_tokens(const ChoirJoin *join, gint64 now);
gboolean choir_join_token_revoke(ChoirJoin *join, const char *id, GError **error);

/* asked: {"token","hostname","machine_id","key","address","ssh_host_key","mac","cpu","ram_mb"}; peer: the address it
 * came from, used where `address` is missing. The same token, machine and key again is the same request. FALSE with
 * error: nothing was changed. ret_node: borrowed, until the next change. */
gboolean choir_join_ask(ChoirJoin *join, const json_t *asked, const char *peer, gint64 now, const json_t **ret_node,
                        GError **error);
/* word: host name or id. */
gboolean choir_join_approve(ChoirJoin *join, const char *word, gint64 now, GError **error);
gboolean choir_join_refuse(ChoirJoin *join, const char *word, gint64 now, GError **error);

/* The request whose key this is, brought up to date with what the root half left; NULL = none. Borrowed. */
const json_t *choir_join_by_key(ChoirJoin *join, const char *key, gint64 now);
const json_t *choir_join_by_host(ChoirJoin *join, const char *hostname, gint64 now);
/* Path of its bundle, NULL while there is none. Caller frees. */
char *choir_join_bundle(const ChoirJoin *join, const json_t *node);
/* What a machine says about itself: {"status": "provisioning"|"joined"|"failed", "step", "message"}, and with joined
 * "version", that of its packages, which the root half tells Nomad. */
gboolean choir_join_report(ChoirJoin *join, const json_t *node, const json_t *report, gint64 now, GError **error);
/* It is known and has another address now. Unchanged addresses change nothing. */
gboolean choir_join_address(ChoirJoin *join, const json_t *node, const char *address, gint64 now, GError **error);
/* Without keys: [{"id","hostname","address","machine_id","status","message","step","cpu","ram_mb","asked","changed"}].
 * Caller decrefs. */
json_t *choir_join_nodes(ChoirJoin *join, gint64 now);
json_t *choir_join_node_public(const json_t *node); /* one of them */

/* join_check.c: what may come in. */
gboolean choir_join_hostname_ok(const char *name);
gboolean choir_join_address_ok(const char *address);
gboolean choir_join_hex_ok(const char *text, gsize digits);
/* Of a Debian package; "" is one, too. */
gboolean choir_join_version_ok(const char *version);
/* Every field of a request; FALSE with a sentence. */
gboolean choir_join_check(const json_t *asked, GError **error);
