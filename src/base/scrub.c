#include "base/scrub.h"
#include <string.h>

#define MASK "[hidden]"
#define MIN_SECRET 6
#define MAX_SECRETS 256

/* Each alternative keeps its first group and hides the rest. Values shorter than six letters stay: "tokens=12" is a
 * count. A JWT starts with the base64 of '{"'. */
#define PATTERN                                                                                                        \
  "(?i:\\b(?:proxy-)?authorization[\"']?\\s*[:=]\\s*[\"']?(?:bearer|basic|token)?\\s*)\\K[^\\s\"',;]{6,}"              \
  "|(?i:\\b(?:bearer|basic)\\s+)\\K[A-Za-z0-9._~+/=-]{6,}"                                                             \
  "|(?i:(?:api[_-]?key|token|secret|password|passwd|pwd)[\"']?\\s*[:=]\\s*[\"']?)\\K[^\\s\"'&,;]{6,}"                  \
  "|\\bsk-[A-Za-z0-9_-]{8,}"                                                                                           \
  "|\\bgh[a-z]_[A-Za-z0-9]{16,}"                                                                                       \
  "|\\beyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9._-]+"                                                                         \
  "|\\b[a-z][a-z0-9+.-]*://[^\\s/:@]*:\\K[^\\s/@]+(?=@)"

static GMutex lock;
static GPtrArray *secrets; /* longest first, so that one inside another does not leave a rest */

static int longest_first(gconstpointer a, gconstpointer b) {
  gsize length_a = strlen(*(const char *const *)a), length_b = strlen(*(const char *const *)b);
  return length_a > length_b ? -1 : length_a < length_b;
}

void choir_scrub_add_secret(const char *secret) {
  if (secret == NULL || strlen(secret) < MIN_SECRET)
    return;
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  if (secrets == NULL)
    secrets = g_ptr_array_new();
  for (guint i = 0; i < secrets->len; i++)
    if (strcmp(g_ptr_array_index(secrets, i), secret) == 0)
      return;
  if (secrets->len >= MAX_SECRETS)
    return;
  g_ptr_array_add(secrets, g_strdup(secret));
  g_ptr_array_sort(secrets, longest_first);
}

static char *hide_registered(const char *text) {
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  GString *result = g_string_new(text);
  for (guint i = 0; secrets != NULL && i < secrets->len; i++)
    if (strstr(result->str, g_ptr_array_index(secrets, i)) != NULL)
      g_string_replace(result, g_ptr_array_index(secrets, i), MASK, 0);
  return g_string_free(result, FALSE);
}

char *choir_scrub(const char *text) {
  static gsize once;
  static GRegex *pattern;
  if (g_once_init_enter(&once)) {
    pattern = g_regex_new(PATTERN, G_REGEX_OPTIMIZE, 0, NULL);
    g_assert(pattern != NULL);
    g_once_init_leave(&once, 1);
  }
  g_autofree char *hidden = hide_registered(text);
  g_autoptr(GError) error = NULL;
  char *result = g_regex_replace_literal(pattern, hidden, -1, 0, MASK, 0, &error);
  /* The matcher gives up only at its own limits; then nothing of the line may be shown. */
  return result != NULL ? result : g_strdup("[a line that could not be checked for secrets]");
}
