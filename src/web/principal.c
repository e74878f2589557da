#include "web/principal.h"
#include <string.h>
#include <unistd.h>

#define UNIX "unix:"
#define SUBPROTOCOL_KEY "openai-insecure-api-key."
#define SECRET_MAX 512

static struct {
  ChoirOwners *owners;
  GStrv machine_keys;
  char *twin_secret;
  gboolean trust_loopback;
} door;

void choir_principal_use(const ChoirDoor *use) {
  g_clear_pointer(&door.machine_keys, g_strfreev);
  g_clear_pointer(&door.twin_secret, g_free);
  door.owners = use ? use->owners : NULL;
  door.trust_loopback = use && use->trust_loopback;
  if (!use)
    return;
  g_autofree char *keys = g_ascii_strdown(use->machine_keys ? use->machine_keys : "", -1);
  door.machine_keys = g_strsplit(keys, ",", -1);
  for (char **key = door.machine_keys; *key; key++)
    g_strstrip(*key);
  door.twin_secret = g_strdup(use->twin_secret);
}

static gboolean is_unix(ChoirHttpRequest *request) {
  return g_str_has_prefix(choir_http_request_peer(request), UNIX);
}

static gboolean is_loopback(const char *peer) {
  return g_str_has_prefix(peer, "127.") || strcmp(peer, "::1") == 0;
}

gboolean choir_web_over_tls(ChoirHttpRequest *request) {
  const char *said = choir_http_request_header(request, "X-Choir-Twin");
  gsize length = door.twin_secret ? strlen(door.twin_secret) : 0;
  guint8 differs = 0;
  if (!said || length == 0 || strlen(said) != length || !is_loopback(choir_http_request_peer(request)))
    return FALSE;
  for (gsize i = 0; i < length; i++)
    differs |= (guint8)(said[i] ^ door.twin_secret[i]);
  return differs == 0;
}

gboolean choir_web_from_here(ChoirHttpRequest *request) {
  return is_unix(request) || (is_loopback(choir_http_request_peer(request)) && !choir_web_over_tls(request));
}

char *choir_web_address(ChoirHttpRequest *request) {
  const char *far = choir_web_over_tls(request) ? choir_http_request_header(request, "X-Real-IP") : NULL;
  return g_strndup(far ? far : choir_http_request_peer(request), 64);
}

const char *choir_web_cookie_name(gboolean tls) {
  return tls ? "__Host-choir" : "choir";
}

static void hash_into(char *into, const char *secret, gsize length) {
  if (length == 0 || length > SECRET_MAX)
    return;
  g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, (gssize)length);
  g_strlcpy(into, sum, 65);
}

static void read_cookie(ChoirProof *proof, const char *header, const char *name) {
  g_auto(GStrv) pairs = g_strsplit(header, ";", 64);
  for (char **pair = pairs; *pair; pair++) {
    const char *text = g_strstrip(*pair), *equals = strchr(text, '=');
    if (equals && strlen(name) == (gsize)(equals - text) && strncmp(text, name, strlen(name)) == 0)
      hash_into(proof->cookie, equals + 1, strlen(equals + 1));
  }
}

static void read_bearer(ChoirProof *proof, ChoirHttpRequest *request) {
  const char *header = choir_http_request_header(request, "Authorization");
  if (header && g_ascii_strncasecmp(header, "Bearer ", 7) == 0) {
    const char *secret = header + 7 + strspn(header + 7, " ");
    hash_into(proof->bearer, secret, strcspn(secret, " \t"));
    return;
  }
  /* Browsers cannot give a header to a WebSocket; OpenAI's clients put the key here. */
  const char *offered = choir_http_request_header(request, "Sec-WebSocket-Protocol");
  const char *key = offered ? strstr(offered, SUBPROTOCOL_KEY) : NULL;
  if (key)
    hash_into(proof->bearer, key + strlen(SUBPROTOCOL_KEY), strcspn(key + strlen(SUBPROTOCOL_KEY), ", \t"));
}

ChoirProof choir_web_proof(ChoirHttpRequest *request) {
  ChoirProof proof = {.uid = -1};
  guint64 uid;
  if (is_unix(request)) {
    if (g_ascii_string_to_unsigned(choir_http_request_peer(request) + strlen(UNIX), 10, 0, G_MAXUINT32, &uid, NULL))
      proof.uid = (gint64)uid;
    return proof;
  }
  const char *cookies = choir_http_request_header(request, "Cookie");
  gboolean tls = choir_web_over_tls(request);
  proof.loopback = is_loopback(choir_http_request_peer(request)) && !tls;
  if (cookies)
    read_cookie(&proof, cookies, choir_web_cookie_name(tls));
  read_bearer(&proof, request);
  return proof;
}

static gboolean is_machine_key(const char *sha256) {
  gboolean found = FALSE;
  for (char **key = door.machine_keys; key && *key && *sha256; key++)
    found |= strcmp(*key, sha256) == 0;
  return found;
}

ChoirPrincipal choir_web_principal_of(const ChoirProof *proof) {
  ChoirRole role;
  const char *name;
  gboolean owned = door.owners && choir_owners_exist(door.owners);
  ChoirPrincipal nobody = {"nobody", CHOIR_ROLE_NONE, CHOIR_CHANNEL_LOOPBACK};
  if (proof->uid >= 0) {
    if (proof->uid != 0 && proof->uid != (gint64)getuid())
      return nobody;
    g_autofree char *text = g_strdup_printf(UNIX "%" G_GINT64_FORMAT, proof->uid);
    return (ChoirPrincipal){g_intern_string(text), CHOIR_ROLE_OWNER, CHOIR_CHANNEL_TERMINAL};
  }
  if (*proof->bearer) {
    if (door.owners && (name = choir_owners_token(door.owners, proof->bearer, &role)) != NULL)
      return (ChoirPrincipal){name, role, CHOIR_CHANNEL_KEY};
    if (is_machine_key(proof->bearer))
      return (ChoirPrincipal){"machine key", CHOIR_ROLE_OPERATOR, CHOIR_CHANNEL_KEY};
    if (owned) /* a wrong key is never less than a refusal; before, clients send any */
      return nobody;
  }
  if (*proof->cookie && door.owners && (name = choir_owners_session(door.owners, proof->cookie, &role)) != NULL)
    return (ChoirPrincipal){name, role, CHOIR_CHANNEL_LOGIN};
  /* Every program of this machine can speak HTTP on loopback, the agent's own tools included. */
  if (proof->loopback && (!owned || door.trust_loopback))
    return (ChoirPrincipal){"loopback", CHOIR_ROLE_OPERATOR, CHOIR_CHANNEL_LOOPBACK};
  return nobody;
}

ChoirPrincipal choir_web_principal(ChoirHttpRequest *request) {
  ChoirProof proof = choir_web_proof(request);
  return choir_web_principal_of(&proof);
}

gboolean choir_web_machine_key(ChoirHttpRequest *request) {
  ChoirProof proof = choir_web_proof(request);
  return is_machine_key(proof.bearer);
}

gboolean choir_principal_may_approve(const ChoirPrincipal *who) {
  return who->role >= CHOIR_ROLE_APPROVER && who->channel != CHOIR_CHANNEL_LOOPBACK &&
         who->channel != CHOIR_CHANNEL_AGENT;
}
