/* choir service: starts Choir with the machine, by systemd. */
#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/cli.h"
#include "cli/service.h"

#define NAME "service"
#define UNIT "choir.service"
#define OURS "# Written by choir service install"

static gboolean option_user, option_lan;
static char *option_run_as, *option_state, *option_config;

static const GOptionEntry entries[] = {
    {"user", 'u', 0, G_OPTION_ARG_NONE, &option_user, "in your own systemd: no root, runs while you are logged in",
     NULL},
    {"run-as", 'r', 0, G_OPTION_ARG_STRING, &option_run_as, "the user that Choir runs as (default: who called sudo)",
     "NAME"},
    {"lan", 'l', 0, G_OPTION_ARG_NONE, &option_lan, "serve the house, as choir serve --lan", NULL},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "folder for history and choices", "DIR"},
    {"config", 'c', 0, G_OPTION_ARG_FILENAME, &option_config, "configuration file", "FILE"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  install   starts Choir now and with every start of the machine (again: with the options given now)\n"
    "  remove    stops it and takes the unit away; conversations and settings stay\n"
    "  show      prints the unit that install would write\n\n"
    "Examples:\n"
    "  sudo choir service install --lan\n"
    "  sudo choir service install --run-as anna --state /srv/choir\n"
    "  choir service install --user\n"
    "  sudo choir service remove\n\n"
    "Its log: journalctl -u choir (with --user: journalctl --user -u choir).\n"
    "Exit codes: 0 done, 1 it failed, 2 wrong usage.\n";

static char *unit_path(void) {
  return option_user ? g_build_filename(g_get_user_config_dir(), "systemd", "user", UNIT, NULL)
                     : g_strdup("/etc/systemd/system/" UNIT);
}

/* Runs systemctl; its own words are the error. */
static gboolean systemctl(GError **error, ...) {
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  g_ptr_array_add(argv, (gpointer) "systemctl");
  if (option_user)
    g_ptr_array_add(argv, (gpointer) "--user");
  va_list list;
  va_start(list, error);
  for (char *word = va_arg(list, char *); word; word = va_arg(list, char *))
    g_ptr_array_add(argv, word);
  va_end(list);
  g_ptr_array_add(argv, NULL);
  g_autofree char *said = NULL;
  g_autoptr(GSubprocess) child = g_subprocess_newv(
      (const char *const *)argv->pdata, G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_PIPE, error);
  if (!child || !g_subprocess_communicate_utf8(child, NULL, NULL, NULL, &said, error))
    return FALSE;
  if (g_subprocess_get_successful(child))
    return TRUE;
  g_strdelimit(g_strstrip(said), "\n", ' ');
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "systemctl %s: %s", (char *)argv->pdata[option_user ? 2 : 1],
              *said ? said : "it failed");
  return FALSE;
}

static gboolean systemd_runs(GError **error) {
  g_autofree char *bus = g_build_filename(g_get_user_runtime_dir(), "systemd", NULL);
  g_autofree char *program = g_find_program_in_path("systemctl");
  if (!program || !g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR)) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "this machine was not started by systemd; start 'choir serve' by what starts programs here");
    return FALSE;
  }
  if (option_user && !g_file_test(bus, G_FILE_TEST_IS_DIR)) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "there is no systemd of your own in this session; log in properly (not by su), or install it for the "
                "machine: sudo choir service install");
    return FALSE;
  }
  if (option_user || geteuid() == 0)
    return TRUE;
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
              "a service of the machine needs root: sudo choir service ..., or use --user");
  return FALSE;
}

/* Who runs it: never root. Caller frees; NULL with error. */
static char *runner(GError **error) {
  const char *name = option_run_as ? option_run_as : g_getenv("SUDO_USER");
  const struct passwd *entry = name ? getpwnam(name) : NULL;
  if (!name)
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                "say which user Choir shall run as: --run-as NAME (not root)");
  else if (!entry)
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "there is no user '%s'", name);
  else if (entry->pw_uid == 0)
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT,
                "Choir does not run as root, for its tools would, too; choose another user with --run-as");
  else
    return g_strdup(name);
  return NULL;
}

