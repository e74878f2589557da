/* A voice/live that only writes down what it was told, for tests of its user. One at a time. */
#pragma once
#include "voice/live.h"

typedef struct {
  GString *log; /* one word or "name:argument" for each call, joined by blanks */
  ChoirLiveOptions options;
  char *instructions, *notes; /* of choir_live_prompt() */
  guint max_tokens;
  gsize heard;          /* what choir_live_heard() says */
  guint texts;          /* items handed out */
  gboolean full;        /* choir_live_audio() refuses */
  gboolean knows_reply; /* choir_live_truncate() says TRUE */
  /* Called inside choir_live_respond(), cancel, commit and truncate: what the real one says at once. */
  void (*answer)(const char *call, gpointer user);
  gpointer user;
  ChoirLiveCallback callback; /* of choir_live_new() */
  gpointer callback_user;
  char source[16];
} FakeLive;

extern FakeLive fake_live;

ChoirLive *fake_live_new(void);
void fake_live_reset(void); /* forgets the log */
