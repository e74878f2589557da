/* A random walk over whole conversations: the bookkeeper in world.c checks the invariants at every step, and whenever
 * the inputs stop, everything must come to rest. WALK_STEPS=n calls of session_step() (default 1200000, twenty
 * million with CHOIR_FULL=1), SEED=n repeats a run. */
#include "world.h"
#include <stdlib.h>
#include <unistd.h>

#define MIC(ms) ((guint64)(ms)*CHOIR_RATE_MIC / 1000)

typedef struct {
  guint sessions, responses, heards, discards, truncated, playouts, transcripts, failed, errors;
  guint guesses, wrong_guesses, pauses, resumes, cuts, fillers, canned, echoes, reopened, judged;
  guint64 steps, stale;
} Totals;

static gboolean chance(GRand *rand, guint one_in) {
  return g_rand_int_range(rand, 0, (gint32)one_in) == 0;
}

static guint any(GRand *rand, guint low, guint high) {
  return (guint)g_rand_int_range(rand, (gint32)low, (gint32)high + 1);
}

static void new_mood(World *w, GRand *rand) {
  gboolean fast = chance(rand, 2);
  w->stt_ms = any(rand, 20, fast ? 200 : chance(rand, 10) ? 130000 : 3000);
  w->twin_first_ms = any(rand, 20, fast ? 300 : 3000);
  w->twin_clause_ms = any(rand, 20, fast ? 200 : 1500);
  w->tts_ms = any(rand, 20, fast ? 200 : chance(rand, 50) ? 70000 : 1500);
  w->clause_ms = any(rand, 40, 5000);
  w->clauses = any(rand, 0, 7);
  w->understood = !chance(rand, 4);
  w->deaf = chance(rand, 3);
  w->twin_refuses = chance(rand, 12);
  w->twin_outcome = chance(rand, 10) ? (SessionOutcome)any(rand, SESSION_CANCELLED, SESSION_FAILED) : SESSION_COMPLETED;
  w->latency_ms = any(rand, 0, 400);
  w->acks = !chance(rand, 3);
  w->said = chance(rand, 2) ? TURN_SAID_WORDS : (TurnSaid)any(rand, TURN_SAID_BACKCHANNEL, TURN_SAID_STOP);
  w->ending = (TurnEnding)any(rand, TURN_ENDING_NEUTRAL, TURN_ENDING_OPEN);
  w->echo_text = chance(rand, 4);
  w->foreign = chance(rand, 12);
  w->judge_ms = chance(rand, 3) ? 0 : any(rand, 20, 1500);
  w->verdict = g_rand_double(rand);
}

static SessionOptions random_options(GRand *rand) {
  SessionOptions options = world_options();
  options.server_vad = !chance(rand, 4);
  options.interrupt = !chance(rand, 4);
  options.create_response = !chance(rand, 6);
  options.audio_out = !chance(rand, 6);
  options.silence_ms = any(rand, 200, 1500);
  options.prefix_ms = any(rand, 0, 1000);
  options.speculate = !chance(rand, 4);
  options.silence_min_ms = any(rand, 200, 800);
  options.silence_max_ms = chance(rand, 4) ? 0 : any(rand, 800, 3000);
  options.muted = chance(rand, 12);
  options.half_duplex = chance(rand, 8);
  options.wake = chance(rand, 8);
  options.idle_ms = chance(rand, 3) ? any(rand, 500, 20000) : 0;
  return options;
}

/* A result that nobody asked for, or a job's failure. */
static void stray_result(World *w, GRand *rand) {
  SessionEvent event = {.type = (SessionEventType)any(rand, SESSION_EV_STT_TEXT, SESSION_EV_TTS_FAILED),
                        .gen = any(rand, 0, w->s.gens + 2),
                        .index = any(rand, 0, 8),
                        .end = any(rand, 0, 200),
                        .begin = any(rand, 0, 200),
                        .text_length = any(rand, 0, 200),
                        .samples = any(rand, 0, 50000),
                        .flag = chance(rand, 2),
                        .echo = chance(rand, 2),
                        .foreign = chance(rand, 4),
                        .said = (TurnSaid)any(rand, TURN_SAID_WORDS, TURN_SAID_STOP),
                        .ending = (TurnEnding)any(rand, TURN_ENDING_NEUTRAL, TURN_ENDING_OPEN),
                        .outcome = (SessionOutcome)any(rand, SESSION_COMPLETED, SESSION_FAILED)};
  if (event.type == SESSION_EV_TWIN_REFUSED)
    return; /* of a running turn that would be a lie, and its heard would rightly be missed */
  world_event(w, event);
}

