/* When phonemes sound, which engine a machine can afford, and the features of smart-turn: pure code. */
#include "speech/jobs.h"
#include "speech/tier.h"
#include "speech/tts_text.h"
#include "speech/tts_timeline.h"
#include "speech/turn_mel.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

/* --- timeline --- */

static GArray *finish(ChoirTtsTimeline *timeline, const ChoirTtsSpan *span, GArray *words, gboolean expected) {
  GArray *mouth = g_array_new(FALSE, FALSE, sizeof(ChoirTtsMouth));
  g_assert_true(choir_tts_timeline_finish(timeline, span, words, mouth) == expected);
  return mouth;
}

static void check_mouth(const GArray *mouth, guint index, guint32 first, const char *name) {
  g_assert_cmpuint(index, <, mouth->len);
  g_assert_cmpuint(g_array_index(mouth, ChoirTtsMouth, index).first, ==, first);
  g_assert_cmpstr(choir_viseme_name(g_array_index(mouth, ChoirTtsMouth, index).viseme), ==, name);
}

static void test_timeline(void) {
  ChoirTtsTimeline timeline;
  choir_tts_timeline_init(&timeline);
  g_autoptr(GArray) words = choir_tts_words("hot bee", 7);
  /* 1000 of silence, of which 900 are cut off: h, o, t, a gap, b, e, the end. */
  choir_tts_timeline_add(&timeline, 1000, -1, CHOIR_VISEME_SIL);
  choir_tts_timeline_add(&timeline, 100, 0, choir_viseme_of_ipa('h'));
  choir_tts_timeline_add(&timeline, 200, 0, choir_viseme_of_ipa(0x251));
  choir_tts_timeline_add(&timeline, 100, 0, choir_viseme_of_ipa('t'));
  choir_tts_timeline_add(&timeline, 50, -1, choir_viseme_of_ipa(' '));
  choir_tts_timeline_add(&timeline, 100, 1, choir_viseme_of_ipa('b'));
  choir_tts_timeline_add(&timeline, 300, 1, choir_viseme_of_ipa('i'));
  choir_tts_timeline_add(&timeline, 150, -1, choir_viseme_of_ipa('.'));
  ChoirTtsSpan span = {.sound = 2000, .dropped = 900, .sent = 2000, .rate = 1000, .to_rate = 2000};
  g_autoptr(GArray) mouth = finish(&timeline, &span, words, TRUE);
  g_assert_cmpuint(mouth->len, ==, 6);
  check_mouth(mouth, 0, 0, "sil");
  check_mouth(mouth, 1, 200, "aa"); /* h takes the vowel's shape */
  check_mouth(mouth, 2, 800, "DD"); /* which lasts through the gap */
  check_mouth(mouth, 3, 1100, "PP");
  check_mouth(mouth, 4, 1300, "I");
  check_mouth(mouth, 5, 1900, "sil");
  const ChoirTtsWord *row = &g_array_index(words, ChoirTtsWord, 0);
  g_assert_true(row[0].timed && row[1].timed);
  g_assert_cmpuint(row[0].first, ==, 200);
  g_assert_cmpuint(row[0].last, ==, 1000);
  g_assert_cmpuint(row[1].first, ==, 1100);
  g_assert_cmpuint(row[1].last, ==, 1900);
  span.sound = 2001; /* a sample that no phoneme accounts for */
  g_autoptr(GArray) none = finish(&timeline, &span, words, FALSE);
  g_assert_cmpuint(none->len, ==, 0);
  choir_tts_timeline_clear(&timeline);
}

