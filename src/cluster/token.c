#include "cluster/token.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include "base/log.h"

#define MAX_TOKEN 4096

struct ChoirToken {
  char *path, *fallback, *value, *problem;
  GStatBuf seen;
  gboolean read;
  guint changes;
};

ChoirToken *choir_token_new(const char *path, const char *fallback) {
  ChoirToken *token = g_new0(ChoirToken, 1);
  token->path = path && *path ? g_strdup(path) : NULL;
  token->fallback = fallback && *fallback ? g_strdup(fallback) : NULL;
  if (token->fallback)
    choir_log_add_secret(token->fallback);
  return token;
}

void choir_token_free(ChoirToken *token) {
  if (!token)
    return;
  g_free(token->path);
  g_free(token->fallback);
  g_free(token->value);
  g_free(token->problem);
  g_free(token);
}

static gboolean same_file(const GStatBuf *a, const GStatBuf *b) {
  return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
         a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_mode == b->st_mode && a->st_gid == b->st_gid;
}

/* What the file holds; NULL with a sentence in problem. */
static char *read_file(ChoirToken *token) {
  g_autoptr(GError) error = NULL;
  g_autofree char *text = NULL;
  gsize length;
  g_clear_pointer(&token->problem, g_free);
  if (!g_file_get_contents(token->path, &text, &length, &error)) {
    token->problem = g_strdup_printf("the token file cannot be read: %s", error->message);
    return NULL;
  }
  g_strstrip(text);
  if (!*text || length > MAX_TOKEN || strpbrk(text, " \t\r\n") || !g_str_is_ascii(text)) {
    token->problem =
        g_strdup_printf("the token file %s holds no token: one line of letters and digits is expected", token->path);
    return NULL;
  }
  choir_log_add_secret(text);
  return g_steal_pointer(&text);
}

const char *choir_token_read(ChoirToken *token) {
  GStatBuf status = {0};
  if (!token->path)
    return token->fallback;
  gboolean there = g_stat(token->path, &status) == 0;
  if (token->read && there && same_file(&status, &token->seen))
    return token->value ? token->value : token->fallback;
  char *value = read_file(token);
  if (token->read && g_strcmp0(value, token->value) != 0)
    token->changes++;
  g_free(token->value);
  token->value = value;
  token->seen = status;
  token->read = TRUE;
  return value ? value : token->fallback;
}

const char *choir_token_problem(const ChoirToken *token) {
  return token->problem;
}

guint choir_token_changes(const ChoirToken *token) {
  return token->changes;
}
