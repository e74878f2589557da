/* Embeddings of sentences: MiniLM on a second llama-server, started when it is needed and stopped after five idle
 * minutes. Main thread only. */
#pragma once
#include <gio/gio.h>
#include "base/child.h"
#include "net/http_client.h"

#define CHOIR_EMBEDDER_DIMENSIONS 384
#define CHOIR_EMBEDDER_FILE "all-MiniLM-L6-v2.Q8_0.gguf"

typedef struct {
  const char *engine_dir; /* holds bin/llama-server */
  const char *model_path;
  const char *state_dir;
  const char *cpu_variant; /* NULL = the loader's choice */
  guint idle_s;            /* 0 = 300 */
} ChoirEmbedderOptions;

typedef struct ChoirEmbedder ChoirEmbedder;

/* n rows of `dimensions`, unit length; NULL with error. Exactly once, never inside of choir_llm_embedder_embed(). */
typedef void (*ChoirEmbedderDone)(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user);

ChoirEmbedder *choir_llm_embedder_new(const ChoirEmbedderOptions *options, ChoirHttpClient *http);
/* Requests in flight complete as cancelled, later. */
void choir_llm_embedder_free(ChoirEmbedder *embedder);
/* Starts the server when it does not run. At most 64 requests wait; a text is read up to the model's 512 tokens. */
void choir_llm_embedder_embed(ChoirEmbedder *embedder, const char *const *texts, guint n, ChoirEmbedderDone done,
                              gpointer user);
/* It answers at once. */
gboolean choir_llm_embedder_ready(const ChoirEmbedder *embedder);
/* NULL, or one sentence why there are no embeddings on this machine. Caller frees. */
char *choir_llm_embedder_missing(const ChoirEmbedder *embedder);
void choir_llm_embedder_stop(ChoirEmbedder *embedder, void (*done)(gpointer user), gpointer user);
ChoirChild *choir_llm_embedder_child(ChoirEmbedder *embedder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirEmbedder, choir_llm_embedder_free)
