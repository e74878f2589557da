/* prompts/<expert>_expert.txt: what an expert is told it is, and what belongs to it. Read again every time. A line that
 * starts with # is not sent; "#example: how do I reverse a list" is something that a person may say when this expert is
 * meant. */
#pragma once
#include <glib.h>

typedef struct {
  char *text;          /* never NULL: one generic line where there is no file */
  GPtrArray *examples; /* char* */
  gboolean found;      /* there is a file */
} ChoirExpertPersona;

/* params: of the model that will read it, 0 = unknown: below 400 million NAME_expert.small.txt is preferred. */
ChoirExpertPersona *choir_expert_persona_read(const char *dir, const char *expert, guint64 params);
/* The same of dir/NAME.txt. */
ChoirExpertPersona *choir_expert_persona_read_file(const char *dir, const char *name);
void choir_expert_persona_free(ChoirExpertPersona *persona);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirExpertPersona, choir_expert_persona_free)
