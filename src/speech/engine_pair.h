/* Which engine of a worker is at work: one by name, or, for "auto", the full one where a fixed clip through it is quick
 * enough (speech/tier.h), else the light one. All calls on the thread of the engines, except choir_engine_pair_tell().
 */
#pragma once
#include <glib.h>

typedef struct {
  const char *name;
  gconstpointer engine;
} ChoirEngineRow;

/* What recognising and speaking do differently. */
typedef struct {
  const ChoirEngineRow *rows; /* of this build; another one's name is an error */
  gsize n;
  const char *full, *light;      /* names of "auto" */
  const char *title, *stands_in; /* for people: "Whisper", "the fixed commands of PocketSphinx" */
  double limit;                  /* of real time */
  int free_mb;                   /* memory that the full one needs beside everything else */
  gpointer (*open)(gconstpointer engine, gboolean light, gconstpointer options, char **ret_detail, GError **error);
  void (*close)(gconstpointer engine, gpointer self);
  /* Processor time of the fixed clip through the full engine, as a share of its length. FALSE with error, or without
   * when cancelled. */
  gboolean (*measure)(gconstpointer engine, gpointer self, gconstpointer options, gboolean (*cancelled)(gpointer user),
                      gpointer user, double *ret_ratio, GError **error);
} ChoirEngineKind;

typedef struct ChoirEnginePair ChoirEnginePair;
/* NULL: not in this build. */
gconstpointer choir_engine_named(const ChoirEngineKind *kind, const char *name);
/* NULL with error when this build has no such engine. kind, options and model (the full one's, for reports) must live
 * as long. */
ChoirEnginePair *choir_engine_pair_new(const ChoirEngineKind *kind, const char *name, gconstpointer options,
                                       const char *model, GError **error);
/* Loads and measures; takes seconds. FALSE with error. */
gboolean choir_engine_pair_open(ChoirEnginePair *pair, GError **error);
gconstpointer choir_engine_pair_current(const ChoirEnginePair *pair, gpointer *ret_self);
/* ms of idleness after which to measure again, -1 = never. */
gint64 choir_engine_pair_due(const ChoirEnginePair *pair);
/* Measures again, until cancelled() says that there is work; the engine may be another one then. */
void choir_engine_pair_probe(ChoirEnginePair *pair, gboolean (*cancelled)(gpointer user), gpointer user);
/* A READY frame, or a STATUS after a probe. */
void choir_engine_pair_report(const ChoirEnginePair *pair, int fd, guint16 type, double load_ms);
/* Any thread: calls with the engine at work, which stays while the call lasts; not when none is open. */
void choir_engine_pair_tell(ChoirEnginePair *pair, void (*call)(gconstpointer engine, gpointer self));
