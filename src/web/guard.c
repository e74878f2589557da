#include "web/guard.h"
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "web/guard_node.h"

#define NODE_AGE_US (10 * G_USEC_PER_SEC)

struct ChoirGuard {
  guint16 port;
  GPtrArray *hosts; /* Entry */
  GPtrArray *node;  /* Entry: this machine's names and addresses, NULL while only loopback is served */
  guint16 tls_port;
  gint64 node_us;     /* when they were read */
  GPtrArray *origins; /* char *, lower case, default ports removed */
  ChoirMetric *refused;
};

typedef struct {
  char *name; /* lower case; IPv6 with brackets */
  int port;   /* -1 = any */
} Entry;

static void entry_free(gpointer data) {
  Entry *entry = data;
  g_free(entry->name);
  g_free(entry);
}

/* "name", "name:80", "[::1]:80" -> name and port (-1 when absent). FALSE on anything else. */
static gboolean split_host(const char *text, char **ret_name, int *ret_port) {
  gsize length = strlen(text);
  if (length == 0 || length > 255)
    return FALSE;
  const char *colon = NULL;
  if (text[0] == '[') {
    const char *end = strchr(text, ']');
    if (!end || (end[1] != '\0' && end[1] != ':'))
      return FALSE;
    colon = end[1] == ':' ? end + 1 : NULL;
    if (strspn(text + 1, "0123456789abcdefABCDEF:.") != (gsize)(end - text - 1))
      return FALSE;
  } else {
    colon = strchr(text, ':');
    gsize name_length = colon ? (gsize)(colon - text) : length;
    if (name_length == 0)
      return FALSE;
    for (gsize i = 0; i < name_length; i++)
      if (!g_ascii_isalnum(text[i]) && text[i] != '-' && text[i] != '.' && text[i] != '_')
        return FALSE;
  }
  int port = -1;
  if (colon) {
    guint64 value;
    if (!g_ascii_string_to_unsigned(colon + 1, 10, 1, 65535, &value, NULL))
      return FALSE;
    port = (int)value;
  }
  *ret_name = g_ascii_strdown(text, colon ? colon - text : (gssize)length);
  *ret_port = port;
  return TRUE;
}

/* "https://Choir.LAN:443" -> "https://choir.lan"; NULL when it is not an http(s) origin. */
static char *normal_origin(const char *text, char **ret_host) {
  gboolean secure = g_ascii_strncasecmp(text, "https://", 8) == 0;
  if (!secure && g_ascii_strncasecmp(text, "http://", 7) != 0)
    return NULL;
  g_autofree char *name = NULL;
  int port;
  if (!split_host(text + (secure ? 8 : 7), &name, &port))
    return NULL;
  if (port == (secure ? 443 : 80))
    port = -1;
  char *host = port < 0 ? g_strdup(name) : g_strdup_printf("%s:%d", name, port);
  char *result = g_strdup_printf("%s://%s", secure ? "https" : "http", host);
  if (ret_host)
    *ret_host = host;
  else
    g_free(host);
  return result;
}

static void add_entry(GPtrArray *list, const char *name, int port) {
  Entry *entry = g_new0(Entry, 1);
  entry->name = g_strdup(name);
  entry->port = port;
  g_ptr_array_add(list, entry);
}

static void add_host(ChoirGuard *guard, const char *name, int port) {
  add_entry(guard->hosts, name, port);
}

static void read_node(ChoirGuard *guard) {
  g_auto(GStrv) names = choir_node_hosts();
  g_ptr_array_set_size(guard->node, 0);
  guard->node_us = g_get_monotonic_time();
  for (char **name = names; *name; name++) {
    add_entry(guard->node, *name, guard->port);
    add_entry(guard->node, *name, guard->tls_port);
  }
}

void choir_guard_allow_node(ChoirGuard *guard, guint16 tls_port) {
  guard->tls_port = tls_port;
  if (!guard->node)
    guard->node = g_ptr_array_new_with_free_func(entry_free);
  add_host(guard, "localhost", tls_port);
  add_host(guard, "127.0.0.1", tls_port);
  add_host(guard, "[::1]", tls_port);
  read_node(guard);
}

