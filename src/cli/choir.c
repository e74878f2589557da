/* The command line: `choir COMMAND`. Every command reads its own options. */
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "base/version.h"
#include "cli/cli.h"
#include "daemon/serve.h"

typedef struct {
  const char *name, *summary;
  int (*run)(int argc, char **argv);
} Command;

static const Command commands[] = {
    {"serve", "start the assistant: page, API, voice", choir_serve_main},
    {"chat", "a typed conversation in this terminal", choir_chat_main},
    {"talk", "a spoken conversation by a script, recorded in stereo", choir_talk_main},
    {"say", "a text by the assistant's voice, into a file or a player", choir_say_main},
    {"transcribe", "a recording to text or subtitles", choir_transcribe_main},
    {"status", "what runs, what is missing and why", choir_status_main},
    {"models", "list, choose, fetch, verify and remove language models", choir_models_main},
    {"tools", "what the agent can do, and why something is missing", choir_tools_main},
    {"approve", "see and answer what waits for a person's yes", choir_approve_main},
    {"owner", "the people of this Choir, and the set-up code", choir_owner_main},
    {"token", "keys for programs", choir_token_main},
    {"cert", "the certificate authority of the LAN, and how to trust it", choir_cert_main},
    {"nodes", "the machines of the cluster, and who may join", choir_nodes_main},
    {"expert", "experts of the cluster: start, deploy, list, bench", choir_expert_main},
    {"jobs", "the cluster's jobs: list, submit what changed, heal", choir_jobs_main},
    {"health", "ask every expert of the cluster a real question", choir_health_main},
    {"logs", "what a job of the cluster wrote, even when Nomad forgot it", choir_logs_main},
    {"standby", "keep copies of the agent's state for other nodes", choir_standby_main},
    {"forward", "pass this node's port 8000 on to where the agent runs", choir_forward_main},
    {"audit", "show and verify the log of everything that was done", choir_audit_main},
    {"memory", "what is remembered: list, search, add, forget", choir_memory_main},
    {"config", "print, check and explain the settings", choir_config_main},
    {"backup", "everything of the state folder into one file", choir_backup_main},
    {"restore", "bring a backup back", choir_restore_main},
    {"service", "start Choir with the machine", choir_service_main},
    {"bench", "run one of the benches of a source checkout", choir_bench_main},
};

static void print_help(FILE *out) {
  fprintf(out, "Usage: choir COMMAND [OPTION...]\n\nCommands:\n");
  for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
    fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
  fprintf(out, "\nOptions:\n"
               "  --help     this text; choir COMMAND --help has each command's options and examples\n"
               "  --version  the version\n\n"
               "Examples:\n"
               "  choir serve\n"
               "  choir chat\n"
               "  choir status --json\n\n"
               "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n");
}

static int unknown(const char *word) {
  const char *names[G_N_ELEMENTS(commands) + 1] = {NULL};
  for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
    names[i] = commands[i].name;
  const char *near = choir_nearest(word, names);
  if (near)
    fprintf(stderr, "choir: there is no command '%s'; did you mean '%s'? See choir --help\n", word, near);
  else
    fprintf(stderr, "choir: there is no command '%s'; see choir --help\n", word);
  return CHOIR_CLI_USAGE;
}

int main(int argc, char **argv) {
  setlocale(LC_ALL, "");
  if (argc < 2) {
    print_help(stderr);
    return CHOIR_CLI_USAGE;
  }
  const char *word = argv[1];
  if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
    print_help(stdout);
    return CHOIR_CLI_OK;
  }
  if (strcmp(word, "--version") == 0) {
    printf("choir %s\n", choir_version());
    return CHOIR_CLI_OK;
  }
  for (gsize i = 0; i < G_N_ELEMENTS(commands); i++)
    if (strcmp(commands[i].name, word) == 0)
      return commands[i].run(argc - 1, argv + 1);
  return unknown(word);
}
