/* Speech for those who are in no conversation: recordings to transcribe, texts to speak, Wyoming clients. They share
 * the daemon's two workers with live voice: each worker has one request of the desk at a time, as a background job
 * (which gives way, speech/jobs.h), and open requests take turns piece by piece. Main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "speech/worker.h"

#define CHOIR_DESK_ERROR (choir_desk_error_quark())
GQuark choir_desk_error_quark(void);
enum {
  CHOIR_DESK_ERROR_BUSY,        /* too many requests are open */
  CHOIR_DESK_ERROR_UNAVAILABLE, /* the engine is not there, or stopped */
  CHOIR_DESK_ERROR_FAILED       /* the engine said no */
};

#define CHOIR_DESK_OPEN 8 /* open requests for each worker */

typedef struct ChoirDesk ChoirDesk;
typedef struct ChoirDeskListen ChoirDeskListen;
typedef struct ChoirDeskSpeak ChoirDeskSpeak;

ChoirDesk *choir_desk_new(void);
void choir_desk_free(ChoirDesk *desk); /* open requests end without a word */
/* Either may be NULL: that engine is missing. */
void choir_desk_set_workers(ChoirDesk *desk, ChoirWorker *stt, ChoirWorker *tts);
/* Frames and states of the workers. TRUE: the frame was the desk's own. */
gboolean choir_desk_frame(ChoirDesk *desk, const ChoirWireFrame *frame);
void choir_desk_worker_state(ChoirDesk *desk, ChoirWorker *worker, gboolean ready);
/* READY or STATUS of an engine as JSON, {} without one. Caller decrefs. */
json_t *choir_desk_stt_info(const ChoirDesk *desk);
json_t *choir_desk_tts_info(const ChoirDesk *desk);
gboolean choir_desk_stt_ready(const ChoirDesk *desk);
gboolean choir_desk_tts_ready(const ChoirDesk *desk);

typedef struct {
  const char *language, *prompt; /* may be NULL */
  gboolean segments;             /* with the times of sentences, if the engine knows them */
  guint piece_ms;                /* longest piece, cut at pauses; 0 = 28 s, which the engines take at once */
} ChoirDeskWish;

typedef struct {
  const char *text, *language;
  double no_speech;
  guint64 begin_ms, end_ms; /* of the whole recording */
  const json_t *segments;   /* [[begin_ms,end_ms,"text"],...] of the piece, or NULL */
} ChoirDeskText;

/* Callbacks come from the loop, never inside a call. After done (which comes once) the request is gone; it must not be
 * cancelled then. Inside the others it may be. */
typedef struct {
  void (*text)(const ChoirDeskText *piece, gpointer user);
  void (*hungry)(gpointer user); /* there is room for audio again; may be NULL */
  void (*done)(const GError *error, gpointer user);
} ChoirDeskListenHandlers;

/* handlers: static. NULL with error BUSY or UNAVAILABLE. */
ChoirDeskListen *choir_desk_listen(ChoirDesk *desk, const ChoirDeskWish *wish, const ChoirDeskListenHandlers *handlers,
                                   gpointer user, GError **error);
/* 16 kHz mono. It is always taken; FALSE asks to wait for hungry before the next call. */
gboolean choir_desk_listen_audio(ChoirDeskListen *listen, const gint16 *samples, gsize n);
void choir_desk_listen_end(ChoirDeskListen *listen);
void choir_desk_listen_cancel(ChoirDeskListen *listen);

typedef struct {
  void (*pcm)(const gint16 *samples, gsize n, gpointer user); /* 24 kHz mono */
  void (*done)(const GError *error, gpointer user);
} ChoirDeskSpeakHandlers;

/* speed: 0.25 to 4. */
ChoirDeskSpeak *choir_desk_speak(ChoirDesk *desk, double speed, const ChoirDeskSpeakHandlers *handlers, gpointer user,
                                 GError **error);
void choir_desk_speak_clause(ChoirDeskSpeak *speak, const char *clause); /* at most 16 kB of UTF-8 */
void choir_desk_speak_end(ChoirDeskSpeak *speak);
/* Nothing further is begun while the listener is behind. */
void choir_desk_speak_hold(ChoirDeskSpeak *speak, gboolean hold);
void choir_desk_speak_cancel(ChoirDeskSpeak *speak);
