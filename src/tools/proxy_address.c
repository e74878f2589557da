#include "tools/proxy_address.h"
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>

typedef struct {
  guint32 net;
  guint bits;
  const char *what;
} Block;

static const Block blocks[] = {{0x00000000, 8, "an address of this network"},
                               {0x0a000000, 8, "a private address"},
                               {0x64400000, 10, "an address of a provider's own network"},
                               {0x7f000000, 8, "this machine"},
                               {0xa9fe0000, 16, "a link-local address"},
                               {0xac100000, 12, "a private address"},
                               {0xc0000000, 24, "a reserved address"},
                               {0xc0000200, 24, "a reserved address"},
                               {0xc0586300, 24, "a reserved address"},
                               {0xc0a80000, 16, "a private address"},
                               {0xc6120000, 15, "a reserved address"},
                               {0xc6336400, 24, "a reserved address"},
                               {0xcb007100, 24, "a reserved address"},
                               {0xe0000000, 4, "a multicast address"},
                               {0xf0000000, 4, "a reserved address"}};

static const char *refused4(const guint8 bytes[4]) {
  guint32 address = (guint32)bytes[0] << 24 | (guint32)bytes[1] << 16 | (guint32)bytes[2] << 8 | bytes[3];
  for (guint i = 0; i < G_N_ELEMENTS(blocks); i++)
    if (((address ^ blocks[i].net) >> (32 - blocks[i].bits)) == 0)
      return blocks[i].what;
  return NULL;
}

static const char *refused6(const guint8 b[16]) {
  static const guint8 mapped[12] = {[10] = 0xff, [11] = 0xff};
  if (memcmp(b, mapped, sizeof mapped) == 0)
    return refused4(b + 12);
  /* Only 2000::/3 is handed out to the world. What carries an IPv4 address inside (6to4, Teredo, NAT64) could lead
   * back into the house. */
  if ((b[0] & 0xe0) != 0x20)
    return b[0] == 0xff                            ? "a multicast address"
           : b[0] == 0xfe && (b[1] & 0xc0) == 0x80 ? "a link-local address"
           : (b[0] & 0xfe) == 0xfc                 ? "a private address"
                                                   : "a reserved address";
  gboolean special = b[0] == 0x20 && b[1] == 0x01 && (b[2] < 0x02 || (b[2] == 0x0d && b[3] == 0xb8));
  gboolean six_to_four = b[0] == 0x20 && b[1] == 0x02, documents = b[0] == 0x3f && b[1] == 0xff && b[2] < 0x10;
  return special || six_to_four || documents ? "a reserved address" : NULL;
}

static gboolean is_own(const guint8 *bytes, gsize size) {
  struct ifaddrs *all = NULL;
  gboolean own = FALSE;
  if (getifaddrs(&all) != 0)
    return TRUE; /* not known: refused */
  for (struct ifaddrs *one = all; one && !own; one = one->ifa_next) {
    if (!one->ifa_addr)
      continue;
    if (size == 4 && one->ifa_addr->sa_family == AF_INET)
      own = memcmp(&((struct sockaddr_in *)(void *)one->ifa_addr)->sin_addr, bytes, 4) == 0;
    if (size == 16 && one->ifa_addr->sa_family == AF_INET6)
      own = memcmp(&((struct sockaddr_in6 *)(void *)one->ifa_addr)->sin6_addr, bytes, 16) == 0;
  }
  freeifaddrs(all);
  return own;
}

const char *proxy_address_refused(GInetAddress *address) {
  gsize size = g_inet_address_get_native_size(address);
  const guint8 *bytes = g_inet_address_to_bytes(address);
  const char *what = size == 4 ? refused4(bytes) : refused6(bytes);
  if (what)
    return what;
  gboolean mapped = size == 16 && bytes[0] == 0;
  return is_own(mapped ? bytes + 12 : bytes, mapped ? 4 : size) ? "this machine" : NULL;
}
