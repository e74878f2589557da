/* /api/tools, /api/approvals, /api/audit: what the agent can do, what waits for an answer, what was done. */
#include <string.h>
#include "base/text.h"
#include "web/answer.h"
#include "web/principal.h"
#include "web/web_private.h"

#define AUDIT_SHOWN 100
#define AUDIT_MAX 1000
#define CHECKS_MAX 4
#define OUTPUT_MAX (256u << 10)

struct ChoirToolsApi {
  const ChoirWebOptions *options;
  GPtrArray *calls;  /* Call */
  GPtrArray *checks; /* Check */
};

/* One walk along the audit log, for a GET /api/audit?verify=1. */
typedef struct {
  ChoirToolsApi *api;        /* NULL once it is gone */
  ChoirHttpRequest *request; /* NULL once the client left */
  guint n;
  char *path;
  ChoirAuditHead known, head;
} Check;

/* One POST /api/tools/call that is not answered. */
typedef struct {
  ChoirToolsApi *api;        /* NULL once it is gone */
  ChoirHttpRequest *request; /* NULL once the client left */
  guint id;
} Call;

static void on_tools(ChoirHttpRequest *request, gpointer user) {
  ChoirToolsApi *api = user;
  choir_answer_json(request, 200,
                    json_pack("{s:o,s:s}", "tools", choir_toolbox_list(api->options->toolbox), "sandbox",
                              choir_sandbox_why(choir_toolbox_house(api->options->toolbox)->sandbox)));
}

static void on_left(gpointer user) {
  Call *call = user;
  call->request = NULL;
  if (call->api)
    choir_toolbox_cancel(call->api->options->toolbox, call->id);
}

static guint status_of(const GError *error) {
  switch (error->code) {
  case CHOIR_TOOL_ERROR_UNKNOWN:
    return 404;
  case CHOIR_TOOL_ERROR_ARGUMENTS:
    return 400;
  case CHOIR_TOOL_ERROR_DENIED:
    return 403;
  case CHOIR_TOOL_ERROR_UNAVAILABLE:
    return 409;
  default:
    return 502;
  }
}

static void on_done(const ChoirToolResult *result, const GError *error, gpointer user) {
  Call *call = user;
  if (call->api)
    g_ptr_array_remove_fast(call->api->calls, call);
  if (call->request && error)
    choir_http_respond_error(call->request, status_of(error), "tool_error", "tool_failed", "%s%s%s", error->message,
                             *result->text ? "\n" : "", result->text);
  else if (call->request)
    choir_answer_json(
        call->request, 200,
        json_pack("{s:s,s:b,s:b}", "text", result->text, "trusted", (int)result->trusted, "cut", (int)result->cut));
  g_free(call);
}

/* A person's own call: everything in it is the person's. */
static void on_call(ChoirHttpRequest *request, gpointer user) {
  ChoirToolsApi *api = user;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  const char *name = choir_json_string(body, "tool", "");
  ChoirPrincipal who = choir_web_principal(request);
  if (!*name || who.role < CHOIR_ROLE_OPERATOR) {
    choir_answer_bad(request, "tool_missing", "send {\"tool\":\"name.action\",\"args\":{...}}");
    return;
  }
  Call *call = g_new0(Call, 1);
  call->api = api;
  call->request = request;
  g_ptr_array_add(api->calls, call);
  choir_http_request_on_gone(request, on_left, call);
  g_autofree char *session = g_strdup_printf("api %s", who.name);
  ChoirToolRequest wanted = {.name = name, .args = json_object_get(body, "args"), .session = session};
  call->id = choir_toolbox_call(api->options->toolbox, &wanted, NULL, on_done, call);
}

static void on_approvals(ChoirHttpRequest *request, gpointer user) {
  ChoirToolsApi *api = user;
  ChoirPrincipal who = choir_web_principal(request);
  gboolean may = choir_principal_may_approve(&who);
  choir_answer_json(request, 200,
                    json_pack("{s:o,s:o,s:b}", "approvals", choir_approvals_list(api->options->approvals), "grants",
                              choir_approvals_grants(api->options->approvals), "may_answer", (int)may));
}

