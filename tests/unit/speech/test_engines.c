/* The real workers with the real models through ChoirWorker. What is not there (models, ONNX Runtime, an engine left
 * out of the build) skips its test and says so. */
#include "speech/worker.h"
#include "audio/resample.h"
#include "audio/wav.h"
#include "base/text.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

typedef struct {
  ChoirHub *hub;
  ChoirWorker *worker;
  guint ups, downs, frames, errors, stopped;
  guint windows, speech; /* ear */
  double loudest;        /* highest probability */
  guint32 last_aux;
  GHashTable *sessions; /* sessions heard */
  guint results;        /* STT_TEXT, TTS_DONE */
  json_t *result;
  GArray *pcm; /* tts */
  guint32 pcm_gen;
} Rig;

static void take_window(Rig *rig, const ChoirWireFrame *frame) {
  float values[2];
  g_assert_cmpuint(frame->length, ==, sizeof values);
  memcpy(values, frame->payload, sizeof values);
  g_assert_true(values[0] >= 0 && values[0] <= 1 && values[1] >= 0 && values[1] <= 1);
  rig->windows++;
  rig->speech += values[0] > 0.5f;
  rig->loudest = MAX(rig->loudest, (double)values[0]);
  rig->last_aux = frame->aux;
  g_hash_table_add(rig->sessions, GUINT_TO_POINTER(frame->session));
}

static void on_frame(const ChoirWireFrame *frame, gpointer user) {
  Rig *rig = user;
  rig->frames++;
  switch (frame->type) {
  case CHOIR_WIRE_EAR_WINDOW:
    take_window(rig, frame);
    break;
  case CHOIR_WIRE_STT_TEXT:
  case CHOIR_WIRE_TTS_DONE:
    json_decref(rig->result);
    rig->result = choir_json_parse((const char *)frame->payload, frame->length, NULL);
    g_assert_nonnull(rig->result);
    rig->results++;
    break;
  case CHOIR_WIRE_TTS_PCM:
    g_assert_cmpuint(frame->length, <=, 65536);
    g_array_append_vals(rig->pcm, frame->payload, frame->length / 2);
    rig->pcm_gen = frame->gen;
    break;
  case CHOIR_WIRE_TTS_MOUTH: /* the table of DONE, piece by piece */
    break;
  case CHOIR_WIRE_ERROR:
    g_test_message("error: %.*s", (int)frame->length, (const char *)frame->payload);
    rig->errors++;
    break;
  default:
    g_assert_not_reached();
  }
}

static void on_state(ChoirWorker *worker, gboolean ready, gpointer user) {
  Rig *rig = user;
  if (ready)
    rig->ups++;
  else
    rig->downs++;
}

static void on_stopped(gpointer user) {
  ((Rig *)user)->stopped++;
}

static gboolean wake(gpointer user) {
  return G_SOURCE_CONTINUE;
}

/* FALSE when it takes longer than seconds, or an error came. */
static gboolean run_until(Rig *rig, const guint *counter, guint value, int seconds) {
  guint ticker = g_timeout_add(50, wake, NULL);
  gint64 deadline = g_get_monotonic_time() + (gint64)seconds * G_USEC_PER_SEC;
  guint errors = rig->errors;
  while (*counter < value && rig->errors == errors && g_get_monotonic_time() < deadline)
    g_main_context_iteration(NULL, TRUE);
  g_source_remove(ticker);
  return *counter >= value;
}

static Rig *rig_new(const char *program_variable, const char *const *options, gboolean phonemes) {
  Rig *rig = g_new0(Rig, 1);
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  g_ptr_array_add(argv, (gpointer)g_getenv(program_variable));
  for (gsize i = 0; options[i]; i++)
    g_ptr_array_add(argv, (gpointer)options[i]);
  g_ptr_array_add(argv, NULL);
  rig->hub = choir_hub_new(NULL);
  rig->sessions = g_hash_table_new(NULL, NULL);
  rig->pcm = g_array_new(FALSE, FALSE, sizeof(gint16));
  rig->worker = choir_worker_new(rig->hub, "rig", "rig", (const char *const *)argv->pdata, 0, on_frame, on_state, rig);
  const char *phonemes_argv[] = {g_getenv("CHOIR_PHONEMES"), NULL};
  if (phonemes)
    choir_worker_attach_phonemes(rig->worker, phonemes_argv);
  choir_worker_start(rig->worker);
  if (!run_until(rig, &rig->ups, 1, 180))
    g_error("%s does not get ready: %s", program_variable, choir_child_last_error(choir_worker_child(rig->worker)));
  g_test_message("%s", choir_worker_info(rig->worker));
  return rig;
}

