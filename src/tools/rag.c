/* Answers from documents: the project's own and what a person added. Reading and searching happen in a thread;
 * embeddings refine what the words found where the agent has them. */
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "tools/boxed.h"
#include "tools/rag_index.h"
#include "tools/schema.h"
#include "tools/tools.h"

#define CANDIDATES 30
#define SHOWN 3
#define PASSAGE 300          /* bytes of the best passage that are said */
#define NEAR 0.40            /* cosine from which a piece answers without the question's words */
#define LEARNED_PER_SEARCH 8 /* embeddings of pieces that are made at once: a second each on an old machine */

typedef enum { JOB_SEARCH, JOB_ADD, JOB_SCOPE, JOB_FUSE } JobKind;

typedef struct {
  JobKind kind;
  ChoirToolCall *call;
  RagIndex *index;
  char *text; /* query, path or scope */
  GCancellable *cancellable;
  GPtrArray *words, *near, *unknown; /* RagHit*; unknown borrows from words */
  float *vectors;                    /* the query's, then those of unknown */
  guint files, known, said;          /* telling words of the query: in any document, all */
} Job;

static void job_free(Job *job) {
  g_clear_pointer(&job->unknown, g_ptr_array_unref);
  g_clear_pointer(&job->words, g_ptr_array_unref);
  g_clear_pointer(&job->near, g_ptr_array_unref);
  g_clear_object(&job->cancellable);
  rag_index_unref(job->index);
  g_free(job->vectors);
  g_free(job->text);
  g_free(job);
}

static gboolean search(Job *job, GError **error) {
  return rag_index_refresh(job->index, job->cancellable, error) &&
         rag_index_knows(job->index, job->text, &job->known, &job->said, error) &&
         (job->words = rag_index_words(job->index, job->text, CANDIDATES, error)) &&
         (job->unknown = rag_index_unknown(job->index, job->words, LEARNED_PER_SEARCH, error));
}

static gboolean fuse(Job *job, GError **error) {
  for (guint i = 0; i < job->unknown->len; i++)
    if (!rag_index_learn(job->index, ((RagHit *)job->unknown->pdata[i])->id, job->vectors + (i + 1) * RAG_DIMENSIONS,
                         error))
      return FALSE;
  job->near = rag_index_near(job->index, job->vectors, CANDIDATES, error);
  return job->near != NULL;
}

static void work(GTask *task, gpointer source, gpointer data, GCancellable *cancellable) {
  Job *job = data;
  GError *error = NULL;
  gboolean ok = job->kind == JOB_SEARCH ? search(job, &error)
                : job->kind == JOB_FUSE ? fuse(job, &error)
                : job->kind == JOB_ADD  ? rag_index_add(job->index, job->text, &job->files, job->cancellable, &error)
                                        : rag_index_set_scope(job->index, job->text, &error);
  if (ok)
    g_task_return_boolean(task, TRUE);
  else
    g_task_return_error(task, error);
}

static void on_worked(GObject *source, GAsyncResult *result, gpointer user);

static void start(Job *job, JobKind kind) {
  job->kind = kind;
  g_autoptr(GTask) task = g_task_new(NULL, NULL, on_worked, job);
  g_task_set_task_data(task, job, NULL);
  g_task_run_in_thread(task, work);
}

static gboolean is_among(const GPtrArray *hits, gint64 id) {
  for (guint i = 0; i < hits->len; i++)
    if (((RagHit *)hits->pdata[i])->id == id)
      return TRUE;
  return FALSE;
}

/* A question most of whose words no document has is about something else: where the meaning is known, a word that
 * happens to be there is no answer. What means the same in other words is one. */
static GPtrArray *choose(Job *job) {
  gboolean told = !job->near || 2 * job->known >= job->said;
  for (guint i = 0; job->near && i < job->near->len;) {
    const RagHit *hit = job->near->pdata[i];
    if (hit->like < NEAR && !(told && is_among(job->words, hit->id)))
      g_ptr_array_remove_index(job->near, i);
    else
      i++;
  }
  return rag_index_fuse(told ? job->words : NULL, job->near, SHOWN);
}

static void answer(Job *job) {
  g_autoptr(GPtrArray) hits = choose(job);
  gboolean own = TRUE;
  for (guint i = 0; i < hits->len; i++) {
    const RagHit *hit = hits->pdata[i];
    g_autofree char *text = g_strdup_printf("%sFrom %s%s%s:\n%s\n", i ? "\n" : "", hit->source,
                                            *hit->heading ? ", " : "", hit->heading, hit->text);
    choir_tool_call_output(job->call, text, -1);
    if (!hit->own) {
      g_autofree char *origin = g_strdup_printf("document %s", hit->source);
      choir_tool_call_origin(job->call, origin);
    }
    own &= hit->own;
  }
  if (hits->len == 0)
    choir_tool_call_output(job->call, "No document says anything about that.\n", -1);
  guint left_out = rag_index_left_out(job->index);
  if (left_out > 0) {
    g_autofree char *note =
        g_strdup_printf("\n(%u documents were left out: larger than 1 MB, or too many)\n", left_out);
    choir_tool_call_output(job->call, note, -1);
  }
  choir_tool_call_done(job->call, own, NULL);
  job_free(job);
}

