/* Which engine recognises: one by name, or, for "auto", Whisper where a fixed clip through it is quick enough, else
 * PocketSphinx with its grammar. All calls on the thread that recognises. */
#pragma once
#include <jansson.h>
#include "speech/stt.h"

const ChoirSttEngine *choir_stt_engine_named(const char *name); /* NULL: not in this build */

typedef struct ChoirSttEngines ChoirSttEngines;
/* NULL with error when this build has no such engine. options and its strings must live as long; its model is Whisper's
 * when that may be the engine. */
ChoirSttEngines *choir_stt_engines_new(const char *name, const ChoirSttOptions *options, GError **error);
/* Loads and measures; takes seconds. FALSE with error. */
gboolean choir_stt_engines_open(ChoirSttEngines *engines, GError **error);
const ChoirSttEngine *choir_stt_engines_current(const ChoirSttEngines *engines, gpointer *ret_self);
/* ms of idleness after which to measure again, -1 = never. */
gint64 choir_stt_engines_due(const ChoirSttEngines *engines);
/* Measures again, until cancelled() says that there is work; the engine may be another one then. */
void choir_stt_engines_probe(ChoirSttEngines *engines, ChoirSttCancelled cancelled, gpointer user);
/* READY, or STATUS after a probe. */
void choir_stt_engines_report(ChoirSttEngines *engines, int fd, guint16 type, double load_ms);
