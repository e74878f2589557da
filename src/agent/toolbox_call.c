/* One call, from the request to the result: check, class, approval, audit, run. */
#include <string.h>
#include "agent/schema.h"
#include "agent/toolbox_private.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"

#define OUTPUT_MAX (64u << 10)
#define PREVIEW_MAX (16u << 10)
#define TIMEOUT_S 30
#define GRACE_S 5     /* for a tool that was told to stop */
#define CALLS_MAX 128 /* more than questions may wait */
#define REASONS_MAX 8
#define HOSTS_MAX 64

typedef enum { CALL_CHECKED, CALL_PREVIEW, CALL_ASKING, CALL_RUNNING, CALL_OVER } CallPhase;

struct ChoirToolCall {
  ChoirToolbox *toolbox; /* NULL once the caller was told: the tool may still be at it */
  guint id;
  const ChoirTool *tool;
  const ChoirToolAction *action;
  char *name, *session, *turn_id, *target;
  json_t *args;
  ChoirToolClass class;
  GPtrArray *reasons; /* char*, NULL-ended while it is shown */
  CallPhase phase;
  gboolean busy; /* run() or preview() has not called done */
  GString *text;
  char *preview, *digest;
  gboolean cut;
  const char *approval;
  GCancellable *cancellable;
  gboolean tainted; /* an argument is, as the person who approved was told */
  char *origin;     /* who wrote the output */
  json_t *hosts;    /* whom it talked to */
  guint timer, idle;
  GError *error;
  gboolean trusted;
  ChoirToolOutput output;
  ChoirToolDone done;
  gpointer user;
};

/* What tools may ask of their call */

const json_t *choir_tool_call_args(const ChoirToolCall *call) {
  return call->args;
}

const char *choir_tool_call_string(const ChoirToolCall *call, const char *argument, const char *fallback) {
  return choir_json_string(call->args, argument, fallback);
}

gint64 choir_tool_call_integer(const ChoirToolCall *call, const char *argument, gint64 fallback) {
  return choir_json_int(call->args, argument, fallback);
}

const ChoirToolHouse *choir_tool_call_house(const ChoirToolCall *call) {
  return call->toolbox ? &call->toolbox->house : NULL;
}

gpointer choir_tool_call_state(ChoirToolCall *call) {
  return call->toolbox ? choir_toolbox_state(call->toolbox, call->tool) : NULL;
}

const char *choir_tool_call_session(const ChoirToolCall *call) {
  return call->session;
}

gboolean choir_tool_call_on_host(const ChoirToolCall *call) {
  return json_is_true(json_object_get(call->args, "host"));
}

gboolean choir_tool_call_tainted(const ChoirToolCall *call) {
  return call->tainted;
}

const char *choir_tool_call_turn(const ChoirToolCall *call) {
  return call->turn_id;
}

void choir_tool_call_origin(ChoirToolCall *call, const char *origin) {
  g_free(call->origin);
  call->origin = choir_utf8(origin, -1);
}

void choir_tool_call_talked_to(ChoirToolCall *call, const char *host) {
  g_autofree char *valid = choir_utf8(host, -1);
  if (!call->hosts)
    call->hosts = json_array();
  for (gsize i = 0; i < json_array_size(call->hosts); i++)
    if (g_strcmp0(json_string_value(json_array_get(call->hosts, i)), valid) == 0)
      return;
  if (json_array_size(call->hosts) < HOSTS_MAX)
    json_array_append_new(call->hosts, json_string(valid));
}

GCancellable *choir_tool_call_cancellable(const ChoirToolCall *call) {
  return call->cancellable;
}

void choir_tool_call_output(ChoirToolCall *call, const char *text, gssize length) {
  gsize most = call->phase == CALL_PREVIEW ? PREVIEW_MAX
               : call->action->output_max  ? call->action->output_max
                                           : OUTPUT_MAX;
  gsize bytes = length < 0 ? strlen(text) : (gsize)length;
  if (!call->toolbox || call->phase == CALL_OVER || call->cut)
    return;
  if (call->text->len + bytes > most) {
    bytes = most - call->text->len;
    call->cut = TRUE;
  }
  g_string_append_len(call->text, text, (gssize)bytes);
  if (call->output && call->phase == CALL_RUNNING)
    call->output(text, bytes, call->user);
}

