/* choir-stt: speech to text, one utterance after the other. One thread reads frames, one recognises, so that a cancel
 * is seen at once. Frames of speech/wire.h on a descriptor; exits at its end. */
#include "speech/jobs.h"
#include "speech/runner.h"
#include "speech/stt_engines.h"
#include "speech/stt_heard.h"
#include "speech/stt_text.h"
#include "base/names.h"
#include "base/text.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_LIMIT 16
#define IDLE_MS 20000                   /* before a machine that looked slow is measured again */
#define PIECE_MAX (29 * CHOIR_RATE_MIC) /* Whisper's window is 30 s */
#define SHORTEST (CHOIR_RATE_MIC / 20)  /* nothing can be said in 50 ms */
#define SHORT (CHOIR_RATE_MIC * 5 / 2)  /* takes as long as this */

typedef struct {
  int fd;
  ChoirJobs *jobs;
  ChoirEnginePair *engines;
  const ChoirSttEngine *engine; /* the current one, on its thread */
  gpointer self;
  ChoirSttOptions options;
  ChoirSttHeard *heard;
  double pace;  /* ms a sample, of the last utterance */
  int patience; /* ms; what takes longer is not recognised a second time */
} Stt;

static gboolean job_cancelled(gpointer user) {
  return choir_job_cancelled(user);
}

/* Piece by piece; FALSE without error when cancelled. */
static gboolean transcribe(Stt *stt, ChoirJob *job, const gint16 *samples, gsize n, ChoirSttResult *result,
                           GError **error) {
  double quietest = 1;
  gsize done = 0;
  while (n >= SHORTEST) {
    gsize piece = choir_stt_cut(samples, n, PIECE_MAX);
    g_autoptr(GString) text = g_string_new(NULL);
    ChoirSttResult part = {.text = text, .segments = result->segments};
    guint known = result->segments ? result->segments->len : 0;
    if (!stt->engine->transcribe(stt->self, samples, piece, job_cancelled, job, &part, error))
      return FALSE;
    if (text->len > 0 && result->text->len > 0)
      g_string_append_c(result->text, ' ');
    g_string_append(result->text, text->str);
    if (result->language[0] == 0 || text->len > 0)
      g_strlcpy(result->language, part.language, sizeof result->language);
    if (part.heard_p > result->heard_p) {
      g_strlcpy(result->heard, part.heard, sizeof result->heard);
      result->heard_p = part.heard_p;
    }
    quietest = MIN(quietest, part.no_speech);
    for (guint i = known; result->segments && i < result->segments->len; i++) {
      ChoirSttSegment *segment = &g_array_index(result->segments, ChoirSttSegment, i);
      segment->begin_ms += (guint)(done * 1000 / CHOIR_RATE_MIC);
      segment->end_ms += (guint)(done * 1000 / CHOIR_RATE_MIC);
    }
    done += piece;
    samples += piece;
    n -= piece;
  }
  result->no_speech = quietest;
  return TRUE;
}

/* Only what was said behind the last long pause, where the whole would take long and the words before it are known. */
static gboolean transcribe_rest(Stt *stt, ChoirJob *job, const gint16 *samples, gsize n, const char *wish,
                                ChoirSttResult *result, gsize *ret_known, GError **error) {
  const char *before = NULL;
  gsize known = choir_stt_heard_find(stt->heard, job->frame.session, wish, samples, n, &before);
  *ret_known = known > 0 && stt->pace * (double)MAX(n, SHORT) > stt->patience ? known : 0;
  double wall = choir_runner_wall_ms();
  if (!transcribe(stt, job, samples + *ret_known, n - *ret_known, result, error))
    return FALSE;
  stt->pace = (choir_runner_wall_ms() - wall) / (double)MAX(n - *ret_known, SHORT);
  if (*ret_known > 0) {
    g_autofree char *more = g_strdup(result->text->str);
    g_string_assign(result->text, before);
    choir_stt_heard_join(result->text, more);
  }
  choir_stt_heard_keep(stt->heard, job->frame.session, wish, samples, n, result->text->str);
  return TRUE;
}

static void segment_clear(gpointer data) {
  g_free(((ChoirSttSegment *)data)->text);
}

static json_t *segments_json(const GArray *segments) {
  json_t *rows = json_array();
  for (guint i = 0; i < segments->len; i++) {
    const ChoirSttSegment *segment = &g_array_index(segments, ChoirSttSegment, i);
    json_array_append_new(rows, json_pack("[i, i, s]", (int)segment->begin_ms, (int)segment->end_ms, segment->text));
  }
  return rows;
}

/* What the job wants; FALSE with error. */
static gboolean take_wish(Stt *stt, const json_t *options, GError **error) {
  ChoirSttWish wish = {
      .language = json_string_value(json_object_get(options, "language")),
      .prompt = json_string_value(json_object_get(options, "prompt")),
  };
  return !stt->engine->wish || stt->engine->wish(stt->self, &wish, error);
}