static void answer_with(ChoirToolsApi *api, ChoirHttpRequest *request, const char *id, const char *digest,
                        gboolean approve, gboolean grant) {
  g_autoptr(GError) error = NULL;
  ChoirPrincipal who = choir_web_principal(request);
  if (choir_approvals_answer(api->options->approvals, id, digest, approve, grant, &who, &error)) {
    choir_answer_json(request, 200, json_pack("{s:b}", "answered", 1));
    return;
  }
  gboolean forbidden = g_error_matches(error, CHOIR_APPROVAL_ERROR, CHOIR_APPROVAL_ERROR_FORBIDDEN);
  choir_http_respond_error(request, forbidden ? 403 : 409, forbidden ? "permission_error" : "invalid_request_error",
                           forbidden ? "may_not_approve" : "not_answered", "%s", error->message);
}

static void on_answer(ChoirHttpRequest *request, gpointer user) {
  ChoirToolsApi *api = user;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  if (json_is_boolean(json_object_get(body, "approve")))
    answer_with(api, request, choir_json_string(body, "id", ""), choir_json_string(body, "digest", ""),
                choir_json_bool(body, "approve", FALSE), choir_json_bool(body, "grant", FALSE));
  else
    choir_answer_bad(request, "approve_missing", "send {\"id\",\"digest\",\"approve\":true or false}");
}

/* The original's: yes to a request by its id alone, whose bytes never change. */
static void on_gate(ChoirHttpRequest *request, gpointer user) {
  ChoirToolsApi *api = user;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  const char *id = choir_json_string(body, "request_id", "");
  const char *digest = choir_json_string(body, "digest", NULL);
  json_auto_t *list = choir_approvals_list(api->options->approvals);
  for (size_t i = 0; !digest && i < json_array_size(list); i++)
    if (strcmp(choir_json_string(json_array_get(list, i), "id", ""), id) == 0)
      digest = choir_json_string(json_array_get(list, i), "digest", NULL);
  answer_with(api, request, id, digest ? digest : "", TRUE, FALSE);
}

static void on_revoke(ChoirHttpRequest *request, gpointer user) {
  ChoirToolsApi *api = user;
  json_auto_t *body = choir_answer_body(request, FALSE);
  if (!body)
    return;
  if (choir_approvals_revoke(api->options->approvals, choir_json_string(body, "session", ""),
                             choir_json_string(body, "signature", "")))
    choir_answer_json(request, 200, json_pack("{s:b}", "revoked", 1));
  else
    choir_http_respond_error(request, 404, "invalid_request_error", "no_such_grant", "there is no such grant");
}

/* chain is stolen; NULL: it was not asked for. */
static void answer_audit(ChoirToolsApi *api, ChoirHttpRequest *request, guint n, json_t *chain) {
  g_autoptr(GError) error = NULL;
  json_t *list = choir_audit_tail(api->options->audit, n, &error);
  if (list) {
    ChoirAuditHead head;
    choir_audit_head(api->options->audit, &head);
    g_autofree char *text = choir_audit_head_text(&head);
    choir_answer_json(request, 200, json_pack("{s:o,s:s,s:o*}", "entries", list, "head", text, "chain", chain));
    return;
  }
  json_decref(chain);
  choir_http_respond_error(request, 500, "server_error", "audit_unreadable", "%s", error->message);
}

static void check_free(gpointer data) {
  Check *check = data;
  g_free(check->path);
  g_free(check);
}

static void check_in_worker(GTask *task, gpointer source, gpointer data, GCancellable *cancellable) {
  Check *check = data;
  g_autoptr(GError) error = NULL;
  /* A line that is just being written looks unfinished: only what is so again is so. */
  if (choir_audit_verify_from(check->path, &check->known, &check->head, NULL) ||
      choir_audit_verify_from(check->path, &check->known, &check->head, &error))
    g_task_return_boolean(task, TRUE);
  else
    g_task_return_error(task, g_steal_pointer(&error));
}