static void call_free(ChoirToolCall *call) {
  g_clear_handle_id(&call->timer, g_source_remove);
  g_clear_handle_id(&call->idle, g_source_remove);
  g_clear_object(&call->cancellable);
  g_clear_error(&call->error);
  g_string_free(call->text, TRUE);
  g_ptr_array_unref(call->reasons);
  json_decref(call->args);
  json_decref(call->hosts);
  g_free(call->origin);
  g_free(call->name);
  g_free(call->session);
  g_free(call->turn_id);
  g_free(call->target);
  g_free(call->preview);
  g_free(call->digest);
  g_free(call);
}

static gboolean note(const ChoirToolCall *call, const char *kind, const char *key, const char *value, GError **error) {
  json_t *fields = json_object();
  json_object_set_new(fields, "call", json_integer(call->id));
  json_object_set_new(fields, "turn", json_string(call->turn_id));
  json_object_set_new(fields, "session", json_string(call->session));
  json_object_set_new(fields, "tool", json_string(call->name));
  json_object_set_new(fields, "class", json_string(choir_tool_class_name(call->class)));
  json_object_set_new(fields, "target", json_string(call->target));
  json_object_set(fields, "args", call->args);
  if (key)
    json_object_set_new(fields, key, json_string(value));
  if (call->origin)
    json_object_set_new(fields, "origin", json_string(call->origin));
  if (call->hosts)
    json_object_set(fields, "hosts", call->hosts);
  if (call->tainted) {
    json_t *reasons = json_array();
    for (guint i = 0; i < call->reasons->len && call->reasons->pdata[i]; i++)
      json_array_append_new(reasons, json_string(call->reasons->pdata[i]));
    json_object_set_new(fields, "taint", reasons);
  }
  gboolean ok = choir_audit_write(call->toolbox->audit, kind, fields, error);
  json_decref(fields);
  return ok;
}

static void count(const ChoirToolCall *call, const char *outcome) {
  g_autofree char *labels =
      g_strdup_printf("tool=\"%s\",outcome=\"%s\"", call->tool ? call->tool->id : "none", outcome);
  choir_counter_add(choir_counter("choir_tool_calls_total", labels, "Calls of tools by outcome."), 1);
}

/* Tells the caller. The call itself stays until the tool let go of it. */
static void tell(ChoirToolCall *call) {
  ChoirToolbox *toolbox = call->toolbox;
  g_clear_handle_id(&call->timer, g_source_remove);
  g_clear_handle_id(&call->idle, g_source_remove);
  call->phase = CALL_OVER;
  g_autofree char *text = choir_utf8(call->text->str, (gssize)call->text->len);
  if (call->action && !toolbox->dead) {
    g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    g_autoptr(GError) lost = NULL;
    if (!note(call, "result", call->error ? "error" : "output_sha256", call->error ? call->error->message : digest,
              &lost))
      choir_error(CHOIR_TOPIC_AGENT, "%s", lost->message);
  }
  count(call, call->error ? "failed" : "done");
  g_ptr_array_remove(toolbox->calls, call);
  call->toolbox = NULL;
  ChoirToolResult result = {.text = text, .trusted = call->trusted, .cut = call->cut, .origin = call->origin};
  if (!toolbox->dead && call->done)
    call->done(&result, call->error, call->user);
  if (!call->busy)
    call_free(call);
}

static void fail(ChoirToolCall *call, int code, const char *format, ...) G_GNUC_PRINTF(3, 4);
static void fail(ChoirToolCall *call, int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_clear_error(&call->error);
  call->error = g_error_new_valist(CHOIR_TOOL_ERROR, code, format, args);
  va_end(args);
  tell(call);
}

static gboolean on_grace(gpointer user) {
  ChoirToolCall *call = user;
  call->timer = 0;
  choir_warning(CHOIR_TOPIC_AGENT, "%s did not stop when told to; it goes on without being heard", call->name);
  tell(call);
  return G_SOURCE_REMOVE;
}

