#include "agent/persona.h"
#include <glib/gstdio.h>
#include <string.h>
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define MAX_PERSONA (64 * 1024)
#define GENERIC "You are a helpful voice assistant. Answer in one short spoken sentence."

struct ChoirPersona {
  char *dir, *path, *text;
  GStatBuf seen; /* of path, when it was read */
  gboolean wants_time;
};

ChoirPersona *choir_persona_new(const char *dir) {
  ChoirPersona *persona = g_new0(ChoirPersona, 1);
  persona->dir = g_strdup(dir);
  return persona;
}

void choir_persona_free(ChoirPersona *persona) {
  if (!persona)
    return;
  g_free(persona->dir);
  g_free(persona->path);
  g_free(persona->text);
  g_free(persona);
}

static gboolean same_file(const GStatBuf *a, const GStatBuf *b) {
  return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
         a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Drops comment lines; the rest keeps its line breaks. */
static char *strip(const char *raw, gboolean *ret_time) {
  g_auto(GStrv) lines = g_strsplit(raw, "\n", -1);
  GString *text = g_string_new(NULL);
  *ret_time = FALSE;
  for (char **line = lines; *line; line++) {
    if (**line == '#') {
      *ret_time |= strncmp(*line, "#context: time", 14) == 0;
      continue;
    }
    g_string_append(text, g_strchomp(*line));
    g_string_append_c(text, '\n');
  }
  return g_strstrip(g_string_free(text, FALSE));
}

static gboolean read_file(ChoirPersona *persona, const char *path, const GStatBuf *status) {
  g_autofree char *raw = NULL;
  gsize length;
  g_autoptr(GError) error = NULL;
  if (status->st_size > MAX_PERSONA) {
    choir_warning(CHOIR_TOPIC_AGENT, "the persona %s is longer than 64 KiB and is ignored", path);
    return FALSE;
  }
  if (!g_file_get_contents(path, &raw, &length, &error)) {
    choir_warning(CHOIR_TOPIC_AGENT, "the persona %s cannot be read: %s", path, error->message);
    return FALSE;
  }
  g_autofree char *utf8 = choir_utf8(raw, (gssize)length);
  char *text = strip(utf8, &persona->wants_time);
  if (persona->path && g_strcmp0(text, persona->text) != 0)
    choir_info(CHOIR_TOPIC_AGENT, "persona %s", path);
  g_free(persona->path);
  g_free(persona->text);
  persona->path = g_strdup(path);
  persona->text = text;
  persona->seen = *status;
  return TRUE;
}

static gboolean try_file(ChoirPersona *persona, const char *name, const char *suffix) {
  g_autofree char *file = g_strconcat(name, suffix, NULL);
  g_autofree char *path = g_build_filename(persona->dir, file, NULL);
  GStatBuf status;
  if (g_stat(path, &status) < 0)
    return FALSE;
  if (g_strcmp0(path, persona->path) == 0 && same_file(&status, &persona->seen))
    return *persona->text != 0;
  return read_file(persona, path, &status) && *persona->text != 0;
}

const char *choir_persona_text(ChoirPersona *persona, const char *name, guint64 params) {
  if (params > 0 && params < CHOIR_SMALL_PARAMS && try_file(persona, name, ".small.txt"))
    return persona->text;
  if (try_file(persona, name, ".txt"))
    return persona->text;
  persona->wants_time = FALSE;
  return GENERIC;
}

gboolean choir_persona_wants_time(const ChoirPersona *persona) {
  return persona->wants_time;
}
