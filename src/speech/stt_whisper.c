/* Whisper (OpenAI, 2022) by whisper.cpp on the ggml libraries of the engine folder. How it is called was measured:
 * a cut audio context saves most of the time, but below 256 frames it makes the decoder repeat itself, as do
 * switched-off time stamps on short recordings; max_tokens bounds what is left of that. */
#include "speech/stt.h"
#include "speech/stt_text.h"
#include "speech/runner.h"
#include "audio/resample.h"
#include "base/names.h"
#include <dlfcn.h>
#include <math.h>
#include <string.h>
#include <ggml-backend.h>
#include <whisper.h>

#define AUDIO_CTX_MIN 160 /* 3.2 s: the words of short clips stay the same down to 112 */
#define AUDIO_CTX_MAX 1500
#define SAMPLES_MIN (CHOIR_RATE_MIC * 11 / 10) /* below about a second Whisper hears nothing */
#define NO_SPEECH_SURE 0.9
#define NO_SPEECH_MAYBE 0.45 /* real speech: up to 0.33 */
#define QUIET_RMS 0.002
#define OTHER_LANGUAGE 0.6 /* so sure must it be before a text is made anew in another one */

typedef struct {
  struct whisper_context *context;
  char language[16]; /* of the options */
  char spoken[16];   /* of the job */
  char guess[16];    /* for "auto": the language heard last */
  char *prompt;      /* of the job, or NULL */
  gboolean segments; /* the job wants them */
  int threads;
  ChoirSttCancelled cancelled;
  gpointer user;
} Whisper;

/* whisper.cpp asks its abort callback only between graphs, and one encoder graph takes seconds on an old processor. It
 * calls this function of libggml; being defined in the program too, ours is found first, hands the callback to the
 * processor's back end, which asks it at every node, and goes on to the real one. */
static ggml_abort_callback graph_abort;
static void *graph_abort_data;

enum ggml_status ggml_backend_sched_graph_compute(ggml_backend_sched_t sched, struct ggml_cgraph *graph) {
  static enum ggml_status (*real)(ggml_backend_sched_t, struct ggml_cgraph *);
  if (!real)
    *(void **)&real = dlsym(RTLD_NEXT, "ggml_backend_sched_graph_compute");
  for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); i++) {
    ggml_backend_t backend = ggml_backend_sched_get_backend(sched, i);
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    ggml_backend_set_abort_callback_t set = NULL;
    *(void **)&set = ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_abort_callback");
    if (set)
      set(backend, graph_abort, graph_abort_data);
  }
  return real(sched, graph);
}

static bool should_abort(void *data) {
  Whisper *self = data;
  return self->cancelled(self->user);
}

static void log_problems(enum ggml_log_level level, const char *text, void *user) {
  if (level == GGML_LOG_LEVEL_ERROR)
    choir_runner_log("%s", text);
}

static char *folder_of_ggml(void) {
  Dl_info info;
  if (!dladdr((void *)&ggml_backend_load, &info) || !info.dli_fname)
    return g_strdup(".");
  g_autofree char *library = g_canonicalize_filename(info.dli_fname, NULL);
  return g_path_get_dirname(library);
}

/* The back end that ggml chose: it does not say, but its file is mapped. Ours stands on a stock one, so both are then.
 */
static char *loaded_variant(void) {
  static const char prefix[] = "/libggml-cpu-";
  g_autofree char *maps = NULL;
  if (!g_file_get_contents("/proc/self/maps", &maps, NULL, NULL))
    return g_strdup("unknown");
  if (strstr(maps, "/libggml-cpu-core2.so"))
    return g_strdup("core2");
  const char *name = strstr(maps, prefix);
  name = name ? name + strlen(prefix) : "unknown";
  return g_strndup(name, strcspn(name, ".\n"));
}

/* Loads the best back end of the folder, or the one that CHOIR_CPU_VARIANT names. */
static char *load_backend(const char *options_folder, GError **error) {
  g_autofree char *folder = options_folder ? g_strdup(options_folder) : folder_of_ggml();
  const char *variant = g_getenv("CHOIR_CPU_VARIANT");
  if (variant && *variant && !g_str_equal(variant, "auto")) {
    g_autofree char *file = g_strdup_printf("%s/libggml-cpu-%s.so", folder, variant);
    if (!ggml_backend_load(file)) {
      g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "%s cannot be loaded", file);
      return NULL;
    }
    return g_strdup(variant);
  }
  ggml_backend_load_all_from_path(folder);
  if (ggml_backend_dev_count() == 0) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "no CPU back end in %s", folder);
    return NULL;
  }
  return loaded_variant();
}

