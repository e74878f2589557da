/* A client that is answered at once, for the tests of manners. */
#pragma once
#include "world.h"

#define MIC(ms) ((guint64)(ms)*CHOIR_RATE_MIC / 1000)
#define OUT(ms) ((guint64)(ms)*CHOIR_RATE_OUT / 1000)

SessionOptions quick_options(void);
World *start(void);
/* ... and hears a long reply. */
World *speaking(void);
void configure(World *w, SessionOptions *options);
void finish(World *w); /* with every response done; frees */
/* Milliseconds from the end of speech to the end of the turn. */
guint endpoint(World *w);
void between(guint value, guint low, guint high);
