#include "web/guard_node.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <string.h>
#include <unistd.h>

static void add_name(GPtrArray *list, const char *name) {
  char *lower = g_ascii_strdown(name, -1);
  if (*lower && strcmp(lower, "localhost") != 0 && !g_ptr_array_find_with_equal_func(list, lower, g_str_equal, NULL))
    g_ptr_array_add(list, lower);
  else
    g_free(lower);
}

static void add_address(GPtrArray *list, const struct sockaddr *address) {
  char text[INET6_ADDRSTRLEN + 2] = "[";
  if (address && address->sa_family == AF_INET) {
    const struct in_addr *four = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    if ((ntohl(four->s_addr) >> 24) != 127 && inet_ntop(AF_INET, four, text, sizeof text))
      add_name(list, text);
  } else if (address && address->sa_family == AF_INET6) {
    const struct in6_addr *six = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (IN6_IS_ADDR_LOOPBACK(six) || IN6_IS_ADDR_LINKLOCAL(six) || !inet_ntop(AF_INET6, six, text + 1, sizeof text - 2))
      return;
    g_strlcat(text, "]", sizeof text);
    add_name(list, text);
  }
}

GStrv choir_node_hosts(void) {
  GPtrArray *list = g_ptr_array_new();
  char host[256] = "";
  struct ifaddrs *all = NULL;
  if (gethostname(host, sizeof host - 1) == 0) {
    g_autofree char *first = g_strndup(host, strcspn(host, "."));
    g_autofree char *local = g_strconcat(first, ".local", NULL);
    add_name(list, host);
    add_name(list, first);
    if (*first)
      add_name(list, local);
  }
  if (getifaddrs(&all) == 0) {
    for (const struct ifaddrs *one = all; one; one = one->ifa_next)
      add_address(list, one->ifa_addr);
    freeifaddrs(all);
  }
  g_ptr_array_add(list, NULL);
  return (GStrv)g_ptr_array_free(list, FALSE);
}
