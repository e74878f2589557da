/* A voice activity engine: one small table a file. Input is CHOIR_VAD_WINDOW samples of 16 kHz at a time, per-session
 * state is the engine's. One thread. */
#pragma once
#include <glib.h>

typedef struct {
  const char *model;   /* silero: path of the onnx file */
  const char *library; /* silero: path of libonnxruntime.so */
} ChoirEarOptions;

typedef struct {
  const char *name, *help;
  /* ret_detail: one sentence for the status page; caller frees. NULL with error. */
  gpointer (*open)(const ChoirEarOptions *options, char **ret_detail, GError **error);
  void (*close)(gpointer self);
  gpointer (*session_new)(gpointer self);
  void (*session_free)(gpointer session);
  /* Probability of speech in this window, 0 to 1. */
  gboolean (*window)(gpointer self, gpointer session, const gint16 *samples, float *ret_probability, GError **error);
} ChoirEarEngine;

extern const ChoirEarEngine choir_ear_silero, choir_ear_energy, choir_ear_null;
