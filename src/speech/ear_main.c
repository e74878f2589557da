/* choir-ear: voice activity for several sessions at once; beside it, each on a thread of its own, verdicts about the
 * end of a turn and keyphrases. Frames of speech/wire.h on a descriptor; exits at its end. */
#include "speech/ear.h"
#ifdef CHOIR_HAVE_ORT
#include "speech/ear_turn.h"
#endif
#ifdef CHOIR_HAVE_POCKETSPHINX
#include "speech/ear_spot.h"
#endif
#include "speech/runner.h"
#include "audio/resample.h"
#include "base/names.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

#define MAX_SESSIONS 64
#define SPHINX "/usr/share/pocketsphinx/model/en-us/"

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
  const ChoirEarOptions *options;
  const char *detail; /* of the engine */
  double load_ms;
#ifdef CHOIR_HAVE_ORT
  ChoirEarTurn *turn;
#endif
#ifdef CHOIR_HAVE_POCKETSPHINX
  ChoirEarSpot *spot;
#endif
  GMutex mutex;   /* guards what follows: written by all threads */
  double turn_ms; /* cost of a verdict, -1 = there are none */
  char *turn_why; /* why not */
  char *spot_why; /* why no keyphrases, or not all */
  gboolean spots;
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

/* What the ear can do, as READY and, when a part beside the engine has news, as STATUS. */
static void report(Ear *ear, guint16 type) {
  g_mutex_lock(&ear->mutex);
  g_autoptr(GString) detail = g_string_new(ear->detail);
  if (ear->turn_ms >= 0)
    g_string_append_printf(detail, "; end of turn by smart-turn, %.0f ms each", ear->turn_ms);
  else if (ear->turn_why)
    g_string_append_printf(detail, "; turns end by silence alone: %s", ear->turn_why);
  if (ear->spots)
    g_string_append(detail, "; keyphrases by PocketSphinx");
  if (ear->spot_why)
    g_string_append_printf(detail, "; %s", ear->spot_why);
  json_t *more = json_pack("{s:b}", "spot", ear->spots);
  if (ear->turn_ms >= 0)
    json_object_set_new(more, "turn_ms", json_real(ear->turn_ms));
  g_mutex_unlock(&ear->mutex);
  if (type == CHOIR_WIRE_READY)
    choir_runner_log("ready: engine %s, %s", ear->engine->name, detail->str);
  choir_runner_report(ear->fd, type, ear->engine->name,
                      g_str_equal(ear->engine->name, "silero") ? ear->options->model : "", ear->load_ms, detail->str,
                      more);
}

#ifdef CHOIR_HAVE_ORT
static void on_turn_ready(double cost_ms, const char *problem, gpointer user) {
  Ear *ear = user;
  g_mutex_lock(&ear->mutex);
  ear->turn_ms = cost_ms;
  ear->turn_why = problem ? g_utf8_make_valid(problem, -1) : NULL;
  g_mutex_unlock(&ear->mutex);
  report(ear, CHOIR_WIRE_STATUS);
}

static void on_verdict(const ChoirWireFrame *about, float probability, gpointer user) {
  Ear *ear = user;
  guint8 payload[4];
  put_float(payload, probability);
  choir_runner_send(ear->fd, CHOIR_WIRE_EAR_VERDICT, about, about->aux, payload, sizeof payload);
}

static void judge(Ear *ear, const ChoirWireFrame *frame) {
  if (ear->turn && !choir_ear_turn_ask(ear->turn, frame))
    choir_runner_error(ear->fd, frame, "%d turns wait to be judged already", CHOIR_EAR_TURN_WAITING);
}
#else
static void judge(Ear *ear, const ChoirWireFrame *frame) {
}
#endif

#ifdef CHOIR_HAVE_POCKETSPHINX
static void on_heard(guint32 session, guint kind, guint32 end, const char *phrase, gpointer user) {
  Ear *ear = user;
  ChoirWireFrame frame = {.type = CHOIR_WIRE_EAR_HEARD,
                          .flags = (guint16)kind,
                          .session = session,
                          .aux = end,
                          .length = (guint32)strlen(phrase),
                          .payload = (const guint8 *)phrase};
  if (!choir_wire_write(ear->fd, &frame))
    _exit(0); /* the daemon is gone */
}

static void on_spot_problem(guint32 session, const char *why, gpointer user) {
  Ear *ear = user;
  choir_runner_error(ear->fd, &(ChoirWireFrame){.session = session}, "%s", why);
}

static void listen_for(Ear *ear, guint32 session, guint kinds) {
  if (ear->spot)
    choir_ear_spot_listen(ear->spot, session, kinds);
}
#else
static void listen_for(Ear *ear, guint32 session, guint kinds) {
}
#endif

