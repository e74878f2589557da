#include "speech/spot_decoder.h"
#include "base/names.h"
#include <pocketsphinx.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAME 160                     /* samples of a frame of the acoustic model */
#define STRETCH (20 * CHOIR_RATE_MIC) /* then a new utterance: its counters and lists stay small */
#define KINDS 8
#define SCORE_SHIFT 10 /* of PocketSphinx: its scores are logarithms divided by so many twos */
#define SCORE_BASE 1500
#define LAXEST (-30) /* below it nothing is worth measuring, and everything takes long */

struct ChoirSpotDecoder {
  ps_decoder_t *decoder;
  const ChoirSpotPhrases *phrases;
  gboolean made[KINDS]; /* a search for this mask of kinds is there */
  gboolean running;
  guint kinds;
  guint64 start, fed;   /* samples: of the running utterance, and in all */
  gint64 frames[KINDS]; /* that a search counted before this utterance */
};

#ifdef CHOIR_POCKETSPHINX5 /* 5.0 renamed these */
#define ps_set_search ps_activate_search
#define ps_set_kws ps_add_kws

static ps_decoder_t *open_decoder(const char *model, const char *dictionary) {
  ps_config_t *config = ps_config_init(NULL);
  ps_config_set_str(config, "hmm", model);
  ps_config_set_str(config, "dict", dictionary);
  ps_config_set_str(config, "loglevel", "FATAL");
  ps_config_set_str(config, "cmn", "live");
  ps_decoder_t *decoder = ps_init(config);
  ps_config_free(config);
  return decoder;
}
#else

static ps_decoder_t *open_decoder(const char *model, const char *dictionary) {
  cmd_ln_t *config = cmd_ln_init(NULL, ps_args(), TRUE, "-hmm", model, "-dict", dictionary, "-logfn", "/dev/null",
                                 "-cmn", "live", "-remove_silence", "no", NULL);
  ps_decoder_t *decoder = config ? ps_init(config) : NULL;
  if (config)
    cmd_ln_free_r(config);
  return decoder;
}
#endif

/* PocketSphinx reads names of files only. Returns the descriptor behind ret_path, which the caller closes. */
static int text_file(const GString *text, char *ret_path, gsize size) {
  int fd = memfd_create("choir-spot", MFD_CLOEXEC);
  if (fd < 0 || write(fd, text->str, text->len) != (ssize_t)text->len) {
    if (fd >= 0)
      close(fd);
    return -1;
  }
  g_snprintf(ret_path, (gulong)size, "/proc/self/fd/%d", fd);
  return fd;
}

/* Each phrase is one word of a dictionary of our own, so that its phones are exactly those of the table. */
static void append_word(GString *out, guint index) {
  g_string_append_printf(out, "phrase%u", index);
}

static ps_decoder_t *with_dictionary(const char *model, const ChoirSpotPhrases *phrases) {
  g_autoptr(GString) text = g_string_new(NULL);
  for (guint i = 0; i < choir_spot_phrases_count(phrases); i++) {
    append_word(text, i);
    g_string_append_printf(text, " %s\n", choir_spot_phrases_get(phrases, i)->phones);
  }
  char path[64];
  int fd = text_file(text, path, sizeof path);
  if (fd < 0)
    return NULL;
  ps_decoder_t *decoder = open_decoder(model, path);
  close(fd);
  return decoder;
}

ChoirSpotDecoder *choir_spot_decoder_new(const char *model, const ChoirSpotPhrases *phrases, GError **error) {
  ps_decoder_t *decoder = g_file_test(model, G_FILE_TEST_IS_DIR) ? with_dictionary(model, phrases) : NULL;
  if (!decoder) {
    g_set_error(
        error, g_quark_from_static_string("choir-speech-error"), 0,
        "keyphrases are not spotted: PocketSphinx does not start with the acoustic model %s; the Debian package "
        "pocketsphinx-en-us has it",
        model);
    return NULL;
  }
  ChoirSpotDecoder *self = g_new0(ChoirSpotDecoder, 1);
  self->decoder = decoder;
  self->phrases = phrases;
  return self;
}

/* Up to 5prealpha a search counts its frames on from one utterance to the next; 5.0 begins at 0 again. */
static void end(ChoirSpotDecoder *self) {
  ps_end_utt(self->decoder);
#ifndef CHOIR_POCKETSPHINX5
  self->frames[self->kinds] += ps_get_n_frames(self->decoder);
#endif
  self->running = FALSE;
}

void choir_spot_decoder_free(ChoirSpotDecoder *self) {
  if (!self)
    return;
  if (self->running)
    end(self);
  ps_free(self->decoder);
  g_free(self);
}

