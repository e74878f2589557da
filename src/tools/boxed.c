#include "tools/boxed.h"
#include <ftw.h>
#include <stdio.h>
#include <sys/wait.h>
#include "base/text.h"

typedef struct {
  ChoirToolCall *call;
  ChoirSandboxRun *run;
  gulong handler;
  char *remove;
  void (*then)(ChoirToolCall *call, const char *output);
  GString *kept; /* for then */
} Boxed;

#define KEPT_MAX 8192

void tool_fail(ChoirToolCall *call, int code, const char *format, ...) {
  va_list args;
  va_start(args, format);
  GError *error = g_error_new_valist(CHOIR_TOOL_ERROR, code, format, args);
  va_end(args);
  choir_tool_call_done(call, FALSE, error);
}

void tool_answer(ChoirToolCall *call, gboolean trusted, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  choir_tool_call_output(call, text, -1);
  choir_tool_call_done(call, trusted, NULL);
}

gboolean tool_boxed_available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {
  if (house->sandbox && choir_sandbox_mode(house->sandbox) != CHOIR_SANDBOX_NONE)
    return TRUE;
  *ret_reason =
      g_strdup_printf("there is no sandbox: %s", house->sandbox ? choir_sandbox_why(house->sandbox) : "none was made");
  *ret_remedy = g_strdup("install bubblewrap, or use a kernel with Landlock");
  return FALSE;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *walk) {
  return remove(path);
}

static void on_output(ChoirSandboxRun *run, int stream, const char *data, gsize length, gpointer user) {
  Boxed *boxed = user;
  if (boxed->kept)
    g_string_append_len(boxed->kept, data, (gssize)MIN(length, KEPT_MAX - boxed->kept->len));
  else
    choir_tool_call_output(boxed->call, data, (gssize)length);
}

static void boxed_free(Boxed *boxed) {
  if (boxed->kept)
    g_string_free(boxed->kept, TRUE);
  g_free(boxed->remove);
  g_free(boxed);
}

static void on_ended(ChoirSandboxRun *run, int status, const char *killed, gpointer user) {
  Boxed *boxed = user;
  ChoirToolCall *call = boxed->call;
  g_cancellable_disconnect(choir_tool_call_cancellable(call), boxed->handler);
  if (boxed->remove)
    nftw(boxed->remove, remove_one, 16, FTW_DEPTH | FTW_PHYS);
  if (boxed->then && !killed && !g_cancellable_is_cancelled(choir_tool_call_cancellable(call))) {
    g_autofree char *text = choir_utf8(boxed->kept->str, (gssize)boxed->kept->len);
    void (*then)(ChoirToolCall *, const char *) = boxed->then;
    boxed_free(boxed);
    then(call, text);
    return;
  }
  boxed_free(boxed);
  if (killed)
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "the program was stopped, because it used too much: %s", killed);
  else if (WIFSIGNALED(status))
    tool_answer(call, FALSE, "\n(ended by signal %d)", WTERMSIG(status));
  else if (WEXITSTATUS(status) != 0)
    tool_answer(call, FALSE, "\n(exit code %d)", WEXITSTATUS(status));
  else
    choir_tool_call_done(call, FALSE, NULL);
}

static void on_cancelled(GCancellable *cancellable, gpointer user) {
  choir_sandbox_kill(((Boxed *)user)->run);
}

void tool_boxed_run(ChoirToolCall *call, ToolBoxed *wanted) {
  static const ChoirSandboxHandlers handlers = {on_output, on_ended};
  const ChoirToolHouse *house = choir_tool_call_house(call);
  const char *writable[] = {house->work_dir, NULL}, *hidden[] = {house->state_dir, NULL};
  Boxed *boxed = g_new0(Boxed, 1);
  g_autoptr(GError) error = NULL;
  ChoirSandboxSpec spec = {.argv = wanted->argv,
                           .env = wanted->env,
                           .cwd = wanted->cwd,
                           .writable = wanted->writable ? wanted->writable : writable,
                           .hidden = hidden,
                           .proxy_socket = wanted->proxy_socket,
                           .network = wanted->network,
                           .seconds = wanted->seconds,
                           .memory_mb = wanted->memory_mb,
                           .output_max = 256u << 10,
                           .stdin_fd = -1};
  boxed->call = call;
  boxed->remove = wanted->remove;
  boxed->then = wanted->then;
  boxed->kept = wanted->then ? g_string_new(NULL) : NULL;
  boxed->run = choir_sandbox_run(house->sandbox, &spec, &handlers, boxed, &error);
  if (!boxed->run) {
    boxed_free(boxed);
    tool_fail(call, CHOIR_TOOL_ERROR_UNAVAILABLE, "%s", error->message);
    return;
  }
  boxed->handler = g_cancellable_connect(choir_tool_call_cancellable(call), G_CALLBACK(on_cancelled), boxed, NULL);
}
