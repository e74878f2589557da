/* Flite's voice slt (CMU, BSD-like terms, no part under the GPL): light enough for any machine. How many phonemes each
 * word got and how long they last is read from the utterance itself (relations Segment, SylStructure, Token). */
#include "speech/tts.h"
#include "speech/tts_text.h"
#include "speech/tts_timeline.h"
#include <string.h>
#include <flite/flite.h>

#define PIECE 160

cst_voice *register_cmu_us_slt(const char *voxdir); /* libflite_cmu_us_slt has no header */

typedef struct {
  cst_voice *voice;
  guint rate;
  double speed;
} Flite;

static gpointer flite_open(const ChoirTtsOptions *options, char **ret_detail, GError **error) {
  flite_init();
  cst_voice *voice = register_cmu_us_slt(NULL);
  if (!voice) {
    g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "flite has no voice slt");
    return NULL;
  }
  Flite *self = g_new0(Flite, 1);
  self->voice = voice;
  self->rate = 16000;
  self->speed = options->speed;
  flite_feat_set_float(voice->features, "duration_stretch", (float)(1 / options->speed));
  *ret_detail = g_strdup("flite, voice slt");
  return self;
}

static void flite_close(gpointer self) {
  g_free(self); /* the voice is flite's own and lives as long as the process */
}

static guint flite_rate(gpointer self) {
  return ((Flite *)self)->rate;
}

/* Flite reads ASCII. map: for each byte of the result its byte in the text. */
static char *to_ascii(const char *text, gsize begin, gsize end, GArray *map) {
  GString *out = g_string_new(NULL);
  for (const char *p = text + begin; p < text + end; p = g_utf8_next_char(p)) {
    g_autofree char *one = g_strndup(p, (gsize)(g_utf8_next_char(p) - p));
    g_autofree char *ascii = g_str_to_ascii(one, "C");
    const char *piece = (guchar)*p < 0x80 ? one : g_str_equal(ascii, "?") ? " " : ascii;
    guint offset = (guint)(p - text);
    for (const char *q = piece; *q; q++) {
      g_string_append_c(out, *q);
      g_array_append_val(map, offset);
    }
  }
  return g_string_free(out, FALSE);
}

typedef struct {
  GArray *map, *words;
  const char *cursor, *ascii; /* of the text that flite read */
  int word;                   /* row of the token at hand */
} Reading;

/* The row of a token's word; tokens come in the order of the text. */
static void next_token(Reading *reading, const cst_item *token) {
  const char *found = strstr(reading->cursor, item_name(token));
  if (!found)
    found = reading->cursor; /* flite rewrote it: it lies near the last one */
  reading->word = -1;
  if (*found == 0)
    return;
  reading->word = choir_tts_words_find(reading->words, g_array_index(reading->map, guint, found - reading->ascii));
  reading->cursor = found + MIN(strlen(item_name(token)), strlen(found));
}

static const cst_item *token_of(const cst_item *segment) {
  const cst_item *item = item_as(segment, "SylStructure"); /* segment, syllable, word, then its token */
  for (int i = 0; i < 2 && item; i++)
    item = item_parent(item);
  item = item ? item_as(item, "Token") : NULL;
  return item ? item_parent(item) : NULL;
}

/* Counts the phonemes of each word and says how long each lasts; the last one takes what rounding left over. */
static void read_segments(cst_utterance *utterance, Reading *reading, const cst_wave *wave,
                          ChoirTtsTimeline *timeline) {
  if (!utt_relation_present(utterance, "Segment"))
    return;
  const cst_item *token = NULL;
  gint64 at = 0, total = wave->num_samples;
  for (const cst_item *segment = relation_head(utt_relation(utterance, "Segment")); segment;
       segment = item_next(segment)) {
    const cst_item *now = token_of(segment);
    if (now && now != token) {
      token = now;
      next_token(reading, token);
    }
    if (now && reading->word >= 0)
      g_array_index(reading->words, ChoirTtsWord, reading->word).phonemes++;
    gint64 end = item_next(segment) ? (gint64)((double)item_feat_float(segment, "end") * wave->sample_rate) : total;
    end = CLAMP(end, at, total);
    choir_tts_timeline_add(timeline, (guint64)(end - at), now ? reading->word : -1,
                           choir_viseme_of_arpabet(item_name(segment)));
    at = end;
  }
}

static gboolean flite_say(gpointer data, const char *text, GArray *words, const ChoirTtsSink *sink, GError **error) {
  Flite *self = data;
  gsize length = strlen(text);
  for (gsize begin = 0, end; begin < length; begin = end) {
    if (sink->cancelled(sink->user))
      return FALSE;
    end = begin + choir_tts_piece(text + begin, length - begin, PIECE);
    g_autoptr(GArray) map = g_array_new(FALSE, FALSE, sizeof(guint));
    g_autofree char *ascii = to_ascii(text, begin, end, map);
    if (!choir_tts_text_speakable(ascii))
      continue;
    cst_utterance *utterance = flite_synth_text(ascii, self->voice);
    cst_wave *wave = utterance ? utt_wave(utterance) : NULL;
    if (!wave || wave->num_channels != 1 || wave->sample_rate != (int)self->rate) {
      if (utterance)
        delete_utterance(utterance);
      g_set_error(error, g_quark_from_static_string("choir-speech-error"), 0, "flite made no sound of a clause");
      return FALSE;
    }
    Reading reading = {.map = map, .words = words, .cursor = ascii, .ascii = ascii, .word = -1};
    read_segments(utterance, &reading, wave, sink->timeline);
    sink->pcm(wave->samples, (gsize)wave->num_samples, sink->user);
    delete_utterance(utterance);
  }
  choir_tts_words_share(words, text);
  return TRUE;
}

static void flite_set_speed(gpointer data, double speed) {
  Flite *self = data;
  flite_feat_set_float(self->voice->features, "duration_stretch", (float)(1 / (self->speed * speed)));
}

const ChoirTtsEngine choir_tts_flite = {
    .name = "flite",
    .help = "a light voice",
    .open = flite_open,
    .close = flite_close,
    .rate = flite_rate,
    .say = flite_say,
    .set_speed = flite_set_speed,
};
