#include "speech/tts_piper_voice.h"
#include "speech/ort.h"
#include <math.h>
#include <string.h>

#define CONTEXT 10 /* frames on each side that a frame's sound depends on: with 10 the pieces equal the whole */
#define FIRST 24   /* frames of the first run, 0.28 s of sound; the second is RATIO times as long */
#define RATIO 3    /* a run must not take longer than the sound before it lasts */
#define FRAME 256  /* samples */

struct ChoirPiperVoice {
  ChoirOrt *ort;
  OrtSession *whole, *front, *decoder;
  guint run_frames;
  GMutex mutex; /* guards running */
  OrtRunOptions *running;
};

static OrtSession *open_part(const ChoirPiperVoice *voice, const char *model, const char *part, int threads) {
  gsize stem = g_str_has_suffix(model, ".onnx") ? strlen(model) - strlen(".onnx") : strlen(model);
  g_autofree char *path = g_strdup_printf("%.*s.%s.onnx", (int)stem, model, part);
  if (!g_file_test(path, G_FILE_TEST_IS_REGULAR))
    return NULL;
  return choir_ort_session(voice->ort, path, threads, FALSE, NULL);
}

ChoirPiperVoice *choir_piper_voice_open(const char *library, const char *model, int threads, GError **error) {
  ChoirPiperVoice *voice = g_new0(ChoirPiperVoice, 1);
  g_mutex_init(&voice->mutex);
  voice->run_frames = 160;
  voice->ort = choir_ort_open(library, error);
  if (voice->ort)
    voice->front = open_part(voice, model, "front", threads);
  if (voice->front)
    voice->decoder = open_part(voice, model, "decoder", threads);
  if (voice->decoder)
    return voice;
  if (voice->ort)
    voice->whole = choir_ort_session(voice->ort, model, threads, FALSE, error);
  if (!voice->whole)
    g_clear_pointer(&voice, choir_piper_voice_close);
  return voice;
}

void choir_piper_voice_close(ChoirPiperVoice *voice) {
  if (!voice)
    return;
  OrtSession *sessions[] = {voice->whole, voice->front, voice->decoder};
  for (gsize i = 0; i < G_N_ELEMENTS(sessions); i++)
    if (voice->ort && sessions[i])
      voice->ort->api->ReleaseSession(sessions[i]);
  choir_ort_close(voice->ort);
  g_mutex_clear(&voice->mutex);
  g_free(voice);
}

gboolean choir_piper_voice_in_pieces(const ChoirPiperVoice *voice) {
  return voice->decoder != NULL;
}

const char *choir_piper_voice_runtime(const ChoirPiperVoice *voice) {
  return voice->ort->version;
}

void choir_piper_voice_set_run(ChoirPiperVoice *voice, guint frames) {
  voice->run_frames = MAX(frames, FIRST);
}

/* The run that interrupt can end. */
static void publish(ChoirPiperVoice *voice, OrtRunOptions *options) {
  g_mutex_lock(&voice->mutex);
  voice->running = options;
  g_mutex_unlock(&voice->mutex);
}

void choir_piper_voice_interrupt(ChoirPiperVoice *voice) {
  g_mutex_lock(&voice->mutex);
  if (voice->running)
    voice->ort->api->ReleaseStatus(voice->ort->api->RunOptionsSetTerminate(voice->running));
  g_mutex_unlock(&voice->mutex);
}

typedef struct {
  OrtSession *session;
  const char *const *input_names, *const *output_names;
  OrtValue *const *inputs;
  gsize n_inputs, n_outputs;
} Run;

static gboolean run(ChoirPiperVoice *voice, const Run *what, OrtValue **outputs, const ChoirTtsSink *sink,
                    GError **error) {
  const OrtApi *api = voice->ort->api;
  OrtRunOptions *options = NULL;
  if (!choir_ort_ok(voice->ort, api->CreateRunOptions(&options), error))
    return FALSE;
  publish(voice, options); /* before the question below: a cancel is seen by one of the two */
  gboolean go = !sink || !sink->cancelled(sink->user);
  gboolean ok =
      go && choir_ort_ok(voice->ort,
                         api->Run(what->session, options, what->input_names, (const OrtValue *const *)what->inputs,
                                  what->n_inputs, what->output_names, what->n_outputs, outputs),
                         error);
  publish(voice, NULL);
  api->ReleaseRunOptions(options);
  return ok;
}

static void release(const ChoirPiperVoice *voice, OrtValue **values, gsize n) {
  for (gsize i = 0; i < n; i++)
    if (values[i])
      voice->ort->api->ReleaseValue(values[i]);
}

static void emit(const float *audio, gsize n, const ChoirTtsSink *sink) {
  g_autofree gint16 *pcm = g_new(gint16, MAX(n, 1));
  for (gsize i = 0; i < n; i++) {
    float value = isfinite(audio[i]) ? audio[i] * 32767.0f : 0;
    pcm[i] = (gint16)lrintf(CLAMP(value, -32768.0f, 32767.0f));
  }
  sink->pcm(pcm, n, sink->user);
}

