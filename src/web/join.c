#include "web/join.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/random.h>
#include "base/text.h"

#define TOKENS_MAX 64
#define NODES_MAX 256
#define KEEP_SECONDS (7 * 24 * 3600) /* a spent token is remembered, so that its second use has a clear answer */
#define MESSAGE_MAX 400

struct ChoirJoin {
  char *path, *approved, *ready;
  json_t *tokens, *nodes;
};

static json_t *find(const json_t *list, const char *field, const char *value) {
  for (size_t i = 0; *value && i < json_array_size(list); i++) {
    json_t *item = json_array_get(list, i);
    if (strcmp(choir_json_string(item, field, ""), value) == 0)
      return item;
  }
  return NULL;
}

static void put(json_t *item, const char *field, const char *text) {
  json_object_set_new(item, field, json_string(text));
}

static void put_state(json_t *node, const char *status, const char *message, gint64 now) {
  put(node, "status", status);
  put(node, "message", message);
  json_object_set_new(node, "changed", json_integer(now));
}

static gboolean save_to(const char *path, json_t *document /* stolen */, GError **error) {
  g_autofree char *text = choir_json_dump(document);
  g_autoptr(GError) why = NULL;
  json_decref(document);
  if (g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                               &why))
    return TRUE;
  g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FILE, "cannot write %s: %s", path, why->message);
  return FALSE;
}

/* What a request changed is undone when it cannot be kept: memory and disk never differ. */
static gboolean keep(ChoirJoin *join, json_t *tokens, json_t *nodes, GError **error) {
  if (save_to(join->path, json_pack("{s:i,s:O,s:O}", "version", 1, "tokens", tokens, "nodes", nodes), error)) {
    json_incref(tokens);
    json_incref(nodes);
    json_decref(join->tokens);
    json_decref(join->nodes);
    join->tokens = tokens;
    join->nodes = nodes;
    return TRUE;
  }
  return FALSE;
}

static gboolean load(ChoirJoin *join, GError **error) {
  g_autofree char *text = NULL;
  g_autoptr(GError) why = NULL;
  if (!g_file_test(join->path, G_FILE_TEST_EXISTS)) {
    join->tokens = json_array();
    join->nodes = json_array();
    return TRUE;
  }
  if (!g_file_get_contents(join->path, &text, NULL, &why)) {
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FILE, "cannot read %s: %s", join->path, why->message);
    return FALSE;
  }
  json_auto_t *document = choir_json_parse(text, strlen(text), &why);
  join->tokens = json_incref(json_object_get(document, "tokens"));
  join->nodes = json_incref(json_object_get(document, "nodes"));
  if (json_is_array(join->tokens) && json_is_array(join->nodes))
    return TRUE;
  g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FILE, "%s is damaged; move it away to begin with an empty list",
              join->path);
  return FALSE;
}

ChoirJoin *choir_join_open(const char *dir, const char *ready, GError **error) {
  g_autoptr(ChoirJoin) join = g_new0(ChoirJoin, 1);
  join->path = g_build_filename(dir, "join.json", NULL);
  join->approved = g_build_filename(dir, "approved", NULL);
  join->ready = g_strdup(ready);
  if (g_mkdir_with_parents(join->approved, 0700) != 0) {
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FILE, "cannot make the folder %s: %s", join->approved,
                g_strerror(errno));
    return NULL;
  }
  return load(join, error) ? g_steal_pointer(&join) : NULL;
}

void choir_join_free(ChoirJoin *join) {
  if (!join)
    return;
  json_decref(join->tokens);
  json_decref(join->nodes);
  g_free(join->path);
  g_free(join->approved);
  g_free(join->ready);
  g_free(join);
}

