/* PocketSphinx (CMU, BSD): with a JSGF grammar a quick and light recogniser of fixed commands; with the en-us language
 * model only a stopgap (42 % of words wrong on read sentences, where Whisper has 1 %). A grammar finds its nearest
 * sentence in whatever is said; so the recording is heard once more by a free loop of phones, and when that fits much
 * better, what was said was no command and the answer is empty. */
#include "speech/stt.h"
#include "audio/resample.h"
#include <pocketsphinx.h>
#include <string.h>

#define BLOCK 1600 /* 100 ms: how often cancelling is noticed */
#define MODELS "/usr/share/pocketsphinx/model/en-us/"
#define QUIET_RMS 0.001
#define PHONES "choir-phones"
/* How much better the phone loop may fit, in the decoder's log units a frame. Commands of the six real recordings lie
 * between 3 and 13, sentences that are none between 24 and 35, with one at 7. */
#define MISFIT_MAX 16.0

typedef struct {
  ps_decoder_t *decoder;
  char *sentences; /* name of the grammar's search */
  gboolean phones; /* the second search is there */
} Sphinx;

#ifdef CHOIR_POCKETSPHINX5 /* 5.0 renamed the configuration */
#define ps_set_search ps_activate_search
#define ps_get_search ps_current_search
#define ps_set_allphone_file(decoder, name, path) ps_add_allphone(decoder, name, NULL)

static ps_decoder_t *decoder_new(const ChoirSttOptions *options) {
  ps_config_t *config = ps_config_init(NULL);
  ps_config_set_str(config, "hmm", options->model && *options->model ? options->model : MODELS "en-us");
  ps_config_set_str(config, "dict", options->dictionary ? options->dictionary : MODELS "cmudict-en-us.dict");
  ps_config_set_str(config, "loglevel", "FATAL");
  ps_config_set_bool(config, "allphone_ci", TRUE);
  if (options->grammar)
    ps_config_set_str(config, "jsgf", options->grammar);
  else
    ps_config_set_str(config, "lm", options->lm ? options->lm : MODELS "en-us.lm.bin");
  ps_decoder_t *decoder = ps_init(config);
  ps_config_free(config);
  return decoder;
}
#else
static ps_decoder_t *decoder_new(const ChoirSttOptions *options) {
  const char *hmm = options->model && *options->model ? options->model : MODELS "en-us";
  const char *dictionary = options->dictionary ? options->dictionary : MODELS "cmudict-en-us.dict";
  const char *lm = options->lm ? options->lm : MODELS "en-us.lm.bin";
  cmd_ln_t *config =
      cmd_ln_init(NULL, ps_args(), TRUE, "-hmm", hmm, "-dict", dictionary, options->grammar ? "-jsgf" : "-lm",
                  options->grammar ? options->grammar : lm, "-logfn", "/dev/null", "-allphone_ci", "yes", NULL);
  if (!config)
    return NULL;
  ps_decoder_t *decoder = ps_init(config);
  cmd_ln_free_r(config);
  return decoder;
}
#endif

static gpointer sphinx_open(const ChoirSttOptions *options, char **ret_detail, GError **error) {
  GQuark domain = g_quark_from_static_string("choir-speech-error");
  if (options->grammar && !g_file_test(options->grammar, G_FILE_TEST_IS_REGULAR)) {
    g_set_error(error, domain, 0, "there is no grammar file %s", options->grammar);
    return NULL;
  }
  ps_decoder_t *decoder = decoder_new(options);
  if (!decoder) {
    g_set_error(error, domain, 0,
                "PocketSphinx does not start: a model is missing, or the grammar has a mistake or a word "
                "that is not in the dictionary");
    return NULL;
  }
  Sphinx *self = g_new0(Sphinx, 1);
  self->decoder = decoder;
  self->sentences = g_strdup(ps_get_search(decoder));
  /* Without a language model of phones: any phone may follow any other. */
  self->phones = options->grammar && ps_set_allphone_file(decoder, PHONES, NULL) == 0;
  ps_set_search(decoder, self->sentences);
  *ret_detail = options->grammar ? g_strdup_printf("PocketSphinx, sentences of %s only", options->grammar)
                                 : g_strdup("PocketSphinx, dictation (poor: four words of ten are wrong)");
  return self;
}

static void sphinx_close(gpointer data) {
  Sphinx *self = data;
  ps_free(self->decoder);
  g_free(self->sentences);
  g_free(self);
}

/* Words like "<sil>", "[NOISE]" and the variant mark of "to(2)" are the decoder's own. */
static void append_words(GString *text, const char *hypothesis) {
  g_auto(GStrv) words = g_strsplit(hypothesis, " ", -1);
  for (guint i = 0; words[i]; i++) {
    char *variant = strchr(words[i], '(');
    if (variant)
      *variant = 0;
    if (words[i][0] == 0 || words[i][0] == '<' || words[i][0] == '[' || words[i][0] == '+')
      continue;
    if (text->len > 0)
      g_string_append_c(text, ' ');
    g_string_append(text, words[i]);
  }
}

typedef struct {
  const gint16 *samples;
  gsize n;
  ChoirSttCancelled cancelled;
  gpointer user;
} Recording;

/* One pass with one search. FALSE with error, or without when cancelled. text may be NULL. */
static gboolean decode(Sphinx *self, const char *search, const Recording *in, GString *text, double *ret_per_frame,
                       GError **error) {
  ps_set_search(self->decoder, search);
  ps_start_stream(self->decoder);
  if (ps_start_utt(self->decoder) != 0) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "PocketSphinx cannot start an utterance");
    return FALSE;
  }
  for (gsize at = 0; at < in->n && !in->cancelled(in->user); at += BLOCK)
    ps_process_raw(self->decoder, in->samples + at, MIN(in->n - at, BLOCK), FALSE, FALSE);
  ps_end_utt(self->decoder);
  if (in->cancelled(in->user))
    return FALSE;
  int32 score = 0;
  const char *hypothesis = ps_get_hyp(self->decoder, &score);
  if (hypothesis && text)
    append_words(text, hypothesis);
  *ret_per_frame = (double)score / MAX(ps_get_n_frames(self->decoder), 1);
  return TRUE;
}

static gboolean sphinx_transcribe(gpointer data, const gint16 *samples, gsize n, ChoirSttCancelled cancelled,
                                  gpointer user, ChoirSttResult *result, GError **error) {
  Sphinx *self = data;
  const Recording in = {.samples = samples, .n = n, .cancelled = cancelled, .user = user};
  double sentences = 0, phones = 0;
  g_strlcpy(result->language, "en", sizeof result->language);
  if (choir_pcm_rms(samples, n) < QUIET_RMS) { /* a grammar has no way to say nothing */
    result->no_speech = 1;
    return TRUE;
  }
  if (!decode(self, self->sentences, &in, result->text, &sentences, error))
    return FALSE;
  if (self->phones && result->text->len > 0) {
    if (!decode(self, PHONES, &in, NULL, &phones, error))
      return FALSE;
    if (phones - sentences > MISFIT_MAX)
      g_string_truncate(result->text, 0);
  }
  result->no_speech = result->text->len > 0 ? 0 : 1;
  return TRUE;
}

const ChoirSttEngine choir_stt_pocketsphinx = {
    .name = "pocketsphinx",
    .help = "fixed commands of a grammar",
    .open = sphinx_open,
    .close = sphinx_close,
    .transcribe = sphinx_transcribe,
};
