/* A speech-to-text engine: one table a file. All calls from one thread, except where `cancelled` is asked. */
#pragma once
#include <glib.h>

typedef struct ChoirSttEngine ChoirSttEngine;

typedef struct {
  const char *model;      /* whisper: ggml file; pocketsphinx: folder of an acoustic model */
  const char *backends;   /* whisper: folder of libggml-cpu-*.so, NULL = where libggml lies */
  const char *language;   /* "auto", "en", ... */
  const char *grammar;    /* pocketsphinx: JSGF file, NULL = dictation with the language model */
  const char *dictionary; /* pocketsphinx, NULL = en-us */
  const char *lm;         /* pocketsphinx, NULL = en-us */
  int threads;
  const char *url;                                   /* wyoming: tcp://host:port */
  const ChoirSttEngine *fallback;                    /* wyoming: who stands in, NULL = nobody */
  void (*report)(const char *detail, gpointer user); /* wyoming: what it does has changed; any thread */
  gpointer report_user;
} ChoirSttOptions;

typedef gboolean (*ChoirSttCancelled)(gpointer user); /* cheap, asked often, from any thread of the engine */

/* What one job wants beyond the engine's options. An engine may ignore what it cannot do. */
typedef struct {
  const char *language; /* NULL = the engine's own */
  const char *prompt;   /* words that may come up, or NULL */
} ChoirSttWish;

typedef struct {
  guint begin_ms, end_ms;
  char *text;
} ChoirSttSegment;

typedef struct {
  GString *text;     /* given empty; UTF-8 */
  char language[16]; /* "en": what the text is in */
  char heard[16];    /* what the sound was most like, whatever the text was forced to be; "" = not known */
  double heard_p;    /* how sure that is, 0..1 */
  double no_speech;  /* 0..1, how sure the engine is that nobody spoke */
  GArray *segments;  /* ChoirSttSegment; NULL = not wanted. Left empty by an engine that has no times */
} ChoirSttResult;

struct ChoirSttEngine {
  const char *name, *help;
  gpointer (*open)(const ChoirSttOptions *options, char **ret_detail, GError **error);
  void (*close)(gpointer self);
  /* 16 kHz mono, at most 30 s. FALSE with error; FALSE without error when it was cancelled. */
  gboolean (*transcribe)(gpointer self, const gint16 *samples, gsize n, ChoirSttCancelled cancelled, gpointer user,
                         ChoirSttResult *result, GError **error);
  /* Called before each transcribe(), with an empty wish for most. FALSE with error: it cannot be met. May be NULL. */
  gboolean (*wish)(gpointer self, const ChoirSttWish *wish, GError **error);
};

extern const ChoirSttEngine choir_stt_whisper, choir_stt_pocketsphinx, choir_stt_wyoming, choir_stt_null;