static char *random_hex(gsize bytes) {
  guint8 raw[32];
  GString *text = g_string_new(NULL);
  if (bytes > sizeof raw || getrandom(raw, bytes, 0) != (gssize)bytes)
    g_error("the kernel gives no random numbers"); /* aborts: nothing here may be guessable */
  for (gsize i = 0; i < bytes; i++)
    g_string_append_printf(text, "%02x", raw[i]);
  return g_string_free(text, FALSE);
}

static char *sum_of(const char *text) {
  return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

static json_t *tokens_without_old(const ChoirJoin *join, gint64 now) {
  json_t *kept = json_array();
  for (size_t i = 0; i < json_array_size(join->tokens); i++) {
    json_t *token = json_array_get(join->tokens, i);
    if (choir_json_int(token, "expires", 0) + KEEP_SECONDS > now)
      json_array_append_new(kept, json_deep_copy(token));
  }
  return kept;
}

char *choir_join_token_new(ChoirJoin *join, guint minutes, gboolean at_once, const char *fingerprint, gint64 now,
                           GError **error) {
  if (minutes < 1 || minutes > CHOIR_JOIN_MINUTES_MAX) {
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_INVALID, "a token lasts 1 to %d minutes, not %u",
                CHOIR_JOIN_MINUTES_MAX, minutes);
    return NULL;
  }
  json_auto_t *tokens = tokens_without_old(join, now);
  if (json_array_size(tokens) >= TOKENS_MAX) {
    g_set_error_literal(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FULL,
                        "there are too many tokens; revoke some with choir nodes token --revoke ID");
    return NULL;
  }
  g_autofree char *secret = random_hex(24);
  g_autofree char *sum = sum_of(secret), *id = random_hex(4);
  json_array_append_new(tokens,
                        json_pack("{s:s,s:s,s:I,s:b,s:s}", "id", id, "sha256", sum, "expires",
                                  (json_int_t)now + 60 * (json_int_t)minutes, "auto", (int)at_once, "used_by", ""));
  if (!keep(join, tokens, join->nodes, error))
    return NULL;
  return g_strdup_printf("cj1.%s.%s", secret, fingerprint);
}

json_t *choir_join_tokens(const ChoirJoin *join, gint64 now) {
  json_t *list = json_array();
  for (size_t i = 0; i < json_array_size(join->tokens); i++) {
    const json_t *token = json_array_get(join->tokens, i);
    if (choir_json_int(token, "expires", 0) <= now && !*choir_json_string(token, "used_by", ""))
      continue;
    json_array_append_new(list, json_pack("{s:s,s:I,s:b,s:s}", "id", choir_json_string(token, "id", ""), "expires",
                                          (json_int_t)choir_json_int(token, "expires", 0), "auto",
                                          (int)choir_json_bool(token, "auto", FALSE), "used_by",
                                          choir_json_string(token, "used_by", "")));
  }
  return list;
}

gboolean choir_join_token_revoke(ChoirJoin *join, const char *id, GError **error) {
  json_auto_t *tokens = json_array();
  for (size_t i = 0; i < json_array_size(join->tokens); i++)
    if (strcmp(choir_json_string(json_array_get(join->tokens, i), "id", ""), id) != 0)
      json_array_append(tokens, json_array_get(join->tokens, i));
  if (json_array_size(tokens) == json_array_size(join->tokens)) {
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_UNKNOWN, "there is no token %s", id);
    return FALSE;
  }
  return keep(join, tokens, join->nodes, error);
}