static void work(Stt *stt, ChoirJob *job) {
  g_autoptr(GError) error = NULL;
  g_autoptr(GString) text = g_string_new(NULL);
  const guint8 *payload = NULL;
  gsize n = 0;
  json_auto_t *options = choir_job_options(job, &payload, &n);
  if (!options) {
    choir_runner_error(stt->fd, &job->frame, "the options of an utterance cannot be read");
    return;
  }
  n /= 2;
  g_autoptr(GArray) segments =
      json_is_true(json_object_get(options, "segments")) ? g_array_new(FALSE, FALSE, sizeof(ChoirSttSegment)) : NULL;
  if (segments)
    g_array_set_clear_func(segments, segment_clear);
  ChoirSttResult result = {.text = text, .segments = segments};
  const gint16 *samples =
      (const gint16 *)(gconstpointer)payload; /* from malloc, options even: aligned; both sides little endian */
  double cpu = choir_runner_cpu_ms(), wall = choir_runner_wall_ms();
  g_autofree char *wish = choir_json_dump(options);
  gsize known = 0;
  gboolean ok = take_wish(stt, options, &error) &&
                (segments ? transcribe(stt, job, samples, n, &result, &error)
                          : transcribe_rest(stt, job, samples, n, wish, &result, &known, &error));
  if (choir_job_cancelled(job))
    return;
  if (!ok) {
    choir_runner_error(stt->fd, &job->frame, "%s", error ? error->message : "the recogniser gave up");
    return;
  }
  json_t *json =
      json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "text", text->str, "language",
                result.language[0] ? result.language : "en", "audio_ms", (double)n * 1000 / CHOIR_RATE_MIC, "cpu_ms",
                choir_runner_cpu_ms() - cpu, "wall_ms", choir_runner_wall_ms() - wall, "no_speech", result.no_speech);
  json_object_set_new(json, "known_ms", json_integer((json_int_t)(known * 1000 / CHOIR_RATE_MIC)));
  if (result.heard[0]) {
    json_object_set_new(json, "heard", json_string(result.heard));
    json_object_set_new(json, "heard_p", json_real(result.heard_p));
  }
  if (segments)
    json_object_set_new(json, "segments", segments_json(segments));
  choir_runner_send_json(stt->fd, CHOIR_WIRE_STT_TEXT, &job->frame, 0, json);
}

/* Another READY: the daemon shows what it says. */
static void on_report(const char *detail, gpointer user) {
  Stt *stt = user;
  choir_runner_ready(stt->fd, stt->engine ? stt->engine->name : "wyoming", stt->options.model ? stt->options.model : "",
                     0, detail);
}

static gboolean has_work(gpointer user) {
  return !choir_jobs_idle(((Stt *)user)->jobs);
}

static gpointer engine_thread(gpointer data) {
  Stt *stt = data;
  g_autoptr(GError) error = NULL;
  double start = choir_runner_wall_ms();
  choir_runner_status(stt->fd, 0, "loading the speech model");
  if (!choir_engine_pair_open(stt->engines, &error)) {
    choir_runner_error(stt->fd, NULL, "%s", error->message);
    _exit(1);
  }
  const double load_ms = choir_runner_wall_ms() - start;
  stt->engine = choir_engine_pair_current(stt->engines, &stt->self);
  choir_engine_pair_report(stt->engines, stt->fd, CHOIR_WIRE_READY, load_ms);
  for (;;) {
    gint64 due = choir_engine_pair_due(stt->engines);
    ChoirJob *job = choir_jobs_take_within(stt->jobs, due < 0 ? -1 : MAX(due, IDLE_MS));
    if (!job) {
      choir_engine_pair_probe(stt->engines, has_work, stt);
      stt->engine = choir_engine_pair_current(stt->engines, &stt->self);
      choir_engine_pair_report(stt->engines, stt->fd, CHOIR_WIRE_STATUS, load_ms);
      continue;
    }
    if (!choir_job_cancelled(job))
      work(stt, job);
    choir_jobs_done(stt->jobs, job);
  }
  return NULL;
}

static void handle(Stt *stt, const ChoirWireFrame *frame) {
  gboolean hit = FALSE;
  switch (frame->type) {
  case CHOIR_WIRE_STT_JOB:
    if (!choir_jobs_push(stt->jobs, frame, &hit))
      choir_runner_error(stt->fd, frame, "%d utterances are waiting already", QUEUE_LIMIT);
    return;
  case CHOIR_WIRE_STT_CANCEL:
    choir_jobs_cancel(stt->jobs, frame->session, frame->gen);
    return;
  default:
    choir_runner_error(stt->fd, frame, "frame type %u is not for choir-stt", frame->type);
  }
}