/* Asks the tool to stop; the caller is told when it has, or after a moment of patience. */
static void stop(ChoirToolCall *call, int code, const char *why) {
  if (call->error == NULL)
    call->error = g_error_new_literal(CHOIR_TOOL_ERROR, code, why);
  g_clear_handle_id(&call->timer, g_source_remove);
  call->timer = g_timeout_add_seconds(GRACE_S, on_grace, call);
  g_cancellable_cancel(call->cancellable);
}

static gboolean on_timeout(gpointer user) {
  ChoirToolCall *call = user;
  call->timer = 0;
  stop(call, CHOIR_TOOL_ERROR_TIMEOUT, "the tool took too long and was stopped");
  return G_SOURCE_REMOVE;
}

static void start_timer(ChoirToolCall *call) {
  guint seconds = call->action->timeout_s ? call->action->timeout_s : TIMEOUT_S;
  g_clear_handle_id(&call->timer, g_source_remove);
  call->timer = g_timeout_add_seconds(seconds, on_timeout, call);
}

static ChoirApprovalRequest approval_of(ChoirToolCall *call) {
  if (call->reasons->len == 0 || call->reasons->pdata[call->reasons->len - 1] != NULL)
    g_ptr_array_add(call->reasons, NULL);
  return (ChoirApprovalRequest){.tool = call->tool->id,
                                .action = call->action->name,
                                .args = call->args,
                                .target = call->target,
                                .session = call->session,
                                .class = call->class,
                                .tainted = call->tainted,
                                .reasons = (const char *const *)call->reasons->pdata,
                                .preview = call->preview};
}

static void run(ChoirToolCall *call) {
  g_autoptr(GError) error = NULL;
  if (call->digest) { /* what was approved is what runs */
    ChoirApprovalRequest request = approval_of(call);
    g_autofree char *digest = choir_approvals_digest(call->toolbox->approvals, &request);
    if (!g_str_equal(digest, call->digest)) {
      fail(call, CHOIR_TOOL_ERROR_DENIED, "the call changed after it was approved, so it did not run");
      return;
    }
  }
  if (!note(call, "run", NULL, NULL, &error)) {
    fail(call, CHOIR_TOOL_ERROR_FAILED, "%s", error->message);
    return;
  }
  call->phase = CALL_RUNNING;
  call->busy = TRUE;
  start_timer(call);
  call->action->run(call);
}

static void on_verdict(ChoirVerdict verdict, const char *by, gpointer user) {
  static const char *const why[] = {"", "a person said no", "nobody answered in time, so the answer is no",
                                    "the question was taken back"};
  ChoirToolCall *call = user;
  g_autoptr(GError) error = NULL;
  call->approval = NULL;
  if (call->toolbox->dead) {
    tell(call);
    return;
  }
  g_autofree char *text = verdict == CHOIR_APPROVED ? g_strdup_printf("approved by %s", by) : g_strdup(why[verdict]);
  if (!note(call, "approval", "verdict", text, &error))
    fail(call, CHOIR_TOOL_ERROR_FAILED, "%s", error->message);
  else if (verdict == CHOIR_APPROVED)
    run(call);
  else
    fail(call, CHOIR_TOOL_ERROR_DENIED, "%s was not done: %s", call->name, why[verdict]);
}

static void ask(ChoirToolCall *call) {
  ChoirApprovalRequest request = approval_of(call);
  call->phase = CALL_ASKING;
  call->digest = choir_approvals_digest(call->toolbox->approvals, &request);
  call->approval = choir_approvals_ask(call->toolbox->approvals, &request, 0, on_verdict, call);
  if (!call->approval)
    fail(call, CHOIR_TOOL_ERROR_DENIED, "too many questions wait for an answer; answer some first");
}