static void whisper_close(gpointer data) {
  Whisper *self = data;
  if (self->context)
    whisper_free(self->context);
  g_free(self->prompt);
  g_free(self);
}

static gpointer whisper_open(const ChoirSttOptions *options, char **ret_detail, GError **error) {
  GQuark domain = g_quark_from_static_string("choir-speech-error");
  if (!g_str_equal(options->language, "auto") && whisper_lang_id(options->language) < 0) {
    g_set_error(error, domain, 0, "Whisper knows no language '%s'", options->language);
    return NULL;
  }
  whisper_log_set(log_problems, NULL);
  ggml_log_set(log_problems, NULL);
  g_autofree char *variant = load_backend(options->backends, error);
  if (!variant)
    return NULL;
  struct whisper_context_params params = whisper_context_default_params();
  params.use_gpu = false;
  /* A tenth less time for the encoder, but in whisper.cpp it attends to keys beyond a short audio_ctx, too: those of
   * the utterance before. */
  params.flash_attn = false;
  Whisper *self = g_new0(Whisper, 1);
  self->context = whisper_init_from_file_with_params(options->model, params);
  if (!self->context) {
    g_set_error(error, domain, 0, "Whisper cannot load %s", options->model);
    whisper_close(self);
    return NULL;
  }
  g_strlcpy(self->language, options->language, sizeof self->language);
  g_strlcpy(self->spoken, options->language, sizeof self->spoken);
  g_strlcpy(self->guess, "en", sizeof self->guess);
  self->threads = options->threads;
  graph_abort = should_abort;
  graph_abort_data = self;
  *ret_detail = g_strdup_printf("Whisper %s, processor variant %s, %d threads",
                                whisper_model_type_readable(self->context), variant, options->threads);
  return self;
}

static struct whisper_full_params full_params(Whisper *self, gsize n) {
  double seconds = (double)n / CHOIR_RATE_MIC;
  struct whisper_full_params params = whisper_full_default_params(WHISPER_SAMPLING_GREEDY);
  params.n_threads = self->threads;
  params.language = g_str_equal(self->spoken, "auto") ? self->guess : self->spoken;
  params.initial_prompt = self->prompt;
  params.no_context = true;
  params.single_segment = !self->segments;
  params.no_timestamps = false;
  params.print_progress = false;
  params.print_realtime = false;
  params.print_timestamps = false;
  params.print_special = false;
  params.suppress_blank = true;
  params.suppress_nst = false;
  params.no_speech_thold = 2; /* never: see judge_sound() */
  params.temperature_inc = 0; /* no second tries at higher temperatures: they take as long as the first */
  params.greedy.best_of = 1;
  params.max_tokens = (int)(8 * seconds) + 8;
  int frames = MAX(AUDIO_CTX_MIN, (int)(50 * seconds) + 64);
  params.audio_ctx = MIN((frames + 15) / 16 * 16, AUDIO_CTX_MAX);
  params.abort_callback = should_abort;
  params.abort_callback_user_data = self;
  return params;
}

/* Whether the text is made up: by the model's own doubt, its favourite phantoms, or its loop. */
static gboolean is_invented(const char *text, double no_speech, double rms) {
  if (no_speech >= NO_SPEECH_SURE)
    return TRUE;
  if (choir_stt_text_is_loop(text))
    return TRUE;
  return (no_speech >= NO_SPEECH_MAYBE || rms < QUIET_RMS) && choir_stt_text_is_phantom(text);
}

/* Whisper counts in steps of 10 ms, and past the end of what it was given. */
static void add_segments(Whisper *self, GArray *segments, gsize n) {
  gint64 end = (gint64)n * 1000 / CHOIR_RATE_MIC, last = 0;
  for (int i = 0; i < whisper_full_n_segments(self->context); i++) {
    g_autoptr(GString) text = g_string_new(whisper_full_get_segment_text(self->context, i));
    choir_stt_text_clean(text);
    gint64 from = CLAMP(whisper_full_get_segment_t0(self->context, i) * 10, last, end);
    gint64 to = CLAMP(whisper_full_get_segment_t1(self->context, i) * 10, from, end);
    if (text->len == 0)
      continue;
    ChoirSttSegment segment = {.begin_ms = (guint)from, .end_ms = (guint)to, .text = g_strdup(text->str)};
    g_array_append_val(segments, segment);
    last = to;
  }
}

