#include "agent/repeat.h"
#include <string.h>

#define MIN_PHRASE 8 /* bytes: "ha ha ha" is not a loop, "I am here. " three times is */
#define MAX_PHRASE 120

void choir_repeat_init(ChoirRepeat *repeat) {
  repeat->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  repeat->sentence = repeat->scanned = 0;
}

void choir_repeat_clear(ChoirRepeat *repeat) {
  g_clear_pointer(&repeat->seen, g_hash_table_unref);
}

/* Letters and digits only, so that "Yes, I do!" and "yes I do." are one. NULL when shorter than three words. */
static char *normalise(const char *text, gsize length) {
  GString *out = g_string_new(NULL);
  guint words = 0;
  gboolean in_word = FALSE;
  for (gsize i = 0; i < length; i++) {
    gboolean letter = g_ascii_isalnum(text[i]) || (guchar)text[i] >= 0x80;
    if (letter) {
      if (!in_word && out->len)
        g_string_append_c(out, ' ');
      words += !in_word;
      g_string_append_c(out, g_ascii_tolower(text[i]));
    }
    in_word = letter || (in_word && text[i] == '\'');
  }
  char *text_out = g_string_free(out, FALSE);
  if (words < 3)
    g_clear_pointer(&text_out, g_free);
  return text_out;
}

static gsize looping_tail(const char *reply, gsize length) {
  for (gsize phrase = MIN_PHRASE; phrase <= MAX_PHRASE && 3 * phrase <= length; phrase++) {
    const char *tail = reply + length - phrase;
    if (memcmp(tail, tail - phrase, phrase) == 0 && memcmp(tail, tail - 2 * phrase, phrase) == 0)
      return length - 2 * phrase;
  }
  return G_MAXSIZE;
}

gsize choir_repeat_check(ChoirRepeat *repeat, const char *reply, gsize length) {
  for (; repeat->scanned < length; repeat->scanned++) {
    if (!strchr(".!?\n", reply[repeat->scanned]) || !reply[repeat->scanned])
      continue;
    gsize end = repeat->scanned + 1;
    char *sentence = normalise(reply + repeat->sentence, end - repeat->sentence);
    if (sentence && g_hash_table_contains(repeat->seen, sentence)) {
      g_free(sentence);
      return repeat->sentence;
    }
    if (sentence)
      g_hash_table_add(repeat->seen, sentence);
    repeat->sentence = end;
  }
  return looping_tail(reply, length);
}
