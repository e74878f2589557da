/* Answers from documents: cutting, the project's own docs, added folders, changes on disk, embeddings. */
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "house.h"
#include "tools/rag_index.h"
#include "tools/rag_text.h"

static void write_file(const char *folder, const char *name, const char *text) {
  g_autofree char *path = g_build_filename(folder, name, NULL), *dir = g_path_get_dirname(path);
  g_mkdir_with_parents(dir, 0700);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void test_cut(void) {
  g_autoptr(GPtrArray) chunks =
      rag_text_chunks("intro\n# One\nfirst\n\nsecond\n## Two\n```\n# no heading\n```\n# Three\n");
  g_assert_cmpuint(chunks->len, ==, 3);
  const RagChunk *intro = chunks->pdata[0], *one = chunks->pdata[1], *two = chunks->pdata[2];
  g_assert_cmpstr(intro->heading, ==, "");
  g_assert_cmpstr(one->heading, ==, "One");
  g_assert_cmpstr(one->text, ==, "first\n\nsecond");
  g_assert_cmpstr(two->heading, ==, "One > Two");
  g_assert_nonnull(strstr(two->text, "# no heading"));
}

/* Every size of text, with and without spaces, in characters of one to four bytes: pieces stay below the limit and are
 * valid, and nothing is lost. */
static void test_cut_any(void) {
  static const char *const letters[] = {"a", "é", "€", "😀", " ", "\n", "\n\n"};
  guint32 seed = g_test_rand_int();
  g_test_message("seed %u", seed);
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  for (guint round = 0; round < 300; round++) {
    g_autoptr(GString) text = g_string_new(NULL);
    guint length = (guint)g_rand_int_range(rand, 0, 5000), kinds = (guint)g_rand_int_range(rand, 1, 8), marks = 0;
    for (guint i = 0; i < length; i++)
      g_string_append(text, letters[g_rand_int_range(rand, 0, (gint32)kinds)]);
    for (guint i = 0; i < 20; i++) {
      g_autofree char *mark = g_strdup_printf(" m%uq ", marks++);
      g_string_append(text, mark);
    }
    g_autoptr(GPtrArray) chunks = rag_text_chunks(text->str);
    g_autoptr(GString) all = g_string_new(NULL);
    for (guint i = 0; i < chunks->len; i++) {
      const RagChunk *chunk = chunks->pdata[i];
      g_assert_true(g_utf8_validate(chunk->text, -1, NULL));
      g_assert_cmpuint(strlen(chunk->text), <=, RAG_CHUNK_BYTES);
      g_string_append(all, chunk->text);
      g_string_append_c(all, ' ');
    }
    for (guint i = 0; i < marks; i++) {
      g_autofree char *mark = g_strdup_printf("m%uq", i);
      g_assert_nonnull(strstr(all->str, mark));
    }
  }
}

static void test_html(void) {
  g_autofree char *text = rag_text_from_html(
      "<html><head><title>t</title></head><body><h2>Caf&eacute; &amp; bar</h2><script>var x='<p>hidden</p>';</script>"
      "<p>one   two<br>three &#x41;&#66; &unheard; a < b<!-- <p>hidden</p> --></p><style>p{}</style>");
  g_assert_nonnull(strstr(text, "## Café & bar"));
  g_assert_nonnull(strstr(text, "one two\nthree AB &unheard; a < b"));
  g_assert_null(strstr(text, "hidden"));
  g_assert_null(strstr(text, "p{}"));
  static const char *const broken[] = {"<", "<p", "<script>", "<!--", "&", "&#", "&#x;", "</", "a<b>", "&#1114112;"};
  for (guint i = 0; i < G_N_ELEMENTS(broken); i++)
    g_free(rag_text_from_html(broken[i]));
}

/* The project's documents, real questions: the file that answers is among the three that are shown. */
static void test_own_documents(void) {
  static const struct {
    const char *question, *file;
  } cases[] = {
      {"which Debian packages does Choir depend on, and under what licence", "docs/dependencies.md"},
      {"why is the stock engine slow on a Core 2 without AVX", "docs/engine.md"},
      {"how do I use Choir as a Wyoming satellite in Home Assistant", "docs/wyoming.md"},
      {"how long does it take from the end of speech to the first sound", "docs/latency.md"},
      {"what is the Consul service name prefix of an expert", "docs/names.md"},
      {"which tools ask for approval before they run", "docs/tools.md"},
      {"how do I send a chat completion with curl", "docs/http.md"},
      {"which rooms may a source file include", "ARCHITECTURE.md"},
      {"how should a commit message be written", "CONTRIBUTING.md"},
      {"how do I start Choir for the first time", "README.md"},
  };
  g_autoptr(House) house = house_new();
  guint right = 0;
  for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
    g_autofree char *args = g_strdup_printf("{\"query\": \"%s\"}", cases[i].question);
    g_autofree char *text = house_ok(house, "rag.search_knowledge_base", args);
    g_autofree char *source = g_strdup_printf("From %s", cases[i].file);
    if (strstr(text, source))
      right++;
    else
      g_test_message("not found: %s, instead: %.300s", cases[i].question, text);
  }
  g_test_message("%u of %u questions found their file", right, (guint)G_N_ELEMENTS(cases));
  g_assert_cmpuint(right, >=, 9);
  g_assert_cmpuint(house->asked, ==, 0);
}