/* OpenMP's threads spin at every barrier by default; beside a language model on the same cores that tripled the time of
 * a transcription. Threads that sleep at every barrier double it: a decoder's step is hundreds of barriers. A spin of a
 * few microseconds is neither. libgomp reads the setting when it is loaded, which is before main(): hence the second
 * start. */
static void calm_openmp(char **argv) {
  if (g_getenv("OMP_WAIT_POLICY") || g_getenv("GOMP_SPINCOUNT"))
    return;
  g_setenv("GOMP_SPINCOUNT", "1000", TRUE);
  execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
  calm_openmp(argv);
  choir_runner_init("choir-stt");
  g_autofree char *engine = NULL, *model = NULL, *backends = NULL, *language = NULL, *grammar = NULL,
                  *dictionary = NULL, *lm = NULL, *url = NULL, *fallback = NULL;
  int threads = MIN((int)g_get_num_processors(), 4), fd = 3, patience = 600;
  const GOptionEntry entries[] = {
      {"engine", 0, 0, G_OPTION_ARG_STRING, &engine, "auto, whisper, pocketsphinx, wyoming or null (default whisper)",
       "NAME"},
      {"model", 0, 0, G_OPTION_ARG_FILENAME, &model, "Whisper's ggml file, or PocketSphinx's acoustic model", "PATH"},
      {"backends", 0, 0, G_OPTION_ARG_FILENAME, &backends, "folder of libggml-cpu-*.so (default: beside libggml)",
       "DIR"},
      {"language", 0, 0, G_OPTION_ARG_STRING, &language, "en, de, ... or auto (default en)", "CODE"},
      {"threads", 0, 0, G_OPTION_ARG_INT, &threads, "processor threads of Whisper", "N"},
      {"grammar", 0, 0, G_OPTION_ARG_FILENAME, &grammar, "PocketSphinx: JSGF file; without it, poor dictation", "FILE"},
      {"dictionary", 0, 0, G_OPTION_ARG_FILENAME, &dictionary, "PocketSphinx: pronunciations (default en-us)", "FILE"},
      {"lm", 0, 0, G_OPTION_ARG_FILENAME, &lm, "PocketSphinx: language model (default en-us)", "FILE"},
      {"url", 0, 0, G_OPTION_ARG_STRING, &url, "Wyoming: the other machine, tcp://host:port", "URL"},
      {"fallback", 0, 0, G_OPTION_ARG_STRING, &fallback, "Wyoming: engine that stands in while it is away", "NAME"},
      {"patience", 0, 0, G_OPTION_ARG_INT, &patience,
       "of what takes longer only what was said behind the last long pause is recognised again (default 600)", "MS"},
      {"fd", 0, 0, G_OPTION_ARG_INT, &fd, "descriptor of the frames (default 3)", "N"},
      G_OPTION_ENTRY_NULL,
  };
  choir_runner_options(&argc, &argv, entries,
                       "Turns utterances into text, for choir serve. CHOIR_CPU_VARIANT=x64 forces a ggml variant.");
  engine = engine ? engine : g_strdup("whisper");
  const gboolean whisper = g_str_equal(engine, "whisper") || g_str_equal(engine, "auto");
  if (!model && (whisper || g_strcmp0(fallback, "whisper") == 0))
    model = choir_runner_cache_path("models/ggml-base-q8_0.bin");
  const ChoirSttEngine *stand_in = fallback ? choir_engine_named(&choir_stt_engines, fallback) : NULL;
  if (fallback && (!stand_in || stand_in == &choir_stt_wyoming)) {
    choir_runner_log("no engine '%s' can stand in", fallback);
    return 2;
  }
  Stt stt = {
      .fd = fd,
      .jobs = choir_jobs_new(QUEUE_LIMIT),
      .heard = choir_stt_heard_new(),
      .patience = patience,
      .options = {.model = model,
                  .backends = backends,
                  .language = language ? language : "en",
                  .grammar = grammar,
                  .dictionary = dictionary,
                  .lm = lm,
                  .threads = CLAMP(threads, 1, 64),
                  .url = url,
                  .fallback = stand_in,
                  .report = on_report,
                  .report_user = &stt},
  };
  g_autoptr(GError) error = NULL;
  stt.engines = choir_engine_pair_new(&choir_stt_engines, engine, &stt.options, stt.options.model, &error);
  if (!stt.engines) {
    choir_runner_log("%s", error->message);
    return 2;
  }
  g_thread_unref(g_thread_new("engine", engine_thread, &stt));
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  ChoirWireFrame frame = {0};
  while (choir_runner_read(fd, buffer, &frame))
    handle(&stt, &frame);
  _exit(0); /* the engine's thread may be deep in a model: there is nothing to wait for */
}
