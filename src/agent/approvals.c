#include "agent/approvals.h"
#include <string.h>
#include "base/clock.h"
#include "base/text.h"

#define WAITING_MAX 100
#define GRANTS_MAX 200
#define SECONDS 120
/* Part of every digest: an answer to a card of another policy does not count. */
#define POLICY "1"

G_DEFINE_QUARK(choir - approval - error - quark, choir_approval_error)

typedef struct {
  ChoirApprovals *approvals;
  char *id, *digest, *signature, *session;
  gboolean once; /* no grant answers for it, and none is made of its answer */
  json_t *card;
  gint64 expires_us;
  guint timer;
  ChoirApprovalDone done;
  gpointer user;
  /* of a grant that answers for it */
  char *granted_by;
} Waiting;

typedef struct {
  char *session, *signature, *by;
} Grant;

typedef struct {
  guint id;
  ChoirApprovalObserver observer;
  gpointer user;
} Listener;

struct ChoirApprovals {
  GPtrArray *waiting; /* Waiting, in the order they came */
  GArray *grants, *listeners;
  guint last_listener;
};

static void grant_clear(gpointer data) {
  Grant *grant = data;
  g_free(grant->session);
  g_free(grant->signature);
  g_free(grant->by);
}

ChoirApprovals *choir_approvals_new(void) {
  ChoirApprovals *approvals = g_new0(ChoirApprovals, 1);
  approvals->waiting = g_ptr_array_new();
  approvals->grants = g_array_new(FALSE, FALSE, sizeof(Grant));
  g_array_set_clear_func(approvals->grants, grant_clear);
  approvals->listeners = g_array_new(FALSE, FALSE, sizeof(Listener));
  return approvals;
}

static void tell(ChoirApprovals *approvals, const char *change, const json_t *card) {
  g_autoptr(GArray) walk = g_array_copy(approvals->listeners);
  for (guint i = 0; i < walk->len; i++) {
    const Listener *listener = &g_array_index(walk, Listener, i);
    listener->observer(change, card, listener->user);
  }
}

/* Takes it off the list first: whatever happens in done, it can be answered no more. */
static void close_one(Waiting *waiting, ChoirVerdict verdict, const char *by) {
  static const char *const names[] = {"approved", "denied", "expired", "withdrawn"};
  ChoirApprovals *approvals = waiting->approvals;
  g_ptr_array_remove(approvals->waiting, waiting);
  g_clear_handle_id(&waiting->timer, g_source_remove);
  json_object_set_new(waiting->card, "verdict", json_string(names[verdict]));
  if (by)
    json_object_set_new(waiting->card, "by", json_string(by));
  tell(approvals, "closed", waiting->card);
  waiting->done(verdict, by, waiting->user);
  json_decref(waiting->card);
  g_free(waiting->id);
  g_free(waiting->digest);
  g_free(waiting->signature);
  g_free(waiting->session);
  g_free(waiting->granted_by);
  g_free(waiting);
}

void choir_approvals_free(ChoirApprovals *approvals) {
  if (!approvals)
    return;
  while (approvals->waiting->len > 0)
    close_one(approvals->waiting->pdata[0], CHOIR_WITHDRAWN, NULL);
  g_ptr_array_unref(approvals->waiting);
  g_array_unref(approvals->grants);
  g_array_unref(approvals->listeners);
  g_free(approvals);
}

static json_t *digested(const ChoirApprovalRequest *request) {
  g_autofree char *tool = g_strdup_printf("%s.%s", request->tool, request->action);
  json_t *object = json_object();
  json_object_set_new(object, "tool", json_string(tool));
  json_object_set_new(object, "args", json_deep_copy(request->args));
  json_object_set_new(object, "target", json_string(request->target));
  json_object_set_new(object, "policy", json_string(POLICY));
  json_object_set_new(object, "session", json_string(request->session));
  return object;
}

static char *canonical(const ChoirApprovalRequest *request) {
  json_t *object = digested(request);
  char *text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
  json_decref(object);
  char *copy = g_strdup(text);
  free(text);
  return copy;
}