static void test_added(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *notes = g_build_filename(house->work, "notes", NULL);
  write_file(notes, "boiler.md", "# Boiler\nThe zygomorphic valve is opened once a year.\n");
  write_file(notes, "deep/car.html", "<h1>Car</h1><p>Its quokka gauge wants 2.4 bar.</p>");
  write_file(notes, "program.c", "int marsupilami;");
  write_file(notes, ".secret/hidden.md", "the password is marsupilami");
  g_autofree char *none = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"zygomorphic\"}");
  g_assert_nonnull(strstr(none, "No document"));
  g_autofree char *added = house_ok(house, "rag.add_folder", "{\"path\": \"notes\"}");
  g_assert_nonnull(strstr(added, "2 documents"));
  g_assert_cmpuint(house->asked, ==, 1);
  g_autofree char *boiler = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"the zygomorphic valves?\"}");
  g_assert_nonnull(strstr(boiler, "boiler.md, Boiler:\nThe zygomorphic valve is opened"));
  g_autofree char *car = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"quokka\"}");
  g_assert_nonnull(strstr(car, "Its quokka gauge wants 2.4 bar."));
  g_autofree char *hidden = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"marsupilami\"}");
  g_assert_nonnull(strstr(hidden, "No document"));
  /* What changes on disk changes the answer; what goes is gone; the index survives a restart. */
  write_file(notes, "boiler.md", "# Boiler\nThe zygomorphic valve was replaced in May by a tap.\n");
  g_autofree char *unlinked = g_build_filename(notes, "deep/car.html", NULL);
  g_unlink(unlinked);
  house_restart(house);
  g_autofree char *changed = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"zygomorphic\"}");
  g_assert_nonnull(strstr(changed, "replaced in May"));
  g_assert_null(strstr(changed, "once a year"));
  g_autofree char *gone = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"quokka\"}");
  g_assert_nonnull(strstr(gone, "No document"));
  g_autofree char *project = house_ok(house, "rag.set_scope", "{\"scope\": \"project\"}");
  g_autofree char *outside = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"zygomorphic\"}");
  g_assert_nonnull(strstr(outside, "No document"));
  g_autofree char *folder = house_ok(house, "rag.set_scope", "{\"scope\": \"notes\"}");
  g_autofree char *inside = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"zygomorphic sandbox\"}");
  g_assert_nonnull(strstr(inside, "replaced in May"));
  g_assert_null(strstr(inside, "From docs/"));
}

/* None of whose telling words stands in a document: what is left of "isn't" stands in many. */
static void test_nothing(void) {
  static const char *const questions[] = {"who's the giraffe's grandmother",
                                          "why isn't my hamster thirsty, and don't they whistle",
                                          "what\xe2\x80\x99s a marmot\xe2\x80\x99s lullaby", "how are you", "?!"};
  g_autoptr(House) house = house_new();
  for (guint i = 0; i < G_N_ELEMENTS(questions); i++) {
    g_autofree char *args = g_strdup_printf("{\"query\": \"%s\"}", questions[i]);
    g_autofree char *text = house_ok(house, "rag.search_knowledge_base", args);
    if (!g_str_has_prefix(text, "No document"))
      g_error("%s: %.300s", questions[i], text);
  }
}

