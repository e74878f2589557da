/* The answering side of sealed frames (standby.h says what they are): opened, answered, sealed again. Main thread only.
 */
#pragma once
#include <jansson.h>
#include "cluster/seal.h"
#include "net/http_server.h"

typedef struct ChoirSealedDoor ChoirSealedDoor;

/* data: what came behind the question. ret_data: what goes behind the answer, may stay NULL. The answer is stolen. */
typedef json_t *(*ChoirSealedAnswer)(const json_t *question, const guint8 *data, gsize length, GBytes **ret_data,
                                     gpointer user);

/* Registers POST CHOIR_STANDBY_PATH. key is copied. node: as whom it answers. */
ChoirSealedDoor *choir_sealed_door_new(ChoirHttpServer *server, const ChoirSealKey *key, const char *node,
                                       ChoirSealedAnswer answer, gpointer user);
void choir_sealed_door_free(ChoirSealedDoor *door); /* after the server's last request */
/* A message that was sent within the last two minutes ("at", seconds) and has not come before: what changes something
 * must not be played back. */
gboolean choir_sealed_door_fresh(ChoirSealedDoor *door, const json_t *question);
/* {"ok":false,"code","message"}; caller decrefs. */
json_t *choir_sealed_refusal(const char *code, const char *message);
