/* The turn-taking of one client as a pure function: session_step(state, event) -> effects. No clock, no I/O, no allocation.
 * Time comes with the events, in samples of CHOIR_RATE_MIC. Source of the design: LocalAI's coordinators, LiveKit's
 * SpeechHandle, HF speech-to-speech's CancelScope (generation numbers). The owner of this file defines its contents. */
#pragma once
