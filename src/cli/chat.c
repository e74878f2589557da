/* `choir chat`: one Realtime session in text. A turn runs at a time; Ctrl-C cancels it, and leaves when none runs. */
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "cli/chat_cards.h"
#include "cli/cli.h"
#include "cli/wsclient.h"

#define NAME "chat"
#define MAX_LINE 10000 /* bytes of one turn, the server's own limit */

static char *option_url, *option_once;
static gboolean option_json;

static const GOptionEntry entries[] = {
    {"once", 'o', 0, G_OPTION_ARG_STRING, &option_once, "say this, print the answer and leave", "TEXT"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "one JSON object a turn: text, reply, status, ms", NULL},
    {"url", 'u', 0, G_OPTION_ARG_STRING, &option_url, "address of the daemon (default: $CHOIR_URL, else this machine)",
     "URL"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "Ctrl-C stops the answer that is being written; when none is, it leaves. Ctrl-D leaves too.\n"
    "A turn and its answer also appear on every open page. What waits for an approval is shown and takes y or n.\n\n"
    "Examples:\n"
    "  choir chat\n"
    "  choir chat --once \"Say good morning to the crew.\"\n"
    "  choir chat --json < questions.txt\n\n"
    "Exit codes: 0 done, 1 no daemon or the answer failed, 2 wrong usage, 130 interrupted.\n";

typedef struct {
  ChoirWsClient *client;
  ChoirChatCards *cards; /* what waits for a y or n */
  GMainLoop *loop;
  GString *input; /* typed, not yet sent */
  GString *reply;
  gsize shown;                        /* bytes of it */
  enum { FIRST, HELD, SHOWN } answer; /* held until what a tool put out before it is shown */
  char *text;                         /* the running turn's, NULL when none runs */
  char *status, *problem;             /* of an answer that ended while it was held */
  gint64 began;
  guint stdin_source;
  gboolean ready, terminal, at_end;
  int code;
} Chat;

static void quit(Chat *chat, int code) {
  chat->code = code;
  g_main_loop_quit(chat->loop);
}

static void prompt(const Chat *chat) {
  if (!chat->terminal || option_json)
    return;
  printf("%syou%s   ", choir_cli_style(CHOIR_CLI_BOLD), choir_cli_style(CHOIR_CLI_PLAIN));
  fflush(stdout);
}

static void say(Chat *chat, const char *text) {
  chat->text = g_strdup(text);
  chat->began = g_get_monotonic_time();
  g_string_truncate(chat->reply, 0);
  chat->shown = 0;
  chat->answer = FIRST;
  if (chat->terminal && !option_json) {
    printf("%schoir%s ", choir_cli_style(CHOIR_CLI_BOLD), choir_cli_style(CHOIR_CLI_PLAIN));
    fflush(stdout);
  }
  choir_wsclient_send(chat->client,
                      json_pack("{s:s,s:{s:s,s:s,s:[{s:s,s:s}]}}", "type", "conversation.item.create", "item", "type",
                                "message", "role", "user", "content", "type", "input_text", "text", text));
  choir_wsclient_send(chat->client, json_pack("{s:s}", "type", "response.create"));
}

/* Sends the next whole line when no turn runs. */
static void next_turn(Chat *chat) {
  while (chat->ready && !chat->text) {
    const char *end = memchr(chat->input->str, '\n', chat->input->len);
    if (!end && !(chat->at_end && chat->input->len > 0)) {
      if (chat->at_end)
        quit(chat, chat->code);
      return;
    }
    gsize length = end ? (gsize)(end - chat->input->str) : chat->input->len;
    g_autofree char *line = choir_utf8(chat->input->str, (gssize)length);
    g_string_erase(chat->input, 0, (gssize)(end ? length + 1 : length));
    g_strstrip(line);
    if (!*line)
      prompt(chat);
    else if (strlen(line) > MAX_LINE)
      choir_cli_fail(NAME, "a turn has at most %d bytes; this one was not sent", MAX_LINE);
    else
      say(chat, line);
  }
}

static void finish_turn(Chat *chat, const char *status, const char *problem) {
  gboolean failed = strcmp(status, "completed") != 0 && strcmp(status, "cancelled") != 0;
  if (option_json) {
    json_auto_t *result = json_pack("{s:s,s:s,s:s,s:I}", "text", chat->text, "reply", chat->reply->str, "status",
                                    status, "ms", (json_int_t)((g_get_monotonic_time() - chat->began) / 1000));
    if (problem)
      json_object_set_new(result, "error", json_string(problem));
    g_autofree char *line = choir_json_dump(result);
    printf("%s\n", line);
  } else {
    printf(strcmp(status, "cancelled") == 0 ? " [stopped]\n" : "\n");
  }
  fflush(stdout);
  if (failed) {
    choir_cli_fail(NAME, "%s", problem ? problem : "the answer failed; choir status says what is missing");
    chat->code = CHOIR_CLI_FAILED;
  }
  g_clear_pointer(&chat->text, g_free);
  if (option_once) {
    quit(chat, strcmp(status, "cancelled") == 0 ? CHOIR_CLI_INTERRUPTED : chat->code);
    return;
  }
  prompt(chat);
  next_turn(chat);
}

static void show_reply(Chat *chat) {
  if (!option_json) {
    fputs(chat->reply->str + chat->shown, stdout);
    fflush(stdout);
  }
  chat->shown = chat->reply->len;
}

static void on_synced(gpointer user) {
  Chat *chat = user;
  choir_chat_cards_end_line(chat->cards);
  chat->answer = SHOWN;
  show_reply(chat);
  if (!chat->status)
    return;
  g_autofree char *status = g_steal_pointer(&chat->status), *problem = g_steal_pointer(&chat->problem);
  finish_turn(chat, status, problem);
}

/* More of the answer, or its end. */
static void on_answer(Chat *chat) {
  if (chat->answer == SHOWN) {
    on_synced(chat);
  } else if (chat->answer == FIRST) {
    chat->answer = HELD;
    choir_chat_cards_sync(chat->cards, on_synced);
  }
}

static void end_answer(Chat *chat, const char *status, const char *problem) {
  if (chat->status)
    return;
  chat->status = g_strdup(status);
  chat->problem = g_strdup(problem);
  on_answer(chat);
}

static void on_open(gpointer user) {
  Chat *chat = user;
  choir_wsclient_send(chat->client,
                      json_pack("{s:s,s:{s:s,s:[s],s:{s:{s:n}}}}", "type", "session.update", "session", "type",
                                "realtime", "output_modalities", "text", "audio", "input", "turn_detection"));
}

static void on_error_event(Chat *chat, const json_t *event) {
  const char *message = choir_json_string(json_object_get(event, "error"), "message", "the daemon reported an error");
  if (chat->text)
    end_answer(chat, "failed", message);
  else if (chat->ready)
    choir_cli_fail(NAME, "%s", message);
  else
    quit(chat, choir_cli_fail(NAME, "%s", message));
}

static void on_ready(gpointer user) {
  Chat *chat = user;
  chat->ready = TRUE;
  if (option_once)
    say(chat, option_once);
  else
    prompt(chat);
  next_turn(chat);
}

static void on_event(const json_t *event, const char *type, gpointer user) {
  Chat *chat = user;
  if (strcmp(type, "session.updated") == 0 && !chat->ready) {
    choir_chat_cards_sync(chat->cards, on_ready); /* the first turn's cards are seen, too */
  } else if (strcmp(type, "response.output_text.delta") == 0 && chat->text) {
    g_string_append(chat->reply, choir_json_string(event, "delta", ""));
    on_answer(chat);
  } else if (strcmp(type, "response.done") == 0 && chat->text) {
    const json_t *response = json_object_get(event, "response");
    const json_t *why = json_object_get(json_object_get(response, "status_details"), "error");
    end_answer(chat, choir_json_string(response, "status", "failed"), choir_json_string(why, "message", NULL));
  } else if (strcmp(type, "error") == 0) {
    on_error_event(chat, event);
  }
}

static void on_closed(const char *why, gpointer user) {
  quit(user, choir_cli_fail(NAME, "%s", why));
}

static gboolean on_stdin(int fd, GIOCondition condition, gpointer user) {
  Chat *chat = user;
  char buffer[4096];
  gssize n = read(fd, buffer, sizeof buffer);
  if (n > 0 && choir_chat_cards_waiting(chat->cards)) {
    choir_chat_cards_typed(chat->cards, buffer, (gsize)n);
    return G_SOURCE_CONTINUE;
  }
  if (n > 0 && chat->input->len < (1 << 20)) {
    g_string_append_len(chat->input, buffer, n);
    next_turn(chat);
    return G_SOURCE_CONTINUE;
  }
  chat->at_end = TRUE;
  chat->stdin_source = 0;
  if (chat->terminal && !chat->text)
    printf("\n");
  next_turn(chat);
  return G_SOURCE_REMOVE;
}

static void on_cards_done(gpointer user) {
  Chat *chat = user;
  if (!chat->text)
    prompt(chat);
}

static gboolean on_interrupt(gpointer user) {
  Chat *chat = user;
  if (chat->text) {
    choir_wsclient_send(chat->client, json_pack("{s:s}", "type", "response.cancel"));
    return G_SOURCE_CONTINUE;
  }
  if (chat->terminal)
    printf("\n");
  quit(chat, CHOIR_CLI_INTERRUPTED);
  return G_SOURCE_CONTINUE;
}

int choir_chat_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected; a sentence goes behind --once", argv[1]);
  if (option_once && (!*option_once || strlen(option_once) > MAX_LINE))
    return choir_cli_usage(NAME, "a turn has 1 to %d bytes", MAX_LINE);
  static const ChoirWsClientHandlers handlers = {.open = on_open, .event = on_event, .closed = on_closed};
  g_autofree char *url = choir_cli_url(option_url);
  Chat chat = {.loop = g_main_loop_new(NULL, FALSE), .input = g_string_new(NULL), .reply = g_string_new(NULL)};
  chat.terminal = !option_once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
  signal(SIGPIPE, SIG_IGN);
  guint interrupt = g_unix_signal_add(SIGINT, on_interrupt, &chat);
  gboolean answers = isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
  if (!option_once || answers) /* with --once only for the answers to cards */
    chat.stdin_source = g_unix_fd_add(STDIN_FILENO, G_IO_IN | G_IO_HUP, on_stdin, &chat);
  chat.client = choir_wsclient_open(url, "/v1/realtime?source=cli", &handlers, &chat);
  if (chat.code == CHOIR_CLI_OK) {
    chat.cards = choir_chat_cards_new(url, !answers, on_cards_done, &chat);
    g_main_loop_run(chat.loop);
  }
  choir_chat_cards_free(chat.cards);
  choir_wsclient_free(chat.client);
  if (chat.stdin_source)
    g_source_remove(chat.stdin_source);
  g_source_remove(interrupt);
  g_string_free(chat.input, TRUE);
  g_string_free(chat.reply, TRUE);
  g_free(chat.text);
  g_free(chat.status);
  g_free(chat.problem);
  g_main_loop_unref(chat.loop);
  return chat.code;
}