static void meddle(World *w, GRand *rand, SessionOptions *options) {
  switch (any(rand, 0, 17)) {
  case 0:
  case 1:
    w->speech = !w->speech;
    break;
  case 2:
    w->mic = !w->mic;
    break;
  case 3:
    world_simple(w, SESSION_EV_COMMIT);
    break;
  case 4:
    world_simple(w, SESSION_EV_CLEAR);
    break;
  case 5:
    world_simple(w, chance(rand, 2) ? SESSION_EV_CANCEL : SESSION_EV_RESPOND);
    break;
  case 6:
    world_event(w, (SessionEvent){.type = SESSION_EV_TEXT, .item = session_new_item(&w->s), .flag = chance(rand, 2)});
    break;
  case 7:
    world_event(w, (SessionEvent){.type = SESSION_EV_TRUNCATE,
                                  .item = chance(rand, 3) ? any(rand, 0, w->s.items) : w->reply_item,
                                  .samples = chance(rand, 5) ? G_MAXUINT64 : any(rand, 0, 200000)});
    break;
  case 8:
    *options = random_options(rand);
    world_event(w, (SessionEvent){.type = SESSION_EV_CONFIGURE, .options = options});
    break;
  case 9: {
    SessionWorker worker = (SessionWorker)any(rand, 0, SESSION_WORKERS - 1);
    world_worker(w, worker, !w->s.ready[worker]);
    w->window_done = w->s.mic_end;
    break;
  }
  case 10:
    if (session_mic_room(&w->s) >= MIC(3000))
      world_event(w, (SessionEvent){.type = SESSION_EV_AUDIO, .samples = any(rand, 0, (guint)MIC(3000))});
    break;
  case 11:
    world_event(w, (SessionEvent){.type = SESSION_EV_ACK,
                                  .item = chance(rand, 3) ? any(rand, 0, w->s.items) : w->reply_item,
                                  .samples = any(rand, 0, 500000),
                                  .count = any(rand, 0, 2)});
    break;
  case 12:
    stray_result(w, rand);
    break;
  case 13:
    world_event(w, (SessionEvent){.type = SESSION_EV_HEARD,
                                  .count = 1u << any(rand, 0, 2),
                                  .position = any(rand, 0, 2) * w->s.mic_end / 2,
                                  .echo = chance(rand, 4)});
    break;
  case 14:
    world_event(w, (SessionEvent){.type = SESSION_EV_VERDICT,
                                  .gen = chance(rand, 2) ? w->s.utterance.judge_gen : any(rand, 0, w->s.gens + 2),
                                  .probability = g_rand_double(rand)});
    break;
  case 15:
    world_event(w, (SessionEvent){.type = SESSION_EV_FILLER,
                                  .index = any(rand, 0, SESSION_FILLERS),
                                  .samples = chance(rand, 4) ? 0 : any(rand, 1, 60000)});
    break;
  case 16:
    w->echo_sound = !w->echo_sound;
    break;
  default:
    new_mood(w, rand);
    break;
  }
}

/* Inputs stop, the engines live: everything that was begun ends. */
static void come_to_rest(World *w) {
  w->mic = w->speech = w->twin_refuses = FALSE;
  w->stt_ms = MIN(w->stt_ms, 3000u);
  for (guint i = 0; i < SESSION_WORKERS; i++)
    if (!w->s.ready[i])
      world_worker(w, i, TRUE);
  w->stt_ms = MIN(w->stt_ms, 3000u);
  w->tts_ms = MIN(w->tts_ms, 1500u);
  for (guint ms = 0; w->shown != SESSION_IDLE || w->s.want; ms += 1000) {
    if (ms > 1200000)
      g_error("not at rest after 20 minutes: %s, phase %d, turns %u, stt %d, want %d", session_shown_name(w->shown),
              w->s.reply.phase, w->s.turns, w->s.stt.phase, w->s.want);
    world_run(w, 1000);
  }
  g_assert_cmpint(w->s.reply.phase, ==, REPLY_NONE);
  g_assert_cmpuint(w->s.turns, ==, 0);
  g_assert_cmpuint(w->active_response, ==, 0);
  g_assert_cmpuint(w->responses, ==, w->dones);
  g_assert_cmpuint(w->begins_spoken, ==, w->heards + w->discards);
  g_assert_cmpuint(w->committed, ==, w->transcripts + w->failed_transcripts);
}

