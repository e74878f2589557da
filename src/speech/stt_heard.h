/* What is known already of an utterance that is recognised again and again while it grows: the words before its last
 * long pause. Recognising takes as long as the sound lasts, so that at the end of a long utterance only what was said
 * behind the pause has to be waited for. Pure, one thread. */
#pragma once
#include <glib.h>

/* What is said behind a shorter pause is understood better with what was before it. */
#define CHOIR_STT_HEARD_PAUSE_MS 400
#define CHOIR_STT_HEARD_PIECE_MS 2000 /* and before it as much must have been said */
#define CHOIR_STT_HEARD_REST_MS 1000  /* ... and behind it */
#define CHOIR_STT_HEARD_SESSIONS 4    /* are remembered; the one that was silent longest is forgotten first */

typedef struct ChoirSttHeard ChoirSttHeard;
ChoirSttHeard *choir_stt_heard_new(void);
void choir_stt_heard_free(ChoirSttHeard *heard);
/* The words of the first samples of this utterance are known: how many samples, 0 for none. text stays valid until the
 * next keep(). wish: what the words depend on beside the sound, e.g. the language. */
gsize choir_stt_heard_find(ChoirSttHeard *heard, guint32 session, const char *wish, const gint16 *samples, gsize n,
                           const char **ret_text);
/* text: of all of it. */
void choir_stt_heard_keep(ChoirSttHeard *heard, guint32 session, const char *wish, const gint16 *samples, gsize n,
                          const char *text);
/* Adds the words behind a pause to those before it. Where they go on with the sentence, the mark that the pause was
 * taken for is removed. */
void choir_stt_heard_join(GString *text, const char *more);