static void test_refused(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *outside = house_fails(house, "rag.add_folder", "{\"path\": \"/etc\"}");
  g_assert_nonnull(strstr(outside, "not below an allowed folder"));
  g_autofree char *state_args = g_strdup_printf("{\"path\": \"%s\"}", house->state);
  g_free(house_fails(house, "rag.add_folder", state_args));
  g_autofree char *up = house_fails(house, "rag.add_folder", "{\"path\": \"..\"}");
  g_assert_nonnull(strstr(up, "not below"));
  g_autofree char *missing = house_fails(house, "rag.add_document", "{\"path\": \"none.md\"}");
  g_assert_nonnull(strstr(missing, "there is no none.md"));
  /* A link leads out: refused when named, not followed when met. */
  g_autofree char *link = g_build_filename(house->work, "link", NULL),
                  *inner = g_build_filename(house->work, "notes", "host.txt", NULL);
  write_file(house->work, "notes/a.txt", "plain");
  g_assert_cmpint(symlink("/etc", link), ==, 0);
  g_assert_cmpint(symlink("/etc/hostname", inner), ==, 0);
  g_free(house_fails(house, "rag.add_folder", "{\"path\": \"link\"}"));
  g_autofree char *one = house_ok(house, "rag.add_folder", "{\"path\": \"notes\"}");
  g_assert_nonnull(strstr(one, "1 document can"));
  write_file(house->work, "empty/x.png", "");
  g_autofree char *empty = house_fails(house, "rag.add_folder", "{\"path\": \"empty\"}");
  g_assert_nonnull(strstr(empty, "holds no document"));
  g_autofree char *big = g_strnfill(2 << 20, 'x');
  write_file(house->work, "big.txt", big);
  g_free(house_fails(house, "rag.add_document", "{\"path\": \"big.txt\"}"));
  g_autofree char *scope = house_fails(house, "rag.set_scope", "{\"scope\": \"elsewhere\"}");
  g_assert_nonnull(strstr(scope, "was not added"));
  g_autofree char *odd = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"\\\" OR * ( NEAR ' --\"}");
  g_assert_nonnull(odd);
  house->approve = FALSE;
  g_autofree char *denied = house_fails(house, "rag.add_folder", "{\"path\": \"notes\"}");
  g_assert_nonnull(strstr(denied, "said no"));
}

