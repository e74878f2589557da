#include "tools/rag_text.h"
#include <string.h>

#define LEVELS 6
#define HEADING_BYTES 120

typedef struct {
  GPtrArray *chunks;
  char *heading[LEVELS];
  GString *text;  /* of the piece that grows */
  gboolean fresh; /* it holds more than what the piece before it ended with */
} Cutter;

void rag_chunk_free(RagChunk *chunk) {
  if (!chunk)
    return;
  g_free(chunk->heading);
  g_free(chunk->text);
  g_free(chunk);
}

/* The last start of a character at or before `at`, a word's start where one is near. */
static gsize cut_at(const char *text, gsize at) {
  gsize low = at > RAG_OVERLAP_BYTES ? at - RAG_OVERLAP_BYTES : 0;
  for (gsize i = at; i > low; i--)
    if (g_ascii_isspace(text[i - 1]))
      return i;
  while (at > 0 && ((guchar)text[at] & 0xc0) == 0x80)
    at--;
  return at;
}

static void close_piece(Cutter *cutter, gboolean overlap) {
  if (cutter->fresh) {
    RagChunk *chunk = g_new0(RagChunk, 1);
    g_autoptr(GString) heading = g_string_new(NULL);
    for (guint i = 0; i < LEVELS; i++)
      if (cutter->heading[i])
        g_string_append_printf(heading, "%s%s", heading->len ? " > " : "", cutter->heading[i]);
    chunk->heading = g_string_free(g_steal_pointer(&heading), FALSE);
    chunk->text = g_strstrip(g_strdup(cutter->text->str));
    g_ptr_array_add(cutter->chunks, chunk);
  }
  gsize length = cutter->text->len;
  if (overlap && length > RAG_OVERLAP_BYTES)
    g_string_erase(cutter->text, 0, (gssize)cut_at(cutter->text->str, length - RAG_OVERLAP_BYTES));
  else
    g_string_truncate(cutter->text, 0);
  cutter->fresh = FALSE;
}

static void add_paragraph(Cutter *cutter, const char *paragraph, gsize length) {
  while (length > 0) {
    gsize room = cutter->text->len < RAG_CHUNK_BYTES ? RAG_CHUNK_BYTES - cutter->text->len : 0;
    if (length > room && cutter->fresh) {
      close_piece(cutter, TRUE);
      continue;
    }
    gsize part = length <= room ? length : cut_at(paragraph, room);
    if (part == 0) { /* the overlap leaves no room for a word: without it then */
      g_string_truncate(cutter->text, 0);
      part = MIN(length, (gsize)1);
      while (part < length && ((guchar)paragraph[part] & 0xc0) == 0x80)
        part++;
    }
    g_string_append_len(cutter->text, paragraph, (gssize)part);
    cutter->fresh = TRUE;
    paragraph += part;
    length -= part;
  }
  g_string_append(cutter->text, "\n\n");
}

/* 1 to 6 for "## Voices", 0 for anything else. */
static guint heading_level(const char *line) {
  guint level = 0;
  while (line[level] == '#')
    level++;
  return level <= LEVELS && line[level] == ' ' ? level : 0;
}

static void open_section(Cutter *cutter, const char *line, guint level) {
  close_piece(cutter, FALSE);
  for (guint i = level - 1; i < LEVELS; i++)
    g_clear_pointer(&cutter->heading[i], g_free);
  g_autofree char *title = g_strstrip(g_strdup(line + level));
  cutter->heading[level - 1] = g_utf8_substring(title, 0, MIN(g_utf8_strlen(title, -1), HEADING_BYTES));
}

static void end_paragraph(Cutter *cutter, GString *paragraph) {
  if (paragraph->len > 0)
    add_paragraph(cutter, paragraph->str, paragraph->len);
  g_string_truncate(paragraph, 0);
}

GPtrArray *rag_text_chunks(const char *text) {
  Cutter cutter = {.chunks = g_ptr_array_new_with_free_func((GDestroyNotify)rag_chunk_free),
                   .text = g_string_new(NULL)};
  g_autoptr(GString) paragraph = g_string_new(NULL);
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  gboolean fence = FALSE; /* a # in program text is no heading */
  for (char **line = lines; *line; line++) {
    g_strchomp(*line);
    if (g_str_has_prefix(*line, "```"))
      fence = !fence;
    guint level = fence ? 0 : heading_level(*line);
    if (level > 0 || **line == '\0')
      end_paragraph(&cutter, paragraph);
    if (level > 0)
      open_section(&cutter, *line, level);
    else if (**line)
      g_string_append_printf(paragraph, "%s%s", paragraph->len ? "\n" : "", *line);
  }
  end_paragraph(&cutter, paragraph);
  close_piece(&cutter, FALSE);
  for (guint i = 0; i < LEVELS; i++)
    g_free(cutter.heading[i]);
  g_string_free(cutter.text, TRUE);
  return cutter.chunks;
}