ChoirGuard *choir_guard_new(guint16 port, const char *hosts, const char *origins) {
  ChoirGuard *guard = g_new0(ChoirGuard, 1);
  guard->port = port;
  guard->hosts = g_ptr_array_new_with_free_func(entry_free);
  guard->origins = g_ptr_array_new_with_free_func(g_free);
  guard->refused = choir_counter("choir_web_refused_total", NULL, "Requests refused for their Host or Origin.");
  add_host(guard, "localhost", port);
  add_host(guard, "127.0.0.1", port);
  add_host(guard, "[::1]", port);
  g_auto(GStrv) names = g_strsplit(hosts ? hosts : "", ",", -1);
  for (char **name = names; *name; name++) {
    g_autofree char *host = NULL;
    int host_port;
    if (*g_strstrip(*name) && split_host(*name, &host, &host_port))
      add_host(guard, host, host_port);
    else if (**name)
      choir_warning(CHOIR_TOPIC_WEB, "[web] allowed_hosts: '%s' is not a host name and is ignored", *name);
  }
  g_auto(GStrv) list = g_strsplit(origins ? origins : "", ",", -1);
  for (char **item = list; *item; item++) {
    if (!*g_strstrip(*item))
      continue;
    char *origin = normal_origin(*item, NULL);
    if (origin)
      g_ptr_array_add(guard->origins, origin);
    else
      choir_warning(CHOIR_TOPIC_WEB, "[web] allowed_origins: '%s' is not like https://choir.lan and is ignored", *item);
  }
  return guard;
}

void choir_guard_free(ChoirGuard *guard) {
  if (!guard)
    return;
  g_ptr_array_unref(guard->hosts);
  g_clear_pointer(&guard->node, g_ptr_array_unref);
  g_ptr_array_unref(guard->origins);
  g_free(guard);
}

static gboolean listed(const GPtrArray *list, const char *name, int port) {
  for (guint i = 0; i < list->len; i++) {
    const Entry *entry = g_ptr_array_index(list, i);
    /* A Host without a port stands for port 80 (or 443 behind a proxy, which then is named in allowed_hosts). */
    if (strcmp(entry->name, name) == 0 && (entry->port == -1 || entry->port == (port == -1 ? 80 : port)))
      return TRUE;
  }
  return FALSE;
}

static gboolean host_known(const ChoirGuard *guard, const char *name, int port) {
  if (listed(guard->hosts, name, port))
    return TRUE;
  if (!guard->node)
    return FALSE;
  if (!listed(guard->node, name, port) && guard->node_us + NODE_AGE_US < g_get_monotonic_time())
    read_node((ChoirGuard *)guard); /* the machine may have got another address; at most so often */
  return listed(guard->node, name, port);
}

static gboolean origin_known(const ChoirGuard *guard, const char *origin, const char *name, int port) {
  g_autofree char *origin_host = NULL;
  g_autofree char *normal = normal_origin(origin, &origin_host);
  if (!normal)
    return FALSE;
  for (guint i = 0; i < guard->origins->len; i++)
    if (strcmp(g_ptr_array_index(guard->origins, i), normal) == 0)
      return TRUE;
  int standard = g_str_has_prefix(normal, "https:") ? 443 : 80;
  g_autofree char *host = port < 0 || port == standard ? g_strdup(name) : g_strdup_printf("%s:%d", name, port);
  return strcmp(origin_host, host) == 0;
}

ChoirGuardVerdict choir_guard_check(const ChoirGuard *guard, const ChoirGuardRequest *request) {
  if (!request->host || !*request->host)
    return CHOIR_GUARD_HOST_MISSING;
  g_autofree char *name = NULL;
  int port;
  if (!split_host(request->host, &name, &port) || !host_known(guard, name, port))
    return CHOIR_GUARD_HOST;
  if (request->origin)
    return origin_known(guard, request->origin, name, port) ? CHOIR_GUARD_OK : CHOIR_GUARD_ORIGIN;
  gboolean reads = !request->upgrade && (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0);
  if (!reads && request->fetch_site && strcmp(request->fetch_site, "same-origin") != 0 &&
      strcmp(request->fetch_site, "none") != 0)
    return CHOIR_GUARD_SITE;
  return CHOIR_GUARD_OK;
}