/* For the system's unit only what is asked for by option is fixed; the rest is found as that user would find it. */
static char *make_unit(GError **error) {
  g_autofree char *program = g_file_read_link("/proc/self/exe", error);
  g_autofree char *user = option_user ? NULL : runner(error);
  if (!program || (!option_user && !user))
    return NULL;
  g_autofree char *state = option_state ? g_canonicalize_filename(option_state, NULL) : NULL;
  g_autofree char *config = option_config ? g_canonicalize_filename(option_config, NULL) : NULL;
  ChoirServiceUnit unit = {.program = program, .user = user, .state = state, .config = config, .lan = option_lan};
  return choir_service_unit(&unit, error);
}

/* FALSE with error: a unit of that name that is not ours. */
static gboolean ours(const char *path, char **ret_text, GError **error) {
  *ret_text = NULL;
  if (!g_file_get_contents(path, ret_text, NULL, NULL) || g_str_has_prefix(*ret_text, OURS))
    return TRUE;
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_EXISTS, "%s is not from choir service install; move it away first", path);
  return FALSE;
}

static gboolean write_unit(const char *path, const char *text, GError **error) {
  g_autofree char *folder = g_path_get_dirname(path);
  if (g_mkdir_with_parents(folder, 0755) == 0)
    return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0644, error);
  g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "cannot make the folder %s: %s", folder, g_strerror(errno));
  return FALSE;
}

/* It may end at once: a port or a state folder that somebody else has. */
static gboolean stays_up(GError **error) {
  for (int i = 0; i < 6; i++) {
    g_usleep(G_USEC_PER_SEC / 2);
    if (!systemctl(NULL, "is-active", "--quiet", UNIT, NULL)) {
      g_set_error(
          error, G_IO_ERROR, G_IO_ERROR_FAILED,
          "it is installed, but Choir ended at once; see %s (another one may run already, or the port is taken)",
          option_user ? "journalctl --user -u choir" : "journalctl -u choir");
      return FALSE;
    }
  }
  return TRUE;
}

static gboolean install(GError **error) {
  g_autofree char *path = unit_path(), *old = NULL, *text = make_unit(error);
  if (!text || !systemd_runs(error) || !ours(path, &old, error) || !write_unit(path, text, error) ||
      !systemctl(error, "daemon-reload", NULL) || !systemctl(error, "enable", UNIT, NULL) ||
      !systemctl(error, g_strcmp0(old, text) == 0 ? "start" : "restart", UNIT, NULL) || !stays_up(error))
    return FALSE;
  printf("Choir runs, and will with every start of %s: %s\n", option_user ? "your session" : "the machine", path);
  printf("Its log, with the set-up code of the first owner: journalctl %s-u choir\n", option_user ? "--user " : "");
  if (option_user)
    printf("To run it without being logged in: loginctl enable-linger\n");
  return TRUE;
}

static gboolean take_away(GError **error) {
  g_autofree char *path = unit_path(), *old = NULL;
  if (!systemd_runs(error) || !ours(path, &old, error))
    return FALSE;
  if (!old) {
    printf("There is no %s; nothing to remove.\n", path);
    return TRUE;
  }
  if (!systemctl(error, "disable", "--now", UNIT, NULL))
    return FALSE;
  if (g_unlink(path) != 0) {
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "cannot remove %s: %s", path, g_strerror(errno));
    return FALSE;
  }
  if (!systemctl(error, "daemon-reload", NULL))
    return FALSE;
  printf("Stopped, and %s is gone. Conversations and settings stay.\n", path);
  return TRUE;
}

int choir_service_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "install | remove | show", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc != 2)
    return choir_cli_usage(NAME, argc < 2 ? "say install, remove or show" : "one word is expected");
  if (option_user && option_run_as)
    return choir_cli_usage(NAME, "--run-as is for the machine's service, --user is your own");
  g_autoptr(GError) error = NULL;
  gboolean done;
  if (strcmp(argv[1], "install") == 0) {
    done = install(&error);
  } else if (strcmp(argv[1], "remove") == 0) {
    done = take_away(&error);
  } else if (strcmp(argv[1], "show") == 0) {
    g_autofree char *text = make_unit(&error);
    done = text != NULL;
    if (done)
      fputs(text, stdout);
  } else {
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  }
  return done ? CHOIR_CLI_OK : choir_cli_fail(NAME, "%s", error->message);
}