static void forget(Ear *ear, guint32 session) {
  listen_for(ear, session, 0);
#ifdef CHOIR_HAVE_ORT
  if (ear->turn)
    choir_ear_turn_forget(ear->turn, session);
#endif
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
#ifdef CHOIR_HAVE_POCKETSPHINX
  if (ear->spot)
    choir_ear_spot_window(ear->spot, frame->session, session->window, session->next, probability);
#endif
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
    forget(ear, frame->session);
    session_get(ear, frame, TRUE);
    return TRUE;
  case CHOIR_WIRE_EAR_CLOSE:
    forget(ear, frame->session);
    g_hash_table_remove(ear->sessions, GUINT_TO_POINTER(frame->session));
    return TRUE;
  case CHOIR_WIRE_EAR_AUDIO:
    return audio(ear, frame);
  case CHOIR_WIRE_EAR_TURN:
    judge(ear, frame);
    return TRUE;
  case CHOIR_WIRE_EAR_SPOT:
    listen_for(ear, frame->session, frame->flags);
    return TRUE;
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
static gboolean open_engine(Ear *ear, const char *name, char **ret_detail) {
  const ChoirEarOptions *options = ear->options;
  g_autoptr(GError) error = NULL;
  double start = choir_runner_wall_ms();
  ear->engine = engine_named(name);
  if (ear->engine)
    ear->self = ear->engine->open(options, ret_detail, &error);
  else if (!g_str_equal(name, "silero"))
    return FALSE;
  if (!ear->self) {
    const char *why = error ? error->message : "this program was built without ONNX Runtime";
    g_autofree char *gate = NULL;
    ear->engine = &choir_ear_energy;
    ear->self = ear->engine->open(options, &gate, NULL);
    g_free(*ret_detail);
    *ret_detail = g_strdup_printf("energy gate instead of %s: %s", name, why);
  }
  ear->load_ms = choir_runner_wall_ms() - start;
  ear->detail = *ret_detail;
  return TRUE;
}

static void open_spot(Ear *ear, const char *acoustic, const char *dictionary, const char *wake) {
#ifdef CHOIR_HAVE_POCKETSPHINX
  ear->spots = g_file_test(acoustic, G_FILE_TEST_IS_DIR);
  if (ear->spots)
    ear->spot = choir_ear_spot_new(acoustic, choir_spot_phrases_new(wake, dictionary, &ear->spot_why), on_heard,
                                   on_spot_problem, ear);
  else
    ear->spot_why = g_strdup_printf("no keyphrases: %s is missing (Debian: pocketsphinx-en-us)", acoustic);
#else
  ear->spot_why = g_strdup("no keyphrases: this program was built without PocketSphinx");
#endif
}

static void open_turn(Ear *ear, const char *model) {
#ifdef CHOIR_HAVE_ORT
  if (*model)
    ear->turn = choir_ear_turn_new(ear->options->library, model, on_turn_ready, on_verdict, ear);
#else
  ear->turn_why = g_strdup("this program was built without ONNX Runtime");
#endif
}

static void close_all(Ear *ear) {
#ifdef CHOIR_HAVE_ORT
  choir_ear_turn_free(ear->turn);
#endif
#ifdef CHOIR_HAVE_POCKETSPHINX
  choir_ear_spot_free(ear->spot);
#endif
  g_hash_table_destroy(ear->sessions);
  ear->engine->close(ear->self);
  g_mutex_clear(&ear->mutex);
  g_free(ear->turn_why);
  g_free(ear->spot_why);
}

int main(int argc, char **argv) {
  choir_runner_init("choir-ear");
  g_autofree char *engine = NULL, *model = NULL, *library = NULL, *turn_model = NULL, *acoustic = NULL,
                  *dictionary = NULL, *wake = NULL, *detail = NULL;
  int fd = 3;
  const GOptionEntry entries[] = {
      {"engine", 0, 0, G_OPTION_ARG_STRING, &engine, "silero, energy or null (default silero)", "NAME"},
      {"model", 0, 0, G_OPTION_ARG_FILENAME, &model, "Silero's onnx file", "FILE"},
      {"onnxruntime", 0, 0, G_OPTION_ARG_FILENAME, &library, "libonnxruntime.so", "FILE"},
      {"turn-model", 0, 0, G_OPTION_ARG_FILENAME, &turn_model, "smart-turn's onnx file; empty: no verdicts", "FILE"},
      {"acoustic-model", 0, 0, G_OPTION_ARG_FILENAME, &acoustic, "PocketSphinx's acoustic model (default en-us)",
       "DIR"},
      {"dictionary", 0, 0, G_OPTION_ARG_FILENAME, &dictionary, "pronunciations of wake words (default cmudict)",
       "FILE"},
      {"wake", 0, 0, G_OPTION_ARG_STRING, &wake, "wake phrases, separated by commas (default \"hey choir\")", "TEXT"},
      {"fd", 0, 0, G_OPTION_ARG_INT, &fd, "descriptor of the frames (default 3)", "N"},
      G_OPTION_ENTRY_NULL,
  };
  choir_runner_options(
      &argc, &argv, entries,
      "Tells speech from silence, 32 ms at a time, for choir serve; judges whether a turn is over, and "
      "listens for stop words, backchannels and the wake word.");
  engine = engine ? engine : g_strdup("silero");
  model = model ? model : choir_runner_cache_path("models/silero_vad_16k_op15.onnx");
  library = library ? library : choir_runner_cache_path("runtime/libonnxruntime.so");
  turn_model = turn_model ? turn_model : choir_runner_cache_path("models/smart-turn-v3.2-cpu.onnx");
  acoustic = acoustic ? acoustic : g_strdup(SPHINX "en-us");
  dictionary = dictionary ? dictionary : g_strdup(SPHINX "cmudict-en-us.dict");
  ChoirEarOptions options = {.model = model, .library = library};
  Ear ear = {
      .fd = fd, .options = &options, .turn_ms = -1, .sessions = g_hash_table_new_full(NULL, NULL, NULL, session_free)};
  g_mutex_init(&ear.mutex);
  if (!open_engine(&ear, engine, &detail)) {
    choir_runner_log("no engine '%s'; choose from silero, energy, null", engine);
    return 2;
  }
  open_spot(&ear, acoustic, dictionary, wake ? wake : "hey choir");
  report(&ear, CHOIR_WIRE_READY);
  open_turn(&ear, turn_model);
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  ChoirWireFrame frame = {0};
  gboolean ok = TRUE;
  while (ok && choir_runner_read(fd, buffer, &frame))
    ok = handle(&ear, &frame);
  close_all(&ear);
  return ok ? 0 : 1;
}