static void rig_free(Rig *rig) {
  choir_worker_stop(rig->worker, on_stopped, rig);
  g_assert_true(run_until(rig, &rig->stopped, 1, 20));
  choir_worker_free(rig->worker);
  choir_hub_free(rig->hub);
  g_hash_table_unref(rig->sessions);
  g_array_unref(rig->pcm);
  json_decref(rig->result);
  g_free(rig);
}

static gboolean have(const char *relative) {
  g_autofree char *path = g_build_filename(g_get_user_cache_dir(), "choir", relative, NULL);
  if (g_file_test(path, G_FILE_TEST_EXISTS))
    return TRUE;
  g_autofree char *why = g_strdup_printf("%s is missing: run tools/prepare-models", path);
  g_test_skip(why);
  return FALSE;
}

static gboolean load_jfk(ChoirWav *wav) {
  if (!have("data/jfk.wav"))
    return FALSE;
  g_autofree char *path = g_build_filename(g_get_user_cache_dir(), "choir/data/jfk.wav", NULL);
  g_autoptr(GError) error = NULL;
  g_assert_true(choir_wav_read(path, wav, &error));
  g_assert_cmpuint(wav->rate, ==, 16000);
  g_assert_cmpuint(wav->channels, ==, 1);
  return TRUE;
}

/* --- ear --- */

static void hear(Rig *rig, guint32 session, const gint16 *samples, gsize n) {
  guint before = rig->windows, expected = (guint)(n / 512);
  rig->speech = 0;
  rig->loudest = 0;
  g_assert_true(choir_worker_send(rig->worker, CHOIR_WIRE_EAR_OPEN, 0, session, 0, 0, NULL, 0));
  for (gsize at = 0; at < n;) {
    gsize random = (gsize)g_test_rand_int_range(1, 2000), piece = MIN(random, n - at);
    g_assert_true(
        choir_worker_send(rig->worker, CHOIR_WIRE_EAR_AUDIO, 0, session, 0, (guint32)at, samples + at, piece * 2));
    at += piece;
  }
  g_assert_true(run_until(rig, &rig->windows, before + expected, 60));
  g_assert_cmpuint(rig->last_aux, ==, expected * 512);
}

static void check_ear(const char *const *options, guint least, guint most) {
  ChoirWav jfk = {0};
  if (!load_jfk(&jfk))
    return;
  Rig *rig = rig_new("CHOIR_EAR", options, FALSE);
  hear(rig, 1, jfk.samples, jfk.frames);
  g_test_message("speech in %u of %u windows", rig->speech, rig->windows);
  g_assert_cmpuint(rig->speech, >=, least);
  g_assert_cmpuint(rig->speech, <=, most);
  g_autofree gint16 *quiet = g_new0(gint16, 160000);
  hear(rig, 2, quiet, 160000);
  g_assert_cmpfloat(rig->loudest, <, 0.2);
  for (gsize i = 0; i < 160000; i++) /* the hiss of a microphone, -56 dB */
    quiet[i] = (gint16)g_test_rand_int_range(-90, 91);
  hear(rig, 3, quiet, 160000);
  g_assert_cmpuint(rig->speech, ==, 0);
  choir_wav_clear(&jfk);
  rig_free(rig);
}

static void test_silero(void) {
  if (have("models/silero_vad_16k_op15.onnx") && have("runtime/libonnxruntime.so"))
    check_ear((const char *const[]){NULL}, 200, 260);
}

static void test_energy(void) {
  check_ear((const char *const[]){"--engine", "energy", NULL}, 120, 320);
}

static void test_fallback(void) {
  Rig *rig = rig_new("CHOIR_EAR", (const char *const[]){"--onnxruntime", "/nowhere/lib.so", NULL}, FALSE);
  g_assert_nonnull(strstr(choir_worker_info(rig->worker), "\"engine\":\"energy\""));
  g_assert_nonnull(strstr(choir_worker_info(rig->worker), "energy gate instead of silero"));
  rig_free(rig);
}