static void on_embedded(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user) {
  Job *job = user;
  /* Words alone answer too: no embeddings, or others than the index holds, are no failure. */
  if (error || n != job->unknown->len + 1 || dimensions != RAG_DIMENSIONS) {
    answer(job);
    return;
  }
  job->vectors = g_memdup2(vectors, (gsize)n * dimensions * sizeof *vectors);
  start(job, JOB_FUSE);
}

static void refine(Job *job) {
  const ChoirToolHouse *house = choir_tool_call_house(job->call);
  if (!house || !house->agent.embed) {
    answer(job);
    return;
  }
  g_autoptr(GPtrArray) texts = g_ptr_array_new();
  g_ptr_array_add(texts, job->text);
  for (guint i = 0; i < job->unknown->len; i++)
    g_ptr_array_add(texts, ((RagHit *)job->unknown->pdata[i])->text);
  house->agent.embed(house->agent.self, (const char *const *)texts->pdata, texts->len, on_embedded, job);
}

static void on_worked(GObject *source, GAsyncResult *result, gpointer user) {
  Job *job = user;
  GError *error = NULL;
  if (!g_task_propagate_boolean(G_TASK(result), &error)) {
    choir_tool_call_done(job->call, FALSE, error);
    job_free(job);
  } else if (job->kind == JOB_SEARCH) {
    refine(job);
  } else if (job->kind == JOB_FUSE) {
    answer(job);
  } else {
    if (job->kind == JOB_ADD)
      tool_answer(job->call, TRUE, "Added %s: %u document%s can be searched now.", job->text, job->files,
                  job->files == 1 ? "" : "s");
    else
      tool_answer(job->call, TRUE, "Searches look into: %s.", job->text);
    job_free(job);
  }
}

static void begin(ChoirToolCall *call, JobKind kind, const char *text) {
  Job *job = g_new0(Job, 1);
  job->call = call;
  job->index = rag_index_ref(choir_tool_call_state(call));
  job->text = g_strdup(text);
  job->cancellable = g_object_ref(choir_tool_call_cancellable(call));
  start(job, kind);
}

static void run_search(ChoirToolCall *call) {
  begin(call, JOB_SEARCH, choir_tool_call_string(call, "query", ""));
}

static gboolean is_below(const char *path, const char *folder) {
  gsize length = strlen(folder);
  return length > 0 && strncmp(path, folder, length) == 0 &&
         (path[length] == '/' || path[length] == '\0' || folder[length - 1] == '/');
}

/* The folders whose documents may be added, links resolved: the agent's own and those of the setting. */
static char *allowed_folder(const ChoirToolHouse *house, const char *path) {
  g_auto(GStrv) set = g_strsplit(choir_config_string(house->config, "tools", "documents"), ":", -1);
  g_autoptr(GPtrArray) all = g_ptr_array_new();
  g_autofree char *home = g_build_filename(g_get_home_dir(), "Documents", NULL);
  g_ptr_array_add(all, (gpointer)house->work_dir);
  if (!*set)
    g_ptr_array_add(all, home);
  for (char **folder = set; *folder; folder++)
    g_ptr_array_add(all, *folder);
  for (guint i = 0; i < all->len; i++) {
    char *real = realpath(all->pdata[i], NULL);
    if (real && is_below(path, real)) {
      char *found = g_strdup(real);
      free(real);
      return found;
    }
    free(real);
  }
  return NULL;
}

static char *whole_path(const ChoirToolHouse *house, const char *path) {
  g_autofree char *expanded = g_str_has_prefix(path, "~/") ? g_build_filename(g_get_home_dir(), path + 2, NULL)
                              : g_path_is_absolute(path)   ? g_strdup(path)
                                                           : g_build_filename(house->work_dir, path, NULL);
  char *real = realpath(expanded, NULL), *whole = g_strdup(real);
  free(real);
  return whole;
}

static void add(ChoirToolCall *call, gboolean folder) {
  const ChoirToolHouse *house = choir_tool_call_house(call);
  const char *named = choir_tool_call_string(call, "path", "");
  g_autofree char *path = whole_path(house, named), *state = realpath(house->state_dir, NULL);
  g_autofree char *allowed = path ? allowed_folder(house, path) : NULL;
  if (!path)
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "there is no %s; say the whole path", named);
  else if (!allowed || (state && is_below(path, state)))
    tool_fail(call, CHOIR_TOOL_ERROR_DENIED,
              "%s is not below an allowed folder; put that folder into the setting documents of [tools], or the "
              "document into %s",
              path, house->work_dir);
  else if (g_file_test(path, G_FILE_TEST_IS_DIR) != folder)
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED,
              folder ? "%s is no folder; use add_document" : "%s is a folder; use add_folder", path);
  else
    begin(call, JOB_ADD, path);
}

