#include "web/audio_text.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"

static void segment_clear(gpointer data) {
  g_free(((ChoirTranscriptSegment *)data)->text);
}

void choir_transcript_init(ChoirTranscript *transcript) {
  *transcript = (ChoirTranscript){.text = g_string_new(NULL),
                                  .segments = g_array_new(FALSE, FALSE, sizeof(ChoirTranscriptSegment))};
  g_array_set_clear_func(transcript->segments, segment_clear);
}

void choir_transcript_clear(ChoirTranscript *transcript) {
  if (transcript->text)
    g_string_free(transcript->text, TRUE);
  g_clear_pointer(&transcript->segments, g_array_unref);
  transcript->text = NULL;
}

static void add_segment(ChoirTranscript *transcript, guint64 begin_ms, guint64 end_ms, const char *text) {
  ChoirTranscriptSegment segment = {.begin_ms = begin_ms, .end_ms = MAX(begin_ms, end_ms), .text = g_strdup(text)};
  g_array_append_val(transcript->segments, segment);
}

const char *choir_transcript_add(ChoirTranscript *transcript, const char *text, guint64 begin_ms, guint64 end_ms,
                                 const json_t *segments) {
  gsize before = transcript->text->len;
  transcript->duration_ms = MAX(transcript->duration_ms, end_ms);
  if (!*text)
    return "";
  if (before > 0)
    g_string_append_c(transcript->text, ' ');
  g_string_append(transcript->text, text);
  for (size_t i = 0; i < json_array_size(segments); i++) {
    const json_t *row = json_array_get(segments, i);
    const char *words = json_string_value(json_array_get(row, 2));
    json_int_t from = json_integer_value(json_array_get(row, 0)), to = json_integer_value(json_array_get(row, 1));
    if (words && from >= 0 && to >= 0)
      add_segment(transcript, begin_ms + (guint64)from, MIN(begin_ms + (guint64)to, end_ms), words);
  }
  if (json_array_size(segments) == 0)
    add_segment(transcript, begin_ms, end_ms, text);
  return transcript->text->str + before;
}

static const struct {
  const char *name, *type;
} formats[] = {
    [CHOIR_TRANSCRIPT_JSON] = {"json", "application/json"},
    [CHOIR_TRANSCRIPT_TEXT] = {"text", "text/plain; charset=utf-8"},
    [CHOIR_TRANSCRIPT_SRT] = {"srt", "application/x-subrip; charset=utf-8"},
    [CHOIR_TRANSCRIPT_VTT] = {"vtt", "text/vtt; charset=utf-8"},
    [CHOIR_TRANSCRIPT_VERBOSE] = {"verbose_json", "application/json"},
};

gboolean choir_transcript_format(const char *name, ChoirTranscriptFormat *ret_format) {
  for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
    if (strcmp(formats[i].name, name) == 0) {
      *ret_format = i;
      return TRUE;
    }
  }
  return FALSE;
}

const char *choir_transcript_type(ChoirTranscriptFormat format) {
  return formats[format].type;
}

json_t *choir_transcript_usage(const ChoirTranscript *transcript) {
  return json_pack("{s:s,s:I}", "type", "duration", "seconds", (json_int_t)((transcript->duration_ms + 999) / 1000));
}

static void add_time(GString *out, guint64 ms, char point) {
  g_string_append_printf(out, "%02u:%02u:%02u%c%03u", (guint)(ms / 3600000), (guint)(ms / 60000 % 60),
                         (guint)(ms / 1000 % 60), point, (guint)(ms % 1000));
}

/* SubRip and WebVTT differ in the numbers, the point and the first line. A line "-->" inside a text would be read as a
 * time, and in WebVTT "&" and "<" begin something. */
static char *subtitles(const ChoirTranscript *transcript, gboolean vtt) {
  GString *out = g_string_new(vtt ? "WEBVTT\n\n" : NULL);
  for (guint i = 0; i < transcript->segments->len; i++) {
    const ChoirTranscriptSegment *segment = &g_array_index(transcript->segments, ChoirTranscriptSegment, i);
    g_autofree char *escaped = vtt ? g_markup_escape_text(segment->text, -1) : g_strdup(segment->text);
    g_auto(GStrv) pieces = g_strsplit(g_strdelimit(escaped, "\r\n", ' '), "-->", -1);
    g_autofree char *text = g_strjoinv("->", pieces);
    if (!vtt)
      g_string_append_printf(out, "%u\n", i + 1);
    add_time(out, segment->begin_ms, vtt ? '.' : ',');
    g_string_append(out, " --> ");
    add_time(out, segment->end_ms, vtt ? '.' : ',');
    g_string_append_printf(out, "\n%s\n\n", text);
  }
  return g_string_free(out, FALSE);
}

static double seconds(guint64 ms) {
  return round((double)ms) / 1000;
}

static char *verbose(const ChoirTranscript *transcript) {
  json_t *rows = json_array();
  for (guint i = 0; i < transcript->segments->len; i++) {
    const ChoirTranscriptSegment *segment = &g_array_index(transcript->segments, ChoirTranscriptSegment, i);
    json_array_append_new(rows, json_pack("{s:i,s:f,s:f,s:s}", "id", (int)i, "start", seconds(segment->begin_ms), "end",
                                          seconds(segment->end_ms), "text", segment->text));
  }
  json_auto_t *json = json_pack("{s:s,s:s,s:f,s:s,s:o,s:o}", "task", "transcribe", "language", transcript->language,
                                "duration", seconds(transcript->duration_ms), "text", transcript->text->str, "segments",
                                rows, "usage", choir_transcript_usage(transcript));
  char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)); /* 7.6 and not 7.5999999999999996 */
  char *copy = g_strdup(text ? text : "{}");
  free(text);
  return copy;
}

char *choir_transcript_print(const ChoirTranscript *transcript, ChoirTranscriptFormat format) {
  switch (format) {
  case CHOIR_TRANSCRIPT_TEXT:
    return g_strconcat(transcript->text->str, "\n", NULL);
  case CHOIR_TRANSCRIPT_SRT:
    return subtitles(transcript, FALSE);
  case CHOIR_TRANSCRIPT_VTT:
    return subtitles(transcript, TRUE);
  case CHOIR_TRANSCRIPT_VERBOSE:
    return verbose(transcript);
  default: {
    json_auto_t *json =
        json_pack("{s:s,s:o}", "text", transcript->text->str, "usage", choir_transcript_usage(transcript));
    return choir_json_dump(json);
  }
  }
}