/* What the token allows, in a copy of the tokens that is to be kept; NULL with error. */
static json_t *open_token(json_t *tokens, const json_t *asked, const json_t *known, gint64 now, GError **error) {
  g_auto(GStrv) parts = g_strsplit(choir_json_string(asked, "token", ""), ".", 3);
  gboolean shaped = g_strv_length(parts) >= 2 && strcmp(parts[0], "cj1") == 0;
  g_autofree char *sum = sum_of(shaped ? parts[1] : ""), *key_sum = sum_of(choir_json_string(asked, "key", ""));
  json_t *token = shaped ? find(tokens, "sha256", sum) : NULL;
  const char *used_by = choir_json_string(token, "used_by", ""), *why = NULL;
  gboolean same = known && strcmp(used_by, choir_json_string(known, "machine_id", "?")) == 0 &&
                  strcmp(choir_json_string(known, "key_sha256", ""), key_sum) == 0;
  if (!token)
    why = "this token is not known here; make one on the controller with: sudo choir nodes token";
  else if (*used_by && !same)
    why = "this token was used already; each machine needs one of its own: sudo choir nodes token";
  else if (choir_json_int(token, "expires", 0) <= now && !same)
    why = "this token has expired; make another on the controller with: sudo choir nodes token";
  if (!why)
    return token;
  g_set_error_literal(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_TOKEN, why);
  return NULL;
}

static gboolean name_is_free(const json_t *nodes, const char *hostname, const char *machine_id, GError **error) {
  const json_t *other = find(nodes, "hostname", hostname);
  gboolean taken = other && strcmp(choir_json_string(other, "machine_id", ""), machine_id) != 0 &&
                   strcmp(choir_json_string(other, "status", ""), "refused") != 0;
  if (!taken && g_ascii_strcasecmp(hostname, g_get_host_name()) != 0)
    return TRUE;
  g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_TAKEN,
              "another machine is called %s; give this one another name with hostnamectl, or take the other one out: "
              "sudo choir nodes refuse %s",
              hostname, hostname);
  return FALSE;
}

/* A machine that was refused keeps no name that another one, or itself set up anew, has now. */
static void drop_refused(json_t *nodes, const char *hostname, const char *machine_id) {
  for (size_t i = json_array_size(nodes); i-- > 0;) {
    const json_t *other = json_array_get(nodes, i);
    if (strcmp(choir_json_string(other, "hostname", ""), hostname) == 0 &&
        strcmp(choir_json_string(other, "machine_id", ""), machine_id) != 0)
      json_array_remove(nodes, i);
  }
}

static void fill(json_t *node, const json_t *asked, const char *peer, gint64 now) {
  static const char *const texts[] = {"hostname", "machine_id", "ssh_host_key", "mac", "cpu"};
  g_autofree char *key_sum = sum_of(choir_json_string(asked, "key", ""));
  for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
    put(node, texts[i], choir_json_string(asked, texts[i], ""));
  put(node, "address", choir_json_string(asked, "address", peer));
  put(node, "key_sha256", key_sum);
  put(node, "step", "");
  json_object_set_new(node, "ram_mb", json_integer(choir_json_int(asked, "ram_mb", 0)));
  json_object_set_new(node, "asked", json_integer(now));
  put_state(node, "pending", "", now);
}

/* The request for the root half. It reads nothing else of ours. what: join, address, remove, or version for a machine
 * that has said which Choir it runs now. */
static gboolean send_up(ChoirJoin *join, const json_t *node, const char *what, GError **error) {
  g_autofree char *name = g_strdup_printf("%s.%s.json", choir_json_string(node, "id", ""), what);
  g_autofree char *path = g_build_filename(join->approved, name, NULL);
  return save_to(path,
                 json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "what", what, "id", choir_json_string(node, "id", ""),
                           "hostname", choir_json_string(node, "hostname", ""), "address",
                           choir_json_string(node, "address", ""), "machine_id",
                           choir_json_string(node, "machine_id", ""), "mac", choir_json_string(node, "mac", ""),
                           "version", choir_json_string(node, "version", "")),
                 error);
}

/* A new one for each bundle: what was left for an earlier request is never taken for this one's. */
static void put_new_id(json_t *node) {
  g_autofree char *id = random_hex(8);
  put(node, "id", id);
}