static gboolean whisper_wish(gpointer data, const ChoirSttWish *wish, GError **error) {
  Whisper *self = data;
  if (wish->language && !g_str_equal(wish->language, "auto") && whisper_lang_id(wish->language) < 0) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "Whisper knows no language '%s'",
                wish->language);
    return FALSE;
  }
  g_strlcpy(self->spoken, wish->language ? wish->language : self->language, sizeof self->spoken);
  g_free(self->prompt);
  self->prompt = g_strdup(wish->prompt);
  return TRUE;
}

/* What the model makes of the sound as such: its language, and whether anybody speaks. whisper.cpp's own detection
 * encodes everything a second time, and its probability of no speech comes from the logits of the utterance before; but
 * the encoding of the last transcription is still there, so that one step of the decoder says both. */
static void judge_sound(Whisper *self, ChoirSttResult *result) {
  const whisper_token start = whisper_token_sot(self->context);
  if (!whisper_is_multilingual(self->context) || whisper_decode(self->context, &start, 1, 0, self->threads) != 0)
    return;
  const float *logits = whisper_get_logits(self->context);
  int best = 0, words = whisper_n_vocab(self->context);
  double sum = 0, all = 0;
  for (int i = 1; i <= whisper_lang_max_id(); i++)
    if (logits[whisper_token_lang(self->context, i)] > logits[whisper_token_lang(self->context, best)])
      best = i;
  for (int i = 0; i <= whisper_lang_max_id(); i++)
    sum += exp((double)logits[whisper_token_lang(self->context, i)] - logits[whisper_token_lang(self->context, best)]);
  const double silence = logits[whisper_token_nosp(self->context)];
  for (int i = 0; i < words; i++)
    all += exp(logits[i] - silence);
  result->no_speech = 1 / all;
  g_strlcpy(result->heard, whisper_lang_str(best), sizeof result->heard);
  result->heard_p = 1 / sum;
}

/* FALSE with error, or without when cancelled. Text is only as sure as is_invented() says. */
static gboolean run(Whisper *self, const float *pcm, gsize n, ChoirSttResult *result, GError **error) {
  struct whisper_full_params params = full_params(self, n);
  int code = whisper_full(self->context, params, pcm, (int)n);
  if (self->cancelled(self->user))
    return FALSE;
  if (code != 0) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "Whisper failed with code %d", code);
    return FALSE;
  }
  for (int i = 0; i < whisper_full_n_segments(self->context); i++)
    g_string_append(result->text, whisper_full_get_segment_text(self->context, i));
  choir_stt_text_clean(result->text);
  const char *language = whisper_lang_str(whisper_full_lang_id(self->context));
  g_strlcpy(result->language, language ? language : "en", sizeof result->language);
  result->no_speech = result->text->len > 0 ? 0 : 1;
  if (result->text->len > 0)
    judge_sound(self, result);
  return TRUE;
}

/* The last language is taken for this one's, too; when that was wrong the text is made anew. */
static gboolean run_in_language(Whisper *self, const float *pcm, gsize n, ChoirSttResult *result, GError **error) {
  if (!run(self, pcm, n, result, error))
    return FALSE;
  if (!g_str_equal(self->spoken, "auto") || result->heard_p < OTHER_LANGUAGE ||
      g_str_equal(result->heard, result->language))
    return TRUE;
  g_strlcpy(self->guess, result->heard, sizeof self->guess);
  g_string_truncate(result->text, 0);
  return run(self, pcm, n, result, error);
}

static gboolean whisper_transcribe(gpointer data, const gint16 *samples, gsize n, ChoirSttCancelled cancelled,
                                   gpointer user, ChoirSttResult *result, GError **error) {
  Whisper *self = data;
  gsize padded = MAX(n, SAMPLES_MIN);
  g_autofree float *pcm = g_new0(float, padded);
  for (gsize i = 0; i < n; i++)
    pcm[i] = samples[i] / 32768.0f;
  self->cancelled = cancelled;
  self->user = user;
  self->segments = result->segments != NULL;
  if (!run_in_language(self, pcm, padded, result, error))
    return FALSE;
  if (is_invented(result->text->str, result->no_speech, choir_pcm_rms(samples, n)))
    g_string_truncate(result->text, 0);
  if (result->segments && result->text->len > 0)
    add_segments(self, result->segments, n);
  return TRUE;
}

const ChoirSttEngine choir_stt_whisper = {
    .name = "whisper",
    .help = "Whisper base, 99 languages",
    .open = whisper_open,
    .close = whisper_close,
    .transcribe = whisper_transcribe,
    .wish = whisper_wish,
};