/* Twenty sessions at once: their states must not mix. */
static void test_many_sessions(void) {
  ChoirWav jfk = {0};
  if (!have("models/silero_vad_16k_op15.onnx") || !have("runtime/libonnxruntime.so") || !load_jfk(&jfk))
    return;
  Rig *rig = rig_new("CHOIR_EAR", (const char *const[]){NULL}, FALSE);
  hear(rig, 100, jfk.samples, 48000);
  guint alone = rig->speech, before = rig->windows;
  rig->speech = 0;
  g_autofree gint16 *quiet = g_new0(gint16, 512);
  for (gsize at = 0; at + 512 <= 48000; at += 512)
    for (guint32 session = 0; session < 20; session++)
      g_assert_true(choir_worker_send(rig->worker, CHOIR_WIRE_EAR_AUDIO, 0, session, 0, (guint32)at,
                                      session < 10 ? jfk.samples + at : quiet, 1024));
  g_assert_true(run_until(rig, &rig->windows, before + 20 * (48000 / 512), 60));
  g_assert_cmpuint(g_hash_table_size(rig->sessions), ==, 21);
  g_assert_cmpuint(rig->speech, ==, 10 * alone);
  choir_wav_clear(&jfk);
  rig_free(rig);
}

/* --- stt --- */

static const char *recognise(Rig *rig, guint32 gen, const gint16 *samples, gsize n) {
  guint before = rig->results;
  g_assert_true(choir_worker_send(rig->worker, CHOIR_WIRE_STT_JOB, 0, 1, gen, 0, samples, n * 2));
  g_assert_true(run_until(rig, &rig->results, before + 1, 180));
  const char *text = choir_json_string(rig->result, "text", NULL);
  g_test_message("\"%s\", %.0f ms of processor time", text, choir_json_double(rig->result, "cpu_ms", -1));
  return text;
}

static void test_whisper(void) {
  ChoirWav jfk = {0};
  if (!have("models/ggml-base-q8_0.bin") || !load_jfk(&jfk))
    return;
  Rig *rig = rig_new("CHOIR_STT", (const char *const[]){"--threads", "2", NULL}, FALSE);
  const char *text = recognise(rig, 1, jfk.samples, jfk.frames);
  g_assert_nonnull(strstr(text, "ask not what your country can do for you"));
  g_assert_cmpstr(choir_json_string(rig->result, "language", ""), ==, "en");
  g_assert_cmpfloat(choir_json_double(rig->result, "audio_ms", 0), ==, 11000);
  g_autofree gint16 *quiet = g_new0(gint16, 32000);
  g_assert_cmpstr(recognise(rig, 2, quiet, 32000), ==, "");
  g_assert_cmpstr(recognise(rig, 3, quiet, 0), ==, "");
  /* A cancelled job is silent, and the next one does not wait for it. */
  guint before = rig->results;
  choir_worker_send(rig->worker, CHOIR_WIRE_STT_JOB, 0, 1, 4, 0, jfk.samples, jfk.frames * 2);
  g_usleep(100000);
  choir_worker_send(rig->worker, CHOIR_WIRE_STT_CANCEL, 0, 1, 4, 0, NULL, 0);
  g_assert_cmpstr(recognise(rig, 5, quiet, 100), ==, "");
  g_assert_cmpuint(rig->results, ==, before + 1);
  choir_wav_clear(&jfk);
  rig_free(rig);
}

/* A file of the recordings as 16 kHz samples; a WAV's header of 44 bytes counts as a click at the start. */
static const char *recognise_file(Rig *rig, guint32 gen, const char *relative) {
  g_autofree char *path = g_build_filename(g_get_user_cache_dir(), "choir/data/pocketsphinx", relative, NULL);
  g_autofree char *raw = NULL;
  gsize length = 0;
  g_assert_true(g_file_get_contents(path, &raw, &length, NULL));
  return recognise(rig, gen, (const gint16 *)(gpointer)raw, length / 2);
}

/* A long utterance that was heard up to a pause before: only the rest of it is recognised, and the words are the same.
 */
static void test_rest(void) {
  ChoirWav jfk = {0};
  if (!have("models/ggml-base-q8_0.bin") || !load_jfk(&jfk))
    return;
  Rig *rig = rig_new("CHOIR_STT", (const char *const[]){"--threads", "2", "--patience", "0", NULL}, FALSE);
  (void)recognise(rig, 1, jfk.samples, 16000 * 445 / 100); /* "... ask not", and a moment of the pause of 0.9 s */
  g_assert_cmpint(choir_json_int(rig->result, "known_ms", -1), ==, 0);
  g_autofree char *text = g_utf8_strdown(recognise(rig, 2, jfk.samples, jfk.frames), -1);
  g_assert_cmpint(choir_json_int(rig->result, "known_ms", -1), >, 4400);
  g_assert_cmpint(choir_json_int(rig->result, "known_ms", -1), <, 5500);
  g_assert_true(g_str_has_prefix(text, "and so my fellow americans ask")); /* or "asked" */
  g_assert_nonnull(strstr(text, "what you can do for your country"));
  const char *rest = strstr(text, "not what your country can do for you"); /* once */
  g_assert_nonnull(rest);
  g_assert_null(strstr(rest + 1, "not what your country"));
  choir_wav_clear(&jfk);
  rig_free(rig);
}

