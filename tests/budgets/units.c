/* Small units of work for tests/budgets/run: units NAME N does N of them; the cost of one is the difference of two
 * runs. session   20 ms of a spoken conversation in session_step(): microphone, VAD windows, a reply that is paced
 *   pacer     one 20 ms step of the pacer alone: advance, allow, sent, ack
 *   wire      one frame of 1,024 bytes, encoded and taken apart again
 *   fixture   1,000 additions, or the number in FIXTURE: how the gate itself is tested */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../unit/voice/world.h"
#include "speech/wire.h"
#include "voice/pacer.h"

/* Eight seconds: two of speech, then the reply of four clauses, acknowledged as a page does. */
static void session(long n) {
  SessionOptions options = world_options();
  World *world = world_new(&options);
  world->acks = TRUE;
  for (long i = 0; i < n; i++) {
    world->mic = TRUE;
    world->speech = i % 400 < 100;
    world_run(world, 20);
  }
  world_free(world);
}

static void pacer(long n) {
  const guint64 step = CHOIR_RATE_OUT / 50, tick = CHOIR_RATE_MIC / 50;
  Pacer pacer;
  guint64 sent = 0;
  pacer_init(&pacer, 0);
  pacer_begin(&pacer, 0);
  for (long i = 0; i < n; i++) {
    pacer_advance(&pacer, (guint64)i * tick);
    guint64 allowed = pacer_allow(&pacer, 100 * step, FALSE);
    pacer_sent(&pacer, allowed);
    sent += allowed;
    pacer_ack(&pacer, sent > 3 * step ? sent - 3 * step : 0, 0);
  }
}

static void wire(long n) {
  static guint8 payload[1024];
  guint8 bytes[CHOIR_WIRE_HEADER + sizeof payload];
  guint64 sum = 0;
  for (long i = 0; i < n; i++) {
    ChoirWireFrame frame = {.type = CHOIR_WIRE_EAR_AUDIO, .session = 1, .aux = (guint32)i, .length = sizeof payload};
    choir_wire_encode_header(&frame, bytes);
    memcpy(bytes + CHOIR_WIRE_HEADER, payload, sizeof payload);
    ChoirWireFrame got;
    if (choir_wire_decode(bytes, sizeof bytes, &got) == 1)
      sum += got.aux + got.payload[0];
  }
  fprintf(stderr, "%" G_GUINT64_FORMAT "\n", sum);
}

static void fixture(long n) {
  const char *text = getenv("FIXTURE");
  long turns = n * (text ? atol(text) : 1000);
  volatile long sum = 0;
  for (long i = 0; i < turns; i++)
    sum += i;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*work)(long n);
  } units[] = {{"session", session}, {"pacer", pacer}, {"wire", wire}, {"fixture", fixture}};
  long n = argc == 3 ? strtol(argv[2], NULL, 10) : -1;
  for (gsize i = 0; n >= 0 && i < G_N_ELEMENTS(units); i++)
    if (strcmp(argv[1], units[i].name) == 0) {
      units[i].work(n);
      return 0;
    }
  fprintf(stderr, "usage: units session|pacer|wire|fixture N\n");
  return 2;
}
