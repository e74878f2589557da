/* Understands nothing: for tests of what stands around it. */
#include "speech/stt.h"

static gpointer null_open(const ChoirSttOptions *options, char **ret_detail, GError **error) {
  static int self;
  *ret_detail = g_strdup("no speech recognition");
  return &self;
}

static void null_close(gpointer self) {
}

static gboolean null_transcribe(gpointer self, const gint16 *samples, gsize n, ChoirSttCancelled cancelled,
                                gpointer user, ChoirSttResult *result, GError **error) {
  result->no_speech = 1;
  return TRUE;
}

const ChoirSttEngine choir_stt_null = {
    .name = "null",
    .help = "understands nothing",
    .open = null_open,
    .close = null_close,
    .transcribe = null_transcribe,
};