static void test_pocketsphinx(void) {
  if (!have("data/pocketsphinx/goforward.raw"))
    return;
  if (!g_file_test("/usr/share/pocketsphinx/model/en-us/en-us", G_FILE_TEST_EXISTS)) {
    g_test_skip("the Debian package pocketsphinx-en-us is missing");
    return;
  }
  const char *options[] = {"--engine", "pocketsphinx", "--grammar", g_getenv("CHOIR_COMMANDS_GRAM"), NULL};
  Rig *rig = rig_new("CHOIR_STT", options, FALSE);
  g_assert_cmpstr(recognise_file(rig, 1, "goforward.raw"), ==, "go forward ten meters");
  /* "He was not an ill disposed young man": no command, so nothing. */
  g_assert_cmpstr(recognise_file(rig, 2, "librivox/sense_and_sensibility_01_austen_64kb-0880.wav"), ==, "");
  g_assert_cmpstr(recognise_file(rig, 3, "goforward.raw"), ==, "go forward ten meters");
  g_autofree gint16 *quiet = g_new0(gint16, 16000);
  g_assert_cmpstr(recognise(rig, 4, quiet, 16000), ==, "");
  rig_free(rig);
}

/* --- tts --- */

static double say(Rig *rig, guint32 gen, const char *text) {
  guint before = rig->results;
  g_array_set_size(rig->pcm, 0);
  g_assert_true(choir_worker_send(rig->worker, CHOIR_WIRE_TTS_JOB, 0, 1, gen, 3, text, strlen(text)));
  g_assert_true(run_until(rig, &rig->results, before + 1, 180));
  g_assert_cmpint(choir_json_int(rig->result, "samples", -1), ==, rig->pcm->len);
  return rig->pcm->len / 24000.0;
}

static gint64 phonemes_of(Rig *rig, const char *text, gsize *ret_rows) {
  json_t *rows = json_object_get(rig->result, "words"), *row;
  gint64 sum = 0, end_before = 0;
  gsize i;
  json_array_foreach(rows, i, row) {
    gint64 begin = json_integer_value(json_array_get(row, 0)), end = json_integer_value(json_array_get(row, 1));
    g_assert_cmpint(begin, >=, end_before);
    g_assert_cmpint(end, >, begin);
    g_assert_cmpint(end, <=, (gint64)strlen(text));
    end_before = end;
    sum += json_integer_value(json_array_get(row, 2));
  }
  *ret_rows = json_array_size(rows);
  return sum;
}

static void check_voice(Rig *rig) {
  const char *text = "Sure, the lights of the living room are off.";
  gsize rows = 0;
  double seconds = say(rig, 1, text);
  gint64 phonemes = phonemes_of(rig, text, &rows);
  g_test_message("%.2f s, %" G_GINT64_FORMAT " phonemes, %.0f ms of processor time", seconds, phonemes,
                 choir_json_double(rig->result, "cpu_ms", -1));
  g_assert_cmpuint(rows, ==, 9);
  g_assert_cmpint(phonemes, >=, 22);
  g_assert_cmpint(phonemes, <=, 32);
  g_assert_cmpfloat(seconds, >, 1.5);
  g_assert_cmpfloat(seconds, <, 5);
  double rms = choir_pcm_rms((const gint16 *)(gpointer)rig->pcm->data, rig->pcm->len);
  g_assert_cmpfloat(rms, >, 0.01);
  g_assert_cmpfloat(rms, <, 0.5);
  json_t *row;
  gsize i;
  json_array_foreach(json_object_get(rig->result, "words"), i, row)
      g_assert_cmpint(json_integer_value(json_array_get(row, 2)), >, 0);
}

static void check_odd_text(Rig *rig) {
  static const char *const silent[] = {"", " ", "...", "\xf0\x9f\x98\x80 \xf0\x9f\x91\x8d", "**", "\xff\xfe", "\n\n\t"};
  for (gsize i = 0; i < G_N_ELEMENTS(silent); i++)
    g_assert_cmpfloat(say(rig, 10, silent[i]), ==, 0);
  static const char *const loud[] = {"It costs $23.50, or 1,234 euros?",
                                     "A.",
                                     "na\xc3\xafve caf\xc3\xa9",
                                     "http://127.0.0.1:8000/x?y=1",
                                     "Привет",
                                     "a\x01\x02 b",
                                     "50% & more <b>html</b>",
                                     "Dr. Smith's e.g. test; right: yes!"};
  gsize rows;
  for (gsize i = 0; i < G_N_ELEMENTS(loud); i++) {
    double seconds = say(rig, 11, loud[i]);
    g_test_message("%s: %.2f s, %" G_GINT64_FORMAT " phonemes", loud[i], seconds, phonemes_of(rig, loud[i], &rows));
    if (i != 4) /* flite knows no Cyrillic and says nothing */
      g_assert_cmpfloat(seconds, >, 0.1);
  }
}