void choir_tool_call_done(ChoirToolCall *call, gboolean trusted, GError *error) {
  g_autoptr(GError) taken = error;
  call->busy = FALSE;
  if (!call->toolbox) { /* the caller was told already */
    call_free(call);
    return;
  }
  g_clear_handle_id(&call->timer, g_source_remove);
  if (call->phase == CALL_PREVIEW && !call->error) {
    if (error)
      g_string_append_printf(call->text, "%sthe dry run failed: %s", call->text->len ? "\n" : "", error->message);
    call->preview = choir_utf8(call->text->str, (gssize)call->text->len);
    g_string_truncate(call->text, 0);
    call->cut = FALSE;
    ask(call);
    return;
  }
  call->trusted = trusted;
  if (!call->error)
    call->error = g_steal_pointer(&taken);
  tell(call);
}

/* Class */

static void raise_to(ChoirToolCall *call, ChoirToolClass class, const char *why) {
  if (call->reasons->len < REASONS_MAX)
    g_ptr_array_add(call->reasons, g_strdup(why));
  call->class = MAX(call->class, class);
}

typedef const char *(*TaintLook)(const ChoirTaint *taint, const char *value);

static const char *tainted(const ChoirTaint *taint, TaintLook look, const json_t *value) {
  const char *key, *origin = NULL;
  size_t i;
  json_t *inner;
  if (json_is_string(value))
    return look(taint, json_string_value(value));
  json_array_foreach((json_t *)value, i, inner) if ((origin = tainted(taint, look, inner))) return origin;
  json_object_foreach((json_t *)value, key, inner) if ((origin = tainted(taint, look, inner))) return origin;
  return NULL;
}

/* NULL, or why this value is not to be trusted; caller frees. */
static char *why_tainted(const ChoirTaint *taint, const char *argument, const json_t *value) {
  const char *origin = tainted(taint, choir_taint_origin, value);
  if (origin)
    return g_strdup_printf("\"%s\" repeats text from %s", argument, origin);
  origin = tainted(taint, choir_taint_reader, value);
  return origin ? g_strdup_printf("\"%s\" is not what the person said, and this turn has read %s", argument, origin)
                : NULL;
}

static void classify(ChoirToolCall *call, const ChoirTaint *taint) {
  const ChoirToolAction *action = call->action;
  call->class = action->class;
  if (action->classify) {
    g_autofree char *why = NULL;
    ChoirToolClass class = action->classify(&call->toolbox->house, call->args, &why);
    if (class > call->class)
      raise_to(call, class, why ? why : "because of its arguments");
  }
  if (choir_tool_call_on_host(call))
    raise_to(call, CHOIR_CLASS_CHANGE, "it wants to leave the sandbox");
  for (const ChoirToolSink *sink = action->sinks; sink && sink->argument; sink++) {
    g_autofree char *why = why_tainted(taint, sink->argument, json_object_get(call->args, sink->argument));
    if (!why)
      continue;
    call->tainted = TRUE;
    raise_to(call, MIN(MAX(call->class + 1, CHOIR_CLASS_CHANGE), CHOIR_CLASS_FLEET), why);
  }
  const char *read = choir_taint_read(taint);
  if (read && call->class >= CHOIR_CLASS_LOCAL && !call->tainted) {
    g_autofree char *why = g_strdup_printf("this turn has read %s, which may have asked for it", read);
    call->tainted = TRUE;
    raise_to(call, CHOIR_CLASS_CHANGE, why);
  }
  call->target = action->target                      ? action->target(&call->toolbox->house, call->args)
                 : call->class >= CHOIR_CLASS_CHANGE ? g_strdup("this machine")
                                                     : g_strdup("sandbox");
}

/* From here on on its own loop turn, so that done never runs inside choir_toolbox_call(). */
static gboolean begin(gpointer user) {
  ChoirToolCall *call = user;
  g_autoptr(GError) error = NULL;
  call->idle = 0;
  if (call->error) {
    tell(call);
    return G_SOURCE_REMOVE;
  }
  if (!note(call, "tool", NULL, NULL, &error)) {
    fail(call, CHOIR_TOOL_ERROR_FAILED, "%s", error->message);
    return G_SOURCE_REMOVE;
  }
  gboolean asks = call->class >= CHOIR_CLASS_CHANGE || (call->toolbox->strict && call->class == CHOIR_CLASS_LOCAL);
  if (call->class == CHOIR_CLASS_DENIED || choir_toolbox_denied(call->toolbox, call->name))
    fail(call, CHOIR_TOOL_ERROR_DENIED, "%s is not allowed by the policy of this house", call->name);
  else if (!asks)
    run(call);
  else if (call->action->preview) {
    call->phase = CALL_PREVIEW;
    call->busy = TRUE;
    start_timer(call);
    call->action->preview(call);
  } else
    ask(call);
  return G_SOURCE_REMOVE;
}

