/* Resumable download of one model in a worker thread: NAME.part grows, and is renamed only when its hash is right. */
#include <errno.h>
#include <fcntl.h>
#include <libsoup/soup.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "llm/models_private.h"

#define STALL_S 30
#define MAX_BYTES (G_GUINT64_CONSTANT(64) << 30)
#define PROGRESS_US 200000

typedef struct {
  ChoirModels *models;
  char *name, *url, *path, *part, *sha256; /* sha256 NULL: it is recorded */
  guint64 listed;                          /* exact size, 0 when unknown */
  char *found;                             /* the file's sha256 */
  void (*progress)(guint64 done, guint64 total, gpointer user);
  gpointer user;
  GMainContext *context;
} Fetch;

typedef struct {
  Fetch *fetch;
  GTask *task;
  guint64 done, total;
} Report;

static void fetch_free(gpointer data) {
  Fetch *fetch = data;
  g_free(fetch->name);
  g_free(fetch->url);
  g_free(fetch->path);
  g_free(fetch->part);
  g_free(fetch->sha256);
  g_free(fetch->found);
  g_main_context_unref(fetch->context);
  g_free(fetch);
}

static gboolean on_report(gpointer user) {
  Report *report = user;
  report->fetch->progress(report->done, report->total, report->fetch->user);
  return G_SOURCE_REMOVE;
}

static void report_free(gpointer user) {
  Report *report = user;
  g_object_unref(report->task); /* which owns fetch */
  g_free(report);
}

static void tell(GTask *task, Fetch *fetch, guint64 done, guint64 total) {
  if (!fetch->progress)
    return;
  Report *report = g_new0(Report, 1);
  *report = (Report){fetch, g_object_ref(task), done, total};
  g_main_context_invoke_full(fetch->context, G_PRIORITY_DEFAULT, on_report, report, report_free);
}

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean fail(GError **error, const char *format, ...) {
  va_list list;
  va_start(list, format);
  g_autofree char *text = g_strdup_vprintf(format, list);
  va_end(list);
  g_set_error_literal(error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_FETCH, text);
  return FALSE;
}

static gboolean write_all(int fd, const guint8 *data, gsize n, const Fetch *fetch, GError **error) {
  return choir_write_all(fd, data, n) ||
         fail(error, "cannot write %s: %s; %s", fetch->part, g_strerror(errno),
              errno == ENOSPC ? "free some space, then fetch again: it goes on where it stopped"
                              : "what is there is kept");
}

/* Where to go on: the answer must continue exactly behind what we have, else the file starts anew. */
static gboolean place(int fd, SoupMessage *message, guint64 have, const Fetch *fetch, guint64 *ret_at,
                      guint64 *ret_total, GError **error) {
  SoupMessageHeaders *headers = soup_message_get_response_headers(message);
  goffset start = 0, end = 0, total = -1;
  guint status = soup_message_get_status(message);
  *ret_at = 0;
  if (status == 206) {
    if (!soup_message_headers_get_content_range(headers, &start, &end, &total) || start < 0 || (guint64)start != have)
      return fail(error, "the server of %s answered with another part than was asked for; fetch again later",
                  fetch->name);
    *ret_at = have;
  } else if (status == 200) {
    total = soup_message_headers_get_encoding(headers) == SOUP_ENCODING_CONTENT_LENGTH
                ? soup_message_headers_get_content_length(headers)
                : -1;
    if (ftruncate(fd, 0) != 0)
      return fail(error, "cannot empty %s: %s", fetch->part, g_strerror(errno));
  } else {
    return fail(error, "the server answered %u %s for %s; check its url in the model list", status,
                soup_status_get_phrase(status), fetch->name);
  }
  if (total > 0 && fetch->listed && (guint64)total != fetch->listed)
    return fail(error,
                "the server has %" G_GOFFSET_FORMAT " bytes for %s, the list says %" G_GUINT64_FORMAT
                "; it is not that file",
                total, fetch->name, fetch->listed);
  *ret_total = total > 0 ? (guint64)total : fetch->listed;
  return lseek(fd, (off_t)*ret_at, SEEK_SET) >= 0 || fail(error, "cannot write %s: %s", fetch->part, g_strerror(errno));
}

static gboolean copy(GTask *task, Fetch *fetch, GInputStream *in, int fd, guint64 at, guint64 total,
                     GCancellable *cancellable, GError **error) {
  g_autofree guint8 *chunk = g_malloc(1 << 17);
  gint64 told = 0;
  guint64 limit = total ? total : MAX_BYTES;
  gssize n;
  g_autoptr(GError) why = NULL;
  while ((n = g_input_stream_read(in, chunk, 1 << 17, cancellable, &why)) > 0) {
    if (at + (guint64)n > limit)
      return fail(error,
                  "the server sent more than the %" G_GUINT64_FORMAT " bytes it announced for %s; fetch again later",
                  limit, fetch->name);
    if (!write_all(fd, chunk, (gsize)n, fetch, error))
      return FALSE;
    at += (guint64)n;
    if (g_get_monotonic_time() - told > PROGRESS_US) {
      told = g_get_monotonic_time();
      tell(task, fetch, at, total);
    }
  }
  if (why && g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
  }
  if (n < 0 || (total && at < total))
    return fail(error,
                "the connection broke after %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                " bytes of %s%s%s; fetch again: it goes on there",
                at, total, fetch->name, why ? ": " : "", why ? why->message : "");
  tell(task, fetch, at, total ? total : at);
  return TRUE;
}

