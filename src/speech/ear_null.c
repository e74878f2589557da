/* Hears nothing, ever: for tests and for machines that only listen on a button. */
#include "speech/ear.h"

static gpointer null_open(const ChoirEarOptions *options, char **ret_detail, GError **error) {
  static int self;
  *ret_detail = g_strdup("no voice activity detection");
  return &self;
}

static void null_free(gpointer data) {
}

static gpointer null_session(gpointer self) {
  return self;
}

static gboolean null_window(gpointer self, gpointer session, const gint16 *samples, float *ret_probability,
                            GError **error) {
  *ret_probability = 0;
  return TRUE;
}

const ChoirEarEngine choir_ear_null = {
    .name = "null",
    .help = "hears nothing",
    .open = null_open,
    .close = null_free,
    .session_new = null_session,
    .session_free = null_free,
    .window = null_window,
};