static void add_document(ChoirToolCall *call) {
  add(call, FALSE);
}

static void add_folder(ChoirToolCall *call) {
  add(call, TRUE);
}

static void set_scope(ChoirToolCall *call) {
  const char *scope = choir_tool_call_string(call, "scope", "all");
  gboolean word = g_str_equal(scope, "all") || g_str_equal(scope, "project");
  g_autofree char *path = word ? NULL : whole_path(choir_tool_call_house(call), scope);
  begin(call, JOB_SCOPE, path ? path : scope);
}

static char *path_target(const ChoirToolHouse *house, const json_t *args) {
  g_autofree char *path = whole_path(house, choir_json_string(args, "path", ""));
  return g_strdup_printf("documents %s", path ? path : choir_json_string(args, "path", ""));
}

/* The best passage, from its own words. */
static char *gist(const json_t *args, const char *output) {
  const char *end = strstr(output, ":\n");
  if (!g_str_has_prefix(output, "From ") || !end)
    return NULL;
  g_autofree char *head = g_strndup(output, (gsize)(end - output)), *source = choir_short_line(head, 120);
  const char *next = strstr(end, "\n\nFrom ");
  g_autofree char *passage = g_strndup(end + 2, next ? (gsize)(next - end) - 2 : strlen(end + 2)),
                  *begin = choir_short_line(passage, PASSAGE);
  return g_strdup_printf("%s: %s", source, begin);
}

static gpointer open_index(const ChoirToolHouse *house) {
  g_autofree char *path = g_build_filename(house->state_dir, "rag.db", NULL);
  return rag_index_new(path, house->source_dir);
}

static void close_index(gpointer state) {
  rag_index_unref(state);
}

static const ChoirToolSink path_sink[] = {{"path", CHOIR_SINK_FILE}, {NULL, 0}};
static const ChoirToolShot search_shots[] = {
    {"what do my documents say about the heating", "{\"query\": \"the heating\"}"},
    {"look up the guarantee of the fridge in my papers", "{\"query\": \"the guarantee of the fridge\"}"},
    {"search the knowledge base for garden plans", "{\"query\": \"garden plans\"}"},
    {"find in the documentation how voices are chosen", "{\"query\": \"how voices are chosen\"}"},
    {NULL, NULL}};
static const ChoirToolShot document_shots[] = {
    {"add the document recipes.md to the knowledge base", "{\"path\": \"recipes.md\"}"},
    {"index the file manuals/boiler.txt", "{\"path\": \"manuals/boiler.txt\"}"},
    {NULL, NULL}};
static const ChoirToolShot folder_shots[] = {
    {"add the folder manuals to my searchable documents", "{\"path\": \"manuals\"}"},
    {"index every document in letters", "{\"path\": \"letters\"}"},
    {NULL, NULL}};
static const ChoirToolShot scope_shots[] = {
    {"search all documents from now on", "{\"scope\": \"all\"}"},
    {"look only into manuals when you search documents", "{\"scope\": \"manuals\"}"},
    {NULL, NULL}};

static const ChoirToolAction actions[] = {
    {.name = "search_knowledge_base",
     .help = "Search the documents for something.",
     .schema = TOOL_OBJECT(TOOL_COPIED("query", 500, "what to look for"), "\"query\""),
     .timeout_s = 60,
     .gist = gist,
     .shots = search_shots,
     .run = run_search},
    {.name = "add_document",
     .help = "Add a document to those that can be searched.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(TOOL_COPIED("path", 500, "the file: .md, .txt or .html"), "\"path\""),
     .sinks = path_sink,
     .timeout_s = 60,
     .target = path_target,
     .shots = document_shots,
     .run = add_document},
    {.name = "add_folder",
     .help = "Add a folder of documents to those that can be searched.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(TOOL_COPIED("path", 500, "the folder"), "\"path\""),
     .sinks = path_sink,
     .timeout_s = 120,
     .target = path_target,
     .shots = folder_shots,
     .run = add_folder},
    {.name = "set_scope",
     .help = "Say which documents searches look into: all, project, or one added folder.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(TOOL_COPIED("scope", 500, "all, project, or the folder"), "\"scope\""),
     .shots = scope_shots,
     .run = set_scope},
};

const ChoirTool choir_tool_rag = {.id = "rag",
                                  .title = "Documents",
                                  .help = "Answers from Choir's own documentation and from documents you added.",
                                  .actions = actions,
                                  .n_actions = G_N_ELEMENTS(actions),
                                  .open = open_index,
                                  .close = close_index};
