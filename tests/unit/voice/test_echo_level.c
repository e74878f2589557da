/* The detector of the agent's own voice in a simulated room, on real recordings when CHOIR_DATA holds them: an echo at
 * -12 dB after 40, 120 and 200 ms from a clock that is 50 ppm off must never look like somebody who speaks for 128 ms
 * (that pauses a reply), and somebody who does speak must. */
#include "audio/resample.h"
#include "audio/wav.h"
#include "base/names.h"
#include "voice/echo_level.h"
#include "voice/session.h"
#include <math.h>
#include <string.h>
#include <unistd.h>

#define ECHO_GAIN 0.2512 /* -12 dB */
#define CHUNK 480        /* 20 ms of the reply */
#define SPEECH 0.0015    /* of a window: what a voice detector takes for a voice, about -56 dBFS */
#define LEARN_MS 1000

typedef struct {
  gint16 *pcm; /* CHOIR_RATE_OUT */
  gsize n;
} Voice;

static Voice load(const char *name) {
  const char *data = g_getenv("CHOIR_DATA");
  g_autofree char *own = data ? g_strdup(data) : g_build_filename(g_get_user_cache_dir(), "choir", "data", NULL);
  g_autofree char *path = g_build_filename(own, name, NULL);
  ChoirWav wav = {0};
  GArray *out = g_array_new(FALSE, FALSE, sizeof(gint16));
  if (choir_wav_read(path, &wav, NULL) && wav.channels == 1) {
    ChoirResampler *resampler = choir_resampler_new(wav.rate, CHOIR_RATE_OUT);
    choir_resampler_run(resampler, wav.samples, wav.frames, out);
    choir_resampler_free(resampler);
    choir_wav_clear(&wav);
  } else {
    g_autoptr(GRand) chance = g_rand_new_with_seed(7);
    double gain = 0, wanted = 0;
    for (guint i = 0; i < 11 * CHOIR_RATE_OUT; i++) {
      if (i % (CHOIR_RATE_OUT / 8) == 0)
        wanted = g_rand_double(chance) < 0.3 ? 0 : g_rand_double_range(chance, 0.3, 1);
      gain += (wanted - gain) * 0.002;
      gint16 value = (gint16)(g_rand_double_range(chance, -1, 1) * gain * 8000);
      g_array_append_val(out, value);
    }
  }
  Voice voice = {.n = out->len};
  voice.pcm = (gint16 *)(gpointer)g_array_free(out, FALSE);
  return voice;
}

static double at(const Voice *voice, double place) {
  return place >= 0 ? voice->pcm[(gsize)place % voice->n] / 32768.0 : 0;
}

typedef struct {
  guint longest, voiced, windows; /* windows in a row that look like somebody, those above SPEECH, all */
} Seen;

/* Plays `ms` of the reply from its sample 0, as the pacer does: 80 ms ahead. person: speaks near the microphone. */
static Seen talk(EchoLevel *echo, const Voice *agent, const Voice *person, double delay_ms, double ppm, guint ms) {
  const double rate = (double)CHOIR_RATE_OUT / CHOIR_RATE_MIC;
  Seen seen = {0};
  guint64 sent = 0;
  guint run = 0;
  for (guint64 now = 0; now < (guint64)ms * 16; now += CHOIR_VAD_WINDOW) {
    for (; sent < (now + CHOIR_VAD_WINDOW) * 3 / 2 + 80 * 24; sent += CHUNK) {
      gint16 piece[CHUNK];
      for (guint i = 0; i < CHUNK; i++)
        piece[i] = agent->pcm[(sent + i) % agent->n];
      echo_level_play(echo, sent * 2 / 3, piece, CHUNK);
    }
    double sum = 0;
    for (guint i = 0; i < CHOIR_VAD_WINDOW; i++) {
      double heard = ((double)(now + i) * (1 + ppm / 1e6) - delay_ms * 16) * rate;
      double value = ECHO_GAIN * (at(agent, heard) + 0.4 * at(agent, heard - 290) + 0.2 * at(agent, heard - 700));
      value += person ? at(person, (double)(now + i) * rate) : 0;
      sum += value * value;
    }
    double rms = sqrt(sum / CHOIR_VAD_WINDOW);
    gboolean own = echo_level_hear(echo, now + CHOIR_VAD_WINDOW, rms);
    if (now < LEARN_MS * 16)
      continue;
    seen.windows++;
    seen.voiced += rms > SPEECH;
    run = rms > SPEECH && !own ? run + 1 : 0;
    seen.longest = MAX(seen.longest, run);
  }
  return seen;
}

static void test_own_voice(void) {
  static const double delays[] = {40, 120, 200};
  Voice agent = load("two_cities.wav"), other = load("jfk.wav");
  for (guint i = 0; i < G_N_ELEMENTS(delays); i++)
    for (int sign = -1; sign <= 1; sign += 2) {
      EchoLevel echo;
      echo_level_reset(&echo);
      Seen alone = talk(&echo, &agent, NULL, delays[i], 50.0 * sign, 40000);
      g_test_message("%.0f ms, %d ppm: %u of %u windows are loud, at most %u in a row look like a person", delays[i],
                     50 * sign, alone.voiced, alone.windows, alone.longest);
      g_assert_cmpuint(alone.voiced, >, alone.windows / 5);
      g_assert_cmpuint(alone.longest, <, SESSION_BARGE_IN_WINDOWS);
      Seen both = talk(&echo, &agent, &other, delays[i], 50.0 * sign, 10000);
      g_test_message("... and %u when somebody speaks", both.longest);
      g_assert_cmpuint(both.longest, >=, SESSION_BARGE_IN_WINDOWS);
    }
  g_free(agent.pcm);
  g_free(other.pcm);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/voice/echo_level/own_voice", test_own_voice);
  return g_test_run();
}
