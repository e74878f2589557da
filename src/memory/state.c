/* Saved states: saved_states/NAME in the original's layout (long_term_memory.faiss, long_term_memory.json: {"0": text},
 * short_term_memory.json: ["User: ..","Assistant: .."]) with ours beside it (facts.jsonl, state.json). A folder without
 * state.json is the original's own. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "memory/facts_private.h"
#include "memory/memory_private.h"

#define VERSION 1
#define NAME_MAX_LENGTH 64
#define FILE_MAX (256u << 20)
#define SHORT_MAX 10000 /* entries */

static const char *const files[] = {"facts.jsonl", "long_term_memory.json", "short_term_memory.json"};

gboolean choir_memory_state_name_ok(const char *name) {
  gsize n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
  return n > 0 && n <= NAME_MAX_LENGTH && name[n] == '\0' && name[0] != '.' && !strstr(name, "..");
}

static gboolean fail(GError **error, const char *what, const char *why) {
  g_set_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_WRITE, "%s: %s", what, why);
  return FALSE;
}

static void remove_folder(const char *path) {
  GDir *dir = g_dir_open(path, 0, NULL);
  for (const char *name; dir && (name = g_dir_read_name(dir));) {
    g_autofree char *file = g_build_filename(path, name, NULL);
    g_unlink(file);
  }
  if (dir)
    g_dir_close(dir);
  g_rmdir(path);
}

static gboolean sync_folder(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  gboolean done = fd >= 0 && fsync(fd) == 0;
  if (fd >= 0)
    close(fd);
  return done;
}

static gboolean write_file(const char *folder, const char *name, const char *text, json_t *sums, GError **error) {
  g_autofree char *path = g_build_filename(folder, name, NULL);
  g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
  if (sums)
    json_object_set_new(sums, name, json_string(sum));
  return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                  error);
}

/* The original's object of numbers and texts. */
static char *texts_json(ChoirFacts *facts, GError **error) {
  json_auto_t *list = choir_facts_list(facts, 0, FALSE, error);
  if (!list)
    return NULL;
  json_auto_t *texts = json_object();
  gsize n = json_array_size(list);
  for (gsize i = 0; i < n; i++) {
    g_autofree char *key = g_strdup_printf("%zu", i);
    json_object_set(texts, key, json_object_get(json_array_get(list, n - 1 - i), "text"));
  }
  return json_dumps(texts, JSON_INDENT(1));
}

static gboolean write_all(ChoirFacts *facts, const char *folder, const json_t *short_term, GError **error) {
  json_auto_t *sums = json_object();
  g_autofree char *lines = choir_facts_export(facts, error);
  g_autofree char *texts = lines ? texts_json(facts, error) : NULL;
  g_autofree char *said = json_dumps(short_term, JSON_INDENT(1));
  g_autofree char *index = g_build_filename(folder, "long_term_memory.faiss", NULL);
  if (!texts || !write_file(folder, files[0], lines, sums, error) ||
      !write_file(folder, files[1], texts, sums, error) ||
      !write_file(folder, files[2], said ? said : "[]", sums, error))
    return FALSE;
  ChoirIndex *vectors = choir_facts_index(facts);
  if (vectors && !choir_index_save(vectors, index, error))
    return FALSE;
  json_auto_t *state =
      json_pack("{s:s,s:i,s:f,s:i,s:O}", "format", "choir-state", "version", VERSION, "saved",
                (double)g_get_real_time() / G_USEC_PER_SEC, "facts", (int)choir_facts_count(facts), "sha256", sums);
  g_autofree char *text = json_dumps(state, JSON_INDENT(1));
  return write_file(folder, "state.json", text, NULL, error);
}

/* A kernel or file system without an exchange: where it ended in between, the old one stands aside. */
static void bring_back(const char *path) {
  g_autofree char *old = g_strconcat(path, ".old~", NULL);
  if (!g_file_test(path, G_FILE_TEST_EXISTS))
    (void)g_rename(old, path);
  else
    remove_folder(old);
}

