/* PocketSphinx (CMU, BSD): with a JSGF grammar a quick and light recogniser of fixed commands; with the en-us language
 * model only a stopgap (42 % of words wrong on read sentences, where Whisper has 1 %). Whatever is said, the grammar's
 * nearest sentence comes out: it suits machines that are spoken to, not rooms that talk. */
#include "speech/stt.h"
#include "audio/resample.h"
#include <pocketsphinx.h>
#include <string.h>

#define BLOCK 1600 /* 100 ms: how often cancelling is noticed */
#define MODELS "/usr/share/pocketsphinx/model/en-us/"
#define QUIET_RMS 0.001

typedef struct {
  ps_decoder_t *decoder;
} Sphinx;

#ifdef CHOIR_POCKETSPHINX5 /* 5.0 renamed the configuration */
static ps_decoder_t *decoder_new(const ChoirSttOptions *options) {
  ps_config_t *config = ps_config_init(NULL);
  ps_config_set_str(config, "hmm", options->model && *options->model ? options->model : MODELS "en-us");
  ps_config_set_str(config, "dict", options->dictionary ? options->dictionary : MODELS "cmudict-en-us.dict");
  ps_config_set_str(config, "loglevel", "FATAL");
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
                  options->grammar ? options->grammar : lm, "-logfn", "/dev/null", NULL);
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
  *ret_detail = options->grammar ? g_strdup_printf("PocketSphinx, sentences of %s only", options->grammar)
                                 : g_strdup("PocketSphinx, dictation (poor: four words of ten are wrong)");
  return self;
}

static void sphinx_close(gpointer data) {
  Sphinx *self = data;
  ps_free(self->decoder);
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

static gboolean sphinx_transcribe(gpointer data, const gint16 *samples, gsize n, ChoirSttCancelled cancelled,
                                  gpointer user, ChoirSttResult *result, GError **error) {
  Sphinx *self = data;
  g_strlcpy(result->language, "en", sizeof result->language);
  if (choir_pcm_rms(samples, n) < QUIET_RMS) { /* a grammar has no way to say nothing */
    result->no_speech = 1;
    return TRUE;
  }
  ps_start_stream(self->decoder);
  if (ps_start_utt(self->decoder) != 0) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "PocketSphinx cannot start an utterance");
    return FALSE;
  }
  for (gsize at = 0; at < n && !cancelled(user); at += BLOCK)
    ps_process_raw(self->decoder, samples + at, MIN(n - at, BLOCK), FALSE, FALSE);
  ps_end_utt(self->decoder);
  if (cancelled(user))
    return FALSE;
  const char *hypothesis = ps_get_hyp(self->decoder, NULL);
  if (hypothesis)
    append_words(result->text, hypothesis);
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
