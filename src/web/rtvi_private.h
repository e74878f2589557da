/* What the halves of the RTVI session share: rtvi_session.c (what voice/live says), rtvi_output.c (the reply as text)
 * and rtvi_client.c (what the client says). */
#pragma once
#include <jansson.h>
#include "web/rtvi_session.h"

/* A sentence of the reply. */
typedef struct {
  guint id;
  gsize begin, end; /* bytes of the reply */
  gsize told;       /* bytes of the reply that were reported as spoken, from begin on */
  gboolean completed;
} ChoirRtviSegment;

struct ChoirRtviSession {
  ChoirRtviOptions options;
  char *model;
  ChoirLive *live;
  ChoirLiveOptions live_options;
  gboolean form_known, binary; /* how the client talks */
  gboolean ready, legacy;      /* bot-ready was sent; to a client of protocol 1.x */
  gboolean silent_reply;       /* the next reply is text only */
  guint segments;              /* so far, all replies */
  /* The reply under way. */
  char *item;
  GString *reply;
  GArray *parts; /* ChoirRtviSegment */
  gsize split;   /* bytes of the reply that are in parts */
  gboolean audio, llm, tts, speaking;
  /* Stages of the turn, choir_clock_us(); 0 = not yet. */
  gint64 asked_us, ready_us, text_us, sound_us, level_us;
  GByteArray *frame;
  GArray *pcm;
};

/* {"label","type","id"?,"data"?}: fields are stolen, NULL = no data; id NULL = none. */
void choir_rtvi_emit(ChoirRtviSession *session, const char *type, const char *id, json_t *data);
void choir_rtvi_refuse(ChoirRtviSession *session, const char *id, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* The person's words, said or typed. */
/* answered: the model is given it */
void choir_rtvi_user_text(ChoirRtviSession *session, const char *text, const char *kind, const char *id,
                          gboolean answered);
void choir_rtvi_configure(ChoirRtviSession *session);
/* rtvi_output.c */
void choir_rtvi_output_clear(ChoirRtviSession *session);
/* More text of the reply; last: no more comes. Announces whole sentences. */
void choir_rtvi_output_text(ChoirRtviSession *session, const char *text, gboolean last);
/* The listener heard so many bytes of the reply. */
void choir_rtvi_output_spoken(ChoirRtviSession *session, gsize bytes);