static void add_up(Totals *all, World *w) {
  all->sessions++;
  all->responses += w->responses;
  all->heards += w->heards;
  all->discards += w->discards;
  all->truncated += w->truncated;
  all->playouts += w->playouts;
  all->transcripts += w->transcripts;
  all->failed += w->failed_transcripts;
  all->errors += w->errors;
  all->steps += w->steps;
  all->stale += w->s.stale;
  all->guesses += w->guesses;
  all->wrong_guesses += (guint)w->s.wrong_guesses;
  all->pauses += w->pauses;
  all->resumes += w->resumes;
  all->cuts += (guint)w->s.cuts;
  all->fillers += w->fillers;
  all->canned += w->canned;
  all->echoes += (guint)w->s.echoes;
  all->reopened += (guint)w->s.reopened;
  all->judged += w->judged;
}

static void test_walk(void) {
  const char *given = g_getenv("SEED"), *count = g_getenv("WALK_STEPS");
  guint32 seed = given != NULL ? (guint32)strtoul(given, NULL, 10) : g_random_int();
  gboolean full = g_strcmp0(g_getenv("CHOIR_FULL"), "1") == 0;
  guint64 steps = count != NULL ? g_ascii_strtoull(count, NULL, 10) : full ? 20000000 : 1200000;
  g_test_message("SEED=%u WALK_STEPS=%" G_GUINT64_FORMAT, seed, steps);
  g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
  Totals all = {0};
  SessionOptions options = random_options(rand);
  World *w = world_new(&options);
  new_mood(w, rand);
  w->mic = TRUE;
  guint blip = 0;
  guint hurry = 60; /* ticks between two interferences, on average */
  while (all.steps + w->steps < steps) {
    world_run(w, 20);
    if (chance(rand, hurry))
      meddle(w, rand, &options);
    /* Conversations, not only trouble: people speak in turns and what died comes back. */
    if (w->mic && chance(rand, w->speech ? 40 : w->s.utterance.active ? 30 : 120))
      w->speech = !w->speech;
    /* Sounds over a reply that are no turn. */
    if (blip > 0 && --blip == 0)
      w->speech = FALSE;
    if (w->mic && !w->speech && session_audible(&w->s) && chance(rand, 60)) {
      w->speech = TRUE;
      blip = any(rand, 7, 20);
      w->understood = chance(rand, 2);
    }
    if (!w->mic && chance(rand, 200))
      w->mic = TRUE;
    if (chance(rand, 1000))
      hurry = any(rand, 5, 600);
    for (guint i = 0; i < SESSION_WORKERS; i++)
      if (!w->s.ready[i] && chance(rand, 150)) {
        world_worker(w, (SessionWorker)i, TRUE);
        w->window_done = w->s.mic_end;
      }
    if (chance(rand, 3000))
      come_to_rest(w);
    if (chance(rand, 5000)) {
      world_simple(w, SESSION_EV_HANGUP);
      g_assert_cmpuint(w->begins_spoken, ==, w->heards + w->discards);
      add_up(&all, w);
      world_free(w);
      options = random_options(rand);
      w = world_new(&options);
      new_mood(w, rand);
      w->mic = TRUE;
    }
  }
  come_to_rest(w);
  add_up(&all, w);
  world_free(w);
  g_test_message("%u sessions, %" G_GUINT64_FORMAT
                 " steps, %u replies, %u heard, %u discarded, %u cut, %u played out, %u transcripts, "
                 "%u failed, %u errors, %" G_GUINT64_FORMAT " stale",
                 all.sessions, all.steps, all.responses, all.heards, all.discards, all.truncated, all.playouts,
                 all.transcripts, all.failed, all.errors, all.stale);
  g_test_message("%u guesses, %u of them wrong, %u reopened, %u judged, %u pauses, %u resumed, %u interruptions, "
                 "%u fillers, %u sentences of our own, %u echoes",
                 all.guesses, all.wrong_guesses, all.reopened, all.judged, all.pauses, all.resumes, all.cuts,
                 all.fillers, all.canned, all.echoes);
  /* a walk that goes nowhere proves nothing */
  if (steps >= 200000) {
    const guint must[] = {all.guesses, all.wrong_guesses, all.judged, all.pauses, all.resumes, all.cuts, all.echoes};
    for (gsize i = 0; i < G_N_ELEMENTS(must); i++)
      g_assert_cmpuint(must[i], >, steps >= 1000000 ? 3 : 0);
    g_assert_cmpuint(all.canned + all.fillers + all.reopened, >, 0);
    g_assert_cmpuint(all.responses, >, 50);
    g_assert_cmpuint(all.truncated, >, 10);
    g_assert_cmpuint(all.playouts, >, 0);
    g_assert_cmpuint(all.transcripts, >, 50);
    g_assert_cmpuint(all.stale, >, 50);
  }
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  alarm(g_getenv("WALK_STEPS") != NULL || g_getenv("CHOIR_FULL") != NULL ? 3000 : 110);
  g_test_add_func("/voice/session/walk", test_walk);
  return g_test_run();
}
