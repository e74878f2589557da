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

/* A listener and its room: what was sent, what was played of it when the microphone's sample was picked up. */
typedef struct {
  EchoLevel *echo;
  const Voice *agent, *person; /* person: speaks near the microphone; NULL: nobody does */
  double delay_ms, ppm;
  GRand *chance;        /* NULL: the machine is quiet; else it stalls and runs dry now and then */
  guint64 sent;         /* samples of CHOIR_RATE_OUT, of all replies */
  guint64 mic, dry;     /* samples of CHOIR_RATE_MIC; until when nothing comes */
  guint64 played;       /* so far */
  float sound[1 << 19]; /* what the loudspeaker gave, by the microphone's samples, a ring */
} Room;

#define RING G_N_ELEMENTS(((Room *)NULL)->sound)

static double heard_at(const Room *room, double mic) {
  guint64 whole = (guint64)mic;
  return mic >= 0 && whole < room->mic + CHOIR_VAD_WINDOW ? (double)room->sound[whole % RING] : 0;
}

/* The sender is 80 ms ahead of what was reported, unless the machine stalls: then the listener runs dry, and begins
 * anew when it has 60 ms. */
static void play(Room *room) {
  if (room->chance != NULL && room->mic >= room->dry && g_rand_double(room->chance) < 0.01)
    room->dry = room->mic + (guint64)g_rand_int_range(room->chance, 200, 1500) * 16;
  guint64 horizon = room->mic < room->dry ? 0 : room->played + 80 * 24;
  if (room->sent == room->played && room->sent < horizon)
    echo_level_mark(room->echo, room->mic, room->played);
  for (; room->sent < horizon; room->sent += CHUNK) {
    gint16 piece[CHUNK];
    for (guint i = 0; i < CHUNK; i++)
      piece[i] = room->agent->pcm[(room->sent + i) % room->agent->n];
    echo_level_sent(room->echo, piece, CHUNK);
  }
  for (guint i = 0; i < CHOIR_VAD_WINDOW; i++) {
    guint64 now = room->mic + i;
    gboolean any = room->played + 1 + i % 2 <= room->sent; /* three samples for two of the microphone's */
    room->sound[now % RING] = any ? (float)at(room->agent, (double)room->played) : 0;
    room->played = any ? room->played + 1 + i % 2 : room->played;
  }
}

/* `ms` of it. */
static Seen talk(Room *room, guint ms) {
  Seen seen = {0};
  guint run = 0;
  for (guint64 end = room->mic + (guint64)ms * 16; room->mic < end;) {
    play(room);
    double sum = 0;
    for (guint i = 0; i < CHOIR_VAD_WINDOW; i++) {
      double now = (double)(room->mic + i), heard = now * (1 + room->ppm / 1e6) - room->delay_ms * 16;
      double value =
          ECHO_GAIN * (heard_at(room, heard) + 0.4 * heard_at(room, heard - 193) + 0.2 * heard_at(room, heard - 467));
      value += room->person != NULL ? at(room->person, now * 1.5) : 0;
      sum += value * value;
    }
    double rms = sqrt(sum / CHOIR_VAD_WINDOW);
    room->mic += CHOIR_VAD_WINDOW;
    if (room->played > 0 && (room->chance == NULL || g_rand_double(room->chance) < 0.8))
      echo_level_mark(room->echo, room->mic, room->played);
    gboolean own = echo_level_hear(room->echo, room->mic, rms);
    seen.windows++;
    seen.voiced += rms > SPEECH;
    run = rms > SPEECH && !own ? run + 1 : 0;
    seen.longest = MAX(seen.longest, run);
  }
  return seen;
}

static Room *room_new(EchoLevel *echo, const Voice *agent, double delay_ms, double ppm) {
  Room *room = g_new0(Room, 1);
  echo_level_reset(echo);
  room->echo = echo;
  room->agent = agent;
  room->delay_ms = delay_ms;
  room->ppm = ppm;
  return room;
}

static const double delays[] = {40, 120, 200};

