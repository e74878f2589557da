/* Text to the phoneme ids of a Piper voice, and back from the durations of these ids to words and mouth shapes. Ids
 * follow Piper's rule: ^ _ p _ p _ ... $, with the clause's punctuation, which the phonemiser drops, put back. */
#include "speech/tts.h"
#include "speech/tts_piper_voice.h"
#include "speech/tts_text.h"
#include "speech/tts_timeline.h"
#include "speech/phonemes_client.h"
#include <jansson.h>
#include <string.h>

#define SPEECH_ERROR g_quark_from_static_string("choir-speech-error")

#define PIECE 100 /* bytes after which a comma ends a run: the first sound comes early, the melody stays whole */
#define IDS_MAX 8000
#define RUN_IDS 240 /* ids in one run, about 8 s of sound: memory grows by 25 MB with each second */
#define ID_PAD 0
#define ID_BEGIN 1
#define ID_END 2

typedef struct {
  ChoirPiperVoice *voice;
  ChoirPhonemes *phonemes;
  GHashTable *ids; /* code point -> id + 1 */
  guint rate;
  float scales[3];  /* noise, length, noise of durations */
  float own_length; /* the length scale of the options' speed */
  guint run_ids;
} Piper;

/* An id of the voice and what it stands for. */
typedef struct {
  gint64 id;
  gboolean pad; /* between two phonemes */
  int word;     /* row of the words, -1 = none */
  ChoirViseme viseme;
} Sound;

typedef struct {
  guint at; /* character of the IPA */
  int word;
} WordStart;

typedef struct {
  GArray *words;
  guint base;     /* offset of the clause in the text */
  GArray *starts; /* WordStart, rising */
} WordSink;

static gboolean load_ids(Piper *self, json_t *map) {
  const char *key;
  json_t *value;
  json_object_foreach(map, key, value) {
    json_int_t id = json_integer_value(json_array_get(value, 0));
    if (id < 0 || id > G_MAXINT16)
      return FALSE;
    g_hash_table_insert(self->ids, GUINT_TO_POINTER(g_utf8_get_char(key)), GINT_TO_POINTER((int)id + 1));
  }
  return g_hash_table_size(self->ids) > 0;
}

static gboolean load_voice(Piper *self, const char *model, double speed, GError **error) {
  g_autofree char *path = g_strconcat(model, ".json", NULL);
  json_error_t where;
  json_t *json = json_load_file(path, 0, &where);
  if (!json) {
    g_set_error(error, SPEECH_ERROR, 0, "%s: %s", path, where.text);
    return FALSE;
  }
  json_t *inference = json_object_get(json, "inference");
  json_t *rate = json_object_get(json_object_get(json, "audio"), "sample_rate");
  self->rate = (guint)json_integer_value(rate);
  static const char *const names[] = {"noise_scale", "length_scale", "noise_w"};
  static const float usual[] = {0.667f, 1.0f, 0.8f};
  for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
    json_t *scale = json_object_get(inference, names[i]);
    self->scales[i] = json_is_number(scale) ? (float)json_number_value(scale) : usual[i];
  }
  self->scales[1] /= (float)speed;
  self->own_length = self->scales[1];
  self->run_ids = RUN_IDS;
  gboolean ok = self->rate >= 8000 && self->rate <= 48000 && load_ids(self, json_object_get(json, "phoneme_id_map"));
  if (!ok)
    g_set_error(error, SPEECH_ERROR, 0, "%s is not a Piper voice's description", path);
  json_decref(json);
  return ok;
}

static void piper_close(gpointer data) {
  Piper *self = data;
  choir_piper_voice_close(self->voice);
  choir_phonemes_free(self->phonemes);
  g_hash_table_destroy(self->ids);
  g_free(self);
}

static void piper_interrupt(gpointer data) {
  choir_piper_voice_interrupt(((Piper *)data)->voice);
}