static GError *check(ChoirToolCall *call, const ChoirToolRequest *request) {
  ChoirToolbox *toolbox = call->toolbox;
  g_autoptr(GError) error = NULL;
  g_autofree char *reason = NULL, *remedy = NULL;
  if (toolbox->calls->len >= CALLS_MAX)
    return g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, "too many tools run at once; wait for one");
  call->action = choir_toolbox_find(toolbox, request->name, &call->tool);
  if (!call->action)
    return g_error_new(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_UNKNOWN, "there is no tool %s", request->name);
  if (!choir_toolbox_available(toolbox, call->tool, &reason, &remedy))
    return g_error_new(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_UNAVAILABLE, "%s is not available: %s%s%s", call->tool->id,
                       reason ? reason : "something is missing", remedy ? "; " : "", remedy ? remedy : "");
  if (choir_toolbox_accept(toolbox, call->action, call->args, &error))
    return NULL;
  return g_error_new(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_ARGUMENTS, "%s: %s", call->name, error->message);
}

guint choir_toolbox_call(ChoirToolbox *toolbox, const ChoirToolRequest *request, ChoirToolOutput output,
                         ChoirToolDone done, gpointer user) {
  ChoirToolCall *call = g_new0(ChoirToolCall, 1);
  call->toolbox = toolbox;
  call->id = ++toolbox->last_id;
  call->name = g_strdup(request->name);
  call->session = g_strdup(request->session ? request->session : "");
  call->turn_id = g_strdup(request->turn_id ? request->turn_id : "");
  call->args = request->args ? json_deep_copy(request->args) : json_object();
  call->reasons = g_ptr_array_new_with_free_func(g_free);
  call->text = g_string_new(NULL);
  call->cancellable = g_cancellable_new();
  call->output = output;
  call->done = done;
  call->user = user;
  g_ptr_array_add(toolbox->calls, call);
  call->error = check(call, request);
  if (!call->error)
    classify(call, request->taint);
  else
    call->action = NULL; /* nothing of it reaches the audit log but the count */
  call->idle = g_idle_add(begin, call);
  return call->id;
}

static void cancel(ChoirToolCall *call) {
  switch (call->phase) {
  case CALL_CHECKED:
    fail(call, CHOIR_TOOL_ERROR_FAILED, "%s was cancelled", call->name);
    break;
  case CALL_ASKING:
    choir_approvals_withdraw(call->toolbox->approvals, call->approval);
    break;
  case CALL_PREVIEW:
  case CALL_RUNNING:
    stop(call, CHOIR_TOOL_ERROR_FAILED, "the tool was cancelled");
    break;
  case CALL_OVER:
    break;
  }
}

void choir_toolbox_forget(ChoirToolbox *toolbox, guint id) {
  for (guint i = 0; i < toolbox->calls->len; i++) {
    ChoirToolCall *call = toolbox->calls->pdata[i];
    if (call->id == id) {
      call->done = NULL;
      call->output = NULL;
    }
  }
}

void choir_toolbox_cancel(ChoirToolbox *toolbox, guint id) {
  if (id == 0) { /* the toolbox goes: nobody is told any more */
    ChoirToolCall *call = toolbox->calls->pdata[0];
    cancel(call);
    if (toolbox->calls->len > 0 && toolbox->calls->pdata[0] == call)
      tell(call);
    return;
  }
  for (guint i = 0; i < toolbox->calls->len; i++) {
    ChoirToolCall *call = toolbox->calls->pdata[i];
    if (call->id == id) {
      cancel(call);
      return;
    }
  }
}
