/* choir-tts: text to speech, one clause after the other. One thread reads frames, one speaks, so that a cancel is seen
 * at once. Frames of speech/wire.h on a descriptor; exits at its end. */
#include "speech/jobs.h"
#include "speech/phonemes_client.h"
#include "speech/runner.h"
#include "speech/tts_engines.h"
#include "speech/tts_text.h"
#include "speech/tts_timeline.h"
#include "audio/resample.h"
#include "base/names.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_LIMIT 64
#define TEXT_MAX (16 * 1024)
#define IDLE_MS 20000       /* before a machine that looked slow is measured again */
#define FRAME_SAMPLES 32768 /* 64 KiB */

typedef struct {
  int fd;
  ChoirJobs *jobs;
  ChoirEnginePair *engines;
  const ChoirTtsEngine *engine; /* the current one, on its thread */
  gpointer self;
  ChoirTtsOptions options;
  ChoirResampler *resampler;
} Tts;

/* One clause on its way out: engine's rate in, trimmed, 24 kHz out. */
typedef struct {
  Tts *tts;
  ChoirJob *job;
  ChoirTtsTrim trim;
  GArray *kept, *out;  /* gint16 at the engine's rate, at 24 kHz */
  guint64 sound, sent; /* samples of the engine, of the frames */
  ChoirTtsTimeline timeline;
  guint told; /* phones whose mouth shapes were sent */
  ChoirViseme mouth;
} Speaking;

static json_t *mouth_json(const GArray *mouth) {
  json_t *rows = json_array();
  for (guint i = 0; i < mouth->len; i++) {
    const ChoirTtsMouth *change = &g_array_index(mouth, ChoirTtsMouth, i);
    json_array_append_new(rows, json_pack("[i, s]", (int)change->first, choir_viseme_name(change->viseme)));
  }
  return rows;
}

/* Before the sound they belong to: how much of the front is cut off is known once there is some. */
static void send_mouth(Speaking *speaking) {
  if (speaking->told >= speaking->timeline.phones->len || choir_job_cancelled(speaking->job))
    return;
  const ChoirTtsSpan span = {.dropped = speaking->trim.dropped,
                             .rate = speaking->tts->engine->rate(speaking->tts->self),
                             .to_rate = CHOIR_RATE_OUT};
  g_autoptr(GArray) mouth = g_array_new(FALSE, FALSE, sizeof(ChoirTtsMouth));
  speaking->mouth = choir_tts_timeline_mouth(&speaking->timeline, &span, &speaking->told, speaking->mouth, mouth);
  if (mouth->len > 0)
    choir_runner_send_json(speaking->tts->fd, CHOIR_WIRE_TTS_MOUTH, &speaking->job->frame, speaking->job->frame.aux,
                           json_pack("{s:I, s:o}", "first", (json_int_t)speaking->sent, "visemes", mouth_json(mouth)));
}

static void send_out(Speaking *speaking) {
  if (speaking->out->len > 0 && !choir_job_commit(speaking->job))
    g_array_set_size(speaking->out, 0);
  if (speaking->out->len > 0)
    send_mouth(speaking);
  const gint16 *samples = (const gint16 *)(gpointer)speaking->out->data;
  for (guint at = 0; at < speaking->out->len && !choir_job_cancelled(speaking->job);) {
    guint n = MIN(speaking->out->len - at, FRAME_SAMPLES);
    choir_runner_send(speaking->tts->fd, CHOIR_WIRE_TTS_PCM, &speaking->job->frame, speaking->job->frame.aux,
                      samples + at, n * 2);
    speaking->sent += n;
    at += n;
  }
  g_array_set_size(speaking->out, 0);
}

static void convert(Speaking *speaking) {
  const gint16 *kept = (const gint16 *)(gpointer)speaking->kept->data;
  choir_resampler_run(speaking->tts->resampler, kept, speaking->kept->len, speaking->out);
  g_array_set_size(speaking->kept, 0);
  send_out(speaking);
}

static void on_pcm(const gint16 *samples, gsize n, gpointer user) {
  Speaking *speaking = user;
  speaking->sound += n;
  choir_tts_trim_run(&speaking->trim, samples, n, speaking->kept);
  convert(speaking);
}

static gboolean on_cancelled(gpointer user) {
  return choir_job_cancelled(((Speaking *)user)->job);
}

static json_t *words_json(const GArray *words) {
  json_t *rows = json_array();
  for (guint i = 0; i < words->len; i++) {
    const ChoirTtsWord *word = &g_array_index(words, ChoirTtsWord, i);
    json_t *row = json_pack("[i, i, i]", (int)word->begin, (int)word->end, (int)word->phonemes);
    if (word->timed && word->last > word->first) {
      json_array_append_new(row, json_integer(word->first));
      json_array_append_new(row, json_integer(word->last - 1));
    }
    json_array_append_new(rows, row);
  }
  return rows;
}