/* Random phonemes and cuts: shapes start at 0, rise strictly and stay inside. */
static void test_timeline_random(void) {
  for (guint round = 0; round < 2000; round++) {
    ChoirTtsTimeline timeline;
    choir_tts_timeline_init(&timeline);
    g_autoptr(GArray) words = choir_tts_words("a b c d", 7);
    guint n = (guint)g_test_rand_int_range(1, 60);
    for (guint i = 0; i < n; i++)
      choir_tts_timeline_add(&timeline, (guint64)g_test_rand_int_range(0, 3000), g_test_rand_int_range(-1, 5),
                             (ChoirViseme)g_test_rand_int_range(0, CHOIR_VISEME_GAP + 1));
    guint64 dropped = (guint64)g_test_rand_int_range(0, 4000);
    guint64 sent = timeline.samples > dropped ? (timeline.samples - dropped) * 24000 / 22050 : 0;
    guint64 tail = (guint64)g_test_rand_int_range(0, 3000);
    sent -= MIN(sent, tail);
    const ChoirTtsSpan span = {timeline.samples, dropped, sent, 22050, 24000};
    g_autoptr(GArray) mouth = finish(&timeline, &span, words, sent > 0);
    for (guint i = 0; i < mouth->len; i++) {
      const ChoirTtsMouth *now = &g_array_index(mouth, ChoirTtsMouth, i);
      g_assert_cmpuint(now->first, <, sent);
      g_assert_true(i == 0 ? now->first == 0 : now->first > now[-1].first && now->viseme != now[-1].viseme);
    }
    for (guint i = 0; i < words->len; i++) {
      const ChoirTtsWord *word = &g_array_index(words, ChoirTtsWord, i);
      g_assert_true(!word->timed || (word->first < word->last && word->last <= sent));
    }
    choir_tts_timeline_clear(&timeline);
  }
}

static void test_shapes(void) {
  static const char *const closed[] = {"p", "b", "m"};
  for (gsize i = 0; i < G_N_ELEMENTS(closed); i++) {
    g_assert_cmpint(choir_viseme_of_arpabet(closed[i]), ==, CHOIR_VISEME_PP);
    g_assert_cmpint(choir_viseme_of_ipa((gunichar)closed[i][0]), ==, CHOIR_VISEME_PP);
  }
  g_assert_cmpint(choir_viseme_of_arpabet("pau"), ==, CHOIR_VISEME_SIL);
  g_assert_cmpint(choir_viseme_of_arpabet("sh"), ==, CHOIR_VISEME_CH);
  g_assert_cmpint(choir_viseme_of_arpabet("h"), ==, CHOIR_VISEME_SIL); /* a name only flite's set has not */
  g_assert_cmpint(choir_viseme_of_ipa(0x2c8), ==, CHOIR_VISEME_NEXT);
  g_assert_cmpint(choir_viseme_of_ipa(0x2d0), ==, CHOIR_VISEME_PREVIOUS);
}

/* --- tier --- */

static void test_tier(void) {
  ChoirTier tier;
  choir_tier_init(&tier, "Piper", "flite", 0.7);
  g_assert_false(choir_tier_is_full(&tier));
  choir_tier_take(&tier, 0.15, 1000);
  g_assert_true(choir_tier_is_full(&tier));
  g_assert_cmpint(choir_tier_due(&tier, 1000), ==, -1);
  g_autofree char *good = choir_tier_reason(&tier);
  g_assert_cmpstr(good, ==, "Piper: 0.15 of real time, fast enough");
  /* A busy start, then a quiet minute. */
  choir_tier_init(&tier, "Piper", "flite", 0.7);
  choir_tier_take(&tier, 0.9, 1000);
  g_assert_false(choir_tier_is_full(&tier));
  g_assert_cmpint(choir_tier_due(&tier, 31000), ==, 30000);
  g_autofree char *later = choir_tier_reason(&tier);
  g_assert_nonnull(strstr(later, "measured again later"));
  choir_tier_take(&tier, 0.5, 70000);
  g_assert_true(choir_tier_is_full(&tier));
  /* A slow machine is asked three times and then left alone. */
  choir_tier_init(&tier, "Piper", "flite", 0.7);
  for (int i = 0; i < 3; i++) {
    g_assert_cmpint(choir_tier_due(&tier, i * 400000), ==, 0);
    choir_tier_take(&tier, 1.1 + i, i * 400000);
  }
  g_assert_false(choir_tier_is_full(&tier));
  g_assert_cmpint(choir_tier_due(&tier, 9999999), ==, -1);
  g_autofree char *slow = choir_tier_reason(&tier);
  g_assert_nonnull(strstr(slow, "1.10 of real time, too slow here"));
  g_assert_cmpint(choir_tier_free_mb(), >, 0);
}