gboolean choir_guard_http(ChoirHttpRequest *request, gpointer user) {
  ChoirGuard *guard = user;
  if (g_str_has_prefix(choir_http_request_peer(request), "unix:"))
    return TRUE; /* no page of a browser comes that way */
  ChoirGuardRequest facts = {
      .method = choir_http_request_method(request),
      .host = choir_http_request_header(request, "Host"),
      .origin = choir_http_request_header(request, "Origin"),
      .fetch_site = choir_http_request_header(request, "Sec-Fetch-Site"),
      .upgrade = choir_http_request_header(request, "Upgrade") != NULL,
  };
  switch (choir_guard_check(guard, &facts)) {
  case CHOIR_GUARD_OK:
    return TRUE;
  case CHOIR_GUARD_HOST_MISSING:
    choir_http_respond_error(request, 400, "invalid_request_error", "host_missing", "the request has no Host header");
    break;
  case CHOIR_GUARD_HOST:
    choir_http_respond_error(request, 403, "permission_error", "host_not_allowed",
                             "this server does not answer to that host name; add it to [web] allowed_hosts");
    break;
  case CHOIR_GUARD_ORIGIN:
  case CHOIR_GUARD_SITE:
    choir_http_respond_error(request, 403, "permission_error", "origin_not_allowed",
                             "pages of another origin may not call this server; add it to [web] allowed_origins");
    break;
  }
  choir_counter_add(guard->refused, 1);
  return FALSE;
}

char *choir_guard_page_headers(const char *host) {
  /* 'self' covers ws: in current browsers only, so the socket's address is spelled out; `host` passed the guard, whose
   * characters cannot end a header or a directive. */
  return g_strdup_printf("Content-Security-Policy: default-src 'self'; connect-src 'self' ws://%s wss://%s; "
                         "img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
                         "frame-ancestors 'none'\n"
                         "X-Content-Type-Options: nosniff\nX-Frame-Options: DENY\nReferrer-Policy: no-referrer\n"
                         "Cross-Origin-Opener-Policy: same-origin\nCross-Origin-Embedder-Policy: require-corp\n"
                         "Cross-Origin-Resource-Policy: same-origin\n"
                         "Permissions-Policy: microphone=(self), camera=(), geolocation=()",
                         host, host);
}

gboolean choir_guard_url_allowed(const char *list, const char *url) {
  g_autoptr(GUri) target = g_uri_parse(url, G_URI_FLAGS_HAS_PASSWORD | G_URI_FLAGS_NON_DNS, NULL);
  if (!target || g_uri_get_userinfo(target) || !g_uri_get_host(target) || !*g_uri_get_host(target))
    return FALSE;
  gboolean secure = strcmp(g_uri_get_scheme(target), "https") == 0;
  if (!secure && strcmp(g_uri_get_scheme(target), "http") != 0)
    return FALSE;
  int port = g_uri_get_port(target) > 0 ? g_uri_get_port(target) : secure ? 443 : 80;
  g_auto(GStrv) entries = g_strsplit(list, ",", -1);
  for (char **text = entries; *text; text++) {
    g_autoptr(GUri) entry = g_uri_parse(g_strstrip(*text), G_URI_FLAGS_NON_DNS, NULL);
    if (!entry || !g_uri_get_host(entry) || strcmp(g_uri_get_scheme(entry), g_uri_get_scheme(target)) != 0)
      continue;
    if (g_ascii_strcasecmp(g_uri_get_host(entry), g_uri_get_host(target)) == 0 &&
        (g_uri_get_port(entry) <= 0 || g_uri_get_port(entry) == port))
      return TRUE;
  }
  return FALSE;
}
