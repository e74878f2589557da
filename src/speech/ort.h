/* ONNX Runtime by its C API, opened with dlopen: symbol versions of its builds differ, so none is linked.
 * The workers own one of these for life. API 21 is answered by every runtime from 1.21 on. */
#pragma once
#include <glib.h>
#include <onnxruntime_c_api.h>

#define CHOIR_ORT_API 21
#define CHOIR_SPEECH_ERROR (g_quark_from_static_string("choir-speech-error"))

typedef struct {
  const OrtApi *api;
  OrtEnv *env;
  OrtMemoryInfo *memory;
  const char *version;
} ChoirOrt;

/* library: path of libonnxruntime.so. NULL with error when it is missing or too old. */
ChoirOrt *choir_ort_open(const char *library, GError **error);
void choir_ort_close(ChoirOrt *ort);
/* Turns a status into an error; takes it over. TRUE when there is none. */
gboolean choir_ort_ok(const ChoirOrt *ort, OrtStatus *status, GError **error);
/* arena: keep freed tensors for reuse (fixed shapes); without it memory follows the size of each run. */
OrtSession *choir_ort_session(const ChoirOrt *ort, const char *model, int threads, gboolean arena, GError **error);
/* Tensors over the caller's memory. NULL with error. */
OrtValue *choir_ort_floats(const ChoirOrt *ort, float *data, const gint64 *shape, gsize rank, GError **error);
OrtValue *choir_ort_int64s(const ChoirOrt *ort, gint64 *data, const gint64 *shape, gsize rank, GError **error);
/* The values of a float tensor; they belong to it. */
float *choir_ort_data(const ChoirOrt *ort, OrtValue *value, gsize *ret_n, GError **error);