/* HTML */

static const struct {
  const char *name, *text;
} entities[] = {{"amp", "&"},   {"lt", "<"},     {"gt", ">"},     {"quot", "\""}, {"apos", "'"},  {"nbsp", " "},
                {"ndash", "–"}, {"mdash", "—"},  {"hellip", "…"}, {"auml", "ä"},  {"ouml", "ö"},  {"uuml", "ü"},
                {"szlig", "ß"}, {"eacute", "é"}, {"copy", "©"},   {"rsquo", "’"}, {"lsquo", "‘"}, {"euro", "€"}};

/* Appends what the entity at `at` ("&amp;") means; returns its length, 1 when it is none. */
static gsize decode_entity(const char *at, GString *out) {
  const char *end = memchr(at, ';', strnlen(at, 12));
  gsize length = end ? (gsize)(end - at) + 1 : 1;
  if (end && at[1] == '#') {
    gboolean hex = at[2] == 'x' || at[2] == 'X';
    guint64 code = g_ascii_strtoull(at + (hex ? 3 : 2), NULL, hex ? 16 : 10);
    if (code >= ' ' && code < 0x110000 && g_unichar_validate((gunichar)code)) {
      g_string_append_unichar(out, (gunichar)code);
      return length;
    }
  }
  for (guint i = 0; end && i < G_N_ELEMENTS(entities); i++)
    if (strlen(entities[i].name) == length - 2 && strncmp(at + 1, entities[i].name, length - 2) == 0) {
      g_string_append(out, entities[i].text);
      return length;
    }
  g_string_append_c(out, '&');
  return 1;
}

/* The tag's name in lower case, "/p" for an end tag. */
static void tag_name(const char *tag, char name[12]) {
  guint n = 0;
  if (*tag == '/')
    name[n++] = *tag++;
  while (n < 11 && g_ascii_isalnum(*tag))
    name[n++] = g_ascii_tolower(*tag++);
  name[n] = '\0';
}

/* Past the end of the element whose contents are no text. */
static const char *skip_element(const char *at, const char *name) {
  gsize length = strlen(name);
  for (; *at; at++)
    if (at[0] == '<' && at[1] == '/' && g_ascii_strncasecmp(at + 2, name, length) == 0) {
      const char *end = strchr(at, '>');
      return end ? end + 1 : at + strlen(at);
    }
  return at;
}

static const char *take_tag(const char *at, GString *out, gboolean *verbatim) {
  static const char *const silent[] = {"script", "style", "head", "svg", "template", "noscript", NULL};
  static const char *const blocks[] = {"p",    "div", "li", "tr", "section", "article", "table", "ul",         "ol",
                                       "pre",  "dl",  "dt", "dd", "header",  "footer",  "main",  "nav",        "hr",
                                       "form", "h1",  "h2", "h3", "h4",      "h5",      "h6",    "blockquote", NULL};
  char name[12];
  if (g_str_has_prefix(at, "<!--")) {
    const char *end = strstr(at, "-->");
    return end ? end + 3 : at + strlen(at);
  }
  tag_name(at + 1, name);
  const char *end = strchr(at, '>'), *bare = name[0] == '/' ? name + 1 : name;
  if (!end)
    return at + strlen(at);
  if (g_strv_contains(silent, name))
    return skip_element(end + 1, name);
  if (g_str_equal(name, "br"))
    g_string_append_c(out, '\n');
  if (g_str_equal(name, "td") || g_str_equal(name, "th"))
    g_string_append_c(out, ' ');
  if (g_strv_contains(blocks, bare))
    g_string_append(out, "\n\n");
  if (name[0] == 'h' && name[1] >= '1' && name[1] <= '6' && name[2] == '\0')
    g_string_append_printf(out, "%.*s ", name[1] - '0', "######");
  if (g_str_equal(bare, "pre"))
    *verbatim = name[0] != '/';
  return end + 1;
}

char *rag_text_from_html(const char *html) {
  g_autoptr(GString) out = g_string_new(NULL);
  gboolean verbatim = FALSE;
  for (const char *at = html; *at;) {
    if (*at == '<' && (g_ascii_isalpha(at[1]) || at[1] == '/' || at[1] == '!' || at[1] == '?')) {
      at = take_tag(at, out, &verbatim);
    } else if (*at == '&') {
      at += decode_entity(at, out);
    } else if (!verbatim && g_ascii_isspace(*at)) {
      if (out->len > 0 && !g_ascii_isspace(out->str[out->len - 1]))
        g_string_append_c(out, ' ');
      at++;
    } else {
      g_string_append_c(out, *at++);
    }
  }
  return g_string_free(g_steal_pointer(&out), FALSE);
}