static void add_sound(GArray *sounds, gint64 id, int word, ChoirViseme viseme) {
  const Sound sound = {.id = id, .word = word, .viseme = viseme};
  const Sound pad = {.id = ID_PAD, .pad = TRUE, .word = word, .viseme = viseme};
  g_array_append_val(sounds, sound);
  g_array_append_val(sounds, pad);
}

static void add_char(const Piper *self, GArray *sounds, gunichar c, int word) {
  int id = GPOINTER_TO_INT(g_hash_table_lookup(self->ids, GUINT_TO_POINTER(c)));
  if (id > 0 && sounds->len + 4 < IDS_MAX)
    add_sound(sounds, id - 1, word, choir_viseme_of_ipa(c));
}

static void on_word(guint offset, guint count, int at, gpointer user) {
  WordSink *sink = user;
  choir_tts_words_add(sink->words, sink->base + offset, count);
  if (at < 0)
    return;
  WordStart start = {.at = (guint)at, .word = choir_tts_words_find(sink->words, sink->base + offset)};
  g_array_append_val(sink->starts, start);
}

static void add_ipa(const Piper *self, GArray *sounds, const char *ipa, const GArray *starts) {
  int word = -1;
  guint at = 0, next = 0;
  for (const char *p = ipa; *p; p = g_utf8_next_char(p), at++) {
    /* A stress mark stands before the first phoneme that was matched. */
    while (next < starts->len && g_array_index(starts, WordStart, next).at <= at)
      word = g_array_index(starts, WordStart, next++).word;
    gunichar c = g_utf8_get_char(p);
    add_char(self, sounds, c, c == ' ' ? -1 : word);
  }
}

/* Phonemes of the clauses of text[begin, end), each with its punctuation. FALSE with error. */
static gboolean phonemise(Piper *self, const char *text, gsize begin, gsize end, GArray *words, GArray *sounds,
                          GError **error) {
  while (begin < end) {
    gsize at = begin;
    while (at < end && !(strchr(".?!,;:", text[at]) && (at + 1 == end || text[at + 1] == ' ')))
      at++;
    g_autofree char *clause = g_strndup(text + begin, at - begin);
    if (choir_tts_text_speakable(clause)) {
      g_autoptr(GArray) starts = g_array_new(FALSE, FALSE, sizeof(WordStart));
      WordSink sink = {.words = words, .base = (guint)begin, .starts = starts};
      g_autofree char *ipa = choir_phonemes_ask(self->phonemes, clause, at - begin, on_word, &sink, error);
      if (!ipa)
        return FALSE;
      if (sounds->len > 0)
        add_char(self, sounds, ' ', -1);
      add_ipa(self, sounds, ipa, starts);
      if (at < end)
        add_char(self, sounds, (gunichar)text[at], -1);
    }
    begin = at + 1;
  }
  return TRUE;
}

/* Where a run of ids that starts at `begin` ends: at the last gap between words before the limit. */
static guint run_end(const Piper *self, const GArray *sounds, guint begin) {
  if (sounds->len - begin <= self->run_ids)
    return sounds->len;
  for (guint at = begin + self->run_ids; at > begin + self->run_ids / 2; at -= 2)
    if (g_array_index(sounds, Sound, at).viseme == CHOIR_VISEME_GAP)
      return at;
  return begin + self->run_ids;
}

typedef struct {
  const GArray *sounds;
  ChoirTtsTimeline *timeline;
} Timing;

/* The pad before a phoneme is its approach: counted to it, onsets are met best. */
static void on_durations(const float *frames, gsize n, guint samples, gpointer user) {
  const Timing *timing = user;
  guint64 length = 0;
  for (gsize i = 0; i < n; i++) {
    const Sound *sound = &g_array_index(timing->sounds, Sound, i);
    length += (guint64)MAX(frames[i], 0) * samples;
    if (sound->pad)
      continue;
    choir_tts_timeline_add(timing->timeline, length, sound->word, sound->viseme);
    length = 0;
  }
}

