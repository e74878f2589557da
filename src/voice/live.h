/* One live voice or text client: drives session_step() with real events (ear, stt, tts, twin, acks, a 20 ms tick) and
 * carries out its effects. The Realtime endpoint is its user. Main thread only. */
#pragma once
#include <glib.h>
#include "agent/twin.h"
#include "speech/worker.h"

typedef struct ChoirLive ChoirLive;
typedef struct ChoirVoice ChoirVoice; /* what all lives share: workers, twin, defaults */

typedef struct {
  gboolean server_vad;      /* FALSE = push to talk: commit ends the turn */
  double threshold;         /* VAD probability, 0.1..0.95 */
  guint silence_ms;         /* 200..3000: end of turn */
  guint prefix_ms;          /* audio kept from before the onset, 0..1000 */
  gboolean interrupt;       /* speech stops a reply */
  gboolean create_response; /* a committed turn is answered without being asked */
  gboolean audio_out;       /* FALSE = text only */
  /* The silence that ends a turn adapts to the speaker and the words between these two, around silence_ms; max 0: it is
   * silence_ms, always. 200..5000 */
  guint silence_min_ms, silence_max_ms;
  gboolean speculate; /* a reply is begun at the first pause that may be the end, and dropped when the person goes on */
  gboolean muted;     /* the microphone does not count; switching it on ends the turn */
  gboolean half_duplex; /* it does not count while the agent speaks: for loudspeakers without echo cancellation */
  gboolean wake;        /* sleeps until the wake word, then listens until 8 s after the last reply */
  guint idle_ms;        /* silence after a reply until the agent asks, once, whether somebody is there; 0 = never */
} ChoirLiveOptions;

typedef struct {
  const char
      *languages;   /* "en,de": what recogniser, model and voice can do; others get an honest sentence. NULL: all */
  gboolean fillers; /* a short sound of thought when a reply takes over a second */
} ChoirVoiceOptions;

typedef enum {
  CHOIR_LIVE_SPEECH_STARTED,    /* ms */
  CHOIR_LIVE_SPEECH_STOPPED,    /* ms */
  CHOIR_LIVE_COMMITTED,         /* item_id of the user's item */
  CHOIR_LIVE_TRANSCRIPT,        /* item_id, text (may be empty: nothing was understood; no response follows) */
  CHOIR_LIVE_TRANSCRIPT_FAILED, /* item_id, text = why */
  CHOIR_LIVE_RESPONSE_STARTED,  /* response_id, item_id of the assistant's item */
  CHOIR_LIVE_TEXT_DELTA,        /* response_id, item_id, text */
  CHOIR_LIVE_AUDIO,             /* response_id, item_id, pcm, samples (24 kHz), paced */
  CHOIR_LIVE_RESPONSE_DONE,     /* response_id, item_id, text = whole reply, status */
  CHOIR_LIVE_TRUNCATED,    /* item_id, ms, text = what was heard: on a cut, after RESPONSE_DONE(cancelled) if it ran */
  CHOIR_LIVE_PLAYOUT_DONE, /* item_id: everything was heard */
  CHOIR_LIVE_IDLE,         /* item_id, ms, until_ms: silence for idle_ms after a reply; the question whether somebody is
                              there follows. No item of that id is committed. */
  CHOIR_LIVE_STATE,        /* text: "idle" "listening" "thinking" "speaking" "error" */
  CHOIR_LIVE_VISEMES, /* response_id, item_id, text = JSON [[first_sample_of_the_item(24 kHz),"aa"],...]: before the
                         audio it belongs to */
  CHOIR_LIVE_PAUSED,  /* item_id: somebody may be interrupting; play nothing more, keep what is buffered */
  CHOIR_LIVE_RESUMED, /* item_id, ms: it was nothing; play on from there, faded in */
  CHOIR_LIVE_VAD,     /* level (rms 0..1), probability: at most 10 a second, for the page's meter */
  CHOIR_LIVE_STATUS,  /* text: "lead 120 ms (3 underruns reported)" and the like */
  CHOIR_LIVE_ERROR,   /* text: one sentence with the next step */
} ChoirLiveEventType;

