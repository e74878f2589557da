#include "fake_live.h"

struct ChoirLive {
  int unused;
};

FakeLive fake_live;
static ChoirLive the_live;

ChoirLive *fake_live_new(void) {
  if (fake_live.log)
    g_string_free(fake_live.log, TRUE);
  g_free(fake_live.instructions);
  g_free(fake_live.notes);
  fake_live = (FakeLive){.log = g_string_new(NULL)};
  return &the_live;
}

void fake_live_reset(void) {
  g_string_truncate(fake_live.log, 0);
}

G_GNUC_PRINTF(1, 2) static void note(const char *format, ...) {
  va_list args;
  va_start(args, format);
  if (fake_live.log->len > 0)
    g_string_append_c(fake_live.log, ' ');
  g_string_append_vprintf(fake_live.log, format, args);
  va_end(args);
}

static void answer(const char *call) {
  if (fake_live.answer)
    fake_live.answer(call, fake_live.user);
}

void choir_live_configure(ChoirLive *live, const ChoirLiveOptions *options) {
  fake_live.options = *options;
  note("configure:%s", options->audio_out ? "audio" : "text");
}

void choir_live_prompt(ChoirLive *live, const ChoirLivePrompt *prompt) {
  g_free(fake_live.instructions);
  g_free(fake_live.notes);
  fake_live.instructions = g_strdup(prompt->instructions);
  fake_live.notes = g_strdup(prompt->notes);
  fake_live.max_tokens = prompt->max_tokens;
}

gsize choir_live_heard(const ChoirLive *live) {
  return fake_live.heard;
}

const char *choir_live_state(const ChoirLive *live) {
  return "idle";
}

gboolean choir_live_audio(ChoirLive *live, const gint16 *pcm, gsize samples, guint rate) {
  if (fake_live.full)
    return FALSE;
  note("audio:%zu@%u", samples, rate);
  return TRUE;
}

void choir_live_commit(ChoirLive *live) {
  note("commit");
  answer("commit");
}

void choir_live_clear(ChoirLive *live) {
  note("clear");
}

char *choir_live_text(ChoirLive *live, const char *text, gboolean respond) {
  note("text:%s", text);
  return g_strdup_printf("live_%u", ++fake_live.texts);
}

void choir_live_respond(ChoirLive *live) {
  note("respond");
  answer("respond");
}

void choir_live_cancel(ChoirLive *live) {
  note("cancel");
  answer("cancel");
}

gboolean choir_live_truncate(ChoirLive *live, const char *item_id, guint64 audio_end_ms) {
  note("truncate:%s@%" G_GUINT64_FORMAT, item_id, audio_end_ms);
  if (fake_live.knows_reply)
    answer("truncate");
  return fake_live.knows_reply;
}

void choir_live_ack(ChoirLive *live, const char *item_id, guint64 played_samples, guint underruns) {
  note("ack:%s@%" G_GUINT64_FORMAT "/%u", item_id, played_samples, underruns);
}

ChoirLive *choir_live_new(ChoirVoice *voice, const char *source, ChoirLiveCallback callback, gpointer user,
                          GError **error) {
  ChoirLive *live = fake_live_new();
  fake_live.callback = callback;
  fake_live.callback_user = user;
  g_strlcpy(fake_live.source, source, sizeof fake_live.source);
  return live;
}

void choir_live_free(ChoirLive *live) {
  if (live)
    note("free");
}