static void send_done(Speaking *speaking, GArray *words, double cpu_ms, double wall_ms) {
  const ChoirTtsSpan span = {.sound = speaking->sound,
                             .dropped = speaking->trim.dropped,
                             .sent = speaking->sent,
                             .rate = speaking->tts->engine->rate(speaking->tts->self),
                             .to_rate = CHOIR_RATE_OUT};
  g_autoptr(GArray) mouth = g_array_new(FALSE, FALSE, sizeof(ChoirTtsMouth));
  gboolean timed = choir_tts_timeline_finish(&speaking->timeline, &span, words, mouth);
  json_t *json = json_pack("{s:I, s:f, s:f, s:o}", "samples", (json_int_t)speaking->sent, "cpu_ms", cpu_ms, "wall_ms",
                           wall_ms, "words", words_json(words));
  if (timed)
    json_object_set_new(json, "visemes", mouth_json(mouth));
  choir_runner_send_json(speaking->tts->fd, CHOIR_WIRE_TTS_DONE, &speaking->job->frame, speaking->job->frame.aux, json);
}

/* FALSE after the error was sent. */
static gboolean take_options(Tts *tts, ChoirJob *job, const char **ret_text, gsize *ret_length) {
  const guint8 *payload = NULL;
  json_t *options = choir_job_options(job, &payload, ret_length);
  json_t *value = json_object_get(options, "speed");
  double speed = value ? json_number_value(value) : 1;
  gboolean known = options != NULL && speed >= 0.25 && speed <= 4;
  json_decref(options);
  *ret_text = (const char *)payload;
  *ret_length = MIN(*ret_length, TEXT_MAX);
  if (!known)
    choir_runner_error(tts->fd, &job->frame, "the options of a clause cannot be read");
  else if (tts->engine->set_speed)
    tts->engine->set_speed(tts->self, speed);
  else if (fabs(speed - 1) > 0.01)
    choir_runner_error(tts->fd, &job->frame, "the voice %s has one speed only", tts->engine->name);
  return known && (tts->engine->set_speed || fabs(speed - 1) <= 0.01);
}

static void speak(Tts *tts, ChoirJob *job) {
  double cpu = choir_runner_cpu_ms(), wall = choir_runner_wall_ms();
  const char *raw = NULL;
  gsize length = 0;
  if (!take_options(tts, job, &raw, &length))
    return;
  g_autoptr(GError) error = NULL;
  g_autoptr(GArray) words = choir_tts_words(raw, length);
  g_autofree char *text = choir_tts_text_clean(raw, length);
  Speaking speaking = {
      .tts = tts,
      .job = job,
      .kept = g_array_new(FALSE, FALSE, sizeof(gint16)),
      .out = g_array_new(FALSE, FALSE, sizeof(gint16)),
  };
  choir_tts_trim_init(&speaking.trim, tts->engine->rate(tts->self));
  choir_tts_timeline_init(&speaking.timeline);
  choir_resampler_reset(tts->resampler);
  ChoirTtsSink sink = {.pcm = on_pcm, .cancelled = on_cancelled, .timeline = &speaking.timeline, .user = &speaking};
  gboolean ok = !choir_tts_text_speakable(text) || tts->engine->say(tts->self, text, words, &sink, &error);
  if (ok) {
    choir_tts_trim_end(&speaking.trim, speaking.kept);
    convert(&speaking);
  }
  if (ok && !choir_job_cancelled(job))
    send_done(&speaking, words, choir_runner_cpu_ms() - cpu, choir_runner_wall_ms() - wall);
  else if (!ok && !choir_job_cancelled(job))
    choir_runner_error(tts->fd, &job->frame, "%s", error ? error->message : "the voice gave up");
  choir_tts_trim_clear(&speaking.trim);
  choir_tts_timeline_clear(&speaking.timeline);
  g_array_unref(speaking.kept);
  g_array_unref(speaking.out);
  if (error && error->code == CHOIR_PHONEMES_ERROR_GONE)
    _exit(1); /* the daemon starts both anew */
}

/* Another READY: the daemon shows what it says. */
static void on_report(const char *detail, gpointer user) {
  Tts *tts = user;
  choir_runner_ready(tts->fd, tts->engine ? tts->engine->name : "wyoming", tts->options.model ? tts->options.model : "",
                     0, detail);
}

static void use_current(Tts *tts) {
  tts->engine = choir_engine_pair_current(tts->engines, &tts->self);
  choir_resampler_free(tts->resampler);
  tts->resampler = choir_resampler_new(tts->engine->rate(tts->self), CHOIR_RATE_OUT);
}

static gboolean has_work(gpointer user) {
  return !choir_jobs_idle(((Tts *)user)->jobs);
}

