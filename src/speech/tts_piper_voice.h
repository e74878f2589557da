/* The graphs of a Piper voice (VITS, Kim et al. 2021) in ONNX Runtime. tools/prepare-models splits a voice in two: the
 * front makes a hidden sequence, one column a frame of 256 samples, and says how many frames each phoneme id got; the
 * decoder turns any run of frames into sound. So sound comes while the rest is still being made, a cancel is seen
 * between two runs, and memory follows the run. Without the two files the whole voice is used in one go, which knows no
 * durations. All calls of one thread, except interrupt. */
#pragma once
#include <glib.h>
#include "speech/tts.h"

typedef struct ChoirPiperVoice ChoirPiperVoice;
/* model: NAME.onnx; NAME.front.onnx and NAME.decoder.onnx beside it are preferred. NULL with error. */
ChoirPiperVoice *choir_piper_voice_open(const char *library, const char *model, int threads, GError **error);
void choir_piper_voice_close(ChoirPiperVoice *voice);
gboolean choir_piper_voice_in_pieces(const ChoirPiperVoice *voice);
const char *choir_piper_voice_runtime(const ChoirPiperVoice *voice); /* version of ONNX Runtime */
/* How many frames the decoder makes at once after the first two runs: few for an early cancel, many for little work. */
void choir_piper_voice_set_run(ChoirPiperVoice *voice, guint frames);

/* Once a call, before the first sound: frames of each id. samples: of a frame. Not called by a whole voice. */
typedef void (*ChoirPiperDurations)(const float *frames, gsize n, guint samples, gpointer user);
/* scales: noise, length, noise of durations. sink may be NULL: the sound is dropped. FALSE with error; FALSE without
 * one when cancelled. */
gboolean choir_piper_voice_run(ChoirPiperVoice *voice, gint64 *ids, gsize n, float scales[3],
                               ChoirPiperDurations durations, gpointer user, const ChoirTtsSink *sink, GError **error);
void choir_piper_voice_interrupt(ChoirPiperVoice *voice); /* any thread: what runs now was cancelled */