static void test_idle(void) {
  ChoirJobs *jobs = choir_jobs_new(2);
  g_assert_true(choir_jobs_idle(jobs));
  g_assert_null(choir_jobs_take_within(jobs, 20));
  const ChoirWireFrame frame = {.session = 1, .gen = 1};
  gboolean hit = FALSE;
  g_assert_true(choir_jobs_push(jobs, &frame, &hit));
  g_assert_false(choir_jobs_idle(jobs));
  ChoirJob *job = choir_jobs_take_within(jobs, 20);
  g_assert_nonnull(job);
  choir_jobs_done(jobs, job);
  choir_jobs_free(jobs);
}

/* --- smart-turn's features --- */

/* Values of compute_whisper_log_mel_features() of pipecat-ai 1.14.0 for the same sound, at (7i mod 80, 53i mod 800). */
static const float reference[] = {0.20927f,  -0.31936f, -0.31936f, -0.31936f, -0.31936f, -0.31936f, -0.31936f,
                                  -0.31936f, -0.31936f, -0.31936f, 1.25857f,  1.22148f,  1.55518f,  1.15107f,
                                  1.11491f,  1.20065f,  -0.31936f, -0.31936f, -0.31936f, -0.31936f, -0.31936f,
                                  -0.31936f, -0.31936f, -0.06486f, -0.31936f, 1.13160f,  1.21785f,  1.40861f,
                                  1.28538f,  1.32233f,  1.30515f,  -0.31936f};

static void test_mel(void) {
  g_autofree gint16 *sound = g_new(gint16, CHOIR_TURN_SAMPLES);
  guint32 seed = 12345;
  for (int i = 0; i < 48000; i++) {
    seed = seed * 1664525u + 1013904223u;
    int noise = (int)(seed >> 16) - 32768;
    noise = noise >= 0 ? noise / 4 : -((3 - noise) / 4); /* rounds down */
    sound[i] = (gint16)(noise * (i / 4000 % 2) + (int)(3000 * sin(2 * G_PI * 220 * i / 16000)));
  }
  g_autofree float *mel = g_new(float, (gsize)CHOIR_TURN_MELS *CHOIR_TURN_FRAMES);
  choir_turn_mel(sound, 48000, mel);
  for (guint i = 0; i < G_N_ELEMENTS(reference); i++)
    g_assert_cmpfloat_with_epsilon(mel[(i * 7 % 80) * CHOIR_TURN_FRAMES + i * 53 % 800], reference[i], 2e-4f);
  /* The columns that are not computed, as they are all alike, are those that would be: silence added by hand. */
  g_autofree float *whole = g_new(float, (gsize)CHOIR_TURN_MELS *CHOIR_TURN_FRAMES);
  memmove(sound + 80000, sound, 48000 * sizeof *sound);
  memset(sound, 0, 80000 * sizeof *sound);
  choir_turn_mel(sound, CHOIR_TURN_SAMPLES, whole);
  for (gsize i = 0; i < (gsize)CHOIR_TURN_MELS * CHOIR_TURN_FRAMES; i++)
    g_assert_cmpfloat_with_epsilon(mel[i], whole[i], 1e-5f);
  memset(sound, 0, CHOIR_TURN_SAMPLES * sizeof *sound);
  choir_turn_mel(sound, CHOIR_TURN_SAMPLES, mel);
  choir_turn_mel(sound, 0, whole);
  for (gsize i = 0; i < (gsize)CHOIR_TURN_MELS * CHOIR_TURN_FRAMES; i++)
    g_assert_true(isfinite(mel[i]) && isfinite(whole[i]));
}

int main(int argc, char **argv) {
  alarm(80);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/speech/timing/timeline", test_timeline);
  g_test_add_func("/speech/timing/random", test_timeline_random);
  g_test_add_func("/speech/timing/shapes", test_shapes);
  g_test_add_func("/speech/timing/tier", test_tier);
  g_test_add_func("/speech/timing/idle", test_idle);
  g_test_add_func("/speech/timing/mel", test_mel);
  return g_test_run();
}
