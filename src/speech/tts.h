/* A text-to-speech engine: one table a file. All calls from one thread, except interrupt(). */
#pragma once
#include <glib.h>

typedef struct ChoirTtsEngine ChoirTtsEngine;

typedef struct {
  const char *model;   /* piper: onnx file; its json lies beside it */
  const char *library; /* piper: libonnxruntime.so */
  int phonemes_fd;     /* piper: socket to choir-phonemes */
  int threads;
  double speed;                                      /* 1 = the voice's own */
  const char *url;                                   /* wyoming: tcp://host:port */
  const ChoirTtsEngine *fallback;                    /* wyoming: who stands in, NULL = nobody */
  void (*report)(const char *detail, gpointer user); /* wyoming: what it does has changed; any thread */
  gpointer report_user;
} ChoirTtsOptions;

/* Bytes begin..end of the text, and how many phonemes they were spoken with (0: not spoken). first and last are the
 * samples sent in which it sounds, when timed. */
typedef struct {
  guint begin, end, phonemes;
  guint32 first, last;
  gboolean timed;
} ChoirTtsWord;

typedef struct ChoirTtsTimeline ChoirTtsTimeline; /* speech/tts_timeline.h */

typedef struct {
  void (*pcm)(const gint16 *samples, gsize n, gpointer user); /* at the engine's rate */
  gboolean (*cancelled)(gpointer user);
  ChoirTtsTimeline *timeline; /* the phones of all sound go in here; an engine that knows none leaves it empty */
  gpointer user;
} ChoirTtsSink;

struct ChoirTtsEngine {
  const char *name, *help;
  gpointer (*open)(const ChoirTtsOptions *options, char **ret_detail, GError **error);
  void (*close)(gpointer self);
  guint (*rate)(gpointer self);
  /* text: cleaned by choir_tts_text_clean(), never empty. words: the text's words; the engine fills in phonemes.
   * FALSE with error; FALSE without one when cancelled. */
  gboolean (*say)(gpointer self, const char *text, GArray *words, const ChoirTtsSink *sink, GError **error);
  void (*interrupt)(gpointer self); /* any thread: what runs now was cancelled. May be NULL */
  /* 0.25..4 times the speed of its options, until the next call. NULL: it has one speed only. */
  void (*set_speed)(gpointer self, double speed);
};

extern const ChoirTtsEngine choir_tts_piper, choir_tts_flite, choir_tts_wyoming, choir_tts_null;