/* From its very first word on. */
static void test_own_voice(void) {
  Voice agent = load("two_cities.wav"), other = load("jfk.wav");
  for (guint i = 0; i < G_N_ELEMENTS(delays); i++)
    for (int sign = -1; sign <= 1; sign += 2) {
      EchoLevel echo;
      g_autofree Room *room = room_new(&echo, &agent, delays[i], 50.0 * sign);
      Seen alone = talk(room, 40000);
      g_test_message("%.0f ms, %d ppm: %u of %u windows are loud, at most %u in a row look like a person", delays[i],
                     50 * sign, alone.voiced, alone.windows, alone.longest);
      g_assert_cmpuint(alone.voiced, >, alone.windows / 5);
      g_assert_cmpuint(alone.longest, <, SESSION_BARGE_IN_WINDOWS);
      g_assert_true(echo_level_settled(&echo));
      room->person = &other;
      Seen both = talk(room, 10000);
      g_test_message("... and %u when somebody speaks", both.longest);
      g_assert_cmpuint(both.longest, >=, SESSION_BARGE_IN_WINDOWS);
    }
  g_free(agent.pcm);
  g_free(other.pcm);
}

/* A machine that stalls: the sound runs dry and begins anew, again and again, and reports are lost. */
static void test_stalls(void) {
  Voice agent = load("two_cities.wav");
  guint32 seed = g_test_rand_int() & 0xffff;
  g_test_message("seed %u", seed);
  for (guint i = 0; i < G_N_ELEMENTS(delays); i++) {
    EchoLevel echo;
    g_autofree Room *room = room_new(&echo, &agent, delays[i], 50);
    room->chance = g_rand_new_with_seed(seed + i);
    Seen alone = talk(room, 60000);
    g_test_message("%.0f ms: %u of %u windows are loud, at most %u in a row look like a person", delays[i],
                   alone.voiced, alone.windows, alone.longest);
    g_assert_cmpuint(alone.voiced, >, alone.windows / 10);
    g_assert_cmpuint(alone.longest, <, SESSION_BARGE_IN_WINDOWS);
    g_rand_free(room->chance);
  }
  g_free(agent.pcm);
}

/* Headphones: nothing comes back, and the first word over the agent counts at once. */
static void test_no_echo(void) {
  Voice agent = load("jfk.wav"), other = load("two_cities.wav");
  EchoLevel echo;
  g_autofree Room *room = room_new(&echo, &agent, 10000, 0);
  (void)talk(room, 900);
  g_assert_true(echo_level_settled(&echo));
  room->person = &other;
  room->mic = 41 * CHOIR_VAD_WINDOW; /* where the recording begins to speak */
  room->played = room->sent;
  Seen spoken = talk(room, 1500);
  g_test_message("%u windows in a row look like a person", spoken.longest);
  g_assert_cmpuint(spoken.longest, >=, SESSION_BARGE_IN_WINDOWS);
  g_free(agent.pcm);
  g_free(other.pcm);
}

/* Reports that make no sense are no harm: from the past, from beyond what was sent, many at once. */
static void test_odd_reports(void) {
  EchoLevel echo;
  echo_level_reset(&echo);
  gint16 pcm[CHUNK];
  for (guint i = 0; i < CHUNK; i++)
    pcm[i] = (gint16)(i * 37);
  g_assert_false(echo_level_hear(&echo, CHOIR_VAD_WINDOW, 0.1));
  for (guint i = 0; i < 3000; i++) {
    echo_level_sent(&echo, pcm, i % 3 * 160);
    echo_level_mark(&echo, (guint64)i * 400 % 90000, (guint64)i * 7919 % 200000);
    (void)echo_level_hear(&echo, (guint64)i * 512 % 100000, 0.05);
  }
  echo_level_mark(&echo, G_MAXUINT64 / 4, G_MAXUINT64);
  (void)echo_level_hear(&echo, G_MAXUINT64 / 4 + CHOIR_VAD_WINDOW, 0.05);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/voice/echo_level/own_voice", test_own_voice);
  g_test_add_func("/voice/echo_level/stalls", test_stalls);
  g_test_add_func("/voice/echo_level/no_echo", test_no_echo);
  g_test_add_func("/voice/echo_level/odd_reports", test_odd_reports);
  return g_test_run();
}
