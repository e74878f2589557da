/* When to ask a server of blocking queries again, and with which index: Consul's API, "Blocking Queries". Pure: time
 * comes in, delays come out. */
#pragma once
#include <glib.h>

#define CHOIR_BLOCKING_WAIT_S 60 /* asked for; Consul adds up to a sixteenth of it */
#define CHOIR_BLOCKING_TIMEOUT_MS 75000
#define CHOIR_BLOCKING_FLOOR_MS 250 /* between two questions, however often things change */
#define CHOIR_BLOCKING_POLL_MS 5000 /* where the server gives no index */
#define CHOIR_BLOCKING_BACKOFF_MS 1000
#define CHOIR_BLOCKING_CEILING_MS 30000

typedef struct {
  guint64 index;  /* of the last answer, 0 = none */
  guint failures; /* in a row */
  guint32 seed;   /* of the jitter */
  gint64 asked_us;
} ChoirBlocking;

void choir_blocking_init(ChoirBlocking *blocking, guint32 seed);
/* The path with index and wait; caller frees. path may have a query already. */
char *choir_blocking_path(ChoirBlocking *blocking, const char *path, gint64 now_us);
/* index: X-Consul-Index of the answer, 0 = none. Returns ms until the next question. ret_changed: there may be
 * something new in it. */
guint choir_blocking_answered(ChoirBlocking *blocking, guint64 index, gint64 now_us, gboolean *ret_changed);
/* Doubles from CHOIR_BLOCKING_BACKOFF_MS to CHOIR_BLOCKING_CEILING_MS, a quarter more or less by chance. */
guint choir_blocking_failed(ChoirBlocking *blocking);
/* The next question wants an answer at once: with another token, things look different under the same index. */
void choir_blocking_reset(ChoirBlocking *blocking);
