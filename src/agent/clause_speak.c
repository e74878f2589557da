/* Markdown as small models write it, not as CommonMark defines it: what is unclear is spoken rather than dropped. */
#include "agent/clause_private.h"
#include <string.h>

static gboolean is_picture(gunichar c) {
  if (c == 0x200d || (c >= 0xfe00 && c <= 0xfe0f) || c == 0x20e3)
    return TRUE;
  if (c >= 0x1f3fb && c <= 0x1f3ff)
    return TRUE;
  return c >= 0x2190 && g_unichar_type(c) == G_UNICODE_OTHER_SYMBOL;
}

/* A mark at the start of a line: headings, quotes, bullets. Returns how many bytes it has. */
static gsize line_mark(const char *s, gsize n) {
  gsize i = strspn(s, "#>");
  if (i == 0 && n > 1 && strchr("-+*", s[0]) && (s[1] == ' ' || s[1] == '\t'))
    i = 1;
  if (i == 0 && n >= 3 && memcmp(s, "\xe2\x80\xa2", 3) == 0)
    i = 3;
  return i < n && (s[i] == ' ' || s[i] == '\t' || s[i] == '#') ? i : 0;
}

/* "3 * 4" is arithmetic, "*word*" is emphasis. */
static gboolean between_digits(const char *s, gsize i, gsize n) {
  gsize left = i, right = i + 1;
  while (left > 0 && s[left - 1] == ' ')
    left--;
  while (right < n && s[right] == ' ')
    right++;
  return left > 0 && right < n && g_ascii_isdigit(s[left - 1]) && g_ascii_isdigit(s[right]);
}

/* Bytes of the mark at i that are not spoken, 0 when it is ordinary text. */
static gsize mark_at(const char *s, gsize i, gsize n) {
  switch (s[i]) {
  case '_':
  case '|':
  case '[':
  case '{':
  case '}':
  case '\\':
    return 1;
  case '*':
    return between_digits(s, i, n) ? 0 : 1;
  case '~':
    return i + 1 < n && s[i + 1] == '~' ? 2 : 0;
  case ']':
    if (i + 1 < n && s[i + 1] == '(') {
      const char *close = memchr(s + i, ')', n - i);
      if (close)
        return (gsize)(close - (s + i)) + 1;
    }
    return 1;
  case 'h':
    if (n - i > 8 && memcmp(s + i, "https://", 8) == 0)
      return 8;
    if (n - i > 7 && memcmp(s + i, "http://", 7) == 0)
      return 7;
    return 0;
  default:
    return (guchar)s[i] < 0x20 || s[i] == 0x7f;
  }
}

char *choir_clause_speakable(const char *text, gsize n, char before, gboolean *fence) {
  g_autofree char *out = g_strndup(text, n); /* NUL behind it: strspn below cannot run off */
  gboolean line_start = before == '\n', spoken = FALSE;
  g_autofree char *copy = g_strndup(text, n);
  const char *s = copy;
  for (gsize i = 0; i < n;) {
    gsize blank = 0;
    if (s[i] == '`') {
      blank = strspn(s + i, "`");
      if (blank >= 3)
        *fence = !*fence;
    } else if (*fence) {
      blank = 1;
    } else {
      blank = line_start ? line_mark(s + i, n - i) : 0;
      if (blank == 0)
        blank = mark_at(s, i, n);
    }
    if (line_start && s[i] != ' ' && s[i] != '\t')
      line_start = FALSE;
    if (s[i] == '\n')
      line_start = TRUE;
    if (blank > 0) {
      blank = MIN(blank, n - i);
      memset(out + i, ' ', blank);
      i += blank;
      continue;
    }
    gunichar c = g_utf8_get_char_validated(s + i, (gssize)(n - i));
    gsize width = c < 0x110000 ? (gsize)(g_utf8_next_char(s + i) - (s + i)) : 1;
    if (c >= 0x110000 || is_picture(c))
      memset(out + i, ' ', width);
    else
      spoken |= g_unichar_isalnum(c);
    i += width;
  }
  return spoken ? g_steal_pointer(&out) : NULL;
}
