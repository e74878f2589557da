/* A terminal with a screen, in the sandbox: programs that draw (editors, menus, progress bars) can be seen and typed
 * into. The screen is libvterm's. */
#include <string.h>
#include <vterm.h>
#include "tools/boxed.h"
#include "tools/schema.h"
#include "tools/tools.h"

#define ROWS 24
#define COLUMNS 80
#define LIFE_S 3600
#define QUIET_MS 300 /* without output: what was asked for has been drawn */

typedef struct {
  ChoirSandboxRun *run; /* NULL: no program */
  VTerm *vt;
  VTermScreen *screen;
  int rows, columns;
  gboolean gone;
  ChoirToolCall *call; /* that waits for the screen to come to rest */
  gulong handler;
  guint quiet;
} Terminal;

static gpointer open_terminal(const ChoirToolHouse *house) {
  return g_new0(Terminal, 1);
}

static void drop_screen(Terminal *terminal) {
  g_clear_pointer(&terminal->vt, vterm_free);
  terminal->screen = NULL;
}

static void answer_screen(Terminal *terminal, ChoirToolCall *call) {
  g_autoptr(GString) text = g_string_new(NULL);
  for (int row = 0; terminal->screen && row < terminal->rows; row++) {
    char line[4096];
    VTermRect rect = {row, row + 1, 0, terminal->columns};
    size_t n = vterm_screen_get_text(terminal->screen, line, sizeof line - 1, rect);
    line[n] = '\0';
    g_string_append_printf(text, "%s\n", g_strchomp(line));
  }
  while (text->len > 1 && text->str[text->len - 1] == '\n' && text->str[text->len - 2] == '\n')
    g_string_truncate(text, text->len - 1);
  if (!terminal->run)
    g_string_append(text, "(the program has ended)");
  choir_tool_call_output(call, text->str, -1);
  choir_tool_call_done(call, FALSE, NULL);
}

static void at_rest(Terminal *terminal) {
  ChoirToolCall *call = g_steal_pointer(&terminal->call);
  g_clear_handle_id(&terminal->quiet, g_source_remove);
  if (!call)
    return;
  if (terminal->handler)
    g_cancellable_disconnect(choir_tool_call_cancellable(call), terminal->handler);
  terminal->handler = 0;
  answer_screen(terminal, call);
}

static gboolean on_quiet(gpointer user) {
  Terminal *terminal = user;
  terminal->quiet = 0;
  at_rest(terminal);
  return G_SOURCE_REMOVE;
}

static void on_cancelled(GCancellable *cancellable, gpointer user) {
  Terminal *terminal = user;
  terminal->handler = 0;
  at_rest(terminal);
}

static void on_output(ChoirSandboxRun *run, int stream, const char *data, gsize length, gpointer user) {
  Terminal *terminal = user;
  if (!terminal->vt)
    return;
  vterm_input_write(terminal->vt, data, length);
  if (terminal->call) {
    g_clear_handle_id(&terminal->quiet, g_source_remove);
    terminal->quiet = g_timeout_add(QUIET_MS, on_quiet, terminal);
  }
}

static void on_ended(ChoirSandboxRun *run, int status, const char *killed, gpointer user) {
  Terminal *terminal = user;
  terminal->run = NULL;
  if (terminal->gone) {
    g_free(terminal);
    return;
  }
  at_rest(terminal);
}

static void close_terminal(gpointer state) {
  Terminal *terminal = state;
  g_clear_handle_id(&terminal->quiet, g_source_remove);
  drop_screen(terminal);
  if (!terminal->run) {
    g_free(terminal);
    return;
  }
  terminal->gone = TRUE; /* freed when its program has ended, or with the sandbox */
  choir_sandbox_kill(terminal->run);
}

/* What a program asks the terminal (its size, its kind) is answered to the program. */
static void on_reply(const char *bytes, size_t length, void *user) {
  Terminal *terminal = user;
  if (terminal->run)
    choir_sandbox_write(terminal->run, bytes, length);
}

