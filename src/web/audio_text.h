/* A transcript in the forms that POST /v1/audio/transcriptions knows. Any thread. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct {
  guint64 begin_ms, end_ms;
  char *text;
} ChoirTranscriptSegment;

typedef struct {
  GString *text;
  char language[16];
  guint64 duration_ms;
  GArray *segments; /* ChoirTranscriptSegment, in order */
} ChoirTranscript;

typedef enum {
  CHOIR_TRANSCRIPT_JSON,
  CHOIR_TRANSCRIPT_TEXT,
  CHOIR_TRANSCRIPT_SRT,
  CHOIR_TRANSCRIPT_VTT,
  CHOIR_TRANSCRIPT_VERBOSE
} ChoirTranscriptFormat;

void choir_transcript_init(ChoirTranscript *transcript);
void choir_transcript_clear(ChoirTranscript *transcript);
/* Adds a piece that begins at begin_ms. segments: rows [begin_ms,end_ms,"text"] of the piece; without any, the piece is
 * one segment. Returns what was added to the text, the space in front included; belongs to the transcript. */
const char *choir_transcript_add(ChoirTranscript *transcript, const char *text, guint64 begin_ms, guint64 end_ms,
                                 const json_t *segments);
/* FALSE for a name that there is not. */
gboolean choir_transcript_format(const char *name, ChoirTranscriptFormat *ret_format);
const char *choir_transcript_type(ChoirTranscriptFormat format);                               /* Content-Type */
char *choir_transcript_print(const ChoirTranscript *transcript, ChoirTranscriptFormat format); /* caller frees */
json_t *choir_transcript_usage(const ChoirTranscript *transcript);
