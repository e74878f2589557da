#include "speech/tts_text.h"
#include <string.h>

#define WORD_MAX 48
#define QUIET 80 /* of 32768, -52 dB */
#define LEAD_MS 30
#define TAIL_MS 120

static gboolean is_spoken(gunichar c) {
  if (c < 0x20 || c == 0x7f)
    return FALSE;
  if (c < 0x80)
    return strchr("*_`#~|\\<>^{}[]", (int)c) == NULL;
  /* Symbols, pictures, arrows, joiners and private characters; the phonemiser would read out their names. */
  switch (g_unichar_type(c)) {
  case G_UNICODE_OTHER_SYMBOL:
  case G_UNICODE_MODIFIER_SYMBOL:
  case G_UNICODE_CONTROL:
  case G_UNICODE_FORMAT:
  case G_UNICODE_UNASSIGNED:
  case G_UNICODE_PRIVATE_USE:
  case G_UNICODE_SURROGATE:
  case G_UNICODE_ENCLOSING_MARK:
  case G_UNICODE_LINE_SEPARATOR:
  case G_UNICODE_PARAGRAPH_SEPARATOR:
    return FALSE;
  default:
    return c < 0xfe00 || c > 0xfe0f; /* variation selectors of emoji */
  }
}

char *choir_tts_text_clean(const char *text, gsize length) {
  char *out = g_malloc(length + 1);
  guint word = 0;
  for (gsize i = 0; i < length;) {
    gunichar c = g_utf8_get_char_validated(text + i, (gssize)(length - i));
    gsize size = c == 0 || c > 0x10ffff ? 1 : (gsize)g_utf8_skip[(guchar)text[i]];
    gboolean blank = c == 0 || c > 0x10ffff || g_unichar_isspace(c) || !is_spoken(c) || word >= WORD_MAX;
    memset(out + i, ' ', size);
    if (!blank)
      memcpy(out + i, text + i, size);
    word = blank ? 0 : word + 1;
    i += size;
  }
  out[length] = 0;
  return out;
}

gboolean choir_tts_text_speakable(const char *text) {
  for (const char *p = text; *p; p = g_utf8_next_char(p))
    if (g_unichar_isalnum(g_utf8_get_char(p)))
      return TRUE;
  return FALSE;
}

GArray *choir_tts_words(const char *text, gsize length) {
  GArray *words = g_array_new(FALSE, FALSE, sizeof(ChoirTtsWord));
  for (gsize i = 0; i < length;) {
    while (i < length && (guchar)text[i] <= ' ')
      i++;
    gsize begin = i;
    while (i < length && (guchar)text[i] > ' ')
      i++;
    if (i > begin) {
      ChoirTtsWord word = {.begin = (guint)begin, .end = (guint)i};
      g_array_append_val(words, word);
    }
  }
  return words;
}

int choir_tts_words_find(const GArray *words, guint offset) {
  int found = -1;
  for (guint i = 0; i < words->len; i++) {
    if (found >= 0 && g_array_index(words, ChoirTtsWord, i).begin > offset)
      break;
    found = (int)i;
  }
  return found;
}

void choir_tts_words_add(GArray *words, guint offset, guint phonemes) {
  int found = choir_tts_words_find(words, offset);
  if (found >= 0)
    g_array_index(words, ChoirTtsWord, found).phonemes += phonemes;
}

static gboolean has_letters(const char *text, const ChoirTtsWord *word) {
  for (const char *p = text + word->begin; p < text + word->end; p = g_utf8_next_char(p))
    if (g_unichar_isalnum(g_utf8_get_char(p)))
      return TRUE;
  return FALSE;
}

void choir_tts_words_share(GArray *words, const char *text) {
  for (guint i = 1; i < words->len; i++) {
    ChoirTtsWord *before = &g_array_index(words, ChoirTtsWord, i - 1), *word = before + 1;
    if (word->phonemes > 0 || before->phonemes < 2 || !has_letters(text, word))
      continue;
    word->phonemes = before->phonemes / 2;
    before->phonemes -= word->phonemes;
  }
}

gsize choir_tts_piece(const char *text, gsize length, gsize soft) {
  for (gsize i = 0; i < length; i++) {
    if (i + 1 == length)
      break;
    gboolean gap = text[i + 1] == ' ';
    if (gap && strchr(".?!", text[i]))
      return i + 1;
    if (i < soft)
      continue;
    if ((gap && strchr(",;:", text[i])) || (text[i] == ' ' && i >= 2 * soft))
      return i + 1;
  }
  return length;
}

void choir_tts_trim_init(ChoirTtsTrim *trim, guint rate) {
  *trim = (ChoirTtsTrim){.rate = rate, .held = g_array_new(FALSE, FALSE, sizeof(gint16))};
}

void choir_tts_trim_clear(ChoirTtsTrim *trim) {
  g_clear_pointer(&trim->held, g_array_unref);
}

void choir_tts_trim_run(ChoirTtsTrim *trim, const gint16 *samples, gsize n, GArray *out) {
  for (gsize i = 0; i < n;) {
    gsize quiet = i;
    while (quiet < n && samples[quiet] > -QUIET && samples[quiet] < QUIET)
      quiet++;
    g_array_append_vals(trim->held, samples + i, (guint)(quiet - i));
    gsize loud = quiet;
    while (loud < n && (samples[loud] <= -QUIET || samples[loud] >= QUIET))
      loud++;
    if (loud > quiet) {
      guint lead = trim->rate * LEAD_MS / 1000;
      if (!trim->started && trim->held->len > lead) {
        trim->dropped += trim->held->len - lead;
        g_array_remove_range(trim->held, 0, trim->held->len - lead);
      }
      trim->started = TRUE;
      g_array_append_vals(out, trim->held->data, trim->held->len);
      g_array_set_size(trim->held, 0);
      g_array_append_vals(out, samples + quiet, (guint)(loud - quiet));
    }
    i = loud;
  }
}

void choir_tts_trim_end(ChoirTtsTrim *trim, GArray *out) {
  guint tail = MIN(trim->held->len, trim->rate * TAIL_MS / 1000);
  if (trim->started)
    g_array_append_vals(out, trim->held->data, tail);
  g_array_set_size(trim->held, 0);
  trim->started = FALSE;
}
