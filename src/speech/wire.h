/* Frames between the daemon and its workers, over a stream socketpair (fd 3 in the worker).
 * Header, 24 bytes little endian: u32 magic "CHW1", u16 type, u16 flags, u32 session, u32 gen, u32 length, u32 aux;
 * then payload. */
#pragma once
#include <glib.h>
#include "base/buffer.h"

#define CHOIR_WIRE_MAGIC 0x31574843u
#define CHOIR_WIRE_HEADER 24
#define CHOIR_WIRE_MAX (4u << 20) /* payload limit: 60 s of 16 kHz audio is 1.9 MB */

typedef enum {
  /* worker -> daemon, all workers */
  CHOIR_WIRE_READY = 1, /* payload: JSON {"engine","model","load_ms","rss_kb","detail"}; stt and tts also "tier"
                           ("full" | "light"), "reason" (one sentence) and, when measured, "realtime": seconds of a
                           core for a second of sound with all threads at work; ear also "spot" (keyphrases can be
                           listened for) and, in a STATUS once its model is warm, "turn_ms" (cost of a verdict; absent:
                           there are none) */
  CHOIR_WIRE_ERROR,     /* payload: one sentence; gen says for which job, 0 = the worker itself */
  CHOIR_WIRE_STATUS,    /* payload: JSON like READY, e.g. while loading: {"progress":0..1,"detail"} */
  /* daemon -> ear */
  CHOIR_WIRE_EAR_OPEN = 16, /* a session's VAD state starts anew */
  CHOIR_WIRE_EAR_CLOSE,
  CHOIR_WIRE_EAR_AUDIO, /* s16 16 kHz, any length; aux: sample index of the first one (mod 2^32) */
  /* ear -> daemon */
  CHOIR_WIRE_EAR_WINDOW, /* payload: float prob, float rms; aux: sample index behind the 512-sample window */
  /* daemon -> ear */
  CHOIR_WIRE_EAR_TURN =
      20,              /* payload s16 16 kHz, the end of an utterance, at most 8 s: is this turn over? Judged beside
                          the VAD on a thread of its own; a newer one of the same session replaces it unanswered */
  CHOIR_WIRE_EAR_SPOT, /* flags: the CHOIR_SPOT_ kinds to listen for in this session's audio from now on, 0 = none */
  /* ear -> daemon */
  CHOIR_WIRE_EAR_VERDICT = 24, /* gen of the EAR_TURN; payload: float, probability that the turn is over */
  CHOIR_WIRE_EAR_HEARD, /* flags: one CHOIR_SPOT_ kind; aux: sample index behind it; payload: the phrase, UTF-8 */
  /* daemon -> stt */
  CHOIR_WIRE_STT_JOB = 32, /* payload s16 16 kHz whole utterance; flags bit 0: may be cancelled for a newer one; bits 1
                              and 2: speech/jobs.h. Options: {"language","prompt","segments":true} */
  CHOIR_WIRE_STT_CANCEL,   /* gen: every job of that session with gen <= this one */
  /* stt -> daemon */
  CHOIR_WIRE_STT_TEXT, /* payload JSON {"text","language","audio_ms","cpu_ms","wall_ms","no_speech"}, and for a job
                          with "segments" also "segments":[[begin_ms,end_ms,"text"],...]. With Whisper and a text, also
                          "heard" and "heard_p": the language that the sound was most like and how sure that is (0..1),
                          whatever the text was forced to be in */
  /* daemon -> tts */
  CHOIR_WIRE_TTS_JOB = 48, /* payload UTF-8 clause; aux: clause index within the turn; flags bits 1 and 2:
                              speech/jobs.h. Options: {"speed":1.5} */
  CHOIR_WIRE_TTS_CANCEL,
  /* tts -> daemon */
  CHOIR_WIRE_TTS_PCM,   /* payload s16 24 kHz, at most 64 KiB a frame; aux: clause index */
  CHOIR_WIRE_TTS_DONE,  /* aux: clause index; payload JSON
                           {"samples","cpu_ms","wall_ms","words":[[begin,end,phonemes(,first,last)],...],
                           "visemes":[[first,"aa"],...]}, byte offsets into the job's text, one row a word, phonemes
                           counted by the phonemiser; first and last are samples (24 kHz) of the clause, there when the
                           engine knows how long each phoneme lasts. A viseme lasts until the next one; names of the
                           usual set of 15: sil PP FF TH DD kk CH SS nn RR aa E I O U. Without durations "visemes" is
                           absent */
  CHOIR_WIRE_TTS_MOUTH, /* aux: clause index; payload JSON {"first","visemes":[[first,"aa"],...]}: the mouth shapes of
                           the sound from sample "first" of the clause on, whose PCM comes next. Counted from the
                           clause's start, like those of DONE, and the same ones. Sent only where they are known so
                           early */
  /* daemon -> card; gen: number of the item, counted by the daemon from 1 */
  CHOIR_WIRE_CARD_PLAY = 64, /* payload s16 24 kHz */
  CHOIR_WIRE_CARD_END,       /* nothing more comes of the item */
  CHOIR_WIRE_CARD_FLUSH,     /* silence now, forget what waits */
  CHOIR_WIRE_CARD_PAUSE,     /* die away, keep what waits */
  CHOIR_WIRE_CARD_RESUME,    /* go on from sample `aux` of the item, faded in */
  /* card -> daemon */
  CHOIR_WIRE_CARD_HEARD = 72, /* payload s16 16 kHz, without the echo of what was played */
  CHOIR_WIRE_CARD_PLAYED,     /* gen: item; aux: its samples (24 kHz) that were heard; payload: u32 underruns since the
                                 last one */
} ChoirWireType;

/* What the keyphrase spotter listens for; the phrases of each kind stand in one table of choir-ear. */
#define CHOIR_SPOT_STOP 1u        /* "stop", "wait", "be quiet": cut the reply */
#define CHOIR_SPOT_BACKCHANNEL 2u /* "uh-huh", "okay", "right": go on */
#define CHOIR_SPOT_WAKE 4u        /* the wake word */

typedef struct {
  guint16 type, flags;
  guint32 session, gen, aux, length;
  const guint8 *payload;
} ChoirWireFrame;

/* Decodes the first whole frame at the front of data. 1: frame (consume CHOIR_WIRE_HEADER + length), 0: more bytes
 * needed, -1: not our protocol (close). The payload points into data. */
int choir_wire_decode(const guint8 *data, gsize length, ChoirWireFrame *ret_frame);
void choir_wire_encode_header(const ChoirWireFrame *frame, guint8 ret_header[CHOIR_WIRE_HEADER]);
/* Blocking write for workers; FALSE when the daemon is gone (the worker then exits). Safe from several threads of a
 * worker. */
gboolean choir_wire_write(int fd, const ChoirWireFrame *frame);