/* A cancel in the middle of a long text ends it; what comes after is spoken. */
static void check_cancel(Rig *rig) {
  g_autoptr(GString) text = g_string_new(NULL);
  while (text->len < 1900)
    g_string_append(text, "The weather in the mountains changes faster than anybody in the valley would believe. ");
  guint before = rig->results;
  g_array_set_size(rig->pcm, 0);
  choir_worker_send(rig->worker, CHOIR_WIRE_TTS_JOB, 0, 1, 20, 0, text->str, text->len);
  choir_worker_send(rig->worker, CHOIR_WIRE_TTS_JOB, 0, 1, 20, 1, "And more.", 9);
  g_usleep(150000);
  choir_worker_send(rig->worker, CHOIR_WIRE_TTS_CANCEL, 0, 1, 20, 0, NULL, 0);
  gint64 start = g_get_monotonic_time();
  choir_worker_send(rig->worker, CHOIR_WIRE_TTS_JOB, 0, 1, 21, 0, "Yes.", 4);
  g_assert_true(run_until(rig, &rig->results, before + 1, 60));
  g_test_message("next clause %.0f ms after the cancel", (double)(g_get_monotonic_time() - start) / 1000);
  g_assert_cmpuint(rig->results, ==, before + 1);
  g_assert_cmpuint(rig->pcm_gen, ==, 21);
  g_assert_cmpuint(rig->pcm->len, <, 24000 * 60); /* the whole text takes longer */
}

static void test_piper(void) {
  if (!have("models/en_US-joe-medium.onnx") || !have("runtime/libonnxruntime.so"))
    return;
  Rig *rig = rig_new("CHOIR_TTS", (const char *const[]){NULL}, TRUE);
  check_voice(rig);
  check_odd_text(rig);
  check_cancel(rig);
  g_assert_cmpuint(rig->downs, ==, 0);
  rig_free(rig);
}

static void test_flite(void) {
  Rig *rig = rig_new("CHOIR_TTS", (const char *const[]){"--engine", "flite", NULL}, FALSE);
  check_voice(rig);
  check_odd_text(rig);
  check_cancel(rig);
  g_assert_cmpuint(rig->downs, ==, 0);
  rig_free(rig);
}

static void test_null_engines(void) {
  Rig *rig = rig_new("CHOIR_TTS", (const char *const[]){"--engine", "null", NULL}, FALSE);
  g_assert_cmpfloat(say(rig, 1, "Hello."), ==, 0);
  rig_free(rig);
  rig = rig_new("CHOIR_STT", (const char *const[]){"--engine", "null", NULL}, FALSE);
  gint16 samples[16000] = {0};
  g_assert_cmpstr(recognise(rig, 1, samples, 16000), ==, "");
  rig_free(rig);
  rig = rig_new("CHOIR_EAR", (const char *const[]){"--engine", "null", NULL}, FALSE);
  hear(rig, 1, samples, 16000);
  g_assert_cmpfloat(rig->loudest, ==, 0);
  rig_free(rig);
}

int main(int argc, char **argv) {
  alarm(580);
  g_test_init(&argc, &argv, NULL);
  static const char *const needed[] = {"CHOIR_EAR", "CHOIR_STT", "CHOIR_TTS", "CHOIR_PHONEMES", "CHOIR_COMMANDS_GRAM"};
  for (gsize i = 0; i < G_N_ELEMENTS(needed); i++)
    if (!g_getenv(needed[i]))
      g_error("the environment variable %s must name the program", needed[i]);
  g_test_add_func("/speech/engines/null", test_null_engines);
  g_test_add_func("/speech/engines/ear-silero", test_silero);
  g_test_add_func("/speech/engines/ear-energy", test_energy);
  g_test_add_func("/speech/engines/ear-fallback", test_fallback);
  g_test_add_func("/speech/engines/ear-sessions", test_many_sessions);
  g_test_add_func("/speech/engines/stt-pocketsphinx", test_pocketsphinx);
  g_test_add_func("/speech/engines/stt-whisper", test_whisper);
  g_test_add_func("/speech/engines/stt-rest", test_rest);
  g_test_add_func("/speech/engines/tts-flite", test_flite);
  g_test_add_func("/speech/engines/tts-piper", test_piper);
  return g_test_run();
}