char *choir_approvals_digest(const ChoirApprovals *approvals, const ChoirApprovalRequest *request) {
  g_autofree char *text = canonical(request);
  return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

static gboolean asks_always(const ChoirApprovalRequest *request) {
  return request->class >= CHOIR_CLASS_FLEET || request->tainted;
}

/* The card shows what the digest covers, parsed again from those very bytes. */
static json_t *make_card(const ChoirApprovalRequest *request, const char *id, const char *digest) {
  static const char *const classes[] = {"read", "local", "change", "fleet", "denied"};
  g_autofree char *bytes = canonical(request);
  json_t *card = json_loads(bytes, 0, NULL), *reasons = json_array();
  for (guint i = 0; request->reasons && request->reasons[i]; i++)
    json_array_append_new(reasons, json_string(request->reasons[i]));
  const char *full = choir_json_string(card, "tool", "");
  const char *dot = strchr(full, '.');
  g_autofree char *tool = g_strndup(full, (gsize)(dot - full)), *action = g_strdup(dot + 1);
  json_object_set_new(card, "tool", json_string(tool));
  json_object_set_new(card, "action", json_string(action));
  json_object_set_new(card, "id", json_string(id));
  json_object_set_new(card, "digest", json_string(digest));
  json_object_set_new(card, "class", json_string(classes[request->class]));
  json_object_set_new(card, "once", json_boolean(asks_always(request)));
  json_object_set_new(card, "reasons", reasons);
  if (request->preview)
    json_object_set_new(card, "preview", json_string(request->preview));
  return card;
}

static gboolean on_expired(gpointer user) {
  Waiting *waiting = user;
  waiting->timer = 0;
  close_one(waiting, CHOIR_EXPIRED, NULL);
  return G_SOURCE_REMOVE;
}

static gboolean on_granted(gpointer user) {
  Waiting *waiting = user;
  waiting->timer = 0;
  g_autofree char *by = g_steal_pointer(&waiting->granted_by);
  close_one(waiting, CHOIR_APPROVED, by);
  return G_SOURCE_REMOVE;
}

static const Grant *find_grant(const ChoirApprovals *approvals, const Waiting *waiting) {
  for (guint i = 0; i < approvals->grants->len; i++) {
    const Grant *grant = &g_array_index(approvals->grants, Grant, i);
    if (g_str_equal(grant->session, waiting->session) && g_str_equal(grant->signature, waiting->signature))
      return grant;
  }
  return NULL;
}

static char *random_id(void) {
  g_autofree char *a = choir_id(""), *b = choir_id("");
  return g_strconcat("apr_", a, b, NULL);
}

const char *choir_approvals_ask(ChoirApprovals *approvals, const ChoirApprovalRequest *request, guint seconds,
                                ChoirApprovalDone done, gpointer user) {
  if (approvals->waiting->len >= WAITING_MAX)
    return NULL;
  Waiting *waiting = g_new0(Waiting, 1);
  waiting->approvals = approvals;
  waiting->id = random_id();
  waiting->digest = choir_approvals_digest(approvals, request);
  waiting->signature = g_strdup_printf("%s.%s on %s", request->tool, request->action, request->target);
  waiting->session = g_strdup(request->session);
  waiting->once = asks_always(request);
  waiting->card = make_card(request, waiting->id, waiting->digest);
  waiting->done = done;
  waiting->user = user;
  const Grant *grant = waiting->once ? NULL : find_grant(approvals, waiting);
  g_ptr_array_add(approvals->waiting, waiting);
  if (grant) {
    waiting->granted_by = g_strdup_printf("%s, for this session", grant->by);
    waiting->timer = g_idle_add(on_granted, waiting);
    return waiting->id;
  }
  seconds = seconds ? seconds : SECONDS;
  waiting->expires_us = choir_clock_us() + (gint64)seconds * G_USEC_PER_SEC;
  waiting->timer = g_timeout_add_seconds(seconds, on_expired, waiting);
  json_object_set_new(waiting->card, "expires_ms", json_integer((json_int_t)seconds * 1000));
  tell(approvals, "new", waiting->card);
  return waiting->id;
}

static Waiting *find(const ChoirApprovals *approvals, const char *id) {
  for (guint i = 0; i < approvals->waiting->len; i++) {
    Waiting *waiting = approvals->waiting->pdata[i];
    if (!waiting->granted_by && g_str_equal(waiting->id, id))
      return waiting;
  }
  return NULL;
}

void choir_approvals_withdraw(ChoirApprovals *approvals, const char *id) {
  for (guint i = 0; i < approvals->waiting->len; i++) {
    Waiting *waiting = approvals->waiting->pdata[i];
    if (g_str_equal(waiting->id, id)) {
      close_one(waiting, CHOIR_WITHDRAWN, NULL);
      return;
    }
  }
}

/* The agent's own principal, and plain loopback HTTP, which every program on this machine can reach, never may. */
static gboolean may_answer(const ChoirPrincipal *by) {
  switch (by->channel) {
  case CHOIR_CHANNEL_SETUP:
  case CHOIR_CHANNEL_TERMINAL:
  case CHOIR_CHANNEL_LOGIN:
  case CHOIR_CHANNEL_KEY:
    return by->role >= CHOIR_ROLE_APPROVER;
  case CHOIR_CHANNEL_AGENT:
  case CHOIR_CHANNEL_LOOPBACK:
    return FALSE;
  }
  return FALSE;
}

static void remember_grant(ChoirApprovals *approvals, const Waiting *waiting, const char *by) {
  if (find_grant(approvals, waiting) || approvals->grants->len >= GRANTS_MAX)
    return;
  Grant grant = {g_strdup(waiting->session), g_strdup(waiting->signature), g_strdup(by)};
  g_array_append_val(approvals->grants, grant);
}

gboolean choir_approvals_answer(ChoirApprovals *approvals, const char *id, const char *digest, gboolean approve,
                                gboolean grant, const ChoirPrincipal *by, GError **error) {
  if (!may_answer(by)) {
    g_set_error_literal(error, CHOIR_APPROVAL_ERROR, CHOIR_APPROVAL_ERROR_FORBIDDEN,
                        "you may not answer approvals here; log in as an approver, or use 'choir approve' in a "
                        "terminal of this machine");
    return FALSE;
  }
  Waiting *waiting = find(approvals, id);
  if (!waiting) {
    g_set_error_literal(error, CHOIR_APPROVAL_ERROR, CHOIR_APPROVAL_ERROR_UNKNOWN,
                        "this request was answered already, or it expired");
    return FALSE;
  }
  if (!g_str_equal(waiting->digest, digest)) {
    g_set_error_literal(error, CHOIR_APPROVAL_ERROR, CHOIR_APPROVAL_ERROR_DIGEST,
                        "the answer is for another request than the one that waits; look at it again");
    return FALSE;
  }
  if (approve && grant && !waiting->once)
    remember_grant(approvals, waiting, by->name);
  close_one(waiting, approve ? CHOIR_APPROVED : CHOIR_DENIED, by->name);
  return TRUE;
}

json_t *choir_approvals_list(const ChoirApprovals *approvals) {
  json_t *list = json_array();
  gint64 now = choir_clock_us();
  for (guint i = 0; i < approvals->waiting->len; i++) {
    const Waiting *waiting = approvals->waiting->pdata[i];
    if (waiting->granted_by)
      continue;
    json_t *card = json_deep_copy(waiting->card);
    json_object_set_new(card, "expires_ms", json_integer(MAX(0, (waiting->expires_us - now) / 1000)));
    json_array_append_new(list, card);
  }
  return list;
}

json_t *choir_approvals_grants(const ChoirApprovals *approvals) {
  json_t *list = json_array();
  for (guint i = 0; i < approvals->grants->len; i++) {
    const Grant *grant = &g_array_index(approvals->grants, Grant, i);
    json_t *item = json_object();
    json_object_set_new(item, "session", json_string(grant->session));
    json_object_set_new(item, "signature", json_string(grant->signature));
    json_object_set_new(item, "by", json_string(grant->by));
    json_array_append_new(list, item);
  }
  return list;
}

gboolean choir_approvals_revoke(ChoirApprovals *approvals, const char *session, const char *signature) {
  for (guint i = 0; i < approvals->grants->len; i++) {
    const Grant *grant = &g_array_index(approvals->grants, Grant, i);
    if (g_str_equal(grant->session, session) && g_str_equal(grant->signature, signature)) {
      g_array_remove_index(approvals->grants, i);
      return TRUE;
    }
  }
  return FALSE;
}

guint choir_approvals_observe(ChoirApprovals *approvals, ChoirApprovalObserver observer, gpointer user) {
  Listener listener = {++approvals->last_listener, observer, user};
  g_array_append_val(approvals->listeners, listener);
  return listener.id;
}

void choir_approvals_unobserve(ChoirApprovals *approvals, guint id) {
  for (guint i = 0; i < approvals->listeners->len; i++)
    if (g_array_index(approvals->listeners, Listener, i).id == id) {
      g_array_remove_index(approvals->listeners, i);
      return;
    }
}
