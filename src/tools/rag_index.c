#include "tools/rag_index.h"
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <sqlite3.h>
#include "agent/tool.h"
#include "base/text.h"
#include "tools/rag_text.h"

#define FILE_BYTES_MAX (1u << 20)
#define FILES_MAX 2000
#define CHUNKS_MAX 20000
#define DEPTH_MAX 8
#define WORDS_MAX 24 /* of a query */
#define PIECES_PER_FILE 1
#define RANK_OFFSET 60 /* Cormack, Clarke, Buettcher: Reciprocal rank fusion (2009) */

struct RagIndex {
  char *path, *source_dir;
  GMutex lock;
  sqlite3 *db;
  guint left_out;
};

typedef sqlite3_stmt Statement;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Statement, sqlite3_finalize)

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS roots(path TEXT PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS settings(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS files(id INTEGER PRIMARY KEY, path TEXT NOT NULL, root TEXT NOT NULL, source TEXT NOT "
    "NULL, mtime INTEGER NOT NULL, size INTEGER NOT NULL, seen INTEGER NOT NULL, UNIQUE(path, root));"
    "CREATE TABLE IF NOT EXISTS chunks(id INTEGER PRIMARY KEY, file INTEGER NOT NULL, heading TEXT NOT NULL, text TEXT "
    "NOT NULL, embedding BLOB);"
    "CREATE INDEX IF NOT EXISTS chunks_by_file ON chunks(file);"
    "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(source, heading, text, tokenize='porter unicode61');";

void rag_hit_free(RagHit *hit) {
  if (!hit)
    return;
  g_free(hit->source);
  g_free(hit->heading);
  g_free(hit->text);
  g_free(hit);
}

RagIndex *rag_index_new(const char *path, const char *source_dir) {
  RagIndex *index = g_atomic_rc_box_new0(RagIndex);
  index->path = g_strdup(path);
  index->source_dir = g_strdup(source_dir);
  g_mutex_init(&index->lock);
  return index;
}

static void clear(gpointer data) {
  RagIndex *index = data;
  sqlite3_close(index->db);
  g_mutex_clear(&index->lock);
  g_free(index->path);
  g_free(index->source_dir);
}

RagIndex *rag_index_ref(RagIndex *index) {
  return g_atomic_rc_box_acquire(index);
}

void rag_index_unref(RagIndex *index) {
  if (index)
    g_atomic_rc_box_release_full(index, clear);
}

static gboolean broken(RagIndex *index, GError **error) {
  g_set_error(error, CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED,
              "the index of the documents cannot be used (%s); remove the file %s, it is made anew",
              index->db ? sqlite3_errmsg(index->db) : "no memory", index->path);
  return FALSE;
}

static gboolean run(RagIndex *index, const char *sql, GError **error) {
  return sqlite3_exec(index->db, sql, NULL, NULL, NULL) == SQLITE_OK || broken(index, error);
}

static gboolean ensure(RagIndex *index, GError **error) {
  if (index->db)
    return TRUE;
  /* The file holds copies of documents: nobody else's business. */
  int fd = open(index->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0)
    close(fd);
  gboolean ok =
      sqlite3_open_v2(index->path, &index->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL) == SQLITE_OK &&
      run(index, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-1024", error) &&
      run(index, schema, error);
  if (ok)
    return TRUE;
  if (error && !*error)
    broken(index, error);
  sqlite3_close(g_steal_pointer(&index->db));
  return FALSE;
}

static Statement *prepare(RagIndex *index, const char *sql, GError **error) {
  Statement *statement = NULL;
  if (sqlite3_prepare_v2(index->db, sql, -1, &statement, NULL) != SQLITE_OK)
    broken(index, error);
  return statement;
}

static void bind(Statement *statement, int at, const char *text) {
  sqlite3_bind_text(statement, at, text, -1, SQLITE_TRANSIENT);
}

static gboolean step(RagIndex *index, Statement *statement, GError **error) {
  return sqlite3_step(statement) == SQLITE_DONE || broken(index, error);
}

static const char *column(Statement *statement, int at) {
  const char *text = (const char *)sqlite3_column_text(statement, at);
  return text ? text : "";
}

static gint64 count(RagIndex *index, const char *sql) {
  g_autoptr(Statement) statement = prepare(index, sql, NULL);
  return statement && sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
}

/* Reading */

static gboolean is_document(const char *name) {
  static const char *const endings[] = {".md", ".txt", ".html", ".htm", NULL};
  g_autofree char *lower = g_ascii_strdown(name, -1);
  for (guint i = 0; endings[i]; i++)
    if (name[0] != '.' && g_str_has_suffix(lower, endings[i]))
      return TRUE;
  return FALSE;
}

/* NULL when it is no plain file any more, or too large. No link is followed: it may lead out of the folder. */
static char *read_document(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat status;
  g_autoptr(GString) bytes = g_string_new(NULL);
  char buffer[16384];
  if (fd < 0)
    return NULL;
  gboolean ok = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  for (ssize_t n; ok && (n = read(fd, buffer, sizeof buffer)) != 0;) {
    ok = n > 0 && bytes->len + (gsize)n <= FILE_BYTES_MAX;
    if (ok)
      g_string_append_len(bytes, buffer, n);
  }
  close(fd);
  if (!ok)
    return NULL;
  char *text = choir_utf8(bytes->str, (gssize)bytes->len);
  if (!g_str_has_suffix(path, ".md") && !g_str_has_suffix(path, ".txt")) {
    char *plain = rag_text_from_html(text);
    g_free(text);
    text = plain;
  }
  return text;
}

static gboolean forget(RagIndex *index, gint64 file, GError **error) {
  g_autofree char *sql = g_strdup_printf("DELETE FROM words WHERE rowid IN (SELECT id FROM chunks WHERE file = "
                                         "%" G_GINT64_FORMAT "); DELETE FROM chunks WHERE file = %" G_GINT64_FORMAT,
                                         file, file);
  return run(index, sql, error);
}

static gboolean store(RagIndex *index, gint64 file, const char *source, const char *text, GError **error) {
  g_autoptr(GPtrArray) chunks = rag_text_chunks(text);
  g_autoptr(Statement) row = prepare(index, "INSERT INTO chunks(file, heading, text) VALUES(?1, ?2, ?3)", error);
  g_autoptr(Statement) words =
      prepare(index, "INSERT INTO words(rowid, source, heading, text) VALUES(last_insert_rowid(), ?1, ?2, ?3)", error);
  if (!row || !words)
    return FALSE;
  for (guint i = 0; i < chunks->len; i++) {
    const RagChunk *chunk = chunks->pdata[i];
    sqlite3_reset(row);
    sqlite3_reset(words);
    sqlite3_bind_int64(row, 1, file);
    bind(row, 2, chunk->heading);
    bind(row, 3, chunk->text);
    bind(words, 1, source);
    bind(words, 2, chunk->heading);
    bind(words, 3, chunk->text);
    if (!step(index, row, error) || !step(index, words, error))
      return FALSE;
  }
  return TRUE;
}

typedef struct {
  RagIndex *index;
  const char *root; /* "project", or the added path */
  const char *base; /* paths are shown from here; NULL = whole */
  GCancellable *cancellable;
  guint files;
} Walk;

static gint64 known(Walk *walk, const char *path, const struct stat *status, gboolean *ret_same) {
  g_autoptr(Statement) statement =
      prepare(walk->index, "SELECT id, mtime, size FROM files WHERE path = ?1 AND root = ?2", NULL);
  *ret_same = FALSE;
  if (!statement)
    return 0;
  bind(statement, 1, path);
  bind(statement, 2, walk->root);
  if (sqlite3_step(statement) != SQLITE_ROW)
    return 0;
  gint64 mtime = status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
  *ret_same = sqlite3_column_int64(statement, 1) == mtime && sqlite3_column_int64(statement, 2) == status->st_size;
  return sqlite3_column_int64(statement, 0);
}

static gboolean take_file(Walk *walk, const char *path, const struct stat *status, GError **error) {
  RagIndex *index = walk->index;
  gboolean same;
  gint64 id = known(walk, path, status, &same);
  walk->files++;
  if (same) {
    g_autofree char *sql = g_strdup_printf("UPDATE files SET seen = 1 WHERE id = %" G_GINT64_FORMAT, id);
    return run(index, sql, error);
  }
  g_autofree char *text = status->st_size <= (off_t)FILE_BYTES_MAX ? read_document(path) : NULL;
  if (!text || count(index, "SELECT count(*) FROM files") >= FILES_MAX ||
      count(index, "SELECT count(*) FROM chunks") >= CHUNKS_MAX) {
    index->left_out++;
    walk->files--;
    return TRUE;
  }
  const char *source = walk->base ? path + strlen(walk->base) + 1 : path;
  g_autoptr(Statement) row = prepare(
      index,
      "INSERT INTO files(path, root, source, mtime, size, seen) VALUES(?1, ?2, ?3, ?4, ?5, 1) ON CONFLICT(path, "
      "root) DO UPDATE SET mtime = ?4, size = ?5, seen = 1 RETURNING id",
      error);
  if (!row)
    return FALSE;
  bind(row, 1, path);
  bind(row, 2, walk->root);
  bind(row, 3, source);
  sqlite3_bind_int64(row, 4, status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec);
  sqlite3_bind_int64(row, 5, status->st_size);
  if (sqlite3_step(row) != SQLITE_ROW)
    return broken(index, error);
  id = sqlite3_column_int64(row, 0);
  sqlite3_reset(row);
  return forget(index, id, error) && store(index, id, source, text, error);
}

static gboolean take(Walk *walk, const char *path, guint depth, gboolean deep, GError **error) {
  struct stat status;
  if (g_cancellable_set_error_if_cancelled(walk->cancellable, error))
    return FALSE;
  if (lstat(path, &status) != 0)
    return TRUE;
  g_autofree char *name = g_path_get_basename(path);
  if (S_ISREG(status.st_mode))
    return !is_document(name) || take_file(walk, path, &status, error);
  if (!S_ISDIR(status.st_mode) || depth > DEPTH_MAX || (depth > 0 && (!deep || name[0] == '.')))
    return TRUE;
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  for (const char *entry; dir && (entry = g_dir_read_name(dir));) {
    g_autofree char *inner = g_build_filename(path, entry, NULL);
    if (entry[0] != '.' && !take(walk, inner, depth + 1, deep, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean read_project(RagIndex *index, GCancellable *cancellable, GError **error) {
  Walk walk = {.index = index, .root = "project", .base = index->source_dir, .cancellable = cancellable};
  g_autofree char *docs = g_build_filename(index->source_dir, "docs", NULL);
  return !*index->source_dir || (take(&walk, index->source_dir, 0, FALSE, error) && take(&walk, docs, 0, TRUE, error));
}

static gboolean read_roots(RagIndex *index, GCancellable *cancellable, GError **error) {
  g_autoptr(GPtrArray) roots = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(Statement) statement = prepare(index, "SELECT path FROM roots", error);
  if (!statement)
    return FALSE;
  while (sqlite3_step(statement) == SQLITE_ROW)
    g_ptr_array_add(roots, g_strdup(column(statement, 0)));
  sqlite3_reset(statement);
  for (guint i = 0; i < roots->len; i++) {
    Walk walk = {.index = index, .root = roots->pdata[i], .cancellable = cancellable};
    if (!take(&walk, walk.root, 0, TRUE, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean refresh(RagIndex *index, GCancellable *cancellable, GError **error) {
  index->left_out = 0;
  if (!run(index, "BEGIN IMMEDIATE; UPDATE files SET seen = 0", error))
    return FALSE;
  gboolean ok = read_project(index, cancellable, error) && read_roots(index, cancellable, error) &&
                run(index,
                    "DELETE FROM words WHERE rowid IN (SELECT c.id FROM chunks c JOIN files f ON f.id = c.file WHERE "
                    "f.seen = 0); DELETE FROM chunks WHERE file IN (SELECT id FROM files WHERE seen = 0); DELETE FROM "
                    "files WHERE seen = 0; COMMIT",
                    error);
  if (!ok)
    sqlite3_exec(index->db, "ROLLBACK", NULL, NULL, NULL);
  return ok;
}

gboolean rag_index_refresh(RagIndex *index, GCancellable *cancellable, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  return ensure(index, error) && refresh(index, cancellable, error);
}

static gint64 count_root(RagIndex *index, const char *path) {
  g_autoptr(Statement) statement = prepare(index, "SELECT count(*) FROM files WHERE root = ?1", NULL);
  if (!statement)
    return 0;
  bind(statement, 1, path);
  return sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
}

gboolean rag_index_add(RagIndex *index, const char *path, guint *ret_files, GCancellable *cancellable, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  if (!ensure(index, error))
    return FALSE;
  g_autoptr(Statement) statement = prepare(index, "INSERT OR IGNORE INTO roots VALUES(?1)", error);
  if (!statement)
    return FALSE;
  bind(statement, 1, path);
  if (!step(index, statement, error) || !refresh(index, cancellable, error))
    return FALSE;
  *ret_files = (guint)count_root(index, path);
  if (*ret_files > 0)
    return TRUE;
  g_autoptr(Statement) gone = prepare(index, "DELETE FROM roots WHERE path = ?1", NULL);
  if (gone) {
    bind(gone, 1, path);
    sqlite3_step(gone);
  }
  g_set_error(error, CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED,
              "%s holds no document that can be read: .md, .txt or .html files of at most 1 MB", path);
  return FALSE;
}

/* Scope */

char *rag_index_scope(RagIndex *index, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  if (!ensure(index, error))
    return NULL;
  g_autoptr(Statement) statement = prepare(index, "SELECT value FROM settings WHERE key = 'scope'", error);
  if (!statement)
    return NULL;
  return g_strdup(sqlite3_step(statement) == SQLITE_ROW ? column(statement, 0) : "all");
}

gboolean rag_index_set_scope(RagIndex *index, const char *scope, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  if (!ensure(index, error))
    return FALSE;
  if (!g_str_equal(scope, "all") && !g_str_equal(scope, "project")) {
    g_autoptr(Statement) statement = prepare(index, "SELECT 1 FROM roots WHERE path = ?1", error);
    if (!statement)
      return FALSE;
    bind(statement, 1, scope);
    if (sqlite3_step(statement) != SQLITE_ROW) {
      g_set_error(error, CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED,
                  "%s was not added; the scope is all, project, or a folder that add_folder added", scope);
      return FALSE;
    }
  }
  g_autoptr(Statement) row = prepare(index, "INSERT OR REPLACE INTO settings VALUES('scope', ?1)", error);
  if (!row)
    return FALSE;
  bind(row, 1, scope);
  return step(index, row, error);
}

/* Searching */

#define IN_SCOPE "(?2 = 'all' OR f.root = ?2)"

/* Words of questions. Terse documents hardly contain them, so BM25 would take them for rare and telling. */
static gboolean is_function_word(const char *word, gsize length) {
  static const char *const words[] = {
      "a",      "about",   "after",   "all",    "am",    "an",    "and",    "any",   "are",   "as",     "at",
      "be",     "because", "been",    "before", "but",   "by",    "can",    "could", "did",   "do",     "does",
      "during", "for",     "from",    "had",    "has",   "have",  "he",     "her",   "him",   "his",    "how",
      "i",      "if",      "in",      "into",   "is",    "it",    "its",    "just",  "many",  "may",    "me",
      "much",   "my",      "of",      "on",     "or",    "our",   "please", "say",   "she",   "should", "so",
      "some",   "tell",    "than",    "that",   "the",   "their", "them",   "then",  "there", "these",  "they",
      "this",   "those",   "through", "to",     "until", "us",    "was",    "we",    "were",  "what",   "when",
      "where",  "which",   "while",   "who",    "whose", "why",   "will",   "with",  "would", "you",    "your"};
  for (guint i = 0; i < G_N_ELEMENTS(words); i++)
    if (strlen(words[i]) == length && strncmp(words[i], word, length) == 0)
      return TRUE;
  return FALSE;
}

/* "'s", "'t", "'ll" of a question stand in every document that shortens anything. */
static gboolean is_shortened(const char *text, const char *word, gsize length) {
  const char *mark = word > text ? g_utf8_prev_char(word) : NULL;
  gunichar c = mark ? g_utf8_get_char(mark) : 0;
  return length <= 2 && mark > text && (c == '\'' || c == 0x2019) &&
         g_unichar_isalnum(g_utf8_get_char(g_utf8_prev_char(mark)));
}

/* The words of a question that say something, in small letters. */
static GPtrArray *telling_words(const char *query) {
  GPtrArray *words = g_ptr_array_new_with_free_func(g_free);
  g_autofree char *lower = g_utf8_strdown(query, -1);
  for (const char *at = lower; *at && words->len < WORDS_MAX;) {
    const char *end = at;
    while (*end && g_unichar_isalnum(g_utf8_get_char(end)))
      end = g_utf8_next_char(end);
    gsize length = (gsize)(end - at);
    if (length > 0 && !is_function_word(at, length) && !is_shortened(lower, at, length))
      g_ptr_array_add(words, g_strndup(at, length));
    at = length > 0 ? end : g_utf8_next_char(at);
  }
  return words;
}

/* Any of the words: BM25 then puts first what has the rare ones. */
static char *match_of(const char *query) {
  g_autoptr(GString) match = g_string_new(NULL);
  g_autoptr(GPtrArray) words = telling_words(query);
  for (guint i = 0; i < words->len; i++)
    g_string_append_printf(match, "%s\"%s\"", i ? " OR " : "", (const char *)words->pdata[i]);
  return g_string_free(g_steal_pointer(&match), FALSE);
}

static char *scope_of(RagIndex *index) {
  g_autoptr(Statement) statement = prepare(index, "SELECT value FROM settings WHERE key = 'scope'", NULL);
  return g_strdup(statement && sqlite3_step(statement) == SQLITE_ROW ? column(statement, 0) : "all");
}

static RagHit *hit_of(Statement *statement) {
  RagHit *hit = g_new0(RagHit, 1);
  hit->id = sqlite3_column_int64(statement, 0);
  hit->source = g_strdup(column(statement, 1));
  hit->heading = g_strdup(column(statement, 2));
  hit->text = g_strdup(column(statement, 3));
  hit->own = g_str_equal(column(statement, 4), "project");
  return hit;
}

GPtrArray *rag_index_words(RagIndex *index, const char *query, guint most, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  g_autoptr(GPtrArray) hits = g_ptr_array_new_with_free_func((GDestroyNotify)rag_hit_free);
  g_autofree char *match = match_of(query);
  if (!*match)
    return g_steal_pointer(&hits);
  if (!ensure(index, error))
    return NULL;
  g_autofree char *scope = scope_of(index);
  g_autoptr(Statement) statement = prepare(
      index,
      "SELECT c.id, f.source, c.heading, c.text, f.root FROM words w JOIN chunks c ON c.id = w.rowid JOIN files "
      "f ON f.id = c.file WHERE words MATCH ?1 AND " IN_SCOPE " ORDER BY bm25(words, 2.0, 4.0, 1.0) LIMIT ?3",
      error);
  if (!statement)
    return NULL;
  bind(statement, 1, match);
  bind(statement, 2, scope);
  sqlite3_bind_int(statement, 3, (int)most);
  int result;
  while ((result = sqlite3_step(statement)) == SQLITE_ROW)
    g_ptr_array_add(hits, hit_of(statement));
  if (result != SQLITE_DONE) {
    broken(index, error);
    return NULL;
  }
  return g_steal_pointer(&hits);
}

gboolean rag_index_knows(RagIndex *index, const char *query, guint *ret_known, guint *ret_words, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  g_autoptr(GPtrArray) words = telling_words(query);
  g_autofree char *scope = ensure(index, error) ? scope_of(index) : NULL;
  g_autoptr(Statement) statement =
      scope ? prepare(index,
                      "SELECT 1 FROM words w JOIN chunks c ON c.id = w.rowid JOIN files f ON f.id = c.file WHERE "
                      "words MATCH ?1 AND " IN_SCOPE " LIMIT 1",
                      error)
            : NULL;
  if (!statement)
    return FALSE;
  *ret_known = 0;
  *ret_words = words->len;
  for (guint i = 0; i < words->len; i++) {
    g_autofree char *match = g_strdup_printf("\"%s\"", (const char *)words->pdata[i]);
    sqlite3_reset(statement);
    bind(statement, 1, match);
    bind(statement, 2, scope);
    *ret_known += sqlite3_step(statement) == SQLITE_ROW;
  }
  return TRUE;
}

static gint by_score(gconstpointer a, gconstpointer b) {
  double x = (*(RagHit *const *)a)->score, y = (*(RagHit *const *)b)->score;
  return x > y ? -1 : x < y;
}

GPtrArray *rag_index_near(RagIndex *index, const float *query, guint most, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  g_autoptr(GPtrArray) hits = g_ptr_array_new_with_free_func((GDestroyNotify)rag_hit_free);
  if (!ensure(index, error))
    return NULL;
  g_autofree char *scope = scope_of(index);
  g_autoptr(Statement) statement =
      prepare(index,
              "SELECT c.id, f.source, c.heading, c.text, f.root, c.embedding FROM chunks c JOIN files f ON f.id = "
              "c.file WHERE c.embedding IS NOT NULL AND length(c.embedding) = ?1 AND " IN_SCOPE,
              error);
  if (!statement)
    return NULL;
  sqlite3_bind_int(statement, 1, RAG_DIMENSIONS * (int)sizeof(float));
  bind(statement, 2, scope);
  while (sqlite3_step(statement) == SQLITE_ROW) {
    float vector[RAG_DIMENSIONS];
    double dot = 0, length = 0;
    memcpy(vector, sqlite3_column_blob(statement, 5), sizeof vector);
    for (guint i = 0; i < RAG_DIMENSIONS; i++) {
      dot += (double)vector[i] * (double)query[i];
      length += (double)vector[i] * (double)vector[i];
    }
    RagHit *hit = hit_of(statement);
    hit->score = hit->like = length > 0 ? dot / sqrt(length) : 0;
    g_ptr_array_add(hits, hit);
    if (hits->len >= 4 * most) { /* bounded: the best so far */
      g_ptr_array_sort(hits, by_score);
      g_ptr_array_set_size(hits, (int)most);
    }
  }
  g_ptr_array_sort(hits, by_score);
  if (hits->len > most)
    g_ptr_array_set_size(hits, (int)most);
  return g_steal_pointer(&hits);
}

GPtrArray *rag_index_unknown(RagIndex *index, GPtrArray *hits, guint most, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  g_autoptr(GPtrArray) unknown = g_ptr_array_new();
  g_autoptr(Statement) statement =
      ensure(index, error) ? prepare(index, "SELECT embedding IS NULL FROM chunks WHERE id = ?1", error) : NULL;
  if (!statement)
    return NULL;
  for (guint i = 0; i < hits->len && unknown->len < most; i++) {
    sqlite3_reset(statement);
    sqlite3_bind_int64(statement, 1, ((RagHit *)hits->pdata[i])->id);
    if (sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_int(statement, 0))
      g_ptr_array_add(unknown, hits->pdata[i]);
  }
  return g_steal_pointer(&unknown);
}

gboolean rag_index_learn(RagIndex *index, gint64 id, const float *vector, GError **error) {
  g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&index->lock);
  if (!ensure(index, error))
    return FALSE;
  g_autoptr(Statement) statement = prepare(index, "UPDATE chunks SET embedding = ?2 WHERE id = ?1", error);
  if (!statement)
    return FALSE;
  sqlite3_bind_int64(statement, 1, id);
  sqlite3_bind_blob(statement, 2, vector, RAG_DIMENSIONS * (int)sizeof(float), SQLITE_TRANSIENT);
  return step(index, statement, error);
}

guint rag_index_left_out(RagIndex *index) {
  return index->left_out;
}

GPtrArray *rag_index_fuse(GPtrArray *a, GPtrArray *b, guint most) {
  GPtrArray *lists[] = {a, b}, *fused = g_ptr_array_new();
  for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
    for (guint i = 0; lists[l] && i < lists[l]->len; i++)
      ((RagHit *)lists[l]->pdata[i])->score = 1.0 / (RANK_OFFSET + i + 1);
  for (guint l = 0; l < G_N_ELEMENTS(lists); l++)
    for (guint i = 0; lists[l] && i < lists[l]->len; i++) {
      RagHit *hit = lists[l]->pdata[i], *same = NULL;
      for (guint k = 0; k < fused->len && !same; k++)
        if (((RagHit *)fused->pdata[k])->id == hit->id)
          same = fused->pdata[k];
      if (same)
        same->score += hit->score;
      else
        g_ptr_array_add(fused, hit);
    }
  g_ptr_array_sort(fused, by_score);
  /* One long file with the word on every page would hide the file that answers. */
  for (guint i = 0; i < fused->len;) {
    guint before = 0;
    for (guint k = 0; k < i; k++)
      before += g_str_equal(((RagHit *)fused->pdata[k])->source, ((RagHit *)fused->pdata[i])->source);
    if (before >= PIECES_PER_FILE)
      g_ptr_array_remove_index(fused, i);
    else
      i++;
  }
  if (fused->len > most)
    g_ptr_array_set_size(fused, (int)most);
  return fused;
}
