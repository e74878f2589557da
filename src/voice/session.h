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
 * same reason.
 *
 * Two guesses are made early and taken back without a trace. A reply is HELD when it is begun at the soft end of a
 * turn, before the silence is long enough: the client hears of it only once the turn has ended and there is something
 * to play, or once the time in which the person may go on is over. And speech over a reply is TENTATIVE: the reply
 * pauses, and only a stop word, enough speech or words that are no mere "mm-hm" and no echo make it an interruption;
 * else the reply goes on where it paused and nobody was told that anyone spoke. */
#pragma once
#include <glib.h>
#include "base/names.h"
#include "voice/ledger.h"
#include "voice/pacer.h"
#include "voice/turn_end.h"

#define SESSION_TURNS 4        /* committed and not yet transcribed */
#define SESSION_NOTICES 8      /* reminders that wait for a silence */
#define SESSION_UNANSWERED 16  /* transcripts and typed messages waiting for a reply */
#define SESSION_MAX_EFFECTS 64 /* no event causes more */
#define SESSION_UTTERANCE_MS 30000
#define SESSION_UNREAD_MS 30000   /* microphone audio that nobody looked at yet */
#define SESSION_AHEAD_MS 6000     /* unsent reply audio above which no further clause is synthesised */
#define SESSION_STORE_MS 60000    /* unsent reply audio at most */
#define SESSION_PAUSE_MS 90       /* transcription starts after so much silence */
#define SESSION_PAUSE_QUICK_MS 60 /* ... by a recogniser that takes no longer than: */
#define SESSION_QUICK_MS 800
#define SESSION_TRAIL_MS 200 /* of silence that go with a turn: a recogniser wants to hear that the word is over */
#define SESSION_COMMIT_MIN_MS 100
#define SESSION_ONSET_WINDOWS 3        /* 96 ms of speech start a turn */
#define SESSION_BARGE_IN_WINDOWS 4     /* 128 ms while a reply is under way */
#define SESSION_JUDGE_MS 90            /* silence after which smart-turn is asked */
#define SESSION_JUDGE_AGAIN_MS 240     /* ... and asked once more: silence is evidence, too */
#define SESSION_JUDGE_LAST_MS 440      /* ... and a last time, when it doubted */
#define SESSION_ALONG_MS 1500          /* of unbroken speech: its words so far go into the prompt */
#define SESSION_SOFT_MS 160            /* silence at which a reply may begin on a guess */
#define SESSION_REOPEN_MS 800          /* behind the soft end: who speaks then goes on with the same turn */
#define SESSION_DECIDE_MS 1000         /* a paused reply goes on after that at the latest */
#define SESSION_CUT_MS 500             /* of speech, that interrupt a reply */
#define SESSION_CUT_EARLY_MS 700       /* in the first seconds, while echo cancellation finds its way */
#define SESSION_CUT_BACKCHANNEL_MS 300 /* more when it began with an "okay" */
#define SESSION_EARLY_MS 3000
#define SESSION_ECHO_TAIL_MS 300  /* a room and a voice detector go on so long after a reply paused */
#define SESSION_UNDECIDED_MS 8000 /* of silence, without a transcript: it was nothing */
#define SESSION_SPOT_WINDOWS 20   /* 640 ms, in which a keyphrase was said */
#define SESSION_FADE_MS 20
#define SESSION_AFTERMATH_MS 1000 /* behind a reply, speech may be its echo still */
#define SESSION_DEAF_TAIL_MS 300  /* half duplex: the microphone counts again so long after the reply */
#define SESSION_AWAKE_MS 8000     /* behind the wake word or a reply */
#define SESSION_FILLERS 3
#define SESSION_MOUTHS 32           /* stretches of mouth shapes whose sound is not on its way yet */
#define SESSION_FILLER_MS 1000      /* a wait longer than this gets a filler */
#define SESSION_FILLER_SOON_MS 300  /* ... at once when it is expected */
#define SESSION_RESERVE_STEP_MS 150 /* more that must be there of a clause before it is begun, after one ran dry */
#define SESSION_RESERVE_MOST_MS 600
#define SESSION_RESERVE_CALM_MS 50 /* less again behind a clause that did not */
#define SESSION_PIECE_RATIO 3     /* a voice's second piece of a clause is so many times as long as the first at most */
#define SESSION_PIECE_PERCENT 85  /* of the time that it takes at this pace: a little luck is counted on */
#define SESSION_CLAUSE_WAIT_MS 60 /* a clause's samples wait so long for its words and mouth shapes */
#define SESSION_RUN_MS 500        /* within which those windows must come */
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
  guint silence_min_ms, silence_max_ms; /* the end of a turn adapts between them; max 0: it does not */
  gboolean speculate;                   /* replies begin at the soft end of a turn */
  gboolean muted;
  gboolean half_duplex; /* nobody listens while the agent speaks */
  gboolean wake;        /* sleeps until the wake word */
  guint idle_ms;        /* silence after a reply until the agent asks once; 0: never */
} SessionOptions;

typedef enum { SESSION_EAR, SESSION_STT, SESSION_TTS, SESSION_WORKERS } SessionWorker;

