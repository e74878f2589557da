#include <stdio.h>
#include <string.h>
#include <time.h>
#include "base/text.h"
#include "cli/cli.h"

#define NAME "memory"
#define TIMEOUT_MS 120000

static char *option_state;
static gboolean option_json, option_history;

static const GOptionEntry entries[] = {
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"history", 0, 0, G_OPTION_ARG_NONE, &option_history, "with list: also what was superseded", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the running daemon", "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] = "  list            what is remembered, newest first (the default)\n"
                                  "  search TEXT     what is remembered about something\n"
                                  "  add TEXT        remember a fact\n"
                                  "  forget ID       erase a fact and what it superseded\n"
                                  "  export          everything as lines of JSON\n"
                                  "  import FILE     such lines; facts that are known are left alone\n\n"
                                  "Examples:\n"
                                  "  choir memory add 'My server is called atlas'\n"
                                  "  choir memory search 'name of the server'\n"
                                  "  choir memory export > memory.jsonl\n\n"
                                  "Exit codes: 0 done, 1 it failed (what to do is said), 2 wrong usage.\n";

static void print_facts(const json_t *facts) {
  size_t i;
  json_t *fact;
  json_array_foreach((json_t *)facts, i, fact) {
    time_t when = (time_t)choir_json_double(fact, "time", 0);
    char day[32] = "";
    struct tm local;
    gint64 next = choir_json_int(fact, "superseded_by", 0);
    if (localtime_r(&when, &local))
      strftime(day, sizeof day, "%Y-%m-%d", &local);
    g_autofree char *past = next ? g_strdup_printf(", superseded by %" G_GINT64_FORMAT, next) : NULL;
    printf("%5" G_GINT64_FORMAT "  %s  %s(%s, %s%s%s)%s\n", choir_json_int(fact, "id", 0),
           choir_json_string(fact, "text", ""), choir_cli_style(CHOIR_CLI_DIM), day,
           choir_json_string(fact, "source", ""),
           choir_json_bool(fact, "tainted", FALSE) ? ", not the person's words" : "", past ? past : "",
           choir_cli_style(CHOIR_CLI_PLAIN));
  }
  if (json_array_size(facts) == 0)
    printf("nothing\n");
}

/* Prints the answer's facts, or what `format` says. */
static int request(const char *url, const char *path, const json_t *body, const char *said) {
  g_autoptr(GError) error = NULL;
  json_auto_t *answer = choir_cli_request(url, path, body, TIMEOUT_MS, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  if (option_json)
    choir_cli_print_json(answer);
  else if (json_is_array(json_object_get(answer, "facts")))
    print_facts(json_object_get(answer, "facts"));
  else if (json_is_string(json_object_get(answer, "outcome")))
    printf("%s as %" G_GINT64_FORMAT "\n", choir_json_string(answer, "outcome", ""), choir_json_int(answer, "id", 0));
  else if (json_is_integer(json_object_get(answer, "added")))
    printf("%" G_GINT64_FORMAT " added\n", choir_json_int(answer, "added", 0));
  else
    printf("%s\n", said);
  return CHOIR_CLI_OK;
}

static int search(const char *url, const char *text) {
  g_autofree char *query = g_uri_escape_string(text, NULL, FALSE);
  g_autofree char *path = g_strconcat("/api/memory?n=10&q=", query, NULL);
  return request(url, path, NULL, "");
}

static int import(const char *url, const char *file) {
  g_autoptr(GError) error = NULL;
  g_autofree char *text = NULL;
  if (!g_file_get_contents(file, &text, NULL, &error))
    return choir_cli_fail(NAME, "%s", error->message);
  if (!g_utf8_validate(text, -1, NULL))
    return choir_cli_fail(NAME, "%s is no text in UTF-8; 'choir memory export' writes such files", file);
  json_auto_t *body = json_pack("{s:s}", "lines", text);
  return request(url, "/api/memory", body, "");
}

/* Lines, not one JSON value: every fact is asked for and printed by itself. */
static int export(const char *url) {
  g_autoptr(GError) error = NULL;
  json_auto_t *answer = choir_cli_request(url, "/api/memory/export?format=json", NULL, TIMEOUT_MS, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  fputs(choir_json_string(answer, "lines", ""), stdout);
  return fflush(stdout) == 0 ? CHOIR_CLI_OK : choir_cli_fail(NAME, "the output cannot be written");
}

int choir_memory_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[list | search TEXT | add TEXT | forget ID | export | import FILE]", description, entries,
                       &argc, &argv))
    return CHOIR_CLI_USAGE;
  g_autofree char *url = choir_cli_socket(option_state);
  const char *what = argc > 1 ? argv[1] : "list";
  if (strcmp(what, "list") == 0 && argc <= 2)
    return request(url, option_history ? "/api/memory?n=1000&history=1" : "/api/memory?n=1000", NULL, "");
  if (strcmp(what, "export") == 0 && argc == 2)
    return export(url);
  if (argc != 3)
    return choir_cli_usage(NAME, argc > 3 ? "put the text of '%s' in quotes" : "'%s' is no command, or needs something",
                           what);
  if (strcmp(what, "search") == 0)
    return search(url, argv[2]);
  if (strcmp(what, "import") == 0)
    return import(url, argv[2]);
  if (strcmp(what, "add") == 0) {
    json_auto_t *body = json_pack("{s:s}", "text", argv[2]);
    return body ? request(url, "/api/memory", body, "") : choir_cli_usage(NAME, "the text is no UTF-8");
  }
  guint64 id;
  if (strcmp(what, "forget") == 0) {
    if (!g_ascii_string_to_unsigned(argv[2], 10, 1, G_MAXINT64, &id, NULL))
      return choir_cli_usage(NAME, "forget needs a number that 'choir memory list' shows");
    json_auto_t *body = json_pack("{s:I}", "id", (json_int_t)id);
    return request(url, "/api/memory/forget", body, "forgotten");
  }
  return choir_cli_usage(NAME, "there is no '%s'", what);
}