static gboolean download(GTask *task, Fetch *fetch, int fd, GCancellable *cancellable, GError **error) {
  struct stat info = {0};
  g_autoptr(SoupSession) session = soup_session_new_with_options("timeout", STALL_S, "user-agent", "choir", NULL);
  g_autoptr(SoupMessage) message = soup_message_new("GET", fetch->url);
  if (!message)
    return fail(error, "the url of %s is not valid: %s", fetch->name, fetch->url);
  fstat(fd, &info);
  guint64 have = (guint64)info.st_size;
  if (fetch->listed && have == fetch->listed)
    return TRUE; /* only its hash was still to be checked */
  if (have > 0)
    soup_message_headers_set_range(soup_message_get_request_headers(message), (goffset)have, -1);
  g_autoptr(GError) why = NULL;
  g_autoptr(GInputStream) in = soup_session_send(session, message, cancellable, &why);
  if (!in && g_error_matches(why, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
  }
  if (!in)
    return fail(error, "cannot fetch %s: %s; fetch again to go on where it stopped", fetch->name, why->message);
  if (soup_message_get_status(message) == 416 && have > 0)
    return TRUE; /* nothing behind what we have: the hash decides */
  guint64 at = 0, total = 0;
  return place(fd, message, have, fetch, &at, &total, error) &&
         copy(task, fetch, in, fd, at, total, cancellable, error);
}

static gboolean check(Fetch *fetch, GCancellable *cancellable, GError **error) {
  char magic[4] = {0};
  int fd = open(fetch->part, O_RDONLY | O_CLOEXEC);
  gboolean gguf = fd >= 0 && read(fd, magic, 4) == 4 && memcmp(magic, "GGUF", 4) == 0;
  if (fd >= 0)
    close(fd);
  fetch->found = choir_models_sha256(fetch->part, cancellable, error);
  if (!fetch->found)
    return FALSE;
  gboolean right = fetch->sha256 ? strcmp(fetch->sha256, fetch->found) == 0 : gguf;
  if (right)
    return TRUE;
  /* A whole but wrong file would be taken up again for ever. */
  unlink(fetch->part);
  g_set_error(
      error, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_HASH,
      gguf ? "what came for %s has sha256 %s, not the expected one; it was thrown away, check the url in the model list"
           : "what came for %s (sha256 %s) is not a GGUF model; it was thrown away, check the url in the model list",
      fetch->name, fetch->found);
  return FALSE;
}

static void run(GTask *task, gpointer source, gpointer data, GCancellable *cancellable) {
  Fetch *fetch = data;
  GError *error = NULL;
  g_autofree char *folder = g_path_get_dirname(fetch->path);
  int fd = -1;
  if (g_mkdir_with_parents(folder, 0755) < 0 || (fd = open(fetch->part, O_RDWR | O_CREAT | O_CLOEXEC, 0644)) < 0)
    fail(&error, "cannot write %s: %s", fetch->part, g_strerror(errno));
  if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
    fail(&error, "%s is being fetched already", fetch->name);
    close(fd);
    fd = -1;
  }
  gboolean ok = fd >= 0 && download(task, fetch, fd, cancellable, &error);
  if (ok && fsync(fd) != 0)
    ok = fail(&error, "cannot write %s: %s", fetch->part, g_strerror(errno));
  if (fd >= 0)
    close(fd);
  ok = ok && check(fetch, cancellable, &error);
  if (ok && rename(fetch->part, fetch->path) != 0)
    ok = fail(&error, "cannot rename %s: %s", fetch->part, g_strerror(errno));
  if (ok)
    g_task_return_boolean(task, TRUE);
  else
    g_task_return_error(task, error);
}

void choir_models_fetch(ChoirModels *models, const char *name,
                        void (*progress)(guint64 done, guint64 total, gpointer user), GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer user) {
  g_autoptr(GTask) task = g_task_new(NULL, cancellable, callback, user);
  const ChoirModel *model = choir_models_find(models, name);
  if (!model) {
    g_task_return_new_error(task, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_UNKNOWN,
                            "there is no model '%s'; 'choir models list' shows them", name);
    return;
  }
  if (!model->url) {
    g_task_return_new_error(task, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_FETCH,
                            "%s has no url: it comes with ./run --setup-only", name);
    return;
  }
  Fetch *fetch = g_new0(Fetch, 1);
  fetch->models = models;
  fetch->name = g_strdup(name);
  fetch->url = g_strdup(model->url);
  fetch->path = g_strdup(model->path);
  fetch->part = g_strconcat(model->path, ".part", NULL);
  fetch->sha256 = g_strdup(choir_models_hash(models, model));
  fetch->listed = model->verified ? model->bytes : 0;
  fetch->progress = progress;
  fetch->user = user;
  fetch->context = g_main_context_ref_thread_default();
  g_task_set_task_data(task, fetch, fetch_free);
  g_task_set_return_on_cancel(task, FALSE);
  g_task_run_in_thread(task, run);
}

gboolean choir_models_fetch_finish(ChoirModels *models, GAsyncResult *result, GError **error) {
  GTask *task = G_TASK(result);
  Fetch *fetch = g_task_get_task_data(task);
  if (!g_task_propagate_boolean(task, error))
    return FALSE;
  if (fetch->sha256)
    return TRUE;
  g_hash_table_insert(models->hashes, g_strdup(fetch->name), g_strdup(fetch->found));
  return choir_models_save(models, error);
}
