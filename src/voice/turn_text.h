/* What the words of a transcript say about turn-taking: whether they are only a listener's "mm-hm", only a "stop", and
 * whether they sound as if more will come. A small table per language; languages without one stay neutral. Pure, no
 * allocation. */
#pragma once
#include <glib.h>

typedef enum {
  TURN_SAID_WORDS,       /* anything else: a turn */
  TURN_SAID_BACKCHANNEL, /* "yeah", "mm-hm", "okay": go on */
  TURN_SAID_STOP,        /* "stop", "be quiet": and nothing else */
} TurnSaid;

typedef enum {
  TURN_ENDING_NEUTRAL,
  TURN_ENDING_COMPLETE, /* a sentence's end */
  TURN_ENDING_UNMARKED, /* no mark, from a recogniser that sets them: it did not hear an end */
  TURN_ENDING_OPEN,     /* a function word, digits or spelled letters: more will come */
} TurnEnding;

/* language: ISO 639-1, NULL or "" for English. */
TurnSaid turn_text_said(const char *text, const char *language);
TurnEnding turn_text_ending(const char *text, const char *language);
