#include "speech/ort.h"
#include <dlfcn.h>

gboolean choir_ort_ok(const ChoirOrt *ort, OrtStatus *status, GError **error) {
  if (!status)
    return TRUE;
  g_autofree char *text = g_utf8_make_valid(ort->api->GetErrorMessage(status), -1);
  g_set_error(error, CHOIR_SPEECH_ERROR, 0, "ONNX Runtime: %s", text);
  ort->api->ReleaseStatus(status);
  return FALSE;
}

ChoirOrt *choir_ort_open(const char *library, GError **error) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "ONNX Runtime is missing: %s", dlerror());
    return NULL;
  }
  const OrtApiBase *(*get_base)(void) = NULL;
  *(void **)&get_base = dlsym(handle, "OrtGetApiBase"); /* POSIX's way to turn an object pointer into a function */
  const OrtApiBase *base = get_base ? get_base() : NULL;
  const OrtApi *api = base ? base->GetApi(CHOIR_ORT_API) : NULL;
  if (!api) {
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "%s (ONNX Runtime %s) does not offer API %d", library,
                base ? base->GetVersionString() : "?", CHOIR_ORT_API);
    dlclose(handle);
    return NULL;
  }
  ChoirOrt *ort = g_new0(ChoirOrt, 1);
  ort->api = api;
  ort->version = base->GetVersionString();
  if (!choir_ort_ok(ort, api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "choir", &ort->env), error) ||
      !choir_ort_ok(ort, api->DisableTelemetryEvents(ort->env), error) ||
      !choir_ort_ok(ort, api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &ort->memory), error)) {
    choir_ort_close(ort);
    return NULL;
  }
  return ort;
}

void choir_ort_close(ChoirOrt *ort) {
  if (!ort)
    return;
  if (ort->memory)
    ort->api->ReleaseMemoryInfo(ort->memory);
  if (ort->env)
    ort->api->ReleaseEnv(ort->env);
  g_free(ort); /* the library stays loaded: it has thread-local parts, and the process is about to end */
}

OrtSession *choir_ort_session(const ChoirOrt *ort, const char *model, int threads, gboolean arena, GError **error) {
  const OrtApi *api = ort->api;
  OrtSessionOptions *options = NULL;
  OrtSession *session = NULL;
  if (!choir_ort_ok(ort, api->CreateSessionOptions(&options), error))
    return NULL;
  gboolean ok = choir_ort_ok(ort, api->SetIntraOpNumThreads(options, threads), error) &&
                choir_ort_ok(ort, api->SetInterOpNumThreads(options, 1), error) &&
                choir_ort_ok(ort, api->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL), error);
  /* Waiting threads must sleep: the language model needs the same cores. */
  if (ok)
    ok = choir_ort_ok(ort, api->AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0"), error);
  if (ok && !arena)
    ok = choir_ort_ok(ort, api->DisableCpuMemArena(options), error) &&
         choir_ort_ok(ort, api->DisableMemPattern(options), error);
  if (ok)
    ok = choir_ort_ok(ort, api->CreateSession(ort->env, model, options, &session), error);
  api->ReleaseSessionOptions(options);
  return ok ? session : NULL;
}

static OrtValue *tensor(const ChoirOrt *ort, void *data, gsize size, const gint64 *shape, gsize rank,
                        ONNXTensorElementDataType type, GError **error) {
  gsize n = 1;
  int64_t dims[4] = {0};
  g_return_val_if_fail(rank <= G_N_ELEMENTS(dims), NULL);
  for (gsize i = 0; i < rank; i++) {
    dims[i] = shape[i];
    n *= (gsize)shape[i];
  }
  OrtValue *value = NULL;
  choir_ort_ok(ort, ort->api->CreateTensorWithDataAsOrtValue(ort->memory, data, n * size, dims, rank, type, &value),
               error);
  return value;
}

OrtValue *choir_ort_floats(const ChoirOrt *ort, float *data, const gint64 *shape, gsize rank, GError **error) {
  return tensor(ort, data, sizeof *data, shape, rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, error);
}

OrtValue *choir_ort_int64s(const ChoirOrt *ort, gint64 *data, const gint64 *shape, gsize rank, GError **error) {
  return tensor(ort, data, sizeof *data, shape, rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, error);
}

float *choir_ort_data(const ChoirOrt *ort, OrtValue *value, gsize *ret_n, GError **error) {
  OrtTensorTypeAndShapeInfo *info = NULL;
  void *data = NULL;
  size_t n = 0;
  gboolean ok = choir_ort_ok(ort, ort->api->GetTensorTypeAndShape(value, &info), error);
  if (ok) {
    ok = choir_ort_ok(ort, ort->api->GetTensorShapeElementCount(info, &n), error);
    ort->api->ReleaseTensorTypeAndShapeInfo(info);
  }
  if (!ok || !choir_ort_ok(ort, ort->api->GetTensorMutableData(value, &data), error))
    return NULL;
  *ret_n = n;
  return data;
}
