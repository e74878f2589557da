/* Frames of the standby protocol, without seal. Shared by sealed_door.c and standby_ask.c; nobody else includes it. */
#pragma once
#include <glib.h>
#include <jansson.h>

#define CHOIR_STANDBY_QUESTION "choir standby 1 question"
#define CHOIR_STANDBY_ANSWER "choir standby 1 answer"

GByteArray *choir_standby_frame(const json_t *head, const void *data, gsize length);
/* NULL when it is none. ret_data: within bytes. Caller decrefs. */
json_t *choir_standby_unframe(GBytes *bytes, const guint8 **ret_data, gsize *ret_length);
