#include "base/config.h"
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "daemon/settings.h"

#define NAME "config"

static gboolean option_json;
static char *option_config;

static const GOptionEntry entries[] = {
    {"config", 'c', 0, G_OPTION_ARG_FILENAME, &option_config, "the file to show (default: what choir serve reads)",
     "FILE"},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "with show: as JSON", NULL},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "  reference    a commented choir.conf with every setting, its default, range and meaning (the default)\n"
    "  show         the values in force here, and where each comes from\n"
    "  check FILE   say whether a file is right\n\n"
    "Examples:\n"
    "  choir config > ~/.config/choir/choir.conf\n"
    "  choir config check /etc/choir/choir.conf\n"
    "  choir config show --json\n\n"
    "Exit codes: 0 done, 1 a file is wrong (what and where is said), 2 wrong usage.\n";

static int print_reference(void) {
  g_autofree char *text = choir_config_reference(choir_settings);
  fputs(text, stdout);
  return CHOIR_CLI_OK;
}

static int show(void) {
  g_autofree char *file = option_config ? g_strdup(option_config) : choir_settings_default_file();
  g_autoptr(GError) error = NULL;
  g_autoptr(ChoirConfig) config = choir_config_load(choir_settings, file, &error);
  if (!config)
    return choir_cli_fail(NAME, "%s", error->message);
  json_auto_t *all = json_object();
  for (const ChoirConfigItem *item = choir_settings; item->section; item++) {
    const char *value = choir_config_string(config, item->section, item->key);
    const char *origin = choir_config_origin(config, item->section, item->key);
    g_autofree char *name = g_strdup_printf("%s.%s", item->section, item->key);
    if (option_json)
      json_object_set_new(all, name, json_pack("{s:s,s:s}", "value", value ? value : "", "origin", origin));
    else
      printf("%-22s %-28s %s%s%s\n", name, value && *value ? value : "-", choir_cli_style(CHOIR_CLI_DIM), origin,
             choir_cli_style(CHOIR_CLI_PLAIN));
  }
  if (option_json)
    choir_cli_print_json(all);
  return CHOIR_CLI_OK;
}

static int check(const char *file) {
  g_autoptr(GError) error = NULL;
  if (!g_file_test(file, G_FILE_TEST_IS_REGULAR))
    return choir_cli_fail(NAME, "there is no file %s", file);
  g_autoptr(ChoirConfig) config = choir_config_load(choir_settings, file, &error);
  if (!config)
    return choir_cli_fail(NAME, "%s", error->message);
  printf("%s is right\n", file);
  return CHOIR_CLI_OK;
}

int choir_config_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "[reference | show | check FILE]", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  const char *what = argc > 1 ? argv[1] : "reference";
  if (strcmp(what, "check") == 0)
    return argc == 3 ? check(argv[2]) : choir_cli_usage(NAME, "check needs one file");
  if (argc > 2)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[2]);
  if (strcmp(what, "reference") == 0)
    return print_reference();
  if (strcmp(what, "show") == 0)
    return show();
  return choir_cli_usage(NAME, "there is no '%s'", what);
}
