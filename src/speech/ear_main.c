/* choir-ear: voice activity for several sessions at once. Frames of speech/wire.h on a descriptor; exits at its end. */
#include "speech/ear.h"
#include "speech/runner.h"
#include "audio/resample.h"
#include "base/names.h"
#include <math.h>
#include <string.h>

#define MAX_SESSIONS 64

typedef struct {
  const ChoirEarEngine *engine;
  gpointer state;
  gint16 window[CHOIR_VAD_WINDOW];
  guint filled;
  guint32 next; /* index of the sample that should come next */
} Session;

typedef struct {
  int fd;
  const ChoirEarEngine *engine;
  gpointer self;
  GHashTable *sessions; /* id -> Session */
  guint64 refused;
} Ear;

static const ChoirEarEngine *const engines[] = {
#ifdef CHOIR_HAVE_ORT
    &choir_ear_silero,
#endif
    &choir_ear_energy,
    &choir_ear_null,
};

static void session_free(gpointer data) {
  Session *session = data;
  session->engine->session_free(session->state);
  g_free(session);
}

/* Audio of a session that was never opened opens it: after a restart of this process nobody has to know. */
static Session *session_get(Ear *ear, const ChoirWireFrame *frame, gboolean anew) {
  gpointer key = GUINT_TO_POINTER(frame->session);
  if (anew)
    g_hash_table_remove(ear->sessions, key);
  Session *session = g_hash_table_lookup(ear->sessions, key);
  if (session)
    return session;
  if (g_hash_table_size(ear->sessions) >= MAX_SESSIONS) {
    if (ear->refused++ % 1000 == 0)
      choir_runner_error(ear->fd, frame, "more than %d sessions are open; this one is not heard", MAX_SESSIONS);
    return NULL;
  }
  session = g_new0(Session, 1);
  session->engine = ear->engine;
  session->state = ear->engine->session_new(ear->self);
  session->next = frame->aux;
  g_hash_table_insert(ear->sessions, key, session);
  return session;
}

static void put_float(guint8 *p, float value) {
  guint32 bits;
  memcpy(&bits, &value, sizeof bits);
  bits = GUINT32_TO_LE(bits);
  memcpy(p, &bits, sizeof bits);
}

static gboolean window_full(Ear *ear, Session *session, const ChoirWireFrame *frame) {
  float probability = 0;
  g_autoptr(GError) error = NULL;
  if (!ear->engine->window(ear->self, session->state, session->window, &probability, &error)) {
    choir_runner_error(ear->fd, NULL, "%s", error->message);
    return FALSE;
  }
  guint8 payload[8];
  put_float(payload, isfinite(probability) ? probability : 0);
  put_float(payload + 4, (float)choir_pcm_rms(session->window, CHOIR_VAD_WINDOW));
  choir_runner_send(ear->fd, CHOIR_WIRE_EAR_WINDOW, frame, session->next, payload, sizeof payload);
  return TRUE;
}

static gboolean audio(Ear *ear, const ChoirWireFrame *frame) {
  Session *session = session_get(ear, frame, FALSE);
  if (!session)
    return TRUE;
  if (frame->aux != session->next) { /* samples were lost on the way: the half window is of no use */
    session->filled = 0;
    session->next = frame->aux;
  }
  for (guint32 i = 0; i + 1 < frame->length; i += 2) {
    session->window[session->filled++] = (gint16)(frame->payload[i] | frame->payload[i + 1] << 8);
    session->next++;
    if (session->filled < CHOIR_VAD_WINDOW)
      continue;
    session->filled = 0;
    if (!window_full(ear, session, frame))
      return FALSE;
  }
  return TRUE;
}

static gboolean handle(Ear *ear, const ChoirWireFrame *frame) {
  switch (frame->type) {
  case CHOIR_WIRE_EAR_OPEN:
    session_get(ear, frame, TRUE);
    return TRUE;
  case CHOIR_WIRE_EAR_CLOSE:
    g_hash_table_remove(ear->sessions, GUINT_TO_POINTER(frame->session));
    return TRUE;
  case CHOIR_WIRE_EAR_AUDIO:
    return audio(ear, frame);
  default:
    choir_runner_error(ear->fd, frame, "frame type %u is not for choir-ear", frame->type);
    return TRUE;
  }
}

static const ChoirEarEngine *engine_named(const char *name) {
  for (gsize i = 0; i < G_N_ELEMENTS(engines); i++)
    if (g_str_equal(engines[i]->name, name))
      return engines[i];
  return NULL;
}

/* A neural engine that cannot start is replaced by the energy gate, and READY says so. */
static gboolean open_engine(Ear *ear, const char *name, const ChoirEarOptions *options) {
  g_autoptr(GError) error = NULL;
  g_autofree char *detail = NULL;
  double start = choir_runner_wall_ms();
  ear->engine = engine_named(name);
  if (ear->engine)
    ear->self = ear->engine->open(options, &detail, &error);
  else if (!g_str_equal(name, "silero"))
    return FALSE;
  if (!ear->self) {
    const char *why = error ? error->message : "this program was built without ONNX Runtime";
    g_autofree char *gate = NULL;
    ear->engine = &choir_ear_energy;
    ear->self = ear->engine->open(options, &gate, NULL);
    detail = g_strdup_printf("energy gate instead of %s: %s", name, why);
  }
  choir_runner_ready(ear->fd, ear->engine->name, g_str_equal(ear->engine->name, "silero") ? options->model : "",
                     choir_runner_wall_ms() - start, detail);
  return TRUE;
}

int main(int argc, char **argv) {
  choir_runner_init("choir-ear");
  g_autofree char *engine = NULL, *model = NULL, *library = NULL;
  int fd = 3;
  const GOptionEntry entries[] = {
      {"engine", 0, 0, G_OPTION_ARG_STRING, &engine, "silero, energy or null (default silero)", "NAME"},
      {"model", 0, 0, G_OPTION_ARG_FILENAME, &model, "Silero's onnx file", "FILE"},
      {"onnxruntime", 0, 0, G_OPTION_ARG_FILENAME, &library, "libonnxruntime.so", "FILE"},
      {"fd", 0, 0, G_OPTION_ARG_INT, &fd, "descriptor of the frames (default 3)", "N"},
      G_OPTION_ENTRY_NULL,
  };
  choir_runner_options(&argc, &argv, entries, "Tells speech from silence, 32 ms at a time, for choir serve.");
  engine = engine ? engine : g_strdup("silero");
  model = model ? model : choir_runner_cache_path("models/silero_vad_16k_op15.onnx");
  library = library ? library : choir_runner_cache_path("runtime/libonnxruntime.so");
  Ear ear = {.fd = fd, .sessions = g_hash_table_new_full(NULL, NULL, NULL, session_free)};
  ChoirEarOptions options = {.model = model, .library = library};
  if (!open_engine(&ear, engine, &options)) {
    choir_runner_log("no engine '%s'; choose from silero, energy, null", engine);
    return 2;
  }
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  ChoirWireFrame frame = {0};
  gboolean ok = TRUE;
  while (ok && choir_runner_read(fd, buffer, &frame))
    ok = handle(&ear, &frame);
  g_hash_table_destroy(ear.sessions);
  ear.engine->close(ear.self);
  return ok ? 0 : 1;
}
