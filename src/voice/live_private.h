/* What the files of the driver share. live.c: the client's calls and the order of events. live_effects.c: carrying out
 * effects. live_voice.c: the workers' frames and the tick. */
#pragma once
#include "audio/resample.h"
#include "base/metrics.h"
#include "voice/echo_level.h"
#include "voice/live.h"
#include "voice/live_fillers.h"
#include "voice/live_marks.h"
#include "voice/mic_ring.h"
#include "voice/session.h"

#define LIVE_MAX 8
#define LIVE_QUEUE 256 /* events that callbacks caused while another was handled */
#define LIVE_REPLY_MAX (256u << 10)

/* One turn of the twin. It outlives the reply (and even the client) until the twin's done came. */
typedef struct {
  ChoirLive *live; /* NULL once the client is gone */
  ChoirTurn *turn; /* NULL once it may be used no more, and for a sentence of our own */
  guint32 gen, item;
  gboolean twin_done, closed; /* closed: this side needs it no more */
  gboolean limited;           /* its max_tokens ended it */
  ChoirChatTimings timings;   /* once twin_done */
  char *text;                 /* what it answers */
  GString *reply;
  gsize delivered;
  GPtrArray *clauses; /* by index; char* */
  GPtrArray *visemes; /* by index of KEEP_VISEMES; char* of JSON, may be NULL */
} LiveTurn;

/* An event with what it points to. Owned copies only while it waits in the queue. */
typedef struct {
  SessionEvent event;
  const gint16 *pcm;
  const char *text;
} LiveEvent;

struct ChoirVoice {
  ChoirHub *hub;
  ChoirTwin *twin;
  ChoirLiveOptions defaults;
  ChoirWorker *worker[SESSION_WORKERS];
  char **languages; /* NULL: all */
  LiveFillers fillers;
  GPtrArray *lives;             /* ChoirLive, not owned */
  guint voice_pace, reserve_ms; /* as the last reply left them: a new client's first one need not learn them anew */
  guint32 sessions;
  guint tick;
  ChoirMetric *sessions_gauge, *barge_ins, *stale, *refused, *underruns, *failures;
  ChoirMetric *resumes, *echoes, *guesses, *wrong_guesses;
};

struct ChoirLive {
  ChoirVoice *voice;
  guint refs;
  gboolean freed;
  guint32 session;
  char *source, *salt;
  ChoirLiveCallback callback;
  gpointer user;
  ChoirLiveOptions options;
  char *instructions, *notes; /* of the prompt, may be NULL */
  guint max_tokens;
  SessionOptions session_options;
  SessionState state;
  gint64 start_us;

  ChoirResampler *resampler;
  guint rate;
  GArray *scratch; /* resampled microphone audio */
  MicRing mic;
  gint64 mic_us; /* when its last sample came */
  gboolean ear_open;
  guint spots; /* what the ear was told to listen for */
  gint64 meter_us;

  GPtrArray *captures; /* LiveCapture */
  char *kept;          /* the transcript of kept_gen */
  guint32 kept_gen;
  gint64 transcript_us;
  LiveMarks marks;
  GPtrArray *unanswered; /* char* */
  GPtrArray *notices;    /* char*: what is to be said unasked, at most SESSION_NOTICES */
  char *problem;         /* why the last engine failed */

  LiveTurn *turn;   /* of the current reply */
  GPtrArray *turns; /* LiveTurn: all whose done has not come */
  GArray *store;    /* unsent samples of the reply from store_head on */
  EchoLevel echo;
  guint64 echo_base; /* where the current reply begins on its track */
  gsize store_head;
  guint fade;       /* samples of it that are still to be faded in */
  char *ended_text; /* what was heard of the reply before */

  gboolean stepping;
  GQueue queue; /* LiveEvent */
};

void live_post(ChoirLive *live, const LiveEvent *event);
void live_ref(ChoirLive *live);
void live_unref(ChoirLive *live);
void live_emit(ChoirLive *live, const ChoirLiveEvent *event);
void live_effect(ChoirLive *live, const SessionEffect *effect, const LiveEvent *cause);
void live_need_tick(ChoirVoice *voice);
void live_tell_fillers(ChoirLive *live); /* which of them are there */
char *live_item_id(const ChoirLive *live, guint32 item);
/* How far a listener that does not report has got, for the echo. */
void live_echo_follow(ChoirLive *live);

/* live_turn.c: the reply's turn with the twin */
void live_turn_release(LiveTurn *turn);
void live_turn_begin(ChoirLive *live, const SessionEffect *fx);
void live_turn_canned(ChoirLive *live, const SessionEffect *fx);
void live_turn_effect(ChoirLive *live, const SessionEffect *fx, const LiveEvent *cause);
void live_turn_close(ChoirLive *live, gsize bytes);
/* The last whole word at or before `bytes` of the reply. */
gsize live_turn_snap(const GString *reply, gsize bytes);
/* The end of what the listener heard, for the echo gate; "" when nothing was played lately. Caller frees. */
char *live_turn_played(const ChoirLive *live);

/* live_jobs.c: what goes to the workers, and the store of unsent audio */
void live_job_effect(ChoirLive *live, const SessionEffect *fx, const LiveEvent *cause);
void live_job_spots(ChoirLive *live);
/* The next n samples of the store, with a fade when one is due. Valid until the store changes. */
const gint16 *live_store_take(ChoirLive *live, gsize n);
