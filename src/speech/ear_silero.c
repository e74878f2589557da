/* Silero VAD v6 (snakers4/silero-vad, MIT) through ONNX Runtime: 64 samples of the window before and 512 new ones go in
 * with a recurrent state of 2x1x128, a probability and the next state come out. */
#include "speech/ear.h"
#include "speech/ort.h"
#include "base/names.h"
#include <string.h>

#define CONTEXT 64
#define STATE 256

typedef struct {
  ChoirOrt *ort;
  OrtSession *session;
} Silero;

typedef struct {
  float input[CONTEXT + CHOIR_VAD_WINDOW];
  float state[STATE];
} Session;

static void silero_close(gpointer data) {
  Silero *self = data;
  if (self->session)
    self->ort->api->ReleaseSession(self->session);
  choir_ort_close(self->ort);
  g_free(self);
}

static gpointer silero_open(const ChoirEarOptions *options, char **ret_detail, GError **error) {
  Silero *self = g_new0(Silero, 1);
  self->ort = choir_ort_open(options->library, error);
  if (self->ort)
    self->session = choir_ort_session(self->ort, options->model, 1, TRUE, error);
  if (!self->session) {
    silero_close(self);
    return NULL;
  }
  *ret_detail = g_strdup_printf("Silero v6 on ONNX Runtime %s", self->ort->version);
  return self;
}

static gpointer silero_session(gpointer self) {
  return g_new0(Session, 1);
}

static gboolean run(Silero *self, Session *session, OrtValue *const inputs[3], float *ret_probability, GError **error) {
  static const char *const input_names[] = {"input", "state", "sr"}, *const output_names[] = {"output", "stateN"};
  const OrtApi *api = self->ort->api;
  OrtValue *outputs[2] = {NULL, NULL};
  gboolean ok = choir_ort_ok(
      self->ort,
      api->Run(self->session, NULL, input_names, (const OrtValue *const *)inputs, 3, output_names, 2, outputs), error);
  gsize n_probability = 0, n_state = 0;
  float *probability = ok ? choir_ort_data(self->ort, outputs[0], &n_probability, error) : NULL;
  float *state = probability ? choir_ort_data(self->ort, outputs[1], &n_state, error) : NULL;
  ok = state != NULL;
  if (ok && (n_probability < 1 || n_state != STATE)) {
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "the VAD model's outputs have another shape than Silero v6");
    ok = FALSE;
  }
  if (ok) {
    *ret_probability = CLAMP(probability[0], 0.0f, 1.0f);
    memcpy(session->state, state, sizeof session->state);
  }
  for (gsize i = 0; i < G_N_ELEMENTS(outputs); i++)
    if (outputs[i])
      api->ReleaseValue(outputs[i]);
  return ok;
}

static gboolean silero_window(gpointer data, gpointer session_data, const gint16 *samples, float *ret_probability,
                              GError **error) {
  Silero *self = data;
  Session *session = session_data;
  static const gint64 input_shape[] = {1, CONTEXT + CHOIR_VAD_WINDOW}, state_shape[] = {2, 1, 128};
  gint64 rate = CHOIR_RATE_MIC;
  memmove(session->input, session->input + CHOIR_VAD_WINDOW, CONTEXT * sizeof(float));
  for (gsize i = 0; i < CHOIR_VAD_WINDOW; i++)
    session->input[CONTEXT + i] = samples[i] / 32768.0f;
  OrtValue *inputs[3] = {
      choir_ort_floats(self->ort, session->input, input_shape, 2, error),
      NULL,
      NULL,
  };
  if (inputs[0])
    inputs[1] = choir_ort_floats(self->ort, session->state, state_shape, 3, error);
  if (inputs[1])
    inputs[2] = choir_ort_int64s(self->ort, &rate, NULL, 0, error);
  gboolean ok = inputs[2] && run(self, session, inputs, ret_probability, error);
  for (gsize i = 0; i < G_N_ELEMENTS(inputs); i++)
    if (inputs[i])
      self->ort->api->ReleaseValue(inputs[i]);
  return ok;
}

const ChoirEarEngine choir_ear_silero = {
    .name = "silero",
    .help = "Silero v6, a small neural network",
    .open = silero_open,
    .close = silero_close,
    .session_new = silero_session,
    .session_free = g_free,
    .window = silero_window,
};
