/* The turn-taking of one client as a pure function: session_step(state, event) -> effects. No clock, no I/O, no
 * allocation. Time comes with the events, in samples of CHOIR_RATE_MIC; so does audio time (the index of a microphone
 * sample). Source of the design: LocalAI's coordinators, LiveKit's SpeechHandle, HF speech-to-speech's CancelScope
 * (generation numbers).
 *
 * A client is in three things at once, each of which is one struct below:
 * - the utterance: somebody speaks (onset, pause, end), found from VAD windows or bounded by commits;
 * - the turns: committed utterances in the order they were said, transcribed one after the other;
 * - the reply: one at a time, RUNNING while text or audio is still to be sent, TAIL until the listener heard it all.
 * A reply begins when one is wanted, something is unanswered, nobody speaks, no turn is being transcribed and the reply
 * before it has been heard or cut. So what a person says in two breaths is answered once, even when the first half's
 * reply had begun in silence: it is discarded and both halves are answered. A cough does not lose the answer for the
 * same reason. */
#pragma once
#include <glib.h>
#include "base/names.h"
#include "voice/ledger.h"
#include "voice/pacer.h"

#define SESSION_TURNS 4        /* committed and not yet transcribed */
#define SESSION_UNANSWERED 16  /* transcripts and typed messages waiting for a reply */
#define SESSION_MAX_EFFECTS 32 /* no event causes more */
#define SESSION_UTTERANCE_MS 30000
#define SESSION_UNREAD_MS 30000 /* microphone audio that nobody looked at yet */
#define SESSION_AHEAD_MS 6000   /* unsent reply audio above which no further clause is synthesised */
#define SESSION_STORE_MS 60000  /* unsent reply audio at most */
#define SESSION_PAUSE_MS 200    /* transcription starts after so much silence */
#define SESSION_COMMIT_MIN_MS 100
#define SESSION_ONSET_WINDOWS 3    /* 96 ms of speech start a turn */
#define SESSION_BARGE_IN_WINDOWS 4 /* 128 ms while a reply is under way */
#define SESSION_RUN_MS 500         /* within which those windows must come */
#define SESSION_HYSTERESIS 0.15
#define SESSION_STALL_MS 1000 /* beyond the end-of-turn silence: the microphone's stream ended in mid-speech */
#define SESSION_STT_DEADLINE_MS 120000
#define SESSION_TTS_DEADLINE_MS 60000 /* without a sample */
#define SESSION_ERROR_MS 2000         /* how long the error state is shown */
#define SESSION_QUIET_MS 2000         /* without microphone audio: idle instead of listening */

typedef struct {
  gboolean server_vad, interrupt, create_response, audio_out;
  double threshold;
  guint silence_ms, prefix_ms;
} SessionOptions;

typedef enum { SESSION_EAR, SESSION_STT, SESSION_TTS, SESSION_WORKERS } SessionWorker;

typedef enum {
  SESSION_EV_TICK,
  SESSION_EV_CONFIGURE, /* options */
  SESSION_EV_WORKER,    /* worker, flag = ready */
  SESSION_EV_AUDIO,     /* samples: appended to the microphone's ring */
  SESSION_EV_WINDOW,    /* position behind the window, probability */
  SESSION_EV_COMMIT,
  SESSION_EV_CLEAR,
  SESSION_EV_TEXT, /* item (from session_new_item()), flag = respond */
  SESSION_EV_RESPOND,
  SESSION_EV_CANCEL,
  SESSION_EV_TRUNCATE,     /* item, samples (24 kHz) */
  SESSION_EV_ACK,          /* item, samples (24 kHz) played, count = underruns */
  SESSION_EV_STT_TEXT,     /* gen, flag = something was understood */
  SESSION_EV_STT_FAILED,   /* gen */
  SESSION_EV_TWIN_DELTA,   /* gen, end = bytes of the delta */
  SESSION_EV_TWIN_CLAUSE,  /* gen, [begin, end) of the reply, text_length, words */
  SESSION_EV_TWIN_DONE,    /* gen, outcome, end = bytes of the whole reply, maybe fewer than the deltas had */
  SESSION_EV_TWIN_REFUSED, /* gen: there is no turn */
  SESSION_EV_TTS_PCM,      /* gen, index of the clause, samples */
  SESSION_EV_TTS_DONE,     /* gen, index, words (none: keep the estimate) */
  SESSION_EV_TTS_FAILED,   /* gen, index */
  SESSION_EV_HANGUP,       /* the last event; later ones do nothing */
} SessionEventType;

