#include "speech/stt_heard.h"
#include "audio/resample.h"
#include "base/names.h"
#include <math.h>
#include <string.h>

#define FRAME (CHOIR_RATE_MIC / 100)
#define BELOW_SPEECH 27 /* dB: quieter is a pause */
#define ABOVE_FLOOR 3   /* dB: the room's own noise */
#define CONTRAST 15     /* dB between speech and pause, else nothing can be told */
#define LEAD 5          /* frames before the first sound behind a pause */

typedef struct {
  guint32 session;
  char *wish;
  GArray *pcm; /* gint16: the utterance as it was last */
  char *text;  /* of all of it */
  gsize known; /* samples before its last long pause, 0: none */
  char *known_text;
} Entry;

struct ChoirSttHeard {
  GQueue entries; /* Entry *, the newest first */
};

static gsize samples_of(guint ms) {
  return (gsize)ms * CHOIR_RATE_MIC / 1000;
}

static void entry_free(gpointer data) {
  Entry *entry = data;
  g_free(entry->wish);
  g_array_unref(entry->pcm);
  g_free(entry->text);
  g_free(entry->known_text);
  g_free(entry);
}

ChoirSttHeard *choir_stt_heard_new(void) {
  return g_new0(ChoirSttHeard, 1);
}

void choir_stt_heard_free(ChoirSttHeard *heard) {
  g_queue_clear_full(&heard->entries, entry_free);
  g_free(heard);
}

static int by_level(gconstpointer a, gconstpointer b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* The level in dB below which a frame belongs to a pause; FALSE when speech and noise are too close together. */
static gboolean find_floor(const GArray *levels, float *ret_level) {
  g_autoptr(GArray) sorted = g_array_copy((GArray *)levels);
  g_array_sort(sorted, by_level);
  float loud = g_array_index(sorted, float, sorted->len * 95 / 100);
  float low = g_array_index(sorted, float, sorted->len * 5 / 100);
  *ret_level = MAX(loud - BELOW_SPEECH, low + ABOVE_FLOOR);
  return *ret_level <= loud - CONTRAST;
}

/* Where the speech goes on behind the pause in which the first `end` samples ended; 0: that is no long pause. */
static gsize behind_pause(const gint16 *samples, gsize n, gsize end) {
  guint frames = (guint)(n / FRAME), at = (guint)(end / FRAME);
  if (at == 0 || at >= frames)
    return 0;
  g_autoptr(GArray) levels = g_array_sized_new(FALSE, FALSE, sizeof(float), frames);
  for (guint i = 0; i < frames; i++) {
    float level = 20 * log10f((float)choir_pcm_rms(samples + (gsize)i * FRAME, FRAME) + 1e-5f);
    g_array_append_val(levels, level);
  }
  float floor;
  if (!find_floor(levels, &floor))
    return 0;
  guint first = at, last = at;
  while (first > 0 && g_array_index(levels, float, first - 1) < floor)
    first--;
  while (last < frames && g_array_index(levels, float, last) < floor)
    last++;
  if (first == at || last == frames || (last - first) * 10 < CHOIR_STT_HEARD_PAUSE_MS)
    return 0;
  return (gsize)MAX(last - LEAD, at) * FRAME;
}

static Entry *find_entry(ChoirSttHeard *heard, guint32 session, const char *wish, const gint16 *samples, gsize n) {
  for (GList *l = heard->entries.head; l; l = l->next) {
    Entry *entry = l->data;
    if (entry->session == session && g_strcmp0(entry->wish, wish) == 0 && entry->pcm->len <= n &&
        memcmp(entry->pcm->data, samples, entry->pcm->len * sizeof *samples) == 0)
      return entry;
  }
  return NULL;
}

gsize choir_stt_heard_find(ChoirSttHeard *heard, guint32 session, const char *wish, const gint16 *samples, gsize n,
                           const char **ret_text) {
  Entry *entry = find_entry(heard, session, wish, samples, n);
  if (!entry)
    return 0;
  gsize behind = behind_pause(samples, n, entry->pcm->len);
  if (behind >= entry->known + samples_of(CHOIR_STT_HEARD_PIECE_MS) &&
      n - behind >= samples_of(CHOIR_STT_HEARD_REST_MS) && *entry->text) {
    entry->known = behind;
    g_free(entry->known_text);
    entry->known_text = g_strdup(entry->text);
  }
  *ret_text = entry->known_text;
  return entry->known;
}

void choir_stt_heard_keep(ChoirSttHeard *heard, guint32 session, const char *wish, const gint16 *samples, gsize n,
                          const char *text) {
  if (n == 0)
    return;
  Entry *entry = find_entry(heard, session, wish, samples, n);
  if (entry) {
    g_queue_remove(&heard->entries, entry);
  } else {
    for (GList *l = heard->entries.head; l; l = l->next) { /* another utterance of the same caller */
      Entry *old = l->data;
      if (old->session != session)
        continue;
      g_queue_delete_link(&heard->entries, l);
      entry_free(old);
      break;
    }
    if (heard->entries.length >= CHOIR_STT_HEARD_SESSIONS)
      entry_free(g_queue_pop_tail(&heard->entries));
    entry = g_new0(Entry, 1);
    entry->session = session;
    entry->wish = g_strdup(wish);
    entry->pcm = g_array_new(FALSE, FALSE, sizeof *samples);
  }
  g_array_append_vals(entry->pcm, samples + entry->pcm->len, (guint)n - entry->pcm->len);
  g_free(entry->text);
  entry->text = g_strdup(text);
  g_queue_push_head(&heard->entries, entry);
}

void choir_stt_heard_join(GString *text, const char *more) {
  if (!*more)
    return;
  gboolean goes_on = g_unichar_islower(g_utf8_get_char(more));
  while (goes_on && text->len > 0 && strchr(".!?", text->str[text->len - 1]))
    g_string_truncate(text, text->len - 1);
  if (text->len > 0)
    g_string_append_c(text, ' ');
  g_string_append(text, more);
}
