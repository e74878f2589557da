/* A Piper voice (VITS, Kim et al. 2021) through ONNX Runtime: three inputs (phoneme ids, their number, the scales), one
 * output (samples). Ids follow Piper's rule: ^ _ p _ p _ ... $, with the clause's punctuation, which the phonemiser
 * drops, put back. */
#include "speech/tts.h"
#include "speech/tts_text.h"
#include "speech/phonemes_client.h"
#include "speech/ort.h"
#include <jansson.h>
#include <math.h>
#include <string.h>

#define PIECE 100 /* bytes after which a comma ends a run: the first sound comes early, the melody stays whole */
#define IDS_MAX 8000
#define RUN_IDS 240 /* ids in one run, about 8 s of sound: memory grows by 25 MB with each second */
#define ID_PAD 0
#define ID_BEGIN 1
#define ID_END 2

typedef struct {
  ChoirOrt *ort;
  OrtSession *session;
  ChoirPhonemes *phonemes;
  GHashTable *ids; /* code point -> id + 1 */
  guint rate;
  float scales[3];  /* noise, length, noise of durations */
  float own_length; /* the length scale of the options' speed */
  guint run_ids;
  GMutex mutex; /* guards running */
  OrtRunOptions *running;
} Piper;

typedef struct {
  GArray *words;
  guint base; /* offset of the clause in the text */
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
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "%s: %s", path, where.text);
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
    g_set_error(error, CHOIR_SPEECH_ERROR, 0, "%s is not a Piper voice's description", path);
  json_decref(json);
  return ok;
}

static void piper_close(gpointer data) {
  Piper *self = data;
  if (self->ort && self->session)
    self->ort->api->ReleaseSession(self->session);
  choir_ort_close(self->ort);
  choir_phonemes_free(self->phonemes);
  g_hash_table_destroy(self->ids);
  g_mutex_clear(&self->mutex);
  g_free(self);
}

/* The run that piper_interrupt() can end. */
static void publish(Piper *self, OrtRunOptions *options) {
  g_mutex_lock(&self->mutex);
  self->running = options;
  g_mutex_unlock(&self->mutex);
}

static void piper_interrupt(gpointer data) {
  Piper *self = data;
  g_mutex_lock(&self->mutex);
  if (self->running)
    self->ort->api->ReleaseStatus(self->ort->api->RunOptionsSetTerminate(self->running));
  g_mutex_unlock(&self->mutex);
}

static void emit(const float *audio, gsize n, const ChoirTtsSink *sink) {
  g_autofree gint16 *pcm = g_new(gint16, MAX(n, 1));
  for (gsize i = 0; i < n; i++) {
    float value = isfinite(audio[i]) ? audio[i] * 32767.0f : 0;
    pcm[i] = (gint16)lrintf(CLAMP(value, -32768.0f, 32767.0f));
  }
  sink->pcm(pcm, n, sink->user);
}

static gboolean run(Piper *self, OrtValue *const inputs[3], const ChoirTtsSink *sink, GError **error) {
  static const char *const input_names[] = {"input", "input_lengths", "scales"}, *const output_names[] = {"output"};
  const OrtApi *api = self->ort->api;
  OrtRunOptions *options = NULL;
  OrtValue *output = NULL;
  if (!choir_ort_ok(self->ort, api->CreateRunOptions(&options), error))
    return FALSE;
  publish(self, options); /* before the question below: a cancel is seen by one of the two */
  gboolean go = !sink || !sink->cancelled(sink->user);
  gboolean ok = go && choir_ort_ok(self->ort,
                                   api->Run(self->session, options, input_names, (const OrtValue *const *)inputs, 3,
                                            output_names, 1, &output),
                                   error);
  publish(self, NULL);
  api->ReleaseRunOptions(options);
  if (ok && sink) {
    gsize n = 0;
    float *audio = choir_ort_data(self->ort, output, &n, error);
    ok = audio != NULL;
    if (ok)
      emit(audio, n, sink);
  }
  if (output)
    api->ReleaseValue(output);
  return ok;
}

/* sink NULL: a trial run whose sound is dropped. */
static gboolean synthesise(Piper *self, GArray *ids, const ChoirTtsSink *sink, GError **error) {
  gint64 n = ids->len;
  const gint64 ids_shape[] = {1, n}, one[] = {1}, three[] = {3};
  OrtValue *inputs[3] = {choir_ort_int64s(self->ort, (gint64 *)(gpointer)ids->data, ids_shape, 2, error), NULL, NULL};
  if (inputs[0])
    inputs[1] = choir_ort_int64s(self->ort, &n, one, 1, error);
  if (inputs[1])
    inputs[2] = choir_ort_floats(self->ort, self->scales, three, 1, error);
  gboolean ok = inputs[2] && run(self, inputs, sink, error);
  for (gsize i = 0; i < G_N_ELEMENTS(inputs); i++)
    if (inputs[i])
      self->ort->api->ReleaseValue(inputs[i]);
  return ok;
}