typedef enum { SESSION_COMPLETED, SESSION_CANCELLED, SESSION_FAILED } SessionOutcome;
typedef enum {
  SESSION_REASON_NONE,
  SESSION_REASON_TURN_DETECTED,
  SESSION_REASON_CLIENT,
  SESSION_REASON_ENGINE
} SessionReason;
typedef enum { SESSION_IDLE, SESSION_LISTENING, SESSION_THINKING, SESSION_SPEAKING, SESSION_ERROR } SessionShown;

typedef enum {
  SESSION_ERR_EAR_MISSING, /* audio came, but no ear is there: told once per outage */
  SESSION_ERR_STT_MISSING,
  SESSION_ERR_EAR_LOST, /* died while somebody spoke */
  SESSION_ERR_STT_LOST,
  SESSION_ERR_STT_FAILED,
  SESSION_ERR_STT_TIMEOUT,
  SESSION_ERR_TTS_LOST,
  SESSION_ERR_TTS_FAILED,
  SESSION_ERR_TTS_TIMEOUT,
  SESSION_ERR_REPLY_FAILED,
  SESSION_ERR_COMMIT_EMPTY,
  SESSION_ERR_NOTHING_TO_ANSWER,
  SESSION_ERR_NOT_UNDERSTOOD,
  SESSION_ERR_RESPONSE_ACTIVE,
  SESSION_ERR_TOO_MANY_TURNS,
} SessionError;
typedef enum { SESSION_STATUS_LEAD, SESSION_STATUS_ACKS_LOST, SESSION_STATUS_TEXT_ONLY } SessionStatus;

typedef struct {
  SessionEventType type;
  guint64 now; /* samples of CHOIR_RATE_MIC since some fixed moment; never goes back */
  guint32 gen, item, index, begin, end, text_length, count;
  guint64 position, samples;
  double probability;
  gboolean flag;
  SessionWorker worker;
  SessionOutcome outcome;
  const LedgerWord *words;
  guint n_words;
  const SessionOptions *options;
} SessionEvent;

typedef enum {
  /* to the client */
  SESSION_FX_SPEECH_STARTED,    /* item, position */
  SESSION_FX_SPEECH_STOPPED,    /* item, position */
  SESSION_FX_COMMITTED,         /* item */
  SESSION_FX_TYPED,             /* item: the text of this event joins the unanswered ones */
  SESSION_FX_TRANSCRIPT,        /* item, gen of the kept text, flag = joins the unanswered ones */
  SESSION_FX_TRANSCRIPT_FAILED, /* item, code */
  SESSION_FX_RESPONSE_STARTED,  /* item, response */
  SESSION_FX_TEXT_DELTA,        /* item, response, bytes */
  SESSION_FX_SEND_AUDIO,        /* item, response, samples from the front of the store */
  SESSION_FX_RESPONSE_DONE,     /* item, response, outcome, reason; flag = nothing more comes of it (text only) */
  SESSION_FX_TRUNCATED,         /* item, samples, bytes heard */
  SESSION_FX_PLAYOUT_DONE,      /* item */
  SESSION_FX_STATE,             /* shown */
  SESSION_FX_STATUS,            /* status */
  SESSION_FX_ERROR,             /* code */
  /* to the engines */
  SESSION_FX_STT_JOB,      /* gen, item, [position, end) of the microphone, flag = speculative */
  SESSION_FX_STT_CANCEL,   /* gen */
  SESSION_FX_KEEP_TEXT,    /* gen: the text of this event is current, keep it */
  SESSION_FX_CAPTURE,      /* item, [position, end): copy it, its job comes later */
  SESSION_FX_TWIN_BEGIN,   /* gen, item, response, flag = spoken, position = end of speech (0: typed); takes all
                              unanswered */
  SESSION_FX_TWIN_CANCEL,  /* gen */
  SESSION_FX_TWIN_HEARD,   /* gen, bytes, flag = cut; this or a discard, once for every spoken reply */
  SESSION_FX_TWIN_DISCARD, /* gen: nobody heard of it; its messages are unanswered again */
  SESSION_FX_TWIN_ENDS,    /* gen, bytes: the reply ends there */
  SESSION_FX_FIRST_AUDIO,  /* gen */
  SESSION_FX_KEEP_CLAUSE,  /* gen, index: keep the text of this event, its job comes later */
  SESSION_FX_TTS_JOB,      /* gen, index */
  SESSION_FX_TTS_CANCEL,   /* gen */
  SESSION_FX_STORE_PCM,    /* samples of this event's frame */
  SESSION_FX_DROP_PCM,     /* empties the store */
} SessionEffectType;

