/* RTVI frames, and a client that sends anything in any order. The first byte's low bit: one protobuf frame, which must
 * also survive being written again; else lines of a conversation: "{...}" is JSON, "B" a binary message in hexadecimal,
 * "L" an event of voice/live as in fuzz_realtime.c. Started and stopped messages must come in pairs. */
/* In place of the real one: the build gives a target one file. NOLINTNEXTLINE(bugprone-suspicious-include) */
#include "../unit/web/fake_live.c"
#include "base/text.h"
#include "web/rtvi_frames.h"
#include "web/rtvi_session.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
  gboolean ready, llm, tts, speaking;
} Checker;

static void must(gboolean condition, const char *promise) {
  if (condition)
    return;
  fprintf(stderr, "broken promise: %s\n", promise);
  abort();
}

static void pair(gboolean *open, const char *type, const char *start, const char *stop) {
  if (strcmp(type, start) == 0) {
    must(!*open, "started twice");
    *open = TRUE;
  } else if (strcmp(type, stop) == 0) {
    must(*open, "stopped without a start");
    *open = FALSE;
  }
}

static void on_send(gboolean binary, const void *data, gsize length, gpointer user) {
  Checker *checker = user;
  ChoirRtviFrame frame = {.kind = CHOIR_RTVI_MESSAGE, .data = data, .length = length};
  if (binary)
    must(choir_rtvi_frame_read(data, length, &frame), "a frame can be read again");
  if (frame.kind == CHOIR_RTVI_AUDIO) {
    must(checker->ready && frame.rate == 24000 && frame.channels == 1 && frame.length % 2 == 0, "audio frames");
    return;
  }
  json_auto_t *message = choir_json_parse((const char *)frame.data, frame.length, NULL);
  const char *type = choir_json_string(message, "type", "");
  must(strcmp(choir_json_string(message, "label", ""), "rtvi-ai") == 0 && *type, "messages have label and type");
  if (strcmp(type, "bot-ready") == 0)
    checker->ready = TRUE;
  must(checker->ready || g_str_has_prefix(type, "error"), "nothing but errors before bot-ready");
  pair(&checker->llm, type, "bot-llm-started", "bot-llm-stopped");
  pair(&checker->tts, type, "bot-tts-started", "bot-tts-stopped");
  pair(&checker->speaking, type, "bot-started-speaking", "bot-stopped-speaking");
}

static void on_hang_up(gpointer user) {
}

static void live_event(ChoirRtviSession *session, const char *line, gsize length) {
  static const gint16 pcm[5000];
  static const char *const status[] = {"completed", "cancelled", "failed", NULL};
  char item[8];
  guint8 type = length > 1 ? (guint8)line[1] : 0, which = length > 2 ? (guint8)line[2] : 0,
         reply = length > 3 ? (guint8)line[3] : 0;
  g_snprintf(item, sizeof item, "u%u", which % 4);
  g_autofree char *text = length > 4 ? g_strndup(line + 4, length - 4) : NULL;
  ChoirLiveEvent event = {.type = (ChoirLiveEventType)(type % (CHOIR_LIVE_ERROR + 1)),
                          .item_id = which & 16 ? NULL : item,
                          .response_id = "r",
                          .text = text,
                          .status = status[reply % G_N_ELEMENTS(status)],
                          .level = which / 255.0};
  fake_live.heard = reply;
  if (event.type == CHOIR_LIVE_AUDIO) {
    event.pcm = pcm;
    event.samples = (gsize)which * 20 % G_N_ELEMENTS(pcm);
  }
  choir_rtvi_session_live(session, &event);
}

static void binary_line(ChoirRtviSession *session, const char *line, gsize length) {
  g_autoptr(GByteArray) bytes = g_byte_array_new();
  for (gsize i = 1; i + 1 < length; i += 2) {
    guint8 byte = (guint8)((g_ascii_xdigit_value(line[i]) & 15) << 4 | (g_ascii_xdigit_value(line[i + 1]) & 15));
    g_byte_array_append(bytes, &byte, 1);
  }
  choir_rtvi_session_client(session, TRUE, (const char *)bytes->data, bytes->len);
}

static void one_frame(const uint8_t *data, size_t size) {
  ChoirRtviFrame frame, again;
  if (!choir_rtvi_frame_read(data, size, &frame) || frame.kind != CHOIR_RTVI_MESSAGE)
    return;
  g_autoptr(GByteArray) out = g_byte_array_new();
  choir_rtvi_frame_message(out, frame.data ? (const char *)frame.data : "", frame.length);
  must(choir_rtvi_frame_read(out->data, out->len, &again) && again.length == frame.length &&
           (frame.length == 0 || memcmp(again.data, frame.data, frame.length) == 0),
       "a message survives");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const ChoirLiveOptions defaults = {.server_vad = TRUE, .threshold = 0.5, .silence_ms = 600, .audio_out = TRUE};
  if (size > 0 && (data[0] & 1)) {
    one_frame(data + 1, size - 1);
    return 0;
  }
  Checker checker = {0};
  ChoirLive *live = fake_live_new();
  ChoirRtviOptions options = {.model = "m", .send = on_send, .hang_up = on_hang_up, .user = &checker};
  ChoirRtviSession *session = choir_rtvi_session_new(&defaults, &options);
  choir_rtvi_session_attach(session, live);
  const char *at = (const char *)data + MIN(size, 1), *end = (const char *)data + size;
  while (at < end) {
    const char *stop = memchr(at, '\n', (gsize)(end - at));
    gsize length = (gsize)((stop ? stop : end) - at);
    g_string_truncate(fake_live.log, 0);
    if (length > 0 && *at == 'L')
      live_event(session, at, length);
    else if (length > 0 && *at == 'B')
      binary_line(session, at, length);
    else
      choir_rtvi_session_client(session, FALSE, at, length);
    at += length + 1;
  }
  choir_rtvi_session_free(session);
  return 0;
}
