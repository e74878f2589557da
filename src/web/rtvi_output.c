#include <string.h>
#include "base/text.h"
#include "web/rtvi_private.h"

#define MAX_SENTENCE 400 /* bytes; a longer one is cut at a blank */

void choir_rtvi_output_clear(ChoirRtviSession *session) {
  g_string_truncate(session->reply, 0);
  g_array_set_size(session->parts, 0);
  session->split = 0;
}

/* A copy of the reply's bytes; cuts inside a character do not happen: both ends are at blanks or ends. */
static char *slice(const ChoirRtviSession *session, gsize begin, gsize end) {
  return g_strndup(session->reply->str + begin, end - begin);
}

static void emit_output(ChoirRtviSession *session, const ChoirRtviSegment *part, const char *status) {
  g_autofree char *text = slice(session, part->begin, part->end);
  json_t *data = json_pack("{s:s,s:s,s:s,s:i}", "text", text, "output_type", "sentence", "aggregated_by", "sentence",
                           "segment_id", (int)part->id);
  if (session->legacy) {
    json_object_set_new(data, "spoken", json_boolean(strcmp(status, "completed") == 0));
  } else {
    json_object_set_new(data, "will_be_spoken", json_boolean(session->audio));
    json_object_set_new(data, "spoken_status", json_string(status));
  }
  if (!session->legacy && session->audio) {
    gsize at = strcmp(status, "completed") == 0 ? part->end : MAX(part->told, part->begin);
    g_autofree char *before = slice(session, part->begin, at);
    g_autofree char *after = slice(session, at, part->end);
    json_object_set_new(data, "spoken_progress",
                        json_pack("{s:s,s:s}", "accumulated_text", before, "remaining_text", after));
  }
  choir_rtvi_emit(session, "bot-output", NULL, data);
}

/* Bytes from `from` on that make a whole sentence with the blanks behind it; 0: there is none yet. */
static gsize sentence(const GString *reply, gsize from, gboolean last) {
  gsize blank = 0;
  for (gsize i = from; i < reply->len; i++) {
    gboolean space = g_ascii_isspace(reply->str[i]);
    gboolean ends = space && i > from && strchr(".!?\n", reply->str[i] == '\n' ? '\n' : reply->str[i - 1]);
    if (ends || (space && i - from >= MAX_SENTENCE)) {
      while (i < reply->len && g_ascii_isspace(reply->str[i]))
        i++;
      return i - from;
    }
    blank = space ? i : blank;
  }
  return last ? reply->len - from : 0;
}

void choir_rtvi_output_text(ChoirRtviSession *session, const char *text, gboolean last) {
  g_string_append(session->reply, text);
  gsize length;
  while (session->split < session->reply->len && (length = sentence(session->reply, session->split, last)) > 0) {
    ChoirRtviSegment part = {.id = ++session->segments, .begin = session->split, .end = session->split + length};
    part.told = part.begin;
    session->split = part.end;
    g_array_append_val(session->parts, part);
    emit_output(session, &part, "new");
  }
}

void choir_rtvi_output_spoken(ChoirRtviSession *session, gsize bytes) {
  bytes = MIN(bytes, session->reply->len);
  while (bytes > 0 && bytes < session->reply->len && ((guchar)session->reply->str[bytes] & 0xc0) == 0x80)
    bytes--;
  if (bytes > session->split) /* the voice has reached what is not known to be a sentence yet: usually the last one */
    choir_rtvi_output_text(session, "", TRUE);
  for (guint i = 0; i < session->parts->len; i++) {
    ChoirRtviSegment *part = &g_array_index(session->parts, ChoirRtviSegment, i);
    gsize at = MIN(bytes, part->end);
    if (part->completed || at <= part->told)
      continue;
    /* Blanks behind the part before were not spoken with it. */
    const ChoirRtviSegment *before = i > 0 ? part - 1 : NULL;
    gboolean first = before && part->told == part->begin && before->told < part->begin;
    g_autofree char *words = slice(session, first ? before->told : part->told, at);
    choir_rtvi_emit(session, "bot-tts-text", NULL, json_pack("{s:s}", "text", words));
    part->told = at;
    /* The blanks behind a sentence are not spoken. */
    gsize ink = part->end;
    while (ink > part->begin && g_ascii_isspace(session->reply->str[ink - 1]))
      ink--;
    part->completed = at >= ink;
    if (part->completed || !session->legacy)
      emit_output(session, part, part->completed ? "completed" : "in-progress");
  }
}
