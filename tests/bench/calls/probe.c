/* Decides about utterances as the agent does, with a real llama-server, and runs nothing.
 *
 * usage: call-probe [--model FILE] [--engine DIR] [--context N] [--meaning FILE]
 * Standard input, one request a line: "decide<tab>TEXT", "choose<tab>TEXT" (no arguments), "fill<tab>NAME<tab>TEXT",
 * "list<tab>TEXT", "gate<tab>TEXT" (would the model be asked or a tool be called?). Answers are JSON objects, one a
 * line: {"name","args","error","ms"} or
 * {"list":[["NAME",LIKENESS],...]} or {"gate":true}. "functions" prints the tools as OpenAI's list; "url" where the
 * server is. Without
 * --model only "list", "gate" and "functions" are answered. --meaning: the embedding model; the embeddings of the
 * tools' texts are kept beside the cache's other tests, as the daemon keeps them in its state. */
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "agent/decide.h"
#include "agent/persona.h"
#include "base/clock.h"
#include "base/text.h"
#include "house.h"
#include "llm/server.h"

typedef struct {
  gboolean done;
  json_t *answer;
} Reply;

static gboolean tick(gpointer user) {
  return G_SOURCE_CONTINUE;
}

static void print(json_t *json) {
  g_autofree char *text = choir_json_dump(json);
  json_decref(json);
  puts(text);
  fflush(stdout);
}

static void on_ready(gpointer user) {
  *(gboolean *)user = TRUE;
}

/* Waits until the meaning of text is known, which the agent does for a moment only. */
static void prepare(ChoirShortlist *shortlist, const char *text) {
  gboolean ready = FALSE;
  if (choir_shortlist_prepare(shortlist, text, on_ready, &ready))
    while (!ready || !choir_shortlist_knows(shortlist, text))
      g_main_context_iteration(NULL, TRUE);
}

static void on_decided(const char *name, const char *arguments, const GError *error, gpointer user) {
  Reply *reply = user;
  reply->done = TRUE;
  reply->answer = json_pack("{s:s?,s:o?,s:s?}", "name", name, "args",
                            arguments ? choir_json_parse(arguments, strlen(arguments), NULL) : NULL, "error",
                            error ? error->message : NULL);
}

static void decide(House *house, ChoirShortlist *shortlist, ChoirLlmServer *llm, const char *name, const char *text,
                   gboolean choice_only) {
  Reply reply = {0};
  if (!name)
    prepare(shortlist, text);
  gint64 from = choir_clock_us();
  guint64 params = choir_llm_server_params(llm);
  ChoirDecideRequest request = {.toolbox = house->toolbox,
                                .shortlist = shortlist,
                                .chat = choir_llm_server_chat(llm),
                                .text = text,
                                .model = choir_llm_server_model(llm),
                                .small = params == 0 || params < CHOIR_SMALL_PARAMS,
                                .name = name,
                                .choice_only = choice_only};
  if (name && !choir_toolbox_find(house->toolbox, name, NULL)) {
    print(json_pack("{s:n,s:s}", "name", "error", "there is no such action"));
    return;
  }
  (void)choir_decide_begin(&request, on_decided, &reply);
  while (!reply.done)
    g_main_context_iteration(NULL, TRUE);
  json_object_set_new(reply.answer, "ms", json_integer((choir_clock_us() - from) / 1000));
  print(reply.answer);
}

static void list(ChoirShortlist *shortlist, const char *text) {
  ChoirShortlistEntry entries[8];
  prepare(shortlist, text);
  json_t *found = json_array();
  guint n = choir_shortlist_find(shortlist, text, entries, G_N_ELEMENTS(entries));
  for (guint i = 0; i < n; i++) {
    g_autofree char *name = g_strdup_printf("%s.%s", entries[i].tool->id, entries[i].action->name);
    json_array_append_new(found, json_pack("[s,f]", name, entries[i].score));
  }
  print(json_pack("{s:o}", "list", found));
}

static void answer(House *house, ChoirShortlist *shortlist, ChoirLlmServer *llm, char *line) {
  g_auto(GStrv) fields = g_strsplit(g_strchomp(line), "\t", 3);
  guint n = g_strv_length(fields);
  if (n == 1 && g_str_equal(fields[0], "functions"))
    print(choir_toolbox_functions(house->toolbox));
  else if (n == 1 && llm && g_str_equal(fields[0], "url"))
    print(json_pack("{s:s,s:s}", "url", choir_chat_base_url(choir_llm_server_chat(llm)), "headers",
                    choir_chat_headers(choir_llm_server_chat(llm))));
  else if (n == 2 && g_str_equal(fields[0], "list"))
    list(shortlist, fields[1]);
  else if (n == 2 && g_str_equal(fields[0], "gate")) {
    prepare(shortlist, fields[1]);
    print(json_pack("{s:b}", "gate", choir_decide_wanted(shortlist, fields[1])));
  } else if (n == 2 && llm && g_str_equal(fields[0], "decide"))
    decide(house, shortlist, llm, NULL, fields[1], FALSE);
  else if (n == 2 && llm && g_str_equal(fields[0], "choose"))
    decide(house, shortlist, llm, NULL, fields[1], TRUE);
  else if (n == 3 && llm && g_str_equal(fields[0], "fill"))
    decide(house, shortlist, llm, fields[1], fields[2], FALSE);
  else
    print(json_pack("{s:s}", "error", "no such request"));
}

