#include "cluster/consul.h"
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/blocking.h"
#include "cluster/token.h"

#define TOKEN_LOOK_S 5 /* between two looks at the token's file while questions wait at the server */
#define MAX_ANSWER (4u << 20)

G_DEFINE_QUARK(choir - consul - error - quark, choir_consul_error)

struct ChoirConsul {
  char *url;
  ChoirToken *token;
  /* Of its own: dozens of connections wait there for a minute, and nobody else's may wait for one. */
  ChoirHttpClient *http;
  GPtrArray *watches; /* ChoirConsulWatch */
  GPtrArray *asks;    /* Ask */
  guint token_timer, token_seen;
  gboolean told; /* the log knows that it does not answer */
  ChoirMetric *m_failures;
};

struct ChoirConsulWatch {
  ChoirConsul *consul;
  char *path;
  ChoirConsulChanged changed;
  gpointer user;
  ChoirBlocking blocking;
  GCancellable *cancellable; /* of the question under way */
  guint timer;
  gint64 answered_us;
  GError *error;  /* of the last question */
  gboolean again; /* it is cancelled to be asked anew */
  gboolean dead;  /* the answer frees it */
};

typedef struct {
  ChoirConsul *consul;
  ChoirConsulChanged done;
  gpointer user;
} Ask;

char *choir_consul_address(const char *url) {
  char *address = strstr(url, "://") ? g_strdup(url) : g_strconcat("http://", url, NULL);
  for (gsize n = strlen(address); n > 0 && address[n - 1] == '/'; n--)
    address[n - 1] = '\0';
  return address;
}

static char *headers(ChoirConsul *consul) {
  const char *token = choir_token_read(consul->token);
  return token ? g_strconcat("X-Consul-Token: ", token, NULL) : NULL;
}

/* A sentence with what to do about it. */
static GError *explain(ChoirConsul *consul, guint status, const char *body, const GError *error) {
  const char *file = choir_token_problem(consul->token);
  if (status == 401 || status == 403)
    return g_error_new(CHOIR_CONSUL_ERROR, CHOIR_CONSUL_ERROR_DENIED,
                       "Consul refuses the token (%u%s%.100s); put one that may read services and nodes into "
                       "[cluster] consul_token_file%s%s",
                       status, body && *body ? ": " : "", body && *body ? body : "", file ? "; " : "",
                       file ? file : "");
  if (error)
    return g_error_new(CHOIR_CONSUL_ERROR, CHOIR_CONSUL_ERROR_AWAY, "Consul does not answer: %s", error->message);
  return g_error_new(CHOIR_CONSUL_ERROR, CHOIR_CONSUL_ERROR_ANSWER, "what answers at %s is not Consul", consul->url);
}

static json_t *read_answer(ChoirConsul *consul, guint status, const char *body, gsize length, const GError *error,
                           GError **ret_error) {
  json_t *answer = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
  if (answer)
    return answer;
  g_autofree char *text = body ? g_strndup(body, MIN(length, 100)) : NULL;
  *ret_error = explain(consul, status, text, error);
  return NULL;
}

static void ask_later(ChoirConsulWatch *watch, guint ms);

static void watch_free(ChoirConsulWatch *watch) {
  g_clear_handle_id(&watch->timer, g_source_remove);
  g_clear_error(&watch->error);
  g_clear_object(&watch->cancellable);
  g_free(watch->path);
  g_free(watch);
}

static void tell(ChoirConsulWatch *watch, const json_t *answer, GError *error /* taken */) {
  ChoirConsul *consul = watch->consul;
  g_clear_error(&watch->error);
  watch->error = error;
  gboolean bad = error != NULL;
  if (bad)
    choir_counter_add(consul->m_failures, 1);
  if (bad && !consul->told)
    choir_warning(CHOIR_TOPIC_CLUSTER, "%s; what was known last is kept", error->message);
  else if (!bad && consul->told)
    choir_info(CHOIR_TOPIC_CLUSTER, "Consul answers again");
  consul->told = bad;
  watch->changed(answer, error, watch->user);
}

static void on_answer(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  ChoirConsulWatch *watch = user;
  gboolean again = watch->again, changed = FALSE;
  g_clear_object(&watch->cancellable);
  if (watch->dead) {
    watch_free(watch);
    return;
  }
  watch->again = FALSE;
  if (again) {
    ask_later(watch, 0);
    return;
  }
  GError *problem = NULL;
  const char *header = choir_http_client_header(watch->consul->http, "X-Consul-Index");
  guint64 index = header ? g_ascii_strtoull(header, NULL, 10) : 0;
  json_auto_t *answer = read_answer(watch->consul, status, body, length, error, &problem);
  if (!answer) {
    ask_later(watch, choir_blocking_failed(&watch->blocking));
    tell(watch, NULL, problem); /* last: the listener may end the watch */
    return;
  }
  watch->answered_us = choir_clock_us();
  ask_later(watch, choir_blocking_answered(&watch->blocking, index, watch->answered_us, &changed));
  if (changed)
    tell(watch, answer, NULL);
}