/* Meaning beside words: the piece whose embedding is the query's rises above the one with more of its words. */
static void test_fused(void) {
  g_autofree char *dir = g_dir_make_tmp("choir-rag-XXXXXX", NULL);
  g_autofree char *docs = g_build_filename(dir, "docs", NULL), *db = g_build_filename(dir, "rag.db", NULL);
  g_autoptr(GError) error = NULL;
  write_file(docs, "a.md", "cat cat cat");
  write_file(docs, "b.md", "one cat and a great many other words that have nothing to do with it");
  g_autoptr(RagIndex) index = rag_index_new(db, dir);
  g_assert_true(rag_index_refresh(index, NULL, &error));
  g_autoptr(GPtrArray) words = rag_index_words(index, "cat", 10, &error);
  g_assert_cmpuint(words->len, ==, 2);
  g_assert_cmpstr(((RagHit *)words->pdata[0])->source, ==, "docs/a.md");
  g_autoptr(GPtrArray) unknown = rag_index_unknown(index, words, 10, &error);
  g_assert_cmpuint(unknown->len, ==, 2);
  float query[RAG_DIMENSIONS] = {1}, far[RAG_DIMENSIONS] = {0, 1};
  g_assert_true(rag_index_learn(index, ((RagHit *)words->pdata[1])->id, query, &error));
  g_autoptr(GPtrArray) near = rag_index_near(index, query, 10, &error);
  g_assert_cmpuint(near->len, ==, 1);
  g_autoptr(GPtrArray) fused = rag_index_fuse(words, near, 3);
  g_assert_cmpuint(fused->len, ==, 2);
  g_assert_cmpstr(((RagHit *)fused->pdata[0])->source, ==, "docs/b.md");
  g_assert_true(rag_index_learn(index, ((RagHit *)words->pdata[0])->id, far, &error));
  g_autoptr(GPtrArray) both = rag_index_near(index, query, 1, &error);
  g_assert_cmpuint(both->len, ==, 1);
  g_assert_cmpstr(((RagHit *)both->pdata[0])->source, ==, "docs/b.md");
  const char *argv[] = {"rm", "-rf", dir, NULL};
  g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

static void on_stopped(gpointer user) {
  *(gboolean *)user = TRUE;
}

/* The real embeddings: of passages with the same word the one that is meant comes first, where words alone prefer
 * another one. */
static void test_meaning(void) {
  g_autofree char *cache = g_build_filename(g_get_user_cache_dir(), "choir", NULL),
                  *engine = *ENGINE_DIR ? g_strdup(ENGINE_DIR) : g_build_filename(cache, "engine", "11434", NULL),
                  *model = g_build_filename(cache, "models", CHOIR_EMBEDDER_FILE, NULL),
                  *program = g_build_filename(engine, "bin", "llama-server", NULL);
  static const char ask[] = "{\"query\": \"which bank lends money to buy a home\"}";
  if (access(model, R_OK) != 0 || access(program, X_OK) != 0) {
    g_test_skip("llama-server or the embedding model is not in the cache; ./run --setup-only puts them there");
    return;
  }
  g_autoptr(House) house = house_new();
  ChoirEmbedderOptions options = {.engine_dir = engine, .model_path = model, .state_dir = house->state};
  g_autofree char *notes = g_build_filename(house->work, "notes", NULL);
  gboolean stopped = FALSE;
  write_file(notes, "river.md", "The bank, a bank of sand, bank by bank along the river, where we fish.\n");
  write_file(notes, "loan.md",
             "Our mortgage is from the savings institute in the old town, whose bank adviser has her office on the "
             "second floor above the bakery and the small shop that sells shoes.\n");
  write_file(notes, "credit.md",
             "The credit for the house, with its interest, was signed in spring by both of us at the counter of the "
             "bank, in the presence of a notary who read all of it aloud.\n");
  g_free(house_ok(house, "rag.add_folder", "{\"path\": \"notes\"}"));
  g_free(house_ok(house, "rag.set_scope", "{\"scope\": \"notes\"}"));
  g_autofree char *words = house_ok(house, "rag.search_knowledge_base", ask);
  g_assert_true(g_str_has_prefix(words, "From ") && strstr(words, "river.md"));
  g_assert_true(strstr(words, "river.md") < strchr(words, '\n'));
  house->embedder = choir_llm_embedder_new(&options, house->http);
  g_autofree char *meant = house_ok(house, "rag.search_knowledge_base", ask);
  g_assert_true(strstr(meant, "loan.md") && strstr(meant, "loan.md") < strchr(meant, '\n'));
  /* A word that happens to stand there is no answer to something else; what is meant is one without any of its words.
   */
  g_autofree char *other =
      house_ok(house, "rag.search_knowledge_base", "{\"query\": \"which dinosaur species wore shoes\"}");
  g_assert_true(g_str_has_prefix(other, "No document"));
  g_autofree char *none = house_ok(house, "rag.search_knowledge_base", "{\"query\": \"who financed our property\"}");
  g_assert_true(g_str_has_prefix(none, "From ") && !strstr(none, "river.md"));
  choir_llm_embedder_stop(house->embedder, on_stopped, &stopped);
  while (!stopped)
    g_main_context_iteration(NULL, TRUE);
  choir_llm_embedder_free(g_steal_pointer(&house->embedder));
}

/* A file that is no database: one sentence that says what to do, and the daemon goes on. */
static void test_broken(void) {
  g_autoptr(House) house = house_new();
  write_file(house->state, "rag.db", "this is no database, it is a text that somebody put here by mistake");
  g_autofree char *said = house_fails(house, "rag.search_knowledge_base", "{\"query\": \"anything\"}");
  g_assert_nonnull(strstr(said, "remove the file"));
}

int main(int argc, char **argv) {
  alarm(120);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/rag/cut", test_cut);
  g_test_add_func("/rag/cut-any", test_cut_any);
  g_test_add_func("/rag/html", test_html);
  g_test_add_func("/rag/own-documents", test_own_documents);
  g_test_add_func("/rag/added", test_added);
  g_test_add_func("/rag/nothing", test_nothing);
  g_test_add_func("/rag/refused", test_refused);
  g_test_add_func("/rag/fused", test_fused);
  g_test_add_func("/rag/meaning", test_meaning);
  g_test_add_func("/rag/broken", test_broken);
  return g_test_run();
}