static char *kept(void) {
  return g_build_filename(g_get_user_cache_dir(), "choir", "test", "tools.meaning", NULL);
}

static void copy(const char *from, const char *to) {
  g_autofree char *bytes = NULL;
  gsize length;
  if (g_file_get_contents(from, &bytes, &length, NULL))
    g_file_set_contents(to, bytes, (gssize)length, NULL);
}

/* A list with embeddings: from the file, or made now. */
static ChoirShortlist *with_meaning(House *house, const char *engine, const char *model) {
  ChoirEmbedderOptions options = {.engine_dir = engine, .model_path = model, .state_dir = house->state};
  g_autofree char *cache = kept(), *folder = g_path_get_dirname(cache),
                  *own = g_build_filename(house->state, "tools.meaning", NULL);
  g_mkdir_with_parents(folder, 0700);
  copy(cache, own);
  house->embedder = choir_llm_embedder_new(&options, house->http);
  ChoirShortlist *shortlist = choir_shortlist_new(house->toolbox);
  gint64 end = choir_clock_us() + 900 * G_USEC_PER_SEC;
  for (guint i = 0; choir_clock_us() < end; i++) {
    g_autofree char *text = g_strdup_printf("ready %u", i);
    gint64 next = choir_clock_us() + G_USEC_PER_SEC;
    gboolean ready = FALSE;
    choir_shortlist_prepare(shortlist, text, on_ready, &ready);
    while (choir_clock_us() < next && !choir_shortlist_knows(shortlist, text))
      g_main_context_iteration(NULL, TRUE);
    if (choir_shortlist_knows(shortlist, text))
      break;
  }
  copy(own, cache);
  return shortlist;
}

static void on_stopped(gpointer user) {
  *(gboolean *)user = TRUE;
}

int main(int argc, char **argv) {
  g_autofree char *model = NULL, *engine = NULL, *meaning = NULL;
  int context = 2048;
  const GOptionEntry options[] = {{"model", 0, 0, G_OPTION_ARG_FILENAME, &model, "GGUF", "FILE"},
                                  {"engine", 0, 0, G_OPTION_ARG_FILENAME, &engine, "folder with bin/", "DIR"},
                                  {"context", 0, 0, G_OPTION_ARG_INT, &context, "tokens", "N"},
                                  {"meaning", 0, 0, G_OPTION_ARG_FILENAME, &meaning, "GGUF of the embeddings", "FILE"},
                                  {NULL, 0, 0, 0, NULL, NULL, NULL}};
  g_autoptr(GOptionContext) parser = g_option_context_new(NULL);
  g_autoptr(GError) error = NULL;
  g_option_context_add_main_entries(parser, options, NULL);
  if (!g_option_context_parse(parser, &argc, &argv, &error)) {
    g_printerr("call-probe: %s\n", error->message);
    return 2;
  }
  House *house = house_new();
  guint ticker = g_timeout_add(50, tick, NULL);
  ChoirShortlist *shortlist = meaning ? with_meaning(house, engine, meaning) : choir_shortlist_new(house->toolbox);
  ChoirLlmServer *llm = NULL;
  if (model) {
    ChoirLlmServerOptions server = {.engine_dir = engine,
                                    .model_path = model,
                                    .model_name = model,
                                    .state_dir = house->state,
                                    .context = (guint)context};
    llm = choir_llm_server_new(&server, house->http, &error);
    if (!llm) {
      g_printerr("call-probe: %s\n", error->message);
      return 1;
    }
    choir_llm_server_start(llm);
    while (!choir_llm_server_ready(llm))
      g_main_context_iteration(NULL, TRUE);
  }
  char line[4096];
  while (fgets(line, sizeof line, stdin))
    answer(house, shortlist, llm, line);
  gboolean stopped = !llm;
  if (llm)
    choir_llm_server_stop(llm, on_stopped, &stopped);
  while (!stopped)
    g_main_context_iteration(NULL, TRUE);
  if (llm)
    choir_llm_server_free(llm);
  g_source_remove(ticker);
  choir_shortlist_free(shortlist);
  stopped = !house->embedder;
  if (house->embedder)
    choir_llm_embedder_stop(house->embedder, on_stopped, &stopped);
  while (!stopped)
    g_main_context_iteration(NULL, TRUE);
  choir_llm_embedder_free(house->embedder);
  house_free(house);
  return 0;
}
