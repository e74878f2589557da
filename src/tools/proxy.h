/* The only way out of the browser's sandbox: an HTTP proxy on a unix socket that resolves names itself and connects to
 * public addresses only. Every connection is checked anew, so a redirect or a second answer of the DNS gains nothing.
 * Main thread only; bounded in connections, bytes and time. */
#pragma once
#include <gio/gio.h>

typedef struct Proxy Proxy;

typedef struct {
  const char *ports;   /* "80,443" */
  const char *allowed; /* "192.168.1.9:8080,...": addresses that are reachable although they are not public */
  const char *names;   /* "name=address,...": instead of asking the DNS; for tests */
} ProxyRules;

/* Listens at once on socket_path, which is removed with the proxy. */
Proxy *proxy_new(const char *socket_path, const ProxyRules *rules, GError **error);
void proxy_free(Proxy *proxy); /* cuts what is open */
/* Since the last call: "example.org" for what was reached, "example.org (a private address)" for what was refused;
 * at most 64 lines, each once; caller frees. "" = nothing. */
char *proxy_take_hosts(Proxy *proxy);
guint proxy_connections(const Proxy *proxy); /* open ones */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Proxy, proxy_free)