static void add_id(GArray *ids, gint64 id) {
  const gint64 pad = ID_PAD;
  g_array_append_val(ids, id);
  g_array_append_val(ids, pad);
}

static void add_char(const Piper *self, GArray *ids, gunichar c) {
  int id = GPOINTER_TO_INT(g_hash_table_lookup(self->ids, GUINT_TO_POINTER(c)));
  if (id > 0 && ids->len + 4 < IDS_MAX)
    add_id(ids, id - 1);
}

static void on_word(guint offset, guint count, gpointer user) {
  WordSink *sink = user;
  choir_tts_words_add(sink->words, sink->base + offset, count);
}

/* Phonemes of the clauses of text[begin, end), each with its punctuation. FALSE with error. */
static gboolean phonemise(Piper *self, const char *text, gsize begin, gsize end, GArray *words, GArray *ids,
                          GError **error) {
  while (begin < end) {
    gsize at = begin;
    while (at < end && !(strchr(".?!,;:", text[at]) && (at + 1 == end || text[at + 1] == ' ')))
      at++;
    g_autofree char *clause = g_strndup(text + begin, at - begin);
    if (choir_tts_text_speakable(clause)) {
      WordSink sink = {.words = words, .base = (guint)begin};
      g_autofree char *ipa = choir_phonemes_ask(self->phonemes, clause, at - begin, on_word, &sink, error);
      if (!ipa)
        return FALSE;
      if (ids->len > 0)
        add_char(self, ids, ' ');
      for (const char *p = ipa; *p; p = g_utf8_next_char(p))
        add_char(self, ids, g_utf8_get_char(p));
      if (at < end)
        add_char(self, ids, (gunichar)text[at]);
    }
    begin = at + 1;
  }
  return TRUE;
}

/* Where a run of ids that starts at `begin` ends: at the last gap between words before the limit. */
static guint run_end(const Piper *self, const GArray *ids, guint begin) {
  if (ids->len - begin <= self->run_ids)
    return ids->len;
  gint64 space = GPOINTER_TO_INT(g_hash_table_lookup(self->ids, GUINT_TO_POINTER(' '))) - 1;
  for (guint at = begin + self->run_ids; at > begin + self->run_ids / 2; at -= 2)
    if (g_array_index(ids, gint64, at) == space)
      return at;
  return begin + self->run_ids;
}

static gboolean speak_ids(Piper *self, const GArray *ids, const ChoirTtsSink *sink, GError **error) {
  const gint64 last = ID_END;
  for (guint begin = 0, end; begin < ids->len; begin = end) {
    if (sink->cancelled(sink->user))
      return FALSE;
    end = run_end(self, ids, begin);
    g_autoptr(GArray) part = g_array_new(FALSE, FALSE, sizeof(gint64));
    add_id(part, ID_BEGIN);
    g_array_append_vals(part, &g_array_index(ids, gint64, begin), end - begin);
    g_array_append_val(part, last);
    if (!synthesise(self, part, sink, error))
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
    g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(gint64));
    if (!phonemise(self, text, begin, end, words, ids, error) || !speak_ids(self, ids, sink, error))
      return FALSE;
  }
  choir_tts_words_share(words, text);
  return TRUE;
}

/* With one run before READY: it proves that the model fits, and the first clause need not pay for a first run's set-up.
 */
static gboolean open_model(Piper *self, const ChoirTtsOptions *options, GError **error) {
  self->ort = choir_ort_open(options->library, error);
  if (!self->ort)
    return FALSE;
  self->session = choir_ort_session(self->ort, options->model, options->threads, FALSE, error);
  if (!self->session)
    return FALSE;
  g_autoptr(GArray) trial = g_array_new(FALSE, FALSE, sizeof(gint64));
  const gint64 last = ID_END;
  add_id(trial, ID_BEGIN);
  add_char(self, trial, 'a');
  g_array_append_val(trial, last);
  return synthesise(self, trial, NULL, error);
}

static gpointer piper_open(const ChoirTtsOptions *options, char **ret_detail, GError **error) {
  Piper *self = g_new0(Piper, 1);
  g_mutex_init(&self->mutex);
  self->ids = g_hash_table_new(NULL, NULL);
  self->phonemes = choir_phonemes_new(options->phonemes_fd);
  if (!load_voice(self, options->model, options->speed, error) || !open_model(self, options, error)) {
    piper_close(self);
    return NULL;
  }
  *ret_detail = g_strdup_printf("Piper on ONNX Runtime %s, %d threads, phonemes by espeak-ng", self->ort->version,
                                options->threads);
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