static gboolean move_in(const char *fresh, const char *path) {
  g_autofree char *old = g_strconcat(path, ".old~", NULL);
  if (!g_file_test(path, G_FILE_TEST_EXISTS))
    return g_rename(fresh, path) == 0;
  if (renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
    return TRUE;
  if (g_rename(path, old) != 0)
    return FALSE;
  if (g_rename(fresh, path) == 0)
    return TRUE;
  int code = errno;
  (void)g_rename(old, path);
  errno = code;
  return FALSE;
}

/* A whole folder takes the old one's place: at every moment there is one under its name. */
static gboolean put_in_place(const char *fresh, const char *path, GError **error) {
  g_autofree char *above = g_path_get_dirname(path);
  if (!sync_folder(fresh) || !move_in(fresh, path) || !sync_folder(above))
    return fail(error, path, g_strerror(errno));
  bring_back(path);
  remove_folder(fresh);
  return TRUE;
}

json_t *choir_state_save(ChoirFacts *facts, const char *folder, const char *name, const json_t *short_term,
                         GError **error) {
  g_autofree char *path = g_build_filename(folder, "saved_states", name, NULL);
  g_autofree char *fresh = g_strconcat(path, ".new~", NULL);
  bring_back(path);
  remove_folder(fresh);
  if (g_mkdir_with_parents(fresh, 0700) != 0) {
    fail(error, fresh, g_strerror(errno));
    return NULL;
  }
  if (write_all(facts, fresh, short_term, error) && put_in_place(fresh, path, error))
    return json_pack("{s:i}", "facts", (int)choir_facts_count(facts));
  remove_folder(fresh);
  return NULL;
}

static char *read_file(const char *folder, const char *name, GError **error) {
  g_autofree char *path = g_build_filename(folder, name, NULL);
  g_autofree char *text = NULL;
  gsize length;
  GStatBuf status;
  if (g_stat(path, &status) == 0 && status.st_size > FILE_MAX)
    fail(error, name, "it is larger than 256 MB");
  else if (g_file_get_contents(path, &text, &length, error)) {
    if (strlen(text) == length)
      return g_steal_pointer(&text);
    fail(error, name, "it is damaged");
  }
  return NULL;
}

static gboolean check_sums(const char *folder, const json_t *state, GError **error) {
  for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
    g_autofree char *text = read_file(folder, files[i], error);
    if (!text)
      return FALSE;
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    if (!g_str_equal(sum, choir_json_string(json_object_get(state, "sha256"), files[i], "")))
      return fail(error, files[i], "it is damaged: its sha256 is not the one in state.json");
  }
  return TRUE;
}

/* TRUE: ours; FALSE without error: the original's. */
static gboolean is_ours(const char *folder, GError **error) {
  g_autofree char *path = g_build_filename(folder, "state.json", NULL);
  if (!g_file_test(path, G_FILE_TEST_EXISTS))
    return FALSE;
  g_autofree char *text = read_file(folder, "state.json", error);
  json_auto_t *state = text ? choir_json_parse(text, strlen(text), error) : NULL;
  if (!state)
    return FALSE;
  gint64 version = choir_json_int(state, "version", 0);
  if (!g_str_equal(choir_json_string(state, "format", ""), "choir-state") || version < 1)
    return fail(error, "state.json", "it is no saved state");
  if (version > VERSION)
    return fail(error, "state.json", "it was saved by a newer Choir; update this one");
  return check_sums(folder, state, error);
}

/* The original's texts as lines of ours. */
static char *lines_of_original(const char *folder, GError **error) {
  g_autofree char *text = read_file(folder, "long_term_memory.json", error);
  json_auto_t *root = text ? choir_json_parse(text, strlen(text), error) : NULL;
  if (root && !json_is_object(root))
    fail(error, "long_term_memory.json", "it is no object of numbers and texts");
  if (!json_is_object(root))
    return NULL;
  GString *lines = g_string_new(NULL);
  const char *key;
  json_t *value;
  json_object_foreach(root, key, value) {
    if (!json_is_string(value)) {
      fail(error, "long_term_memory.json", "it holds something else than texts");
      g_string_free(lines, TRUE);
      return NULL;
    }
    g_autofree char *cut = g_utf8_substring(json_string_value(value), 0,
                                            MIN(CHOIR_FACTS_TEXT_MAX, g_utf8_strlen(json_string_value(value), -1)));
    json_auto_t *row = json_pack("{s:s,s:s,s:b}", "text", cut, "source", "old state", "tainted", 1);
    g_autofree char *line = choir_json_dump(row);
    if (*cut)
      g_string_append_printf(lines, "%s\n", line);
  }
  return g_string_free(lines, FALSE);
}

static json_t *read_short_term(const char *folder, GError **error) {
  g_autofree char *path = g_build_filename(folder, "short_term_memory.json", NULL);
  if (!g_file_test(path, G_FILE_TEST_EXISTS))
    return json_array();
  g_autofree char *text = read_file(folder, "short_term_memory.json", error);
  json_t *list = text ? choir_json_parse(text, strlen(text), error) : NULL;
  gboolean good = json_is_array(list) && json_array_size(list) <= SHORT_MAX;
  for (gsize i = 0; good && i < json_array_size(list); i++)
    good = json_is_string(json_array_get(list, i));
  if (list && !good) {
    fail(error, "short_term_memory.json", "it is no list of texts");
    json_decref(list);
    return NULL;
  }
  return list;
}

json_t *choir_state_load(ChoirFacts *facts, const char *folder, const char *name, GError **error) {
  g_autofree char *path = g_build_filename(folder, "saved_states", name, NULL);
  g_autoptr(GError) why = NULL;
  bring_back(path);
  if (!g_file_test(path, G_FILE_TEST_IS_DIR)) {
    g_set_error(error, CHOIR_FACTS_ERROR, CHOIR_FACTS_ERROR_NOT_FOUND, "Error: Save state '%s' not found.", name);
    return NULL;
  }
  gboolean ours = is_ours(path, &why);
  g_autofree char *lines = why ? NULL : ours ? read_file(path, "facts.jsonl", &why) : lines_of_original(path, &why);
  json_auto_t *short_term = lines ? read_short_term(path, &why) : NULL;
  if (!short_term || !choir_facts_replace(facts, lines, &why)) {
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
  }
  return json_pack("{s:i,s:O}", "facts", (int)choir_facts_count(facts), "short_term", short_term);
}