/* everything: any fit counts, however bad. */
static gboolean make_search(ChoirSpotDecoder *self, const char *name, guint kinds, gboolean everything) {
  g_autoptr(GString) text = g_string_new(NULL);
  for (guint i = 0; i < choir_spot_phrases_count(self->phrases); i++) {
    const ChoirSpotPhrase *phrase = choir_spot_phrases_get(self->phrases, i);
    if (!(phrase->kind & kinds))
      continue;
    append_word(text, i);
    g_string_append_printf(text, " /1e%d/\n", everything ? LAXEST : phrase->threshold);
  }
  char path[64];
  int fd = text->len > 0 ? text_file(text, path, sizeof path) : -1;
  gboolean ok = fd >= 0 && ps_set_kws(self->decoder, name, path) == 0;
  if (fd >= 0)
    close(fd);
  return ok;
}

static gboolean begin(ChoirSpotDecoder *self) {
  self->start = self->fed;
  self->running = ps_start_utt(self->decoder) == 0;
  return self->running;
}

gboolean choir_spot_decoder_start(ChoirSpotDecoder *self, guint kinds) {
  kinds &= KINDS - 1;
  char name[16];
  g_snprintf(name, sizeof name, "spot%u", kinds);
  if (self->running)
    end(self);
  self->kinds = kinds;
  if (!self->made[kinds])
    self->made[kinds] = make_search(self, name, kinds, FALSE);
  self->fed = 0;
  return self->made[kinds] && ps_set_search(self->decoder, name) == 0 && begin(self);
}

/* The longest phrase wins: "stop talking" contains "stop". before: frames counted before this utterance. */
static gboolean report(ChoirSpotDecoder *self, gint64 before, ChoirSpotHeard heard, gpointer user) {
  if (!ps_get_hyp(self->decoder, NULL))
    return FALSE;
  const ChoirSpotPhrase *best = NULL;
  int best_end = 0, begin_frame = 0, end_frame = 0;
  for (ps_seg_t *segment = ps_seg_iter(self->decoder); segment; segment = ps_seg_next(segment)) {
    guint index = 0;
    if (sscanf(ps_seg_word(segment), "phrase%u", &index) != 1 || index >= choir_spot_phrases_count(self->phrases))
      continue;
    ps_seg_frames(segment, &begin_frame, &end_frame);
    const ChoirSpotPhrase *phrase = choir_spot_phrases_get(self->phrases, index);
    if (!best || strlen(phrase->phones) > strlen(best->phones)) {
      best = phrase;
      best_end = end_frame;
    }
  }
  if (best)
    heard(best, MIN(self->start + (guint64)MAX(best_end + 1 - before, 0) * FRAME, self->fed), user);
  return best != NULL;
}

void choir_spot_decoder_feed(ChoirSpotDecoder *self, const gint16 *samples, gsize n, ChoirSpotHeard heard,
                             gpointer user) {
  if (!self->running)
    return;
  ps_process_raw(self->decoder, samples, n, FALSE, FALSE);
  self->fed += n;
  if (report(self, self->frames[self->kinds], heard, user) || self->fed - self->start > STRETCH) {
    end(self);
    begin(self);
  }
}

void choir_spot_decoder_stop(ChoirSpotDecoder *self, ChoirSpotHeard heard, gpointer user) {
  if (!self->running)
    return;
  gint64 before = self->frames[self->kinds];
  end(self);
  report(self, before, heard, user);
}

gboolean choir_spot_decoder_measure(ChoirSpotDecoder *self, const gint16 *samples, gsize n, double *scores) {
  if (self->running)
    end(self);
  for (guint i = 0; i < choir_spot_phrases_count(self->phrases); i++)
    scores[i] = CHOIR_SPOT_NOWHERE;
  self->kinds = 0;
  if (!self->made[0])
    self->made[0] = make_search(self, "measure", KINDS - 1, TRUE);
  if (!self->made[0] || ps_set_search(self->decoder, "measure") != 0 || !begin(self))
    return FALSE;
  ps_process_raw(self->decoder, samples, n, FALSE, FALSE);
  end(self);
  logmath_t *log = ps_get_logmath(self->decoder);
  for (ps_seg_t *segment = ps_seg_iter(self->decoder); segment; segment = ps_seg_next(segment)) {
    guint index = 0;
    if (sscanf(ps_seg_word(segment), "phrase%u", &index) != 1 || index >= choir_spot_phrases_count(self->phrases))
      continue;
    int score = ps_seg_prob(segment, NULL, NULL, NULL) + SCORE_BASE;
    scores[index] = MAX(scores[index], logmath_log_to_log10(log, score * (1 << SCORE_SHIFT)));
  }
  return TRUE;
}
