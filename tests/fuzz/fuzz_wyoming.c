/* The Wyoming codec on outside bytes, fed whole and in pieces: both ways give the same events, and what it understood
 * survives being written again. */
#include "net/wyoming.h"
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
  guint events;
  guint hash;
  gboolean broken;
} Seen;

static void again(const ChoirWyomingEvent *event) {
  g_autoptr(GByteArray) bytes =
      choir_wyoming_encode(event->type, json_incref(event->data), event->payload, event->length);
  g_autoptr(ChoirWyomingParser) parser = choir_wyoming_parser_new();
  g_assert_true(choir_wyoming_parser_feed(parser, bytes->data, bytes->len, NULL));
  const ChoirWyomingEvent *copy = choir_wyoming_parser_next(parser, NULL);
  if (!copy) /* escapes make a type or data longer, at the limit too long */
    return;
  g_assert_cmpstr(copy->type, ==, event->type);
  g_assert_true(json_equal(copy->data, event->data));
  g_assert_cmpmem(copy->payload, copy->length, event->payload, event->length);
}

static void take(ChoirWyomingParser *parser, Seen *seen, gboolean rewrite) {
  g_autoptr(GError) error = NULL;
  const ChoirWyomingEvent *event;
  while ((event = choir_wyoming_parser_next(parser, &error)) != NULL) {
    seen->events++;
    seen->hash = seen->hash * 31 + g_str_hash(event->type) + (guint)json_object_size(event->data);
    for (gsize i = 0; i < event->length; i++)
      seen->hash = seen->hash * 31 + event->payload[i];
    if (rewrite)
      again(event);
  }
  seen->broken |= error != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Seen whole = {0}, pieces = {0};
  g_autoptr(ChoirWyomingParser) one = choir_wyoming_parser_new(), many = choir_wyoming_parser_new();
  if (!choir_wyoming_parser_feed(one, data, size, NULL))
    return 0;
  take(one, &whole, TRUE);
  gsize step = size > 0 ? data[size - 1] % 61u + 1 : 1;
  for (gsize at = 0; at < size && !pieces.broken; at += step) {
    g_assert_true(choir_wyoming_parser_feed(many, data + at, MIN(step, size - at), NULL));
    take(many, &pieces, FALSE);
  }
  g_assert_cmpuint(whole.events, ==, pieces.events);
  g_assert_cmpuint(whole.hash, ==, pieces.hash);
  g_assert_cmpint(whole.broken, ==, pieces.broken);
  return 0;
}