typedef struct {
  SessionEffectType type;
  guint32 gen, item, response, index, bytes;
  guint64 position, end, samples;
  gboolean flag;
  int code; /* SessionError, SessionStatus, SessionShown or SessionOutcome */
  SessionReason reason;
} SessionEffect;

typedef struct {
  gboolean active;
  guint32 item;
  guint64 start, voiced_until;
  guint run; /* windows of speech in a row, before the onset */
  guint64 run_start;
  gboolean paused;
} SessionUtterance;

typedef struct {
  guint32 item;
  guint64 start, end, speech_end;
  gboolean create; /* answered without being asked */
} SessionTurn;

/* The one transcription under way or, for a speculative one, finished and kept. */
typedef struct {
  enum { STT_IDLE, STT_RUNNING, STT_KEPT } phase;
  guint32 gen;
  gboolean speculative; /* belongs to the utterance, else to turn[0] */
  gboolean understood;
  guint64 deadline;
} SessionStt;

typedef struct {
  enum { REPLY_NONE, REPLY_RUNNING, REPLY_TAIL } phase;
  guint32 gen, item, response;
  gboolean spoken;    /* the twin waits for what was heard */
  gboolean voiced;    /* clauses still go to the TTS; FALSE for text only and once the TTS is lost */
  gboolean twin_open; /* its done has not come */
  guint32 text_bytes;
  guint next_clause;     /* to be synthesised */
  gboolean synthesising; /* clause next_clause - 1 */
  guint64 tts_deadline;
  guint64 stored; /* samples taken into the store */
} SessionReply;

typedef struct {
  SessionOptions options;
  gboolean ready[SESSION_WORKERS];
  gboolean told[SESSION_WORKERS]; /* that it is missing */
  gboolean gone;                  /* hung up */
  guint64 now;
  guint32 items, responses, gens;
  guint64 mic_end, window_end, uncommitted, vad_floor;
  guint64 audio_at, window_at; /* times */
  gboolean told_full;
  SessionUtterance utterance;
  SessionTurn turn[SESSION_TURNS];
  guint turns;
  SessionStt stt;
  guint unanswered;
  guint64 speech_end;        /* of the last unanswered message, 0: it was typed */
  gboolean want, want_asked; /* a reply; asked for explicitly */
  SessionReply reply;
  Ledger ledger;
  Pacer pacer;
  guint32 ended_item, ended_bytes; /* the last reply that ended, for a client that reports its cut afterwards */
  guint64 ended_samples;
  SessionShown shown;
  guint64 error_until;
  guint64 stale;        /* results of an old generation that were dropped */
  guint64 refused;      /* samples and clauses over a limit */
  guint64 lost_effects; /* must stay 0 */
} SessionState;

void session_init(SessionState *state, const SessionOptions *options, guint64 now);
/* Returns the number of effects, to be carried out in order. max: at least SESSION_MAX_EFFECTS. */
guint session_step(SessionState *state, const SessionEvent *event, SessionEffect *effects, guint max);
guint32 session_new_item(SessionState *state);
/* Microphone samples that may still come before somebody has looked at what is there. */
guint64 session_mic_room(const SessionState *state);
/* A reply's item that may be truncated: the current one or the one before. */
gboolean session_knows_reply(const SessionState *state, guint32 item);
/* FALSE: without events nothing will happen, no tick is needed. */
gboolean session_needs_tick(const SessionState *state);
const char *session_shown_name(SessionShown shown);
