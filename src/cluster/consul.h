/* Consul as the agent uses it: watches by blocking queries, single questions, a token from a file. What was known last
 * stays known while Consul does not answer, and every part says how old it is. Main thread only. */
#pragma once
#include <gio/gio.h>
#include <jansson.h>
#include "net/http_client.h"

typedef struct ChoirConsul ChoirConsul;
typedef struct ChoirConsulWatch ChoirConsulWatch;

typedef struct {
  const char *url;        /* "http://127.0.0.1:8500", "127.0.0.1:8500", "unix:/run/consul.sock" is not read */
  const char *token_file; /* may be NULL or empty */
  const char *token;      /* where there is no file; may be NULL */
} ChoirConsulOptions;

#define CHOIR_CONSUL_ERROR (choir_consul_error_quark())
GQuark choir_consul_error_quark(void);
enum {
  CHOIR_CONSUL_ERROR_AWAY,   /* it does not answer */
  CHOIR_CONSUL_ERROR_DENIED, /* the token is unknown or not allowed to */
  CHOIR_CONSUL_ERROR_ANSWER, /* what came is not Consul's */
};

ChoirConsul *choir_consul_new(const ChoirConsulOptions *options);
void choir_consul_free(ChoirConsul *consul); /* its watches too; no callback runs any more */
const char *choir_consul_url(const ChoirConsul *consul);
gboolean choir_consul_has_token(ChoirConsul *consul);
/* Why it cannot be relied on now, or NULL: the last failure of any watch, or of the token's file. */
const char *choir_consul_problem(ChoirConsul *consul);

/* answer: what it knows now, borrowed; NULL when it did not answer: then error says why. Again at every change of
 * either. */
typedef void (*ChoirConsulChanged)(const json_t *answer, const GError *error, gpointer user);
/* path: "/v1/catalog/services". */
ChoirConsulWatch *choir_consul_watch(ChoirConsul *consul, const char *path, ChoirConsulChanged changed, gpointer user);
void choir_consul_unwatch(ChoirConsulWatch *watch);
/* choir_clock_us() of the last good answer, 0 = none. */
gint64 choir_consul_watch_answered_us(const ChoirConsulWatch *watch);

/* Exactly once; answer borrowed, NULL with error. Not after choir_consul_free(). */
void choir_consul_get(ChoirConsul *consul, const char *path, guint timeout_ms, ChoirConsulChanged done, gpointer user);

/* "10.0.0.7:8500" and "http://10.0.0.7:8500/" are "http://10.0.0.7:8500"; caller frees. */
char *choir_consul_address(const char *url);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirConsul, choir_consul_free)
