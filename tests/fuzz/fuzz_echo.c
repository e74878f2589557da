/* A transcript and what was played, separated by a NUL: the echo gate and the table of words take any bytes. */
#include "voice/echo_gate.h"
#include "voice/turn_text.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 4096)
    return 0;
  g_autofree char *heard = g_strndup((const char *)data, size);
  size_t length = strlen(heard);
  g_autofree char *played =
      length < size ? g_strndup((const char *)data + length + 1, size - length - 1) : g_strdup("");
  gboolean usual = echo_gate_repeats(heard, played, FALSE), early = echo_gate_repeats(heard, played, TRUE);
  g_assert_true(early || !usual); /* the first seconds are only ever more suspicious */
  TurnSaid said = turn_text_said(heard, "en");
  TurnEnding ending = turn_text_ending(heard, "en");
  g_assert_true(said <= TURN_SAID_STOP && ending <= TURN_ENDING_OPEN);
  return 0;
}
