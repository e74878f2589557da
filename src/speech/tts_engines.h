/* Which engine speaks: one by name, or, for "auto", Piper where a fixed clause through it is quick enough, else flite.
 * All calls on the thread that speaks, except interrupt. */
#pragma once
#include <jansson.h>
#include "speech/tts.h"

const ChoirTtsEngine *choir_tts_engine_named(const char *name); /* NULL: not in this build */

typedef struct ChoirTtsEngines ChoirTtsEngines;
/* NULL with error when this build has no such engine. options and its strings must live as long. */
ChoirTtsEngines *choir_tts_engines_new(const char *name, const ChoirTtsOptions *options, GError **error);
/* Loads and measures; takes seconds. FALSE with error. */
gboolean choir_tts_engines_open(ChoirTtsEngines *engines, GError **error);
const ChoirTtsEngine *choir_tts_engines_current(const ChoirTtsEngines *engines, gpointer *ret_self);
void choir_tts_engines_interrupt(ChoirTtsEngines *engines); /* any thread: what runs now was cancelled */
/* ms of idleness after which to measure again, -1 = never. */
gint64 choir_tts_engines_due(const ChoirTtsEngines *engines);
/* Measures again, until cancelled() says that there is work; the engine may be another one then. */
void choir_tts_engines_probe(ChoirTtsEngines *engines, gboolean (*cancelled)(gpointer user), gpointer user);
/* READY, or STATUS after a probe. */
void choir_tts_engines_report(ChoirTtsEngines *engines, int fd, guint16 type, double load_ms);
