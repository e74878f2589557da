#include <stdio.h>
#include "agent/twin_private.h"
#include "base/clock.h"

static double seconds(gint64 from, gint64 to) {
  return from > 0 && to > from ? (double)(to - from) / G_USEC_PER_SEC : 0;
}

/* The original's block, word for word. STT: end of speech to transcript; LLM: transcript to first text; TTS: first text
 * to first audio; total: end of speech to first audio. What a turn does not have took no time: a typed turn starts
 * when it came in, and one that is not read aloud ends at its first text. Programs read this: all six lines, always. */
char *choir_latency_block(const ChoirTurn *turn, gint64 done_us) {
  gint64 asked = turn->transcript_us ? turn->transcript_us : turn->begin_us;
  gint64 start = turn->speech_end_us ? turn->speech_end_us : asked;
  gint64 end = turn->first_audio_us ? turn->first_audio_us : turn->first_text_us ? turn->first_text_us : done_us;
  GString *text = g_string_new("--- BENCHMARK RESULTS ---\n");
  g_string_append_printf(text, "STT Latency: %.4fs\n",
                         turn->speech_end_us ? seconds(turn->speech_end_us, turn->transcript_us) : 0);
  g_string_append_printf(text, "LLM Time to First Token: %.4fs\n", seconds(asked, turn->first_text_us));
  g_string_append_printf(text, "TTS Time to First Audio: %.4fs\n", seconds(turn->first_text_us, turn->first_audio_us));
  g_string_append_printf(text, "Total Pipeline Latency: %.4fs\n", seconds(start, end));
  g_string_append(text, "-------------------------\n");
  return g_string_free(text, FALSE);
}

void choir_latency_print(const ChoirTurn *turn) {
  if (!turn->twin->options.benchmark || turn->first_text_us == 0)
    return;
  g_autofree char *block = choir_latency_block(turn, choir_clock_us());
  fputs(block, stdout);
  fflush(stdout);
}
