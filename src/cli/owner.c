/* `choir owner`: the people of this Choir, over the unix socket of the running daemon. */
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"
#include "cli/cli.h"

#define NAME "owner"

static char *option_state, *option_role;
static gboolean option_json;

static const GOptionEntry entries[] = {
    {"role", 'r', 0, G_OPTION_ARG_STRING, &option_role, "with add: viewer, operator, approver or owner (default)",
     "ROLE"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "print JSON", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the running daemon", "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  code           the set-up code, for /setup in a browser\n"
    "  add NAME       make a person; the password is asked for, or read from the standard input\n"
    "  password NAME  give a person another password; ends that person's log-ins\n"
    "  list           who there is\n"
    "  remove NAME    take a person away; the last owner stays\n\n"
    "A viewer sees, an operator talks and runs what needs no approval, an approver answers approvals, an owner does\n"
    "everything. It works on the machine itself, for the user that runs the daemon and for root.\n\n"
    "Examples:\n"
    "  choir owner code\n"
    "  choir owner add ada\n"
    "  choir owner add grace --role operator < password.txt\n\n"
    "Exit codes: 0 done, 1 it failed, 2 wrong usage.\n";

static gboolean read_line(char *line, gsize size) {
  if (!fgets(line, (int)size, stdin))
    return FALSE;
  line[strcspn(line, "\r\n")] = '\0';
  return TRUE;
}

/* Not shown while it is typed. */
static char *ask_password(const char *prompt) {
  char line[300];
  struct termios before, quiet;
  gboolean terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before) == 0;
  if (terminal) {
    fprintf(stderr, "%s", prompt);
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  gboolean got = read_line(line, sizeof line);
  if (terminal) {
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fprintf(stderr, "\n");
  }
  char *result = got ? g_strdup(line) : NULL;
  explicit_bzero(line, sizeof line);
  return result;
}

static char *new_password(void) {
  char *first = ask_password("Password: ");
  if (!first || !isatty(STDIN_FILENO))
    return first;
  char *second = ask_password("Again: ");
  if (!second || strcmp(first, second) != 0)
    g_clear_pointer(&first, g_free);
  g_free(second);
  return first;
}

static int show_code(const char *url) {
  g_autoptr(GError) error = NULL;
  json_auto_t *answer = choir_cli_request(url, "/api/setup/code", NULL, 10000, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  const char *code = choir_json_string(answer, "code", NULL);
  if (option_json)
    choir_cli_print_json(answer);
  else if (!code)
    return choir_cli_fail(NAME, "there is an owner already; see choir owner list");
  else
    printf("%s\n", code);
  return CHOIR_CLI_OK;
}

static int send_person(const char *url, const char *path, const char *name, const char *role) {
  g_autoptr(GError) error = NULL;
  g_autofree char *password = new_password();
  if (!password)
    return choir_cli_fail(NAME, "no password, or the two differ; nothing was changed");
  json_auto_t *body = json_pack("{s:s,s:s}", "name", name, "password", password);
  if (!body)
    return choir_cli_fail(NAME, "name and password must be UTF-8");
  if (role)
    json_object_set_new(body, "role", json_string(role));
  json_auto_t *answer = choir_cli_request(url, path, body, 30000, &error);
  explicit_bzero(password, strlen(password));
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  printf("%s: done\n", name);
  return CHOIR_CLI_OK;
}

static int list_people(const char *url) {
  g_autoptr(GError) error = NULL;
  json_auto_t *answer = choir_cli_request(url, "/api/people", NULL, 10000, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  const json_t *people = json_object_get(answer, "people");
  if (option_json)
    choir_cli_print_json(people);
  else if (json_array_size(people) == 0)
    printf("nobody yet; choir owner add NAME makes the owner\n");
  for (size_t i = 0; !option_json && i < json_array_size(people); i++) {
    const json_t *person = json_array_get(people, i);
    printf("%-9s %s\n", choir_json_string(person, "role", ""), choir_json_string(person, "name", ""));
  }
  return CHOIR_CLI_OK;
}

static int remove_person(const char *url, const char *name) {
  g_autoptr(GError) error = NULL;
  json_auto_t *body = json_pack("{s:s}", "name", name);
  json_auto_t *answer = choir_cli_request(url, "/api/people/remove", body, 10000, &error);
  if (!answer)
    return choir_cli_fail(NAME, "%s", error->message);
  printf("%s: removed\n", name);
  return CHOIR_CLI_OK;
}

int choir_owner_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "code|add NAME|password NAME|list|remove NAME", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  const char *word = argc > 1 ? argv[1] : "";
  gboolean alone = argc == 2, named = argc == 3;
  g_autofree char *url = choir_cli_socket(option_state);
  if (strcmp(word, "code") == 0 && alone)
    return show_code(url);
  if (strcmp(word, "list") == 0 && alone)
    return list_people(url);
  if (strcmp(word, "add") == 0 && named)
    return send_person(url, "/api/people", argv[2], option_role ? option_role : "owner");
  if (strcmp(word, "password") == 0 && named)
    return send_person(url, "/api/people/password", argv[2], NULL);
  if (strcmp(word, "remove") == 0 && named)
    return remove_person(url, argv[2]);
  return choir_cli_usage(NAME, "say code, add NAME, password NAME, list or remove NAME");
}
