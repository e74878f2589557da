/* Which engine recognises: for "auto", Whisper where a fixed clip through it is quick enough, else PocketSphinx with
 * its grammar. */
#pragma once
#include "speech/engine_pair.h"
#include "speech/stt.h"

extern const ChoirEngineKind choir_stt_engines;