gboolean choir_join_ask(ChoirJoin *join, const json_t *asked, const char *peer, gint64 now, const json_t **ret_node,
                        GError **error) {
  if (!choir_join_check(asked, error))
    return FALSE;
  const char *machine_id = choir_json_string(asked, "machine_id", ""),
             *hostname = choir_json_string(asked, "hostname", "");
  json_auto_t *tokens = json_deep_copy(join->tokens), *nodes = json_deep_copy(join->nodes);
  json_t *node = find(nodes, "machine_id", machine_id);
  json_t *token = open_token(tokens, asked, node, now, error);
  if (!token)
    return FALSE;
  if (*choir_json_string(token, "used_by", "")) { /* the answer to its first request was lost */
    *ret_node = find(join->nodes, "machine_id", machine_id);
    return TRUE;
  }
  if (!name_is_free(nodes, hostname, machine_id, error))
    return FALSE;
  drop_refused(nodes, hostname, machine_id);
  if (!node && json_array_size(nodes) >= NODES_MAX) {
    g_set_error_literal(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FULL,
                        "there are too many requests; refuse some first");
    return FALSE;
  }
  if (!node) {
    node = json_object();
    json_array_append_new(nodes, node);
  }
  put_new_id(node);
  fill(node, asked, peer, now);
  put(token, "used_by", machine_id);
  gboolean at_once = choir_json_bool(token, "auto", FALSE);
  if (at_once)
    put_state(node, "approved", "by an auto-join token", now);
  if (!keep(join, tokens, nodes, error) || (at_once && !send_up(join, node, "join", error)))
    return FALSE;
  *ret_node = node;
  return TRUE;
}

/* A node of a copy that is to be changed; NULL with error. */
static json_t *named(json_t *nodes, const char *word, GError **error) {
  json_t *node = find(nodes, "id", word);
  if (!node)
    node = find(nodes, "hostname", word);
  if (!node)
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_UNKNOWN,
                "no machine called %s has asked to join; see choir nodes pending", word);
  return node;
}

gboolean choir_join_approve(ChoirJoin *join, const char *word, gint64 now, GError **error) {
  json_auto_t *nodes = json_deep_copy(join->nodes);
  json_t *node = named(nodes, word, error);
  const char *status = choir_json_string(node, "status", "");
  if (!node)
    return FALSE;
  if (strcmp(status, "pending") != 0 && strcmp(status, "failed") != 0) {
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_STATE, "%s does not wait for an approval, it is %s",
                choir_json_string(node, "hostname", ""), status);
    return FALSE;
  }
  if (strcmp(status, "failed") == 0)
    put_new_id(node);
  put_state(node, "approved", "", now);
  return keep(join, join->tokens, nodes, error) && send_up(join, node, "join", error);
}

gboolean choir_join_refuse(ChoirJoin *join, const char *word, gint64 now, GError **error) {
  json_auto_t *nodes = json_deep_copy(join->nodes);
  json_t *node = named(nodes, word, error);
  if (!node)
    return FALSE;
  gboolean was_in = strcmp(choir_json_string(node, "status", ""), "pending") != 0;
  put_state(node, "refused", "", now);
  put(node, "key_sha256", "");
  return keep(join, join->tokens, nodes, error) && (!was_in || send_up(join, node, "remove", error));
}

char *choir_join_bundle(const ChoirJoin *join, const json_t *node) {
  g_autofree char *name = g_strconcat(choir_json_string(node, "id", ""), ".tar.gz", NULL);
  g_autofree char *path = g_build_filename(join->ready, name, NULL);
  return g_file_test(path, G_FILE_TEST_IS_REGULAR) ? g_steal_pointer(&path) : NULL;
}

