#include "speech/stt_text.h"
#include "audio/resample.h"
#include "base/names.h"
#include <string.h>

#define NOTE_MAX 40 /* bytes of a bracketed remark; longer ones are taken for speech */

/* The byte behind a remark that starts at p, or NULL. */
static const char *skip_remark(const char *p) {
  const char *closing = *p == '[' ? "]" : *p == '(' ? ")" : *p == '*' ? "*" : NULL;
  if (!closing)
    return NULL;
  const char *end = strchr(p + 1, closing[0]);
  return end && end - p <= NOTE_MAX ? end + 1 : NULL;
}

void choir_stt_text_clean(GString *text) {
  g_autofree char *valid = g_utf8_make_valid(text->str, (gssize)text->len);
  g_string_truncate(text, 0);
  gboolean space = FALSE;
  for (const char *p = valid; *p;) {
    const char *behind = skip_remark(p);
    gunichar c = g_utf8_get_char(p);
    if (behind || c == 0x266a || c == 0x266b || g_unichar_isspace(c) || g_unichar_iscntrl(c)) {
      space = text->len > 0;
      p = behind ? behind : g_utf8_next_char(p);
      continue;
    }
    if (space)
      g_string_append_c(text, ' ');
    space = FALSE;
    g_string_append_unichar(text, c);
    p = g_utf8_next_char(p);
  }
  gboolean spoken = FALSE;
  for (const char *p = text->str; *p && !spoken; p = g_utf8_next_char(p))
    spoken = g_unichar_isalnum(g_utf8_get_char(p));
  if (!spoken)
    g_string_truncate(text, 0);
}

/* Letters of the text in lower case, single spaces between words. */
static char *folded(const char *text) {
  GString *out = g_string_new(NULL);
  gboolean space = FALSE;
  for (const char *p = text; *p; p = g_utf8_next_char(p)) {
    gunichar c = g_utf8_get_char(p);
    if (g_unichar_isalnum(c)) {
      if (space && out->len > 0)
        g_string_append_c(out, ' ');
      g_string_append_unichar(out, g_unichar_tolower(c));
      space = FALSE;
    } else if (c != '\'') {
      space = TRUE;
    }
  }
  return g_string_free(out, FALSE);
}

gboolean choir_stt_text_is_phantom(const char *text) {
  static const char *const phantoms[] = {
      "you",
      "thank you",
      "thanks for watching",
      "thank you for watching",
      "thank you very much",
      "bye",
      "bye bye",
      "so",
      "the end",
      "please subscribe",
      "see you later",
      "subscribe",
      "oh",
      "hmm",
      "thank you so much for watching",
      "uh",
      "see you next time",
      "im sorry",
      "i",
      "ill see you next time",
      "okay",
      "thank you so much",
      "and",
      "the",
      "dont forget to subscribe",
      NULL,
  };
  g_autofree char *words = folded(text);
  return words[0] == 0 || g_strv_contains(phantoms, words);
}

gboolean choir_stt_text_is_loop(const char *text) {
  g_autofree char *words = folded(text);
  g_auto(GStrv) list = g_strsplit(words, " ", -1);
  guint n = g_strv_length(list);
  for (guint period = 1; period <= 8; period++) {
    guint repeats = 0;
    for (guint i = period; i < n; i++) {
      repeats = g_str_equal(list[i], list[i - period]) ? repeats + 1 : 0;
      /* Five times the same one or two words, four times a longer phrase: people do not talk like that. */
      if (repeats >= period * (period <= 2 ? 4 : 3) && repeats >= 5)
        return TRUE;
    }
  }
  return FALSE;
}

gsize choir_stt_cut(const gint16 *samples, gsize n, gsize most) {
  const gsize block = CHOIR_RATE_MIC / 10;
  if (n <= most || most < 3 * block)
    return MIN(n, most);
  gsize best = most;
  double quietest = 2;
  for (gsize at = most - most / 3; at + block <= most; at += block / 2) {
    double rms = choir_pcm_rms(samples + at, block);
    if (rms <= quietest) {
      quietest = rms;
      best = at + block / 2;
    }
  }
  return best;
}
