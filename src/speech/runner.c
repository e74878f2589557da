#include "speech/runner.h"
#include "base/version.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static const char *runner_name = "choir-worker";

void choir_runner_init(const char *name) {
  runner_name = name;
  g_set_prgname(name);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
}

void choir_runner_options(int *argc, char ***argv, const GOptionEntry *entries, const char *summary) {
  gboolean version = FALSE;
  const GOptionEntry common[] = {
      {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version", NULL},
      G_OPTION_ENTRY_NULL,
  };
  g_autoptr(GOptionContext) context = g_option_context_new(NULL);
  g_option_context_set_summary(context, summary);
  g_option_context_add_main_entries(context, entries, NULL);
  g_option_context_add_main_entries(context, common, NULL);
  g_autoptr(GError) error = NULL;
  if (!g_option_context_parse(context, argc, argv, &error)) {
    fprintf(stderr, "%s: %s; see %s --help\n", runner_name, error->message, runner_name);
    exit(2);
  }
  if (version) {
    printf("%s %s\n", runner_name, choir_version());
    exit(0);
  }
  if (*argc > 1) {
    fprintf(stderr, "%s: unexpected argument '%s'; see %s --help\n", runner_name, (*argv)[1], runner_name);
    exit(2);
  }
}

void choir_runner_log(const char *format, ...) {
  va_list list;
  va_start(list, format);
  g_autofree char *text = g_strdup_vprintf(format, list);
  va_end(list);
  g_strdelimit(text, "\r\n", ' ');
  fprintf(stderr, "%s: %s\n", runner_name, text);
}

gboolean choir_runner_read(int fd, GByteArray *buffer, ChoirWireFrame *ret_frame) {
  /* The front frame was handed out by the previous call. */
  ChoirWireFrame front;
  if (ret_frame->payload && choir_wire_decode(buffer->data, buffer->len, &front) == 1)
    g_byte_array_remove_range(buffer, 0, CHOIR_WIRE_HEADER + front.length);
  ret_frame->payload = NULL;
  for (;;) {
    int found = buffer->len > 0 ? choir_wire_decode(buffer->data, buffer->len, ret_frame) : 0;
    if (found < 0) {
      choir_runner_log("bytes that are not ours came in on fd %d", fd);
      return FALSE;
    }
    if (found > 0)
      return TRUE;
    guint8 chunk[65536];
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      choir_runner_log("read fd %d: %s", fd, g_strerror(errno));
    if (n <= 0)
      return FALSE;
    g_byte_array_append(buffer, chunk, (guint)n);
  }
}

void choir_runner_send(int fd, guint16 type, const ChoirWireFrame *about, guint32 aux, const void *payload,
                       gsize length) {
  ChoirWireFrame frame = {
      .type = type,
      .session = about ? about->session : 0,
      .gen = about ? about->gen : 0,
      .aux = aux,
      .length = (guint32)length,
      .payload = payload,
  };
  if (!choir_wire_write(fd, &frame))
    _exit(0);
}

void choir_runner_send_json(int fd, guint16 type, const ChoirWireFrame *about, guint32 aux, json_t *json) {
  char *text = json_dumps(json, JSON_COMPACT);
  json_decref(json);
  if (!text)
    g_error("a message is not valid UTF-8"); /* every string was cleaned before */
  choir_runner_send(fd, type, about, aux, text, strlen(text));
  free(text);
}

void choir_runner_error(int fd, const ChoirWireFrame *about, const char *format, ...) {
  va_list list;
  va_start(list, format);
  g_autofree char *raw = g_strdup_vprintf(format, list);
  va_end(list);
  g_autofree char *text = g_utf8_make_valid(raw, -1);
  choir_runner_log("%s", text);
  choir_runner_send(fd, CHOIR_WIRE_ERROR, about, about ? about->aux : 0, text, strlen(text));
}

static gint64 rss_kb(void) {
  g_autofree char *status = NULL;
  if (!g_file_get_contents("/proc/self/status", &status, NULL, NULL))
    return -1;
  const char *line = strstr(status, "VmRSS:");
  return line ? g_ascii_strtoll(line + strlen("VmRSS:"), NULL, 10) : -1;
}

void choir_runner_status(int fd, double progress, const char *detail) {
  choir_runner_send_json(fd, CHOIR_WIRE_STATUS, NULL, 0,
                         json_pack("{s:f, s:s}", "progress", progress, "detail", detail));
}

void choir_runner_report(int fd, guint16 type, const char *engine, const char *model, double load_ms,
                         const char *detail, json_t *more) {
  g_autofree char *file = *model ? g_path_get_basename(model) : g_strdup("");
  g_autofree char *shown = g_utf8_make_valid(file, -1);
  g_autofree char *what = g_utf8_make_valid(detail, -1);
  json_t *json = json_pack("{s:s, s:s, s:f, s:I, s:s}", "engine", engine, "model", shown, "load_ms", load_ms, "rss_kb",
                           (json_int_t)rss_kb(), "detail", what);
  if (more)
    json_object_update(json, more);
  json_decref(more);
  choir_runner_send_json(fd, type, NULL, 0, json);
}

void choir_runner_ready(int fd, const char *engine, const char *model, double load_ms, const char *detail) {
  choir_runner_log("ready: engine %s, %s, loaded in %.0f ms, %" G_GINT64_FORMAT " kB resident", engine, detail, load_ms,
                   rss_kb());
  choir_runner_report(fd, CHOIR_WIRE_READY, engine, model, load_ms, detail, NULL);
}

static double clock_ms(clockid_t id) {
  struct timespec now;
  clock_gettime(id, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

double choir_runner_wall_ms(void) {
  return clock_ms(CLOCK_MONOTONIC);
}

double choir_runner_cpu_ms(void) {
  return clock_ms(CLOCK_PROCESS_CPUTIME_ID);
}

char *choir_runner_cache_path(const char *relative) {
  return g_build_filename(g_get_user_cache_dir(), "choir", relative, NULL);
}
