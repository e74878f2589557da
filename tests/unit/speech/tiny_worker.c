/* A worker that does what test_worker.c asks of it: answers, dies, hangs, talks nonsense. */
#include "speech/runner.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ECHO = 200, ECHOED, CRASH, GARBAGE, HANG_UP, BIG, SLEEP, ASK_PHONEMES, PHONEMES };

static void ask_phonemes(const ChoirWireFrame *frame) {
  char line[4096];
  ssize_t n = write(4, "7\thello\n", 8) == 8 ? read(4, line, sizeof line) : -1;
  choir_runner_send(3, PHONEMES, frame, 0, line, n > 0 ? (gsize)n : 0);
}

static void big(const ChoirWireFrame *frame) {
  g_autofree guint8 *payload = g_malloc0(CHOIR_WIRE_MAX);
  for (guint i = 0; i < 5; i++) {
    memset(payload, (int)i, CHOIR_WIRE_MAX);
    choir_runner_send(3, BIG, frame, i, payload, CHOIR_WIRE_MAX);
  }
}

int main(int argc, char **argv) {
  choir_runner_init("tiny-worker");
  choir_runner_status(3, 0.5, "half way");
  choir_runner_ready(3, "tiny", "none", 1, "at your service");
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  ChoirWireFrame frame = {0};
  while (choir_runner_read(3, buffer, &frame)) {
    switch (frame.type) {
    case ECHO:
      choir_runner_send(3, ECHOED, &frame, frame.aux, frame.payload, frame.length);
      break;
    case CRASH:
      abort();
    case GARBAGE:
      if (write(3, "this is no frame at all", 23) != 23)
        return 1;
      break;
    case HANG_UP:
      close(3);
      sleep(60);
      break;
    case BIG:
      big(&frame);
      break;
    case SLEEP:
      sleep(60);
      break;
    case ASK_PHONEMES:
      ask_phonemes(&frame);
      break;
    default:
      choir_runner_error(3, &frame, "unknown frame %u", frame.type);
    }
  }
  return 0;
}
