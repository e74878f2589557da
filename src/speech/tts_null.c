/* Says nothing, in no time: for tests, and for people who want text only. */
#include "speech/tts.h"

static gpointer null_open(const ChoirTtsOptions *options, char **ret_detail, GError **error) {
  static int self;
  *ret_detail = g_strdup("no voice");
  return &self;
}

static void null_close(gpointer self) {
}

static guint null_rate(gpointer self) {
  return 24000;
}

static gboolean null_say(gpointer self, const char *text, GArray *words, const ChoirTtsSink *sink, GError **error) {
  return TRUE;
}

const ChoirTtsEngine choir_tts_null = {
    .name = "null",
    .help = "says nothing",
    .open = null_open,
    .close = null_close,
    .rate = null_rate,
    .say = null_say,
};
