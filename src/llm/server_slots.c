#include <glib/gstdio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include "llm/server_private.h"

#define SLOT_TIMEOUT_MS 60000
#define MAX_SLOT_FILES 4 /* persona, live conversation, and one older of each */

typedef struct {
  ChoirLlmServer *server;
  char *path;
  gboolean save;
  void (*done)(gboolean ok, gint tokens, gpointer user);
  gpointer user;
} SlotJob;

static void slot_job_finish(SlotJob *job, gboolean ok, gint tokens) {
  job->done(ok, tokens, job->user);
  choir_llm_server_unref(job->server);
  g_free(job->path);
  g_free(job);
}

static gint newer_first(gconstpointer a, gconstpointer b) {
  GStatBuf x = {0}, y = {0};
  g_stat(*(const char *const *)a, &x);
  g_stat(*(const char *const *)b, &y);
  return x.st_mtim.tv_sec != y.st_mtim.tv_sec
             ? (x.st_mtim.tv_sec < y.st_mtim.tv_sec ? 1 : -1)
             : (x.st_mtim.tv_nsec < y.st_mtim.tv_nsec) - (x.st_mtim.tv_nsec > y.st_mtim.tv_nsec);
}

static void prune_slots(const char *dir) {
  g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GDir) handle = g_dir_open(dir, 0, NULL);
  const char *name;
  while (handle && (name = g_dir_read_name(handle)))
    if (g_str_has_suffix(name, ".slot"))
      g_ptr_array_add(paths, g_build_filename(dir, name, NULL));
  g_ptr_array_sort(paths, newer_first);
  for (guint i = MAX_SLOT_FILES; i < paths->len; i++)
    g_unlink(paths->pdata[i]);
}

static void on_slot(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  SlotJob *job = user;
  json_t *answer = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
  gint tokens = (gint)choir_json_int(answer, job->save ? "n_saved" : "n_restored", 0);
  json_decref(answer);
  if (tokens > 0 && job->save)
    prune_slots(job->server->command.slots_dir);
  if (tokens <= 0) {
    choir_debug(CHOIR_TOPIC_LLM, "slot %s: %s", job->save ? "save" : "restore", error ? error->message : "no tokens");
    /* Half-written, or of another cache type: it would fail at every start. */
    if (!(error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)))
      g_unlink(job->path);
  }
  slot_job_finish(job, tokens > 0, tokens);
}

static gboolean slot_refused(gpointer user) {
  slot_job_finish(user, FALSE, 0);
  return G_SOURCE_REMOVE;
}

static void slot_action(ChoirLlmServer *server, int slot, const char *key, gboolean save,
                        void (*done)(gboolean ok, gint tokens, gpointer user), gpointer user) {
  SlotJob *job = g_new0(SlotJob, 1);
  job->server = server;
  job->save = save;
  job->done = done;
  job->user = user;
  server->refs++;
  if (!server->child || server->remote || server->state != STATE_READY) {
    g_idle_add(slot_refused, job);
    return;
  }
  /* What the file depends on besides the caller's prompt: weights, cache type, context. */
  g_autofree char *kind = g_strdup_printf("%s|%s|%d|%u|%s", server->command.model_path, server->command.engine_dir,
                                          server->command.half_floats, server->command.context, key);
  g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, kind, -1);
  g_autofree char *name = g_strdup_printf("%.32s.slot", hash);
  job->path = g_build_filename(server->command.slots_dir, name, NULL);
  if (!save && !g_file_test(job->path, G_FILE_TEST_IS_REGULAR)) {
    g_idle_add(slot_refused, job);
    return;
  }
  g_autofree char *url =
      g_strdup_printf("%s/slots/%d?action=%s", choir_chat_base_url(server->chat), slot, save ? "save" : "restore");
  g_autofree char *body = g_strdup_printf("{\"filename\":\"%s\"}", name);
  choir_http_request(server->http, "POST", url, "application/json", body, strlen(body),
                     choir_chat_headers(server->chat), SLOT_TIMEOUT_MS, 0, server->cancellable, on_slot, job);
}

void choir_llm_server_slot_save(ChoirLlmServer *server, int slot, const char *key,
                                void (*done)(gboolean ok, gint tokens, gpointer user), gpointer user) {
  slot_action(server, slot, key, TRUE, done, user);
}

void choir_llm_server_slot_restore(ChoirLlmServer *server, int slot, const char *key,
                                   void (*done)(gboolean ok, gint tokens, gpointer user), gpointer user) {
  slot_action(server, slot, key, FALSE, done, user);
}
