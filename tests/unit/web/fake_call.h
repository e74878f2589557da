/* Decisions about functions that come when a test says so. */
#pragma once
#include "agent/call.h"

typedef struct {
  ChoirCall *call; /* under way, or NULL */
  ChoirCallChoice choice;
  char *text, *name, *used; /* of the last request; used: joined by commas */
  guint begun, cancelled;
} FakeCall;

extern FakeCall fake_call;

void fake_call_clear(void);
/* name NULL: an answer in words. error NULL: none. */
void fake_call_decide(const char *name, const char *arguments, const char *error);