typedef struct {
  ChoirLiveEventType type;
  const char *item_id, *response_id, *text;
  const char *status; /* "completed" "cancelled" "failed"; "incomplete" when the prompt's max_tokens ended it */
  const char *reason; /* "turn_detected" "client_cancelled" "..." or NULL */
  const gint16 *pcm;
  gsize samples;
  gboolean no_reply; /* of TRANSCRIPT: it is not answered, though there is text: an echo, a "stop", another language */
  guint64 ms, until_ms;
  double level, probability;
  gint prompt_tokens, cached_tokens, reply_tokens; /* of RESPONSE_DONE; zeros when the model had not finished */
} ChoirLiveEvent;
typedef void (*ChoirLiveCallback)(ChoirLive *live, const ChoirLiveEvent *event, gpointer user);

/* Workers may be NULL (that engine is missing): voice then says why, text works. */
ChoirVoice *choir_voice_new(ChoirHub *hub, ChoirTwin *twin, const ChoirLiveOptions *defaults);
/* Copied. Before the workers are set. */
void choir_voice_configure(ChoirVoice *voice, const ChoirVoiceOptions *options);
void choir_voice_free(ChoirVoice *voice);
/* The voice owns the frame and state callbacks of its workers: pass these to choir_worker_new() with the voice as user.
 */
void choir_voice_worker_frame(const ChoirWireFrame *frame, gpointer voice);
void choir_voice_worker_state(ChoirWorker *worker, gboolean ready, gpointer voice);
void choir_voice_set_workers(ChoirVoice *voice, ChoirWorker *ear, ChoirWorker *stt, ChoirWorker *tts);
guint choir_voice_sessions(const ChoirVoice *voice);
/* choir_live_notice() to every client there is; how many will say it. */
guint choir_voice_notice(ChoirVoice *voice, const char *text);
const ChoirLiveOptions *choir_voice_defaults(const ChoirVoice *voice);

/* At most 8 at once: NULL with error beyond. source: for the history, "realtime" "page" "cli". */
ChoirLive *choir_live_new(ChoirVoice *voice, const char *source, ChoirLiveCallback callback, gpointer user,
                          GError **error);
void choir_live_free(ChoirLive *live); /* as a hang-up: playback is taken as heard up to the last acknowledgement */
void choir_live_configure(ChoirLive *live, const ChoirLiveOptions *options);
const ChoirLiveOptions *choir_live_options(const ChoirLive *live);
/* With what the model is asked from the next reply on; copied. See ChoirTurnRequest. */
typedef struct {
  const char *instructions, *notes; /* NULL = none */
  guint max_tokens;                 /* 0 = as set up */
} ChoirLivePrompt;
void choir_live_prompt(ChoirLive *live, const ChoirLivePrompt *prompt);
/* Bytes of the current reply that were heard by now, by the ledger; 0 between replies. */
gsize choir_live_heard(const ChoirLive *live);
/* Microphone audio, s16 mono at `rate` (8000..48000); resampled. FALSE: over the limit (30 s of unread audio). */
gboolean choir_live_audio(ChoirLive *live, const gint16 *pcm, gsize samples, guint rate);
void choir_live_commit(ChoirLive *live); /* push to talk: end of turn now */
void choir_live_clear(ChoirLive *live);  /* forget audio that was not committed */
/* A typed user message: becomes an item (item_id returned, caller frees); answered when respond is TRUE. */
char *choir_live_text(ChoirLive *live, const char *text, gboolean respond);
/* Says a sentence that nobody asked for now (a reminder), as soon as nobody speaks and nothing is being answered; no
 * history keeps it. FALSE: 8 wait already. */
gboolean choir_live_notice(ChoirLive *live, const char *text);
void choir_live_respond(ChoirLive *live); /* answer the last unanswered user item */
void choir_live_cancel(ChoirLive *live);  /* stop the reply; keeps what was heard */
/* The client says it stopped at this many ms of the item's audio (conversation.item.truncate). FALSE: no such item. */
gboolean choir_live_truncate(ChoirLive *live, const char *item_id, guint64 audio_end_ms);
/* Samples (24 kHz) of the current item really played, and underruns since the last report. */
void choir_live_ack(ChoirLive *live, const char *item_id, guint64 played_samples, guint underruns);
const char *choir_live_state(const ChoirLive *live);

/* What the 20 ms source calls while a client needs time; tests call it with their own clock. */
void choir_voice_tick(ChoirVoice *voice);