typedef enum {
  SESSION_EV_TICK,
  SESSION_EV_CONFIGURE, /* options */
  SESSION_EV_WORKER,    /* worker, flag = ready */
  SESSION_EV_AUDIO,     /* samples: appended to the microphone's ring */
  SESSION_EV_WINDOW,    /* position behind the window, probability; echo: it sounds like what is being played */
  SESSION_EV_VERDICT,   /* gen, probability that the turn is over */
  SESSION_EV_HEARD,     /* count: a SessionSpot, position behind it; echo: the agent itself says it */
  SESSION_EV_FILLER,    /* index, samples: this filler is there */
  SESSION_EV_COMMIT,
  SESSION_EV_CLEAR,
  SESSION_EV_TEXT, /* item (from session_new_item()), flag = respond */
  SESSION_EV_RESPOND,
  SESSION_EV_CANCEL,
  SESSION_EV_TRUNCATE,     /* item, samples (24 kHz) */
  SESSION_EV_ACK,          /* item, samples (24 kHz) played, count = underruns */
  SESSION_EV_STT_TEXT,     /* gen, flag = something was understood, said, ending, echo, foreign */
  SESSION_EV_STT_FAILED,   /* gen */
  SESSION_EV_NOTICE,       /* something is to be said that nobody asked for now: a reminder */
  SESSION_EV_TWIN_DELTA,   /* gen, end = bytes of the delta */
  SESSION_EV_TWIN_CLAUSE,  /* gen, [begin, end) of the reply, text_length, words */
  SESSION_EV_TWIN_DONE,    /* gen, outcome, end = bytes of the whole reply, maybe fewer than the deltas had */
  SESSION_EV_TWIN_REFUSED, /* gen: there is no turn */
  SESSION_EV_TTS_PCM,      /* gen, index of the clause, samples */
  SESSION_EV_TTS_MOUTH,  /* gen, index, position: mouth shapes of the clause's sound from there on, which comes next */
  SESSION_EV_TTS_DONE,   /* gen, index, words (none: keep the estimate) */
  SESSION_EV_TTS_FAILED, /* gen, index */
  SESSION_EV_HANGUP,     /* the last event; later ones do nothing */
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
typedef enum {
  SESSION_STATUS_LEAD,
  SESSION_STATUS_ACKS_LOST,
  SESSION_STATUS_TEXT_ONLY,
  SESSION_STATUS_ASLEEP,
  SESSION_STATUS_AWAKE
} SessionStatus;
typedef enum { SESSION_SPOT_STOP = 1, SESSION_SPOT_BACKCHANNEL = 2, SESSION_SPOT_WAKE = 4 } SessionSpot;
typedef enum { SESSION_CANNED_NONE, SESSION_CANNED_IDLE, SESSION_CANNED_LANGUAGE, SESSION_CANNED_NOTICE } SessionCanned;

typedef struct {
  SessionEventType type;
  guint64 now; /* samples of CHOIR_RATE_MIC since some fixed moment; never goes back */
  guint32 gen, item, index, begin, end, text_length, count;
  guint64 position, samples;
  double probability;
  gboolean flag, echo, foreign;
  TurnSaid said;
  TurnEnding ending;
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
  SESSION_FX_PAUSED,            /* item: somebody may be interrupting */
  SESSION_FX_RESUMED,           /* item, samples: it goes on there; flag = what is sent next is faded in */
  SESSION_FX_IDLE, /* item, [position, end) of the microphone: nobody spoke for idle_ms; the canned question follows */
  SESSION_FX_VISEMES, /* item, response, index, position = first sample of their clause; their audio comes next */
  SESSION_FX_STATE,   /* shown */
  SESSION_FX_STATUS,  /* status */
  SESSION_FX_ERROR,   /* code */
  /* to the engines */
  SESSION_FX_STT_JOB,      /* gen, item, [position, end) of the microphone, flag = speculative */
  SESSION_FX_STT_CANCEL,   /* gen */
  SESSION_FX_KEEP_TEXT,    /* gen: the text of this event is current, keep it */
  SESSION_FX_CAPTURE,      /* item, [position, end): copy it, its job comes later */
  SESSION_FX_TURN_JOB,     /* gen, [position, end) of the microphone: is this turn over? */
  SESSION_FX_SPOT,         /* bytes: SessionSpot kinds to listen for from now on */
  SESSION_FX_PREFILL,      /* the text of this event is what somebody said so far; flag = up to the middle of a word */
  SESSION_FX_TWIN_BEGIN,   /* gen, item, response, flag = spoken, position = end of speech (0: typed); takes all
                              unanswered. code = 1: on a guess, with the kept text behind the unanswered, which stay */
  SESSION_FX_TWIN_CONFIRM, /* gen: the guess was right; takes all unanswered */
  SESSION_FX_CANNED,       /* gen, item, response, flag = spoken, code: a sentence of our own instead of the twin's */
  SESSION_FX_TWIN_CANCEL,  /* gen */
  SESSION_FX_TWIN_HEARD,   /* gen, bytes, flag = cut; this or a discard, once for every spoken reply */
  SESSION_FX_TWIN_DISCARD, /* gen: nobody heard of it; flag = its messages are unanswered again */
  SESSION_FX_TWIN_GONE,    /* gen: there was no turn */
  SESSION_FX_TWIN_ENDS,    /* gen, bytes: the reply ends there */
  SESSION_FX_FIRST_AUDIO,  /* gen */
  SESSION_FX_KEEP_CLAUSE,  /* gen, index: keep the text of this event, its job comes later */
  SESSION_FX_KEEP_VISEMES, /* gen, index: keep the mouth shapes of this event */
  SESSION_FX_FILLER,       /* gen, index, samples: that filler goes to the end of the store */
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
  gboolean tentative;   /* over a reply, undecided and untold */
  gboolean over_reply;  /* it began while a reply could be heard, or right behind it */
  gboolean backchannel; /* the spotter heard one in it */
  guint64 voiced;       /* samples of speech in it */
  guint32 judge_gen;    /* smart-turn was asked about this pause; 0: not yet */
  guint asked;          /* how often */
  guint judged;         /* verdicts of this pause so far */
  double verdict;       /* the last of them */
} SessionUtterance;

typedef struct {
  guint32 item;
  guint64 start, end, speech_end;
  gboolean create; /* answered without being asked */
  gboolean over_reply;
} SessionTurn;

/* The one transcription under way or, for a speculative one, finished and kept. */
typedef struct {
  enum { STT_IDLE, STT_RUNNING, STT_KEPT } phase;
  guint32 gen;
  gboolean speculative; /* belongs to the utterance, else to turn[0] */
  gboolean partial;     /* speculative, and the person goes on: good for the prompt only */
  gboolean along;       /* ... and its end is in the middle of the speech */
  gboolean understood, echo, foreign;
  TurnSaid said;
  TurnEnding ending;
  gboolean tried; /* a reply was begun on it */
  guint64 deadline, asked_at;
} SessionStt;

/* Mouth shapes that wait for their sound, by the samples of the reply. */
typedef struct {
  guint64 clause, first; /* where their clause begins, where they do */
} SessionMouth;

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
  guint64 stored;     /* samples taken into the store */
  gboolean held;      /* the client does not know of it */
  gboolean confirmed; /* its turn is over; FALSE only while held */
  guint64 held_until; /* confirmed: it is announced then at the latest */
  guint64 asked_at;   /* when its turn was over */
  SessionCanned canned;
  gboolean paused;
  guint64 paused_at;
  guint64 heard_since;  /* when its first sample was sent */
  guint64 clause_asked; /* when its synthesis began */
  guint64 clause_since; /* when the first sample of the current clause came */
  guint mouths, told;   /* mouth shapes that were kept, told */
  guint mouth_clause;   /* 1 + the clause that the last of them came for, before its end */
  SessionMouth mouth[SESSION_MOUTHS];
  guint dry_clause;     /* 1 + the last clause that ran dry in its middle */
  gboolean filled;      /* a filler was played, or is not wanted */
  gboolean timed;       /* its wait is counted, or does not count */
  gboolean voice_began; /* a sample of the reply itself was sent */
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
  guint pause_ms;        /* this speaker's pauses, see turn_end.h */
  gboolean judges;       /* smart-turn is there: it has answered before */
  guint64 voice_end;     /* position of the last speech that was committed */
  guint64 heard_to;      /* what the last transcription was of ended there */
  guint64 stt_took;      /* samples of time that it needed */
  guint64 said_from;     /* where what the person says began: a turn that goes on after its end is heard as a whole */
  guint64 reopen_until;  /* the last turn may go on until then */
  guint64 reply_over_at; /* when the last audible reply ended; 0: none did */
  guint spots;           /* what the ear listens for */
  guint64 filler[SESSION_FILLERS];
  guint next_filler;
  guint64 wait;     /* moving average from the end of a turn to the first sample */
  guint reserve_ms; /* of a clause that is begun before it is whole, see SESSION_RESERVE_STEP_MS */
  guint voice_pace; /* how fast the voice works, in percent of real time, moving average; 0: not known yet */
  SessionCanned want_canned;
  guint notices;     /* to be said as soon as nobody speaks and nothing is answered */
  guint64 idle_from; /* where the microphone was when the last reply had been heard */
  guint64 idle_at;   /* when to ask whether somebody is there; 0: not */
  gboolean asked_idle;
  guint64 awake_until;
  gboolean asleep;
  guint32 own, loud; /* the last windows, a bit each, the newest the lowest: the agent's own voice; a voice at all */
  guint64 resumes, cuts, backchannels, echoes, reopened, guesses, wrong_guesses; /* counters */
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
/* The listener hears a reply, or will in a moment. */
gboolean session_audible(const SessionState *state);
/* A reply's item that may be truncated: the current one or the one before. */
gboolean session_knows_reply(const SessionState *state, guint32 item);
/* FALSE: without events nothing will happen, no tick is needed. */
gboolean session_needs_tick(const SessionState *state);
const char *session_shown_name(SessionShown shown);
