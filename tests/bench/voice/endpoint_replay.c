/* The turn-taking of the real session core in virtual time, told on standard input what a microphone's windows were and
 * what the engines answer; `endpoint` beside this file drives it.
 *
 * in:  new SILENCE MIN MAX        a client
 *      w PROBABILITY              the next window of 512 samples
 *      verdict GEN MS P           answers, so many ms after the request
 *      text GEN MS TEXT
 * out: verdict GEN START END      requests, in samples
 *      text GEN START END
 *      guess SAMPLE               a reply was begun before the end; begin SAMPLE: behind it
 *      dropped SAMPLE             ... and taken back
 *      committed SAMPLE PAUSE_MS  the turn is over; the speaker's pauses so far
 *      .                          the line is worked off */
#include "voice/session.h"
#include "voice/turn_text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWERS 32
#define LINE_MAX_BYTES 8192

typedef struct {
  guint64 due;
  SessionEvent event;
} Answer;

typedef struct {
  SessionState s;
  guint64 now;
  Answer answer[ANSWERS];
  guint answers;
} Replay;

static void step(Replay *r, SessionEvent event) {
  SessionEffect fx[SESSION_MAX_EFFECTS];
  event.now = r->now;
  guint n = session_step(&r->s, &event, fx, G_N_ELEMENTS(fx));
  for (guint i = 0; i < n; i++) {
    if (fx[i].type == SESSION_FX_TURN_JOB || fx[i].type == SESSION_FX_STT_JOB)
      printf("%s %u %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT "\n",
             fx[i].type == SESSION_FX_TURN_JOB ? "verdict" : "text", fx[i].gen, fx[i].position, fx[i].end);
    if (fx[i].type == SESSION_FX_TWIN_BEGIN)
      printf("%s %" G_GUINT64_FORMAT "\n", fx[i].code == 1 ? "guess" : "begin", r->now);
    if (fx[i].type == SESSION_FX_TWIN_DISCARD)
      printf("dropped %" G_GUINT64_FORMAT "\n", r->now);
    if (fx[i].type == SESSION_FX_COMMITTED)
      printf("committed %" G_GUINT64_FORMAT " %u\n", r->now, r->s.pause_ms);
  }
}

static void answer(Replay *r, guint ms, SessionEvent event) {
  if (r->answers == ANSWERS)
    exit(3);
  r->answer[r->answers++] = (Answer){.due = r->now + (guint64)ms * CHOIR_RATE_MIC / 1000, .event = event};
}

static void window(Replay *r, double probability) {
  r->now += CHOIR_VAD_WINDOW;
  for (guint i = 0; i < r->answers;) {
    if (r->answer[i].due > r->now) {
      i++;
      continue;
    }
    SessionEvent event = r->answer[i].event;
    r->answer[i] = r->answer[--r->answers];
    step(r, event);
  }
  step(r, (SessionEvent){.type = SESSION_EV_AUDIO, .samples = CHOIR_VAD_WINDOW});
  step(r, (SessionEvent){.type = SESSION_EV_WINDOW, .position = r->s.mic_end, .probability = probability});
}

static void start(Replay *r, const char *line) {
  SessionOptions options = {.server_vad = TRUE,
                            .interrupt = TRUE,
                            .create_response = TRUE,
                            .audio_out = TRUE,
                            .speculate = TRUE,
                            .threshold = 0.5,
                            .prefix_ms = 300};
  if (sscanf(line, "%u %u %u", &options.silence_ms, &options.silence_min_ms, &options.silence_max_ms) != 3)
    exit(2);
  *r = (Replay){0};
  session_init(&r->s, &options, 0);
  for (guint i = 0; i < SESSION_WORKERS; i++)
    step(r, (SessionEvent){.type = SESSION_EV_WORKER, .worker = i, .flag = TRUE});
}

static void heard(Replay *r, const char *line) {
  guint gen = 0, ms = 0;
  int at = 0;
  if (sscanf(line, "%u %u %n", &gen, &ms, &at) < 2)
    exit(2);
  const char *text = line + at;
  answer(r, ms,
         (SessionEvent){.type = SESSION_EV_STT_TEXT,
                        .gen = gen,
                        .flag = *text != '\0',
                        .said = turn_text_said(text, "en"),
                        .ending = turn_text_ending(text, "en")});
}

static void judged(Replay *r, const char *line) {
  guint gen = 0, ms = 0;
  double p = 0;
  if (sscanf(line, "%u %u %lf", &gen, &ms, &p) != 3)
    exit(2);
  answer(r, ms, (SessionEvent){.type = SESSION_EV_VERDICT, .gen = gen, .probability = p});
}

int main(void) {
  static Replay replay;
  char line[LINE_MAX_BYTES];
  while (fgets(line, sizeof line, stdin) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    if (g_str_has_prefix(line, "new "))
      start(&replay, line + 4);
    else if (g_str_has_prefix(line, "w "))
      window(&replay, g_ascii_strtod(line + 2, NULL));
    else if (g_str_has_prefix(line, "verdict "))
      judged(&replay, line + 8);
    else if (g_str_has_prefix(line, "text "))
      heard(&replay, line + 5);
    else
      return 2;
    puts(".");
    fflush(stdout);
  }
  return 0;
}
