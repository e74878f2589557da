#include "cli/talk_measure.h"
#include <math.h>

#define WINDOW_MS 10
#define ONSET_WINDOWS 2 /* 20 ms */
#define THRESHOLD_DB (-50.0)
#define CALLER_BELOW_PEAK_DB (-40.0) /* a recording's own hiss is no speech */
#define AGENT_GAP_MS 300
#define CALLER_GAP_MS 1200

static double window_rms(const gint16 *stereo, gsize first, gsize n, guint channel) {
  double sum = 0;
  for (gsize i = first; i < first + n; i++) {
    double value = stereo[i * 2 + channel] / 32768.0;
    sum += value * value;
  }
  return sqrt(sum / (double)n);
}

/* Stretches of sound on one channel within [from, to), joined over silences shorter than gap_ms. */
static void find_spans(const gint16 *stereo, gint64 from, gint64 to, guint rate, guint channel, double threshold,
                       guint gap_ms, GArray *spans) {
  gint64 window = rate * WINDOW_MS / 1000, gap = (gint64)rate * gap_ms / 1000;
  guint run = 0;
  guint first = spans->len;
  for (gint64 at = from; at + window <= to; at += window) {
    run = window_rms(stereo, (gsize)at, (gsize)window, channel) > threshold ? run + 1 : 0;
    if (run < ONSET_WINDOWS)
      continue;
    ChoirTalkSpan *last = spans->len > first ? &g_array_index(spans, ChoirTalkSpan, spans->len - 1) : NULL;
    gint64 onset = at - (ONSET_WINDOWS - 1) * window;
    if (last && onset - last->end < gap) {
      last->end = at + window;
    } else {
      ChoirTalkSpan span = {onset, at + window};
      g_array_append_val(spans, span);
    }
  }
}

static double peak_rms(const gint16 *stereo, gint64 from, gint64 to, guint rate, guint channel) {
  gint64 window = rate * WINDOW_MS / 1000;
  double peak = 0;
  for (gint64 at = from; at + window <= to; at += window)
    peak = MAX(peak, window_rms(stereo, (gsize)at, (gsize)window, channel));
  return peak;
}

static double from_db(double db) {
  return pow(10, db / 20);
}

/* One span a turn: from the first to the last sound within what was played. */
static void caller_spans(const gint16 *stereo, gint64 frames, guint rate, const GArray *turns, GArray *spans) {
  ChoirTalkSpan whole = {0, frames};
  for (guint i = 0; i < (turns ? turns->len : 1); i++) {
    ChoirTalkSpan turn = turns ? g_array_index(turns, ChoirTalkSpan, i) : whole;
    gint64 from = CLAMP(turn.start, 0, frames), to = CLAMP(turn.end, from, frames);
    double threshold = MAX(from_db(THRESHOLD_DB), peak_rms(stereo, from, to, rate, 0) * from_db(CALLER_BELOW_PEAK_DB));
    find_spans(stereo, from, to, rate, 0, threshold, turns ? G_MAXINT32 / 1000 : CALLER_GAP_MS, spans);
  }
}

static double to_ms(gint64 frames, guint rate) {
  return (double)frames * 1000 / rate;
}

static void compare(ChoirTalkFigures *figures, guint rate) {
  for (guint i = 0; i < figures->caller->len; i++) {
    ChoirTalkSpan turn = g_array_index(figures->caller, ChoirTalkSpan, i);
    gint64 next =
        i + 1 < figures->caller->len ? g_array_index(figures->caller, ChoirTalkSpan, i + 1).start : G_MAXINT64;
    gboolean answered = FALSE;
    for (guint k = 0; k < figures->agent->len; k++) {
      ChoirTalkSpan heard = g_array_index(figures->agent, ChoirTalkSpan, k);
      if (heard.start < turn.start && heard.end > turn.start) {
        double ms = to_ms(heard.end - turn.start, rate);
        g_array_append_val(figures->interruption, ms);
      } else if (heard.start >= turn.start && heard.start < turn.end) {
        figures->cut_in++;
      } else if (!answered && heard.start >= turn.end && heard.start < next) {
        double ms = to_ms(heard.start - turn.end, rate);
        g_array_append_val(figures->voice_to_voice, ms);
        answered = TRUE;
      }
    }
  }
}

ChoirTalkFigures *choir_talk_measure(const gint16 *stereo, gsize frames, guint rate, const GArray *turns) {
  ChoirTalkFigures *figures = g_new0(ChoirTalkFigures, 1);
  figures->caller = g_array_new(FALSE, FALSE, sizeof(ChoirTalkSpan));
  figures->agent = g_array_new(FALSE, FALSE, sizeof(ChoirTalkSpan));
  figures->voice_to_voice = g_array_new(FALSE, FALSE, sizeof(double));
  figures->interruption = g_array_new(FALSE, FALSE, sizeof(double));
  caller_spans(stereo, (gint64)frames, rate, turns, figures->caller);
  find_spans(stereo, 0, (gint64)frames, rate, 1, from_db(THRESHOLD_DB), AGENT_GAP_MS, figures->agent);
  compare(figures, rate);
  return figures;
}

void choir_talk_figures_free(ChoirTalkFigures *figures) {
  if (!figures)
    return;
  g_array_unref(figures->caller);
  g_array_unref(figures->agent);
  g_array_unref(figures->voice_to_voice);
  g_array_unref(figures->interruption);
  g_free(figures);
}

static json_t *spans_json(const GArray *spans, guint rate) {
  json_t *list = json_array();
  for (guint i = 0; i < spans->len; i++) {
    ChoirTalkSpan span = g_array_index(spans, ChoirTalkSpan, i);
    json_array_append_new(list, json_pack("[i,i]", (int)to_ms(span.start, rate), (int)to_ms(span.end, rate)));
  }
  return list;
}

static json_t *numbers_json(const GArray *numbers) {
  json_t *list = json_array();
  for (guint i = 0; i < numbers->len; i++)
    json_array_append_new(list, json_integer((json_int_t)(g_array_index(numbers, double, i) + 0.5)));
  return list;
}

json_t *choir_talk_figures_json(const ChoirTalkFigures *figures, guint rate) {
  return json_pack("{s:o,s:o,s:o,s:o,s:i}", "voice_to_voice_ms", numbers_json(figures->voice_to_voice),
                   "interruption_to_silence_ms", numbers_json(figures->interruption), "caller_segments",
                   spans_json(figures->caller, rate), "agent_segments", spans_json(figures->agent, rate), "cut_in",
                   (int)figures->cut_in);
}