static gboolean start(Terminal *terminal, ChoirToolCall *call) {
  static const ChoirSandboxHandlers handlers = {on_output, on_ended};
  const ChoirToolHouse *house = choir_tool_call_house(call);
  const char *argv[] = {"bash", "--norc", "-i", NULL}, *env[] = {"PS1=$ ", NULL};
  const char *writable[] = {house->work_dir, NULL}, *hidden[] = {house->state_dir, NULL};
  g_autoptr(GError) error = NULL;
  if (terminal->run)
    return TRUE;
  drop_screen(terminal);
  terminal->rows = terminal->rows ? terminal->rows : ROWS;
  terminal->columns = terminal->columns ? terminal->columns : COLUMNS;
  ChoirSandboxSpec spec = {.argv = argv,
                           .env = env,
                           .writable = writable,
                           .hidden = hidden,
                           .pty = TRUE,
                           .rows = (guint16)terminal->rows,
                           .columns = (guint16)terminal->columns,
                           .seconds = LIFE_S,
                           .cpu_seconds = 600,
                           .stdin_fd = -1};
  terminal->run = choir_sandbox_run(house->sandbox, &spec, &handlers, terminal, &error);
  if (!terminal->run) {
    tool_fail(call, CHOIR_TOOL_ERROR_UNAVAILABLE, "%s", error->message);
    return FALSE;
  }
  terminal->vt = vterm_new(terminal->rows, terminal->columns);
  vterm_set_utf8(terminal->vt, 1);
  vterm_output_set_callback(terminal->vt, on_reply, terminal);
  terminal->screen = vterm_obtain_screen(terminal->vt);
  vterm_screen_enable_altscreen(terminal->screen, 1);
  vterm_screen_reset(terminal->screen, 1);
  return TRUE;
}

static void send(ChoirToolCall *call, const char *bytes, gsize length) {
  Terminal *terminal = choir_tool_call_state(call);
  if (terminal->call) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "the terminal is busy with another call; read the screen a little later");
    return;
  }
  if (!start(terminal, call))
    return;
  if (!choir_sandbox_write(terminal->run, bytes, length)) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "the program reads no more input; close the terminal and begin anew");
    return;
  }
  terminal->call = call;
  terminal->handler =
      g_cancellable_connect(choir_tool_call_cancellable(call), G_CALLBACK(on_cancelled), terminal, NULL);
  terminal->quiet = g_timeout_add(4 * QUIET_MS, on_quiet, terminal);
}

static void execute(ChoirToolCall *call) {
  g_autofree char *line = g_strconcat(choir_tool_call_string(call, "command", ""), "\r", NULL);
  send(call, line, strlen(line));
}

/* "{enter}", "{up}", "{ctrl-c}" in the text are keys. */
static char *keys_of(const char *text) {
  static const struct {
    const char *name, *bytes;
  } keys[] = {{"enter", "\r"},      {"tab", "\t"},      {"escape", "\033"},    {"backspace", "\177"},
              {"up", "\033[A"},     {"down", "\033[B"}, {"right", "\033[C"},   {"left", "\033[D"},
              {"home", "\033[H"},   {"end", "\033[F"},  {"pageup", "\033[5~"}, {"pagedown", "\033[6~"},
              {"delete", "\033[3~"}};
  GString *out = g_string_new(NULL);
  for (const char *p = text; *p; p++) {
    const char *end = *p == '{' ? strchr(p, '}') : NULL;
    g_autofree char *name = end && end - p < 20 ? g_ascii_strdown(p + 1, end - p - 1) : NULL;
    gsize i = 0;
    while (name && i < G_N_ELEMENTS(keys) && !g_str_equal(keys[i].name, name))
      i++;
    if (name && i < G_N_ELEMENTS(keys)) {
      g_string_append(out, keys[i].bytes);
      p = end;
    } else if (name && g_str_has_prefix(name, "ctrl-") && g_ascii_isalpha(name[5]) && name[6] == '\0') {
      g_string_append_c(out, (char)(name[5] & 0x1f));
      p = end;
    } else {
      g_string_append_c(out, *p);
    }
  }
  return g_string_free(out, FALSE);
}

static void type_keys(ChoirToolCall *call) {
  g_autofree char *bytes = keys_of(choir_tool_call_string(call, "keys", ""));
  send(call, bytes, strlen(bytes));
}

static void read_screen(ChoirToolCall *call) {
  Terminal *terminal = choir_tool_call_state(call);
  if (!terminal->screen)
    tool_answer(call, TRUE, "No program runs in the terminal.");
  else
    answer_screen(terminal, call);
}

static void resize(ChoirToolCall *call) {
  Terminal *terminal = choir_tool_call_state(call);
  terminal->rows = (int)choir_tool_call_integer(call, "rows", ROWS);
  terminal->columns = (int)choir_tool_call_integer(call, "columns", COLUMNS);
  if (terminal->vt)
    vterm_set_size(terminal->vt, terminal->rows, terminal->columns);
  if (terminal->run)
    choir_sandbox_resize(terminal->run, (guint16)terminal->rows, (guint16)terminal->columns);
  tool_answer(call, TRUE, "The terminal has %d rows and %d columns.", terminal->rows, terminal->columns);
}

