#include "cluster/persona.h"
#include <string.h>
#include "base/text.h"

#define MAX_PERSONA (64 * 1024)
#define MAX_EXAMPLES 500
#define SMALL_PARAMS 400000000
#define EXAMPLE "#example:"

/* Fills persona from a file; FALSE when there is none or it says nothing. */
static gboolean read_file(ChoirExpertPersona *persona, const char *dir, const char *expert, const char *suffix,
                          gboolean text_too) {
  g_autofree char *file = g_strconcat(expert, suffix, NULL);
  g_autofree char *path = g_build_filename(dir, file, NULL);
  g_autofree char *raw = NULL;
  gsize length;
  if (!g_file_get_contents(path, &raw, &length, NULL) || length > MAX_PERSONA)
    return FALSE;
  g_autofree char *utf8 = choir_utf8(raw, (gssize)length);
  g_auto(GStrv) lines = g_strsplit(utf8, "\n", -1);
  GString *text = g_string_new(NULL);
  for (char **line = lines; *line; line++) {
    if (g_str_has_prefix(*line, EXAMPLE) && persona->examples->len < MAX_EXAMPLES)
      g_ptr_array_add(persona->examples, g_strdup(g_strstrip(*line + strlen(EXAMPLE))));
    if (**line != '#')
      g_string_append_printf(text, "%s\n", g_strchomp(*line));
  }
  char *plain = g_strstrip(g_string_free(text, FALSE));
  if (*plain && text_too) {
    g_free(persona->text);
    persona->text = plain;
    return TRUE;
  }
  g_free(plain);
  return FALSE;
}

ChoirExpertPersona *choir_expert_persona_read(const char *dir, const char *expert, guint64 params) {
  ChoirExpertPersona *persona = g_new0(ChoirExpertPersona, 1);
  persona->examples = g_ptr_array_new_with_free_func(g_free);
  if (!dir || strchr(expert, '/') || g_str_has_prefix(expert, ".")) {
    persona->text = g_strdup("You are a helpful expert. Answer briefly.");
    return persona;
  }
  gboolean small = params > 0 && params < SMALL_PARAMS && read_file(persona, dir, expert, "_expert.small.txt", TRUE);
  persona->found = read_file(persona, dir, expert, "_expert.txt", !small) || small;
  if (!persona->text)
    persona->text = g_strdup_printf("You are an expert for %s. Answer in a few plain sentences.", expert);
  return persona;
}

ChoirExpertPersona *choir_expert_persona_read_file(const char *dir, const char *name) {
  ChoirExpertPersona *persona = g_new0(ChoirExpertPersona, 1);
  persona->examples = g_ptr_array_new_with_free_func(g_free);
  persona->found = dir && read_file(persona, dir, name, ".txt", TRUE);
  if (!persona->text)
    persona->text = g_strdup("");
  return persona;
}

void choir_expert_persona_free(ChoirExpertPersona *persona) {
  if (!persona)
    return;
  g_ptr_array_unref(persona->examples);
  g_free(persona->text);
  g_free(persona);
}
