/* Which engine speaks: for "auto", Piper where a fixed clause through it is quick enough, else flite. */
#pragma once
#include "speech/engine_pair.h"
#include "speech/tts.h"

extern const ChoirEngineKind choir_tts_engines;
/* Any thread: what runs now was cancelled. */
void choir_tts_engines_interrupt(ChoirEnginePair *engines);