static void close_program(ChoirToolCall *call) {
  Terminal *terminal = choir_tool_call_state(call);
  if (terminal->run)
    choir_sandbox_kill(terminal->run);
  tool_answer(call, TRUE, "The terminal is closed.");
}

static const ChoirToolSink command_sink[] = {{"command", CHOIR_SINK_SHELL}, {NULL, 0}};
static const ChoirToolSink keys_sink[] = {{"keys", CHOIR_SINK_SHELL}, {NULL, 0}};
static const ChoirToolShot execute_shots[] = {
    {"run less notes.txt in the terminal", "{\"command\": \"less notes.txt\"}"},
    {"open mc in the terminal", "{\"command\": \"mc\"}"},

    {"open the terminal and run top", "{\"command\": \"top\"}"},
    {"start vim in the terminal", "{\"command\": \"vim\"}"},
    {"run bc -l in a terminal and show me the screen", "{\"command\": \"bc -l\"}"},
    {"use a terminal to open man bash", "{\"command\": \"man bash\"}"},
    {NULL, NULL}};
static const ChoirToolShot type_shots[] = {{"type hello into the terminal", "{\"keys\": \"hello\"}"},
                                           {"press tab in the terminal", "{\"keys\": \"{tab}\"}"},
                                           {"press control c in the terminal", "{\"keys\": \"{ctrl-c}\"}"},
                                           {"write exit in the terminal", "{\"keys\": \"exit\"}"},
                                           {"push the up key in the terminal", "{\"keys\": \"{up}\"}"},
                                           {"enter the words thank you in the terminal", "{\"keys\": \"thank you\"}"},
                                           {NULL, NULL}};
static const char *const screen_examples[] = {"look at the terminal",
                                              "read the terminal's screen",
                                              "what is on the terminal screen",
                                              "show me the terminal",
                                              "what do you see in the terminal",
                                              "read what is in the terminal",
                                              "what is the terminal saying",
                                              NULL};
static const ChoirToolShot resize_shots[] = {
    {"make the terminal 25 rows high and 90 columns wide", "{\"rows\": 25, \"columns\": 90}"},
    {"resize the terminal to sixty lines and one hundred columns", "{\"rows\": 60, \"columns\": 100}"},
    {"the terminal needs thirty rows and one hundred fifty columns", "{\"rows\": 30, \"columns\": 150}"},
    {"set the terminal to 24 by 80", "{\"rows\": 24, \"columns\": 80}"},
    {NULL, NULL}};
static const char *const close_examples[] = {
    "quit the terminal",  "end the terminal's session",

    "close the terminal", "end the terminal",           "stop the program that runs in the terminal",
    "exit the terminal",  "shut the terminal",          NULL};
static const ChoirToolAction actions[] = {
    {.name = "execute",
     .help = "Run a command in the terminal and show its screen.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(TOOL_TEXT("command", 2000, "the command line"), "\"command\""),
     .sinks = command_sink,
     .shots = execute_shots,
     .run = execute},
    {.name = "type",
     .help = "Type into the terminal; {enter} {up} {ctrl-c} are keys.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(TOOL_TEXT("keys", 2000, "what to type"), "\"keys\""),
     .sinks = keys_sink,
     .shots = type_shots,
     .run = type_keys},
    {.name = "read_screen",
     .help = "Show the terminal's screen.",
     .schema = TOOL_NOTHING,
     .examples = screen_examples,
     .run = read_screen},
    {.name = "resize",
     .help = "Change the size of the terminal.",
     .class = CHOIR_CLASS_LOCAL,
     .schema =
         TOOL_OBJECT(TOOL_INTEGER("rows", 4, 200, "lines") "," TOOL_INTEGER("columns", 20, 400, "characters in a line"),
                     "\"rows\",\"columns\""),
     .shots = resize_shots,
     .run = resize},
    {.name = "close",
     .help = "End what runs in the terminal.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_NOTHING,
     .examples = close_examples,
     .run = close_program},
};

const ChoirTool choir_tool_term_everything = {.id = "term_everything",
                                              .title = "Terminal",
                                              .help = "A terminal with a screen, in the sandbox.",
                                              .actions = actions,
                                              .n_actions = G_N_ELEMENTS(actions),
                                              .available = tool_boxed_available,
                                              .open = open_terminal,
                                              .close = close_terminal};