/* Frames begin to end of z (rows of `frames`), as sound. */
static gboolean decode(ChoirPiperVoice *voice, const float *z, gsize rows, gsize frames, gsize begin, gsize end,
                       const ChoirTtsSink *sink, GError **error) {
  static const char *const input_names[] = {"z"}, *const output_names[] = {"output"};
  const gsize from = begin > CONTEXT ? begin - CONTEXT : 0, to = MIN(end + CONTEXT, frames), n = to - from;
  g_autofree float *part = g_new(float, rows *n);
  for (gsize row = 0; row < rows; row++)
    memcpy(part + row * n, z + row * frames + from, n * sizeof *part);
  const gint64 shape[] = {1, (gint64)rows, (gint64)n};
  OrtValue *input = choir_ort_floats(voice->ort, part, shape, 3, error), *output = NULL;
  const Run what = {voice->decoder, input_names, output_names, &input, 1, 1};
  gboolean ok = input && run(voice, &what, &output, sink, error);
  gsize samples = 0;
  const float *audio = ok ? choir_ort_data(voice->ort, output, &samples, error) : NULL;
  ok = audio != NULL;
  if (ok && samples != n * FRAME) {
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "the voice's decoder makes frames of another length than %d", FRAME);
    ok = FALSE;
  }
  if (ok && sink)
    emit(audio + (begin - from) * FRAME, (end - begin) * FRAME, sink);
  release(voice, &output, 1);
  release(voice, &input, 1);
  return ok;
}

static gboolean decode_all(ChoirPiperVoice *voice, const float *z, gsize rows, gsize frames, const ChoirTtsSink *sink,
                           GError **error) {
  gsize length = FIRST;
  for (gsize begin = 0; begin < frames;) {
    /* A short rest is taken along: it costs less than a run of its own. */
    gsize end = frames - begin < length + CONTEXT ? frames : begin + length;
    if (!decode(voice, z, rows, frames, begin, end, sink, error))
      return FALSE;
    begin = end;
    length = MIN(length * RATIO, voice->run_frames);
  }
  return TRUE;
}

static gboolean speak_z(ChoirPiperVoice *voice, OrtValue *const outputs[2], gsize n_ids, ChoirPiperDurations durations,
                        gpointer user, const ChoirTtsSink *sink, GError **error) {
  gsize values = 0, n = 0;
  const float *z = choir_ort_data(voice->ort, outputs[0], &values, error);
  const float *frames_of = z ? choir_ort_data(voice->ort, outputs[1], &n, error) : NULL;
  if (!frames_of)
    return FALSE;
  double frames = 0;
  for (gsize i = 0; i < n; i++)
    frames += frames_of[i] >= 0 && frames_of[i] < 1e6f ? frames_of[i] : 0;
  gsize columns = (gsize)MAX(frames, 1);
  if (n != n_ids || values % columns != 0) {
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "the voice's front does not say how long each phoneme lasts");
    return FALSE;
  }
  if (durations)
    durations(frames_of, n, FRAME, user);
  return decode_all(voice, z, values / columns, columns, sink, error);
}

static gboolean speak_whole(ChoirPiperVoice *voice, OrtValue *output, const ChoirTtsSink *sink, GError **error) {
  gsize n = 0;
  const float *audio = choir_ort_data(voice->ort, output, &n, error);
  if (audio && sink)
    emit(audio, n, sink);
  return audio != NULL;
}

gboolean choir_piper_voice_run(ChoirPiperVoice *voice, gint64 *ids, gsize n, float scales[3],
                               ChoirPiperDurations durations, gpointer user, const ChoirTtsSink *sink, GError **error) {
  static const char *const input_names[] = {"input", "input_lengths", "scales"};
  static const char *const whole_names[] = {"output"}, *const front_names[] = {"z", "durations"};
  gint64 length = (gint64)n;
  const gint64 ids_shape[] = {1, length}, one[] = {1}, three[] = {3};
  OrtValue *inputs[3] = {choir_ort_int64s(voice->ort, ids, ids_shape, 2, error), NULL, NULL},
           *outputs[2] = {NULL, NULL};
  if (inputs[0])
    inputs[1] = choir_ort_int64s(voice->ort, &length, one, 1, error);
  if (inputs[1])
    inputs[2] = choir_ort_floats(voice->ort, scales, three, 1, error);
  const Run what = voice->decoder ? (Run){voice->front, input_names, front_names, inputs, 3, 2}
                                  : (Run){voice->whole, input_names, whole_names, inputs, 3, 1};
  gboolean ok = inputs[2] && run(voice, &what, outputs, sink, error);
  if (ok)
    ok = voice->decoder ? speak_z(voice, outputs, n, durations, user, sink, error)
                        : speak_whole(voice, outputs[0], sink, error);
  release(voice, outputs, G_N_ELEMENTS(outputs));
  release(voice, inputs, G_N_ELEMENTS(inputs));
  return ok;
}