static void on_checked(GObject *source, GAsyncResult *result, gpointer user) {
  Check *check = user;
  g_autoptr(GError) error = NULL;
  gboolean good = g_task_propagate_boolean(G_TASK(result), &error);
  if (check->api)
    g_ptr_array_remove_fast(check->api->checks, check);
  if (check->api && check->request)
    answer_audit(check->api, check->request, check->n,
                 json_pack("{s:b,s:I,s:s}", "good", (int)good, "lines", (json_int_t)check->head.seq, "problem",
                           error ? error->message : ""));
}

static void on_checker_left(gpointer user) {
  Check *check = user;
  check->request = NULL;
}

static void begin_check(ChoirToolsApi *api, ChoirHttpRequest *request, guint n) {
  if (api->checks->len >= CHECKS_MAX) {
    choir_answer_busy(request, "too_many_checks", "the audit log is being checked already; ask again in a moment");
    return;
  }
  Check *check = g_new0(Check, 1);
  *check = (Check){.api = api, .request = request, .n = n, .path = g_strdup(choir_audit_path(api->options->audit))};
  choir_audit_head(api->options->audit, &check->known); /* what a file cannot tell of its own end */
  g_ptr_array_add(api->checks, check);
  choir_http_request_on_gone(request, on_checker_left, check);
  g_autoptr(GTask) task = g_task_new(NULL, NULL, on_checked, check);
  g_task_set_task_data(task, check, check_free);
  g_task_run_in_thread(task, check_in_worker);
}

static void on_audit(ChoirHttpRequest *request, gpointer user) {
  ChoirToolsApi *api = user;
  const char *text = choir_http_request_query(request, "n");
  guint64 n = AUDIT_SHOWN;
  if (text && !g_ascii_string_to_unsigned(text, 10, 1, AUDIT_MAX, &n, NULL)) {
    choir_answer_bad(request, "n_invalid", "n must be a number from 1 to 1000");
    return;
  }
  if (g_strcmp0(choir_http_request_query(request, "verify"), "1") == 0)
    begin_check(api, request, (guint)n);
  else
    answer_audit(api, request, (guint)n, NULL);
}

ChoirToolsApi *choir_tools_api_new(const ChoirWebOptions *options) {
  ChoirToolsApi *api = g_new0(ChoirToolsApi, 1);
  api->options = options;
  api->calls = g_ptr_array_new();
  api->checks = g_ptr_array_new();
  choir_http_server_route(options->server, "GET", "/api/tools", on_tools, api);
  choir_http_server_route(options->server, "POST", "/api/tools/call", on_call, api);
  choir_http_server_route(options->server, "GET", "/api/approvals", on_approvals, api);
  choir_http_server_route(options->server, "POST", "/api/approvals/answer", on_answer, api);
  choir_http_server_route(options->server, "POST", "/api/approvals/revoke", on_revoke, api);
  choir_http_server_route(options->server, "POST", "/api/gate/approve", on_gate, api);
  choir_http_server_route(options->server, "GET", "/api/audit", on_audit, api);
  return api;
}

void choir_tools_api_free(ChoirToolsApi *api) {
  if (!api)
    return;
  while (api->calls->len > 0) {
    Call *call = g_ptr_array_steal_index_fast(api->calls, 0);
    if (call->request)
      choir_http_request_on_gone(call->request, NULL, NULL);
    call->request = NULL;
    call->api = NULL; /* it is told later, when the tool has stopped */
    choir_toolbox_cancel(api->options->toolbox, call->id);
  }
  for (guint i = 0; i < api->checks->len; i++) { /* their threads end by themselves */
    Check *check = api->checks->pdata[i];
    if (check->request)
      choir_http_request_on_gone(check->request, NULL, NULL);
    check->request = NULL;
    check->api = NULL;
  }
  g_ptr_array_unref(api->checks);
  g_ptr_array_unref(api->calls);
  g_free(api);
}