static gboolean ask_now(gpointer user) {
  ChoirConsulWatch *watch = user;
  ChoirConsul *consul = watch->consul;
  watch->timer = 0;
  watch->cancellable = g_cancellable_new();
  g_autofree char *path = choir_blocking_path(&watch->blocking, watch->path, choir_clock_us());
  g_autofree char *url = g_strconcat(consul->url, path, NULL);
  g_autofree char *lines = headers(consul);
  choir_http_request(consul->http, "GET", url, NULL, NULL, 0, lines, CHOIR_BLOCKING_TIMEOUT_MS, MAX_ANSWER,
                     watch->cancellable, on_answer, watch);
  return G_SOURCE_REMOVE;
}

static void ask_later(ChoirConsulWatch *watch, guint ms) {
  watch->timer = g_timeout_add(ms, ask_now, watch);
}

/* With another token, everything is asked again. */
static gboolean on_token(gpointer user) {
  ChoirConsul *consul = user;
  choir_token_read(consul->token);
  if (choir_token_changes(consul->token) == consul->token_seen)
    return G_SOURCE_CONTINUE;
  consul->token_seen = choir_token_changes(consul->token);
  choir_info(CHOIR_TOPIC_CLUSTER, "the Consul token has changed");
  for (guint i = 0; i < consul->watches->len; i++) {
    ChoirConsulWatch *watch = consul->watches->pdata[i];
    choir_blocking_reset(&watch->blocking);
    if (watch->cancellable) {
      watch->again = TRUE;
      g_cancellable_cancel(watch->cancellable);
    } else {
      g_clear_handle_id(&watch->timer, g_source_remove);
      ask_later(watch, 0);
    }
  }
  return G_SOURCE_CONTINUE;
}

ChoirConsul *choir_consul_new(const ChoirConsulOptions *options) {
  ChoirConsul *consul = g_new0(ChoirConsul, 1);
  consul->url = choir_consul_address(options->url);
  consul->token = choir_token_new(options->token_file, options->token);
  consul->http = choir_http_client_new();
  consul->watches = g_ptr_array_new();
  consul->asks = g_ptr_array_new();
  consul->token_timer = g_timeout_add_seconds(TOKEN_LOOK_S, on_token, consul);
  consul->m_failures =
      choir_counter("choir_consul_failures_total", NULL, "Questions that Consul did not answer or refused.");
  return consul;
}

ChoirConsulWatch *choir_consul_watch(ChoirConsul *consul, const char *path, ChoirConsulChanged changed, gpointer user) {
  ChoirConsulWatch *watch = g_new0(ChoirConsulWatch, 1);
  watch->consul = consul;
  watch->path = g_strdup(path);
  watch->changed = changed;
  watch->user = user;
  choir_blocking_init(&watch->blocking, g_random_int());
  g_ptr_array_add(consul->watches, watch);
  ask_later(watch, 0);
  return watch;
}

void choir_consul_unwatch(ChoirConsulWatch *watch) {
  if (!watch)
    return;
  g_ptr_array_remove_fast(watch->consul->watches, watch);
  g_clear_handle_id(&watch->timer, g_source_remove);
  watch->dead = TRUE;
  if (watch->cancellable)
    g_cancellable_cancel(watch->cancellable);
  else
    watch_free(watch);
}

gint64 choir_consul_watch_answered_us(const ChoirConsulWatch *watch) {
  return watch->answered_us;
}

static void on_asked(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Ask *ask = user;
  if (ask->consul) {
    g_autoptr(GError) problem = NULL;
    g_ptr_array_remove_fast(ask->consul->asks, ask);
    json_auto_t *answer = read_answer(ask->consul, status, body, length, error, &problem);
    if (problem)
      choir_counter_add(ask->consul->m_failures, 1);
    ask->done(answer, problem, ask->user);
  }
  g_free(ask);
}

void choir_consul_get(ChoirConsul *consul, const char *path, guint timeout_ms, ChoirConsulChanged done, gpointer user) {
  Ask *ask = g_new0(Ask, 1);
  *ask = (Ask){.consul = consul, .done = done, .user = user};
  g_ptr_array_add(consul->asks, ask);
  g_autofree char *url = g_strconcat(consul->url, path, NULL);
  g_autofree char *lines = headers(consul);
  choir_http_request(consul->http, "GET", url, NULL, NULL, 0, lines, timeout_ms, MAX_ANSWER, NULL, on_asked, ask);
}

const char *choir_consul_url(const ChoirConsul *consul) {
  return consul->url;
}

gboolean choir_consul_has_token(ChoirConsul *consul) {
  return choir_token_read(consul->token) != NULL;
}

const char *choir_consul_problem(ChoirConsul *consul) {
  for (guint i = 0; i < consul->watches->len; i++) {
    const ChoirConsulWatch *watch = consul->watches->pdata[i];
    if (watch->error)
      return watch->error->message;
  }
  choir_token_read(consul->token);
  return choir_token_problem(consul->token);
}

void choir_consul_free(ChoirConsul *consul) {
  if (!consul)
    return;
  g_source_remove(consul->token_timer);
  for (guint i = 0; i < consul->asks->len; i++)
    ((Ask *)consul->asks->pdata[i])->consul = NULL;
  while (consul->watches->len > 0)
    choir_consul_unwatch(consul->watches->pdata[0]);
  choir_http_client_free(consul->http); /* what is under way completes and frees itself */
  choir_token_free(consul->token);
  g_ptr_array_unref(consul->watches);
  g_ptr_array_unref(consul->asks);
  g_free(consul->url);
  g_free(consul);
}
