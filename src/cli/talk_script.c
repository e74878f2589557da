#include "cli/talk_script.h"
#include <string.h>

G_DEFINE_QUARK(choir - talk - error - quark, choir_talk_error)

#define MOST_STEPS 1000
#define AGENT_LIMIT_MS 30000
#define SILENCE_LIMIT_MS 60000
#define SILENCE_MS 700

typedef struct {
  ChoirTalkScript *script;
  const char *folder, *data;
  guint line;
  gboolean timed;
} Parser;

static void step_free(gpointer data) {
  ChoirTalkStep *step = data;
  g_free(step->text);
  g_free(step);
}

static gboolean wrong(const Parser *parser, GError **error, const char *expected) {
  g_set_error(error, CHOIR_TALK_ERROR, 0, "line %u: expected %s", parser->line, expected);
  return FALSE;
}

/* "500ms", "1.5s", "2m": at most an hour. */
static gboolean read_time(const char *word, guint *ret_ms) {
  char *unit = NULL;
  double value = word ? g_ascii_strtod(word, &unit) : -1;
  double factor = 0;
  if (!word || unit == word || !(value >= 0))
    return FALSE;
  if (strcmp(unit, "ms") == 0)
    factor = 1;
  else if (strcmp(unit, "s") == 0)
    factor = 1000;
  else if (strcmp(unit, "m") == 0)
    factor = 60000;
  if (factor <= 0 || value * factor > 3600000)
    return FALSE;
  *ret_ms = (guint)(value * factor + 0.5);
  return TRUE;
}

static ChoirTalkStep *add(Parser *parser, ChoirTalkKind kind) {
  ChoirTalkStep *step = g_new0(ChoirTalkStep, 1);
  step->kind = kind;
  step->line = parser->line;
  g_ptr_array_add(parser->script->steps, step);
  return step;
}

static char *find_file(const Parser *parser, const char *name) {
  const char *places[] = {parser->folder, parser->data, ""};
  for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
    g_autofree char *path = places[i] ? g_build_filename(places[i], name, NULL) : NULL;
    if (path && g_file_test(path, G_FILE_TEST_IS_REGULAR))
      return g_steal_pointer(&path);
  }
  return NULL;
}

static gboolean parse_play(Parser *parser, char **words, GError **error) {
  if (!words[1] || words[2])
    return wrong(parser, error, "play FILE.wav");
  char *path = find_file(parser, words[1]);
  if (!path) {
    g_set_error(error, CHOIR_TALK_ERROR, 0, "line %u: there is no file %s beside the script or in the data folder",
                parser->line, words[1]);
    return FALSE;
  }
  add(parser, CHOIR_TALK_PLAY)->text = path;
  return TRUE;
}

static gboolean parse_wait(Parser *parser, char **words, GError **error) {
  gboolean agent = g_strcmp0(words[1], "agent") == 0;
  guint ms = SILENCE_MS, limit = agent ? AGENT_LIMIT_MS : SILENCE_LIMIT_MS;
  if (!agent && g_strcmp0(words[1], "silence") != 0)
    return wrong(parser, error, "wait agent [TIME] or wait silence [TIME] [TIME]");
  char **rest = words + 2;
  if (!agent && *rest && !read_time(*rest++, &ms))
    return wrong(parser, error, "a time such as 700ms after wait silence");
  if (*rest && !read_time(*rest++, &limit))
    return wrong(parser, error, "a time such as 30s for the longest wait");
  if (*rest)
    return wrong(parser, error, "nothing more on the line");
  ChoirTalkStep *step = add(parser, agent ? CHOIR_TALK_WAIT_AGENT : CHOIR_TALK_WAIT_SILENCE);
  step->ms = ms;
  step->limit_ms = limit;
  return TRUE;
}

static gboolean parse_after(Parser *parser, char **words, GError **error) {
  guint ms;
  if (g_strcmp0(words[1], "agent") != 0 || !words[2] || !read_time(words[2], &ms) || g_strcmp0(words[3], "play") != 0)
    return wrong(parser, error, "after agent TIME play FILE.wav");
  add(parser, CHOIR_TALK_WAIT_AGENT)->limit_ms = AGENT_LIMIT_MS;
  add(parser, CHOIR_TALK_SLEEP)->ms = ms;
  return parse_play(parser, words + 3, error);
}

static gboolean parse_sleep(Parser *parser, char **words, GError **error) {
  guint ms;
  if (!words[1] || words[2] || !read_time(words[1], &ms))
    return wrong(parser, error, "sleep TIME, as in sleep 500ms");
  add(parser, CHOIR_TALK_SLEEP)->ms = ms;
  return TRUE;
}

static gboolean parse_say(Parser *parser, char **words, GError **error) {
  if (!words[1] || !*words[1] || words[2] || !g_utf8_validate(words[1], -1, NULL))
    return wrong(parser, error, "say-text \"WORDS\"");
  add(parser, CHOIR_TALK_SAY_TEXT)->text = g_strdup(words[1]);
  return TRUE;
}

static gboolean parse_timeout(Parser *parser, char **words, GError **error) {
  if (parser->timed || !words[1] || words[2] || !read_time(words[1], &parser->script->timeout_ms))
    return wrong(parser, error, "timeout TIME, once, as in timeout 60s");
  parser->timed = TRUE;
  return TRUE;
}

static gboolean parse_line(Parser *parser, const char *line, GError **error) {
  static const struct {
    const char *word;
    gboolean (*parse)(Parser *parser, char **words, GError **error);
  } table[] = {{"play", parse_play},   {"wait", parse_wait},    {"after", parse_after},
               {"sleep", parse_sleep}, {"say-text", parse_say}, {"timeout", parse_timeout}};
  g_auto(GStrv) words = NULL;
  g_autoptr(GError) inner = NULL;
  if (!g_shell_parse_argv(line, NULL, &words, &inner)) {
    if (g_error_matches(inner, G_SHELL_ERROR, G_SHELL_ERROR_EMPTY_STRING))
      return TRUE; /* blank, or a comment */
    return wrong(parser, error, "quotes that are closed");
  }
  if (parser->script->steps->len >= MOST_STEPS)
    return wrong(parser, error, "at most 1000 instructions");
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    if (strcmp(words[0], table[i].word) == 0)
      return table[i].parse(parser, words, error);
  return wrong(parser, error, "play, wait, after, sleep, say-text or timeout");
}

ChoirTalkScript *choir_talk_script_parse(const char *text, const char *folder, const char *data, GError **error) {
  g_autoptr(ChoirTalkScript) script = g_new0(ChoirTalkScript, 1);
  script->steps = g_ptr_array_new_with_free_func(step_free);
  script->timeout_ms = 120000;
  Parser parser = {.script = script, .folder = folder, .data = data};
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  for (char **line = lines; *line; line++) {
    parser.line++;
    g_strchomp(*line);
    if (!parse_line(&parser, *line, error))
      return NULL;
  }
  if (script->steps->len == 0) {
    g_set_error(error, CHOIR_TALK_ERROR, 0, "the script has no instruction");
    return NULL;
  }
  return g_steal_pointer(&script);
}

void choir_talk_script_free(ChoirTalkScript *script) {
  if (!script)
    return;
  g_ptr_array_unref(script->steps);
  g_free(script);
}
