#include "web/guard_tries.h"
#include "base/clock.h"

#define FREE 4      /* tries before the first wait */
#define LONGEST 300 /* seconds */
#define KEYS_MAX 4096
#define FORGET_US (G_GINT64_CONSTANT(3600) * G_USEC_PER_SEC)

typedef struct {
  guint failures;
  gint64 until_us, last_us;
} Entry;

struct ChoirTries {
  GHashTable *entries; /* char * -> Entry */
};

ChoirTries *choir_tries_new(void) {
  ChoirTries *tries = g_new0(ChoirTries, 1);
  tries->entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  return tries;
}

void choir_tries_free(ChoirTries *tries) {
  if (!tries)
    return;
  g_hash_table_unref(tries->entries);
  g_free(tries);
}

static gboolean is_old(gpointer key, gpointer value, gpointer user) {
  return ((Entry *)value)->last_us + FORGET_US < *(gint64 *)user;
}

guint choir_tries_wait(ChoirTries *tries, const char *key) {
  const Entry *entry = g_hash_table_lookup(tries->entries, key);
  gint64 now = choir_clock_us();
  return entry && entry->until_us > now ? (guint)((entry->until_us - now + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC) : 0;
}

void choir_tries_begin(ChoirTries *tries, const char *key) {
  gint64 now = choir_clock_us();
  Entry *entry = g_hash_table_lookup(tries->entries, key);
  if (!entry) {
    if (g_hash_table_size(tries->entries) >= KEYS_MAX)
      g_hash_table_foreach_remove(tries->entries, is_old, &now);
    if (g_hash_table_size(tries->entries) >= KEYS_MAX) /* a flood of addresses; the names still count */
      g_hash_table_remove_all(tries->entries);
    entry = g_new0(Entry, 1);
    g_hash_table_insert(tries->entries, g_strdup(key), entry);
  }
  entry->failures++;
  entry->last_us = now;
  if (entry->failures > FREE)
    entry->until_us = now + MIN((gint64)1 << MIN(entry->failures - FREE, 20), LONGEST) * G_USEC_PER_SEC;
}

void choir_tries_good(ChoirTries *tries, const char *key) {
  g_hash_table_remove(tries->entries, key);
}
