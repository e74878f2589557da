#include <arpa/inet.h>
#include <string.h>
#include "base/text.h"
#include "web/join.h"

#define LABELS "abcdefghijklmnopqrstuvwxyz0123456789-"
#define VERSION_SIGNS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~-"

GQuark choir_join_error_quark(void) {
  return g_quark_from_static_string("choir-join-error");
}

/* RFC 1123 in lower case; not an address, and no word that means something to Ansible. */
gboolean choir_join_hostname_ok(const char *name) {
  static const char *const taken[] = {"all",     "ungrouped",  "localhost", "controller-nodes",
                                      "workers", "pxe-server", NULL};
  gsize length = strlen(name);
  if (length == 0 || length > 253 || g_strv_contains(taken, name) || strspn(name, "0123456789.") == length)
    return FALSE;
  g_auto(GStrv) labels = g_strsplit(name, ".", -1);
  for (char **label = labels; *label; label++) {
    gsize size = strlen(*label);
    if (size == 0 || size > 63 || strspn(*label, LABELS) != size || (*label)[0] == '-' || (*label)[size - 1] == '-')
      return FALSE;
  }
  return TRUE;
}

gboolean choir_join_address_ok(const char *address) {
  struct in_addr four;
  struct in6_addr six;
  if (inet_pton(AF_INET, address, &four) == 1) {
    guint8 first = (guint8)(ntohl(four.s_addr) >> 24);
    return first != 0 && first < 224;
  }
  return inet_pton(AF_INET6, address, &six) == 1 && !IN6_IS_ADDR_MULTICAST(&six) && !IN6_IS_ADDR_UNSPECIFIED(&six);
}

gboolean choir_join_hex_ok(const char *text, gsize digits) {
  return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

gboolean choir_join_version_ok(const char *version) {
  gsize length = strlen(version);
  return length <= 64 && strspn(version, VERSION_SIGNS) == length && version[0] != '-';
}

static gboolean mac_ok(const char *mac) {
  for (int i = 0; i < 17; i++)
    if (i % 3 == 2 ? mac[i] != ':' : !g_ascii_isxdigit(mac[i]))
      return FALSE;
  return mac[17] == '\0';
}

static gboolean printable(const char *text, gsize most) {
  gsize length = strlen(text);
  if (length > most || !g_utf8_validate(text, (gssize)length, NULL))
    return FALSE;
  for (const char *at = text; *at; at = g_utf8_next_char(at))
    if (!g_unichar_isprint(g_utf8_get_char(at)))
      return FALSE;
  return TRUE;
}

static gboolean wrong(GError **error, const char *sentence) {
  g_set_error_literal(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_INVALID, sentence);
  return FALSE;
}

gboolean choir_join_check(const json_t *asked, GError **error) {
  const char *address = choir_json_string(asked, "address", NULL), *mac = choir_json_string(asked, "mac", "");
  gint64 ram = choir_json_int(asked, "ram_mb", 0);
  if (!printable(choir_json_string(asked, "token", ""), 200))
    return wrong(error, "the token is not one of choir's");
  if (!choir_join_hostname_ok(choir_json_string(asked, "hostname", "")))
    return wrong(error, "hostname must be lower-case letters, digits and dashes; set another with hostnamectl");
  if (!choir_join_hex_ok(choir_json_string(asked, "machine_id", ""), 32))
    return wrong(error, "machine_id must be the 32 digits of /etc/machine-id");
  if (!choir_join_hex_ok(choir_json_string(asked, "key", ""), 64))
    return wrong(error, "key must be 64 hex digits that the machine made");
  if (json_object_get(asked, "address") && (!address || !choir_join_address_ok(address)))
    return wrong(error, "address must be an IP address of the machine");
  if (*mac && !mac_ok(mac))
    return wrong(error, "mac must look like 00:1e:c9:2f:aa:01");
  if (!printable(choir_json_string(asked, "ssh_host_key", ""), 1024) ||
      !printable(choir_json_string(asked, "cpu", ""), 64))
    return wrong(error, "ssh_host_key and cpu must be short and printable");
  if (ram < 0 || ram > 16 * 1024 * 1024)
    return wrong(error, "ram_mb must be the machine's memory in MB");
  return TRUE;
}