static gpointer engine_thread(gpointer data) {
  Tts *tts = data;
  g_autoptr(GError) error = NULL;
  double start = choir_runner_wall_ms();
  choir_runner_status(tts->fd, 0, "loading the voice");
  if (!choir_engine_pair_open(tts->engines, &error)) {
    choir_runner_error(tts->fd, NULL, "%s", error->message);
    _exit(1);
  }
  const double load_ms = choir_runner_wall_ms() - start;
  use_current(tts);
  choir_engine_pair_report(tts->engines, tts->fd, CHOIR_WIRE_READY, load_ms);
  for (;;) {
    gint64 due = choir_engine_pair_due(tts->engines);
    ChoirJob *job = choir_jobs_take_within(tts->jobs, due < 0 ? -1 : MAX(due, IDLE_MS));
    if (!job) {
      choir_engine_pair_probe(tts->engines, has_work, tts);
      use_current(tts);
      choir_engine_pair_report(tts->engines, tts->fd, CHOIR_WIRE_STATUS, load_ms);
      continue;
    }
    if (!choir_job_cancelled(job))
      speak(tts, job);
    choir_jobs_done(tts->jobs, job);
  }
  return NULL;
}

static void handle(Tts *tts, const ChoirWireFrame *frame) {
  gboolean hit = FALSE;
  switch (frame->type) {
  case CHOIR_WIRE_TTS_JOB:
    if (frame->length > TEXT_MAX)
      choir_runner_error(tts->fd, frame, "a clause of more than %d bytes is not spoken", TEXT_MAX);
    else if (!choir_jobs_push(tts->jobs, frame, &hit))
      choir_runner_error(tts->fd, frame, "%d clauses are waiting already", QUEUE_LIMIT);
    break;
  case CHOIR_WIRE_TTS_CANCEL:
    hit = choir_jobs_cancel(tts->jobs, frame->session, frame->gen);
    break;
  default:
    choir_runner_error(tts->fd, frame, "frame type %u is not for choir-tts", frame->type);
  }
  if (hit)
    choir_tts_engines_interrupt(tts->engines);
}

int main(int argc, char **argv) {
  choir_runner_init("choir-tts");
  g_autofree char *engine = NULL, *model = NULL, *library = NULL, *url = NULL, *fallback = NULL;
  int fd = 3, phonemes_fd = 4, threads = MIN((int)g_get_num_processors(), 2);
  double speed = 1;
  const GOptionEntry entries[] = {
      {"engine", 0, 0, G_OPTION_ARG_STRING, &engine, "auto, piper, flite, wyoming or null (default piper)", "NAME"},
      {"model", 0, 0, G_OPTION_ARG_FILENAME, &model, "Piper voice; its .json lies beside it", "FILE"},
      {"onnxruntime", 0, 0, G_OPTION_ARG_FILENAME, &library, "libonnxruntime.so", "FILE"},
      {"phonemes-fd", 0, 0, G_OPTION_ARG_INT, &phonemes_fd, "socket to choir-phonemes (default 4; Piper only)", "N"},
      {"threads", 0, 0, G_OPTION_ARG_INT, &threads, "processor threads of Piper", "N"},
      {"speed", 0, 0, G_OPTION_ARG_DOUBLE, &speed, "0.5 to 2 (default 1)", "X"},
      {"url", 0, 0, G_OPTION_ARG_STRING, &url, "Wyoming: the other machine, tcp://host:port", "URL"},
      {"fallback", 0, 0, G_OPTION_ARG_STRING, &fallback, "Wyoming: engine that stands in while it is away", "NAME"},
      {"fd", 0, 0, G_OPTION_ARG_INT, &fd, "descriptor of the frames (default 3)", "N"},
      G_OPTION_ENTRY_NULL,
  };
  choir_runner_options(&argc, &argv, entries, "Speaks clauses, 24 kHz, for choir serve.");
  engine = engine ? engine : g_strdup("piper");
  if (!model && (g_str_equal(engine, "piper") || g_str_equal(engine, "auto")))
    model = choir_runner_cache_path("models/en_US-joe-medium.onnx");
  library = library ? library : choir_runner_cache_path("runtime/libonnxruntime.so");
  const ChoirTtsEngine *stand_in = fallback ? choir_engine_named(&choir_tts_engines, fallback) : NULL;
  if (fallback && (!stand_in || stand_in == &choir_tts_wyoming)) {
    choir_runner_log("no engine '%s' can stand in", fallback);
    return 2;
  }
  Tts tts = {
      .fd = fd,
      .jobs = choir_jobs_new(QUEUE_LIMIT),
      .options = {.model = model,
                  .library = library,
                  .phonemes_fd = phonemes_fd,
                  .threads = CLAMP(threads, 1, 16),
                  .speed = CLAMP(speed, 0.5, 2),
                  .url = url,
                  .fallback = stand_in,
                  .report = on_report,
                  .report_user = &tts},
  };
  g_autoptr(GError) error = NULL;
  tts.engines = choir_engine_pair_new(&choir_tts_engines, engine, &tts.options, tts.options.model, &error);
  if (!tts.engines) {
    choir_runner_log("%s", error->message);
    return 2;
  }
  g_thread_unref(g_thread_new("engine", engine_thread, &tts));
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  ChoirWireFrame frame = {0};
  while (choir_runner_read(fd, buffer, &frame))
    handle(&tts, &frame);
  _exit(0); /* the engine's thread may be deep in a model: there is nothing to wait for */
}
