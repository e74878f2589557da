/* A client and its engines in virtual time around session_step(): fakes with set delays, and a bookkeeper that knows
 * the invariants and checks them after every step from the effects alone. */
#pragma once
#include "voice/session.h"

#define WORLD_JOBS 256
#define WORLD_ITEMS 65536

typedef struct {
  guint64 due;
  SessionEvent event;
  gboolean cancelled; /* its effects are unwanted; delivered all the same when the engines are deaf */
  enum { WORLD_TWIN, WORLD_STT, WORLD_TTS, WORLD_EAR } engine;
} WorldJob;

typedef struct {
  SessionState s;
  guint64 now;
  GString *log; /* one word an effect, without audio and text */
  /* how the engines behave */
  guint stt_ms, twin_first_ms, twin_clause_ms, tts_ms, clause_ms, clauses;
  gboolean understood; /* transcripts are not empty */
  gboolean deaf;       /* cancelled jobs answer all the same: late results */
  gboolean twin_refuses;
  TurnSaid said;
  TurnEnding ending;
  gboolean echo_text, foreign; /* what transcripts are */
  guint voice_ms;              /* the voice's time for a clause that it gives out in ten pieces; 0: tts_ms, in two */
  guint gaps_in_clause;
  guint judge_ms; /* smart-turn's time, 0: there is none */
  double verdict;
  SessionOutcome twin_outcome;
  /* the client */
  gboolean echo_sound;  /* the microphone hears the agent */
  gboolean mic, speech; /* the microphone streams; somebody speaks into it */
  gboolean acks;
  guint latency_ms; /* between sending and hearing */
  guint64 window_done;
  WorldJob job[WORLD_JOBS];
  guint jobs;
  /* the listener's player */
  guint32 play_item;
  guint64 play_sent, played, underruns, gap;
  guint64 arrived[64]; /* samples that arrived, by ticks of 20 ms ago */
  /* bookkeeping */
  guint32 active_response, last_response, reply_gen, reply_item;
  gboolean reply_spoken, heard_owed, cut;
  gboolean guess, paused; /* the reply: begun before the turn's end; the listener holds */
  guint shapes, late_shapes, spots;
  guint64 filler_samples, paused_at, before;
  guint guesses, canned, pauses, resumes, fillers, judged;
  guint32 generated; /* bytes of the reply's deltas */
  guint64 store, sent;
  guint8 item_state[WORLD_ITEMS]; /* 1 committed, 2 resolved */
  guint8 item_captured[WORLD_ITEMS];
  guint responses, dones, heards, discards, begins_spoken, begins, playouts, errors, truncated, transcripts, committed,
      failed_transcripts;
  guint32 heard_bytes;
  gboolean heard_cut;
  guint64 truncated_samples, stopped_at, last_audio_at;
  int last_error;
  guint64 job_start, job_end; /* of the last transcription */
  guint32 last_committed;
  SessionShown shown;
  guint64 steps;
} World;

SessionOptions world_options(void);
World *world_new(const SessionOptions *options);
void world_free(World *world);
void world_event(World *world, SessionEvent event); /* now is filled in */
void world_simple(World *world, SessionEventType type);
void world_worker(World *world, SessionWorker worker, gboolean ready);
void world_run(World *world, guint ms); /* in ticks of 20 ms */
void world_say(World *world, guint ms); /* speech, then the microphone stays on with silence */
void world_type(World *world);
void world_until(World *world, SessionShown shown, guint limit_ms); /* fails when it does not come */
void world_heard(World *world, SessionSpot kind);                   /* the spotter reports, at the microphone's end */
guint world_count(const World *world, const char *word);            /* in the log */
gboolean world_said(const World *world, const char *words); /* the log holds these words in this order, side by side */

typedef struct {
  const char *name;
  void (*run)(void);
} WorldTest;
/* Runs them as FOLDER/name; ends the program after so many seconds. */
int world_test(int argc, char **argv, const char *folder, guint seconds, const WorldTest *tests, gsize n);