/* approved -> ready or failed, when the root half has been there. Not kept on disk: it can be seen again. */
static const json_t *fresh(ChoirJoin *join, json_t *node, gint64 now) {
  if (!node || strcmp(choir_json_string(node, "status", ""), "approved") != 0)
    return node;
  g_autofree char *path = g_strdup_printf("%s/%s.error", join->ready, choir_json_string(node, "id", ""));
  g_autofree char *text = NULL, *bundle = choir_join_bundle(join, node);
  if (bundle) {
    put_state(node, "ready", "", now);
  } else if (g_file_get_contents(path, &text, NULL, NULL)) {
    g_autofree char *clean = choir_utf8(text, (gssize)MIN(strlen(text), MESSAGE_MAX));
    put_state(node, "failed", g_strstrip(clean), now);
  }
  return node;
}

const json_t *choir_join_by_key(ChoirJoin *join, const char *key, gint64 now) {
  g_autofree char *sum = sum_of(key);
  return choir_join_hex_ok(key, 64) ? fresh(join, find(join->nodes, "key_sha256", sum), now) : NULL;
}

const json_t *choir_join_by_host(ChoirJoin *join, const char *hostname, gint64 now) {
  return fresh(join, find(join->nodes, "hostname", hostname), now);
}

gboolean choir_join_report(ChoirJoin *join, const json_t *node, const json_t *report, gint64 now, GError **error) {
  static const char *const states[] = {"provisioning", "joined", "failed", NULL};
  const char *status = choir_json_string(report, "status", "");
  json_auto_t *nodes = json_deep_copy(join->nodes);
  json_t *mine = find(nodes, "id", choir_json_string(node, "id", ""));
  g_autofree char *step = choir_utf8(choir_json_string(report, "step", ""), -1);
  g_autofree char *message = choir_utf8(choir_json_string(report, "message", ""), -1);
  const char *version = choir_json_string(report, "version", "");
  if (!g_strv_contains(states, status) || strlen(step) > 64 || strlen(message) > MESSAGE_MAX ||
      !choir_join_version_ok(version)) {
    g_set_error_literal(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_INVALID,
                        "send {\"status\": provisioning, joined or failed, \"step\", \"message\", \"version\"}");
    return FALSE;
  }
  const char *now_is = choir_json_string(mine, "status", "");
  if (!mine || strcmp(now_is, "pending") == 0 || strcmp(now_is, "approved") == 0 || strcmp(now_is, "refused") == 0) {
    g_set_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_STATE, "nothing to report: this machine is %s", now_is);
    return FALSE;
  }
  put_state(mine, status, message, now);
  put(mine, "step", step);
  gboolean tells = strcmp(status, "joined") == 0 && *version;
  if (tells)
    put(mine, "version", version);
  return keep(join, join->tokens, nodes, error) && (!tells || send_up(join, mine, "version", error));
}

gboolean choir_join_address(ChoirJoin *join, const json_t *node, const char *address, gint64 now, GError **error) {
  json_auto_t *nodes = json_deep_copy(join->nodes);
  json_t *mine = find(nodes, "id", choir_json_string(node, "id", ""));
  if (!choir_join_address_ok(address)) {
    g_set_error_literal(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_INVALID,
                        "address must be an IP address of the machine");
    return FALSE;
  }
  if (strcmp(choir_json_string(mine, "address", ""), address) == 0)
    return TRUE;
  gboolean listed = strcmp(choir_json_string(mine, "status", ""), "pending") != 0;
  put(mine, "address", address);
  if (listed)
    put_new_id(mine); /* it fetches a bundle for that address */
  json_object_set_new(mine, "changed", json_integer(now));
  return keep(join, join->tokens, nodes, error) && (!listed || send_up(join, mine, "address", error));
}

json_t *choir_join_node_public(const json_t *node) {
  json_t *copy = json_copy((json_t *)node);
  json_object_del(copy, "key_sha256");
  return copy;
}

json_t *choir_join_nodes(ChoirJoin *join, gint64 now) {
  json_t *list = json_array();
  for (size_t i = 0; i < json_array_size(join->nodes); i++)
    json_array_append_new(list, choir_join_node_public(fresh(join, json_array_get(join->nodes, i), now)));
  return list;
}