/* sink NULL: a trial run whose sound is dropped. */
static gboolean speak_part(Piper *self, const GArray *sounds, const ChoirTtsSink *sink, GError **error) {
  g_autofree gint64 *ids = g_new(gint64, sounds->len);
  for (guint i = 0; i < sounds->len; i++)
    ids[i] = g_array_index(sounds, Sound, i).id;
  Timing timing = {.sounds = sounds, .timeline = sink ? sink->timeline : NULL};
  return choir_piper_voice_run(self->voice, ids, sounds->len, self->scales, timing.timeline ? on_durations : NULL,
                               &timing, sink, error);
}

static gboolean speak_sounds(Piper *self, const GArray *sounds, const ChoirTtsSink *sink, GError **error) {
  const Sound last = {.id = ID_END, .word = -1, .viseme = CHOIR_VISEME_SIL};
  for (guint begin = 0, end; begin < sounds->len; begin = end) {
    if (sink && sink->cancelled(sink->user))
      return FALSE;
    end = run_end(self, sounds, begin);
    g_autoptr(GArray) part = g_array_new(FALSE, FALSE, sizeof(Sound));
    add_sound(part, ID_BEGIN, -1, CHOIR_VISEME_SIL);
    g_array_append_vals(part, &g_array_index(sounds, Sound, begin), end - begin);
    g_array_append_val(part, last);
    if (!speak_part(self, part, sink, error))
      return FALSE;
  }
  return TRUE;
}

static gboolean piper_say(gpointer data, const char *text, GArray *words, const ChoirTtsSink *sink, GError **error) {
  Piper *self = data;
  gsize length = strlen(text);
  for (gsize begin = 0, end; begin < length; begin = end) {
    if (sink->cancelled(sink->user))
      return FALSE;
    end = begin + choir_tts_piece(text + begin, length - begin, PIECE);
    g_autoptr(GArray) sounds = g_array_new(FALSE, FALSE, sizeof(Sound));
    if (!phonemise(self, text, begin, end, words, sounds, error) || !speak_sounds(self, sounds, sink, error))
      return FALSE;
  }
  choir_tts_words_share(words, text);
  return TRUE;
}

/* With one run before READY: it proves that the model fits, and the first clause need not pay for a first run's set-up.
 */
static gboolean open_model(Piper *self, const ChoirTtsOptions *options, GError **error) {
  self->voice = choir_piper_voice_open(options->library, options->model, options->threads, error);
  if (!self->voice)
    return FALSE;
  g_autoptr(GArray) trial = g_array_new(FALSE, FALSE, sizeof(Sound));
  add_char(self, trial, 'a', -1);
  return speak_sounds(self, trial, NULL, error);
}

static gpointer piper_open(const ChoirTtsOptions *options, char **ret_detail, GError **error) {
  Piper *self = g_new0(Piper, 1);
  self->ids = g_hash_table_new(NULL, NULL);
  self->phonemes = choir_phonemes_new(options->phonemes_fd);
  if (!load_voice(self, options->model, options->speed, error) || !open_model(self, options, error)) {
    piper_close(self);
    return NULL;
  }
  *ret_detail = g_strdup_printf("Piper on ONNX Runtime %s, %d threads%s, phonemes by espeak-ng",
                                choir_piper_voice_runtime(self->voice), options->threads,
                                choir_piper_voice_in_pieces(self->voice) ? ", in pieces with durations" : "");
  return self;
}

static guint piper_rate(gpointer data) {
  return ((Piper *)data)->rate;
}

static void piper_set_speed(gpointer data, double speed) {
  Piper *self = data;
  self->scales[1] = self->own_length / (float)speed;
  self->run_ids = (guint)(RUN_IDS * MIN(speed, 1)) & ~1u; /* slow speech is long: the same memory for a run */
}

const ChoirTtsEngine choir_tts_piper = {
    .name = "piper",
    .help = "a neural voice",
    .open = piper_open,
    .close = piper_close,
    .rate = piper_rate,
    .say = piper_say,
    .interrupt = piper_interrupt,
    .set_speed = piper_set_speed,
};
