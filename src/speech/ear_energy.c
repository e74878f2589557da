/* An energy gate: speech is what stands well above the room's floor. The floor falls at once and rises slowly, so a
 * sentence does not become the floor, while a fan that was switched on does within seconds. Takes noise for speech; it
 * is the fallback where ONNX Runtime cannot run. */
#include "speech/ear.h"
#include "audio/resample.h"
#include "base/names.h"
#include <math.h>

#define FLOOR_MIN_DB -70.0 /* digital silence must not make a whisper of the converter look like speech */
#define RISE_DB 0.12       /* a window, 3.75 dB a second */
#define HALF_DB 10.0       /* above the floor: probability one half */
#define SLOPE_DB 2.0
#define QUIET_DB -55.0 /* below this nothing is speech */

typedef struct {
  double floor_db;
  gboolean started;
} Session;

static gpointer energy_open(const ChoirEarOptions *options, char **ret_detail, GError **error) {
  static int self;
  *ret_detail = g_strdup("energy gate");
  return &self;
}

static void energy_close(gpointer self) {
}

static gpointer energy_session(gpointer self) {
  return g_new0(Session, 1);
}

static gboolean energy_window(gpointer self, gpointer data, const gint16 *samples, float *ret_probability,
                              GError **error) {
  Session *session = data;
  double db = 20 * log10(choir_pcm_rms(samples, CHOIR_VAD_WINDOW) + 1e-6);
  /* The first window may already be speech: assume an ordinary room until something quieter is heard. */
  if (!session->started)
    session->floor_db = -50;
  session->started = TRUE;
  session->floor_db = db < session->floor_db ? db : session->floor_db + RISE_DB;
  if (session->floor_db < FLOOR_MIN_DB)
    session->floor_db = FLOOR_MIN_DB;
  double above = db - session->floor_db;
  *ret_probability = db < QUIET_DB ? 0 : (float)(1 / (1 + exp((HALF_DB - above) / SLOPE_DB)));
  return TRUE;
}

const ChoirEarEngine choir_ear_energy = {
    .name = "energy",
    .help = "loudness above the room's floor",
    .open = energy_open,
    .close = energy_close,
    .session_new = energy_session,
    .session_free = g_free,
    .window = energy_window,
};
