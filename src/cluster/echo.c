#include <string.h>
#include "cluster/ask.h"

void choir_echo_init(ChoirEcho *echo, const char *said) {
  echo->said = g_strdup(said);
  echo->held = g_string_new(NULL);
  echo->past = !*said;
}

void choir_echo_clear(ChoirEcho *echo) {
  g_clear_pointer(&echo->said, g_free);
  if (echo->held)
    g_string_free(echo->held, TRUE);
  echo->held = NULL;
}

char *choir_echo_feed(ChoirEcho *echo, const char *piece) {
  if (echo->past)
    return g_strdup(piece);
  g_string_append(echo->held, piece);
  gsize length = strlen(echo->said);
  if (echo->held->len <= length && strncmp(echo->said, echo->held->str, echo->held->len) == 0)
    return g_strdup("");
  echo->past = TRUE;
  return g_strdup(strncmp(echo->held->str, echo->said, length) == 0 ? echo->held->str + length : echo->held->str);
}

char *choir_echo_end(ChoirEcho *echo) {
  gboolean whole = echo->past || g_str_equal(echo->held->str, echo->said);
  echo->past = TRUE;
  return g_strdup(whole ? "" : echo->held->str);
}
