/* Persona files: plain text, read again when they change. A line that starts with # is a comment and is not sent;
 * "#context: time" among them asks for date and time in front of every message. Main thread only. */
#pragma once
#include <glib.h>

#define CHOIR_SMALL_PARAMS 400000000

typedef struct ChoirPersona ChoirPersona;

ChoirPersona *choir_persona_new(const char *dir);
void choir_persona_free(ChoirPersona *persona);
/* The text of NAME.small.txt when the model is known to have fewer than 400 million parameters and the file exists,
 * else of NAME.txt, else one generic line. Valid until the next call. params: 0 = unknown. */
const char *choir_persona_text(ChoirPersona *persona, const char *name, guint64 params);
/* Of the text returned last. */
gboolean choir_persona_wants_time(const ChoirPersona *persona);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirPersona, choir_persona_free)
