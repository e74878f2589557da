/* `choir cert`: our certificate authority, and how to trust it. */
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"

#define NAME "cert"

static char *option_state, *option_out;

static const GOptionEntry entries[] = {
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &option_out, "also write the certificate to this file", "FILE"},
    {"state", 's', 0, G_OPTION_ARG_FILENAME, &option_state, "state folder of the daemon", "DIR"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "choir serve --lan makes a certificate authority of its own, whose key never leaves this machine. A device that\n"
    "trusts it opens https://THIS-MACHINE:8443 without a warning.\n\n"
    "Examples:\n"
    "  choir cert\n"
    "  choir cert --out choir-ca.crt\n\n"
    "Exit codes: 0 done, 1 there is none yet, 2 wrong usage.\n";

/* SHA-256 of the certificate inside the PEM text, as browsers show it; NULL when there is none. */
static char *fingerprint(const char *pem) {
  g_autofree char *sum = choir_pem_sha256(pem);
  if (!sum)
    return NULL;
  GString *text = g_string_new(NULL);
  for (gsize i = 0; sum[i]; i += 2)
    g_string_append_printf(text, "%s%c%c", i ? ":" : "", g_ascii_toupper(sum[i]), g_ascii_toupper(sum[i + 1]));
  return g_string_free(text, FALSE);
}

int choir_cert_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc > 1)
    return choir_cli_usage(NAME, "'%s' is not expected", argv[1]);
  g_autoptr(GError) error = NULL;
  g_autofree char *socket = choir_cli_socket(option_state);
  g_autofree char *state = g_path_get_dirname(socket + strlen("unix:"));
  g_autofree char *path = g_build_filename(state, "tls", "ca.crt", NULL), *pem = NULL, *sum = NULL;
  if (!g_file_get_contents(path, &pem, NULL, NULL) || !(sum = fingerprint(pem)))
    return choir_cli_fail(NAME, "there is no certificate at %s yet; choir serve --lan makes it", path);
  if (option_out && !g_file_set_contents(option_out, pem, -1, &error))
    return choir_cli_fail(NAME, "%s", error->message);
  printf("Certificate authority: %s\nSHA-256 fingerprint:   %s\n", option_out ? option_out : path, sum);
  json_auto_t *me = choir_cli_request(socket, "/api/me", NULL, 3000, NULL); /* the running daemon knows its port */
  printf("Devices get it from http://%s:%d/trust, where each system's way to trust it is told; compare the\n"
         "fingerprint there. On Debian, as root:\n"
         "  cp %s /usr/local/share/ca-certificates/choir-ca.crt && update-ca-certificates\n",
         g_get_host_name(), (int)choir_json_int(me, "port", 8000), option_out ? option_out : path);
  return CHOIR_CLI_OK;
}
