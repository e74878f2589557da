#include "cli/service.h"
#include <gio/gio.h>

/* Quoted as systemd.syntax(7) wants it: percent signs doubled, quotes and backslashes escaped. */
static gboolean append_word(GString *text, const char *word, GError **error) {
  for (const char *c = word; *c; c++)
    if ((guchar)*c < 0x20 || *c == 0x7f) {
      g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_FILENAME, "a path with line ends cannot stand in a unit");
      return FALSE;
    }
  g_string_append_c(text, '"');
  for (const char *c = word; *c; c++) {
    if (*c == '"' || *c == '\\')
      g_string_append_c(text, '\\');
    else if (*c == '%' || *c == '$')
      g_string_append_c(text, *c);
    g_string_append_c(text, *c);
  }
  g_string_append_c(text, '"');
  return TRUE;
}

static gboolean append_option(GString *text, const char *option, const char *value, GError **error) {
  if (!value)
    return TRUE;
  g_string_append_printf(text, " %s ", option);
  return append_word(text, value, error);
}

/* Tools run in a sandbox that makes namespaces and a /proc of its own: whatever covers parts of /proc
 * (ProtectKernelTunables, ProtectHostname) would take bubblewrap away from it, and so would RestrictSUIDSGID, which
 * forbids openat2; ProtectClock would take the sound card. */
#define HARDENING "UMask=0077\nNoNewPrivileges=yes\nLockPersonality=yes\nSystemCallArchitectures=native\n"
static const char hardening_system[] = "ProtectSystem=full\nProtectKernelModules=yes\nPrivateTmp=yes\n"
                                       "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n"
                                       "CapabilityBoundingSet=\n";

char *choir_service_unit(const ChoirServiceUnit *unit, GError **error) {
  g_autoptr(GString) text = g_string_new("# Written by choir service install; choir service remove takes it away.\n"
                                         "[Unit]\nDescription=Choir, a private voice assistant\n"
                                         "Documentation=man:choir(1)\n");
  if (unit->user)
    g_string_append(text, "Wants=network-online.target\nAfter=network-online.target sound.target\n");
  g_string_append(text, "StartLimitIntervalSec=300\nStartLimitBurst=10\n\n[Service]\nType=exec\nExecStart=");
  if (!append_word(text, unit->program, error))
    return NULL;
  g_string_append(text, " serve");
  if (unit->lan)
    g_string_append(text, " --lan");
  if (!append_option(text, "--state", unit->state, error) || !append_option(text, "--config", unit->config, error))
    return NULL;
  g_string_append(text, "\nRestart=on-failure\nRestartSec=5\nTimeoutStopSec=30\nKillMode=mixed\n");
  if (unit->user)
    g_string_append_printf(text, "User=%s\n", unit->user);
  g_string_append(text, HARDENING);
  if (unit->user)
    g_string_append(text, hardening_system);
  g_string_append_printf(text, "\n[Install]\nWantedBy=%s\n", unit->user ? "multi-user.target" : "default.target");
  return g_string_free(g_steal_pointer(&text), FALSE);
}
