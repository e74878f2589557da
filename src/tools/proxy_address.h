/* Which addresses a stranger's page may lead to: those of the public internet. Pure, but for the list of this
 * machine's own. Sources: the special-purpose address registries of IANA (RFC 6890 and its successors). */
#pragma once
#include <gio/gio.h>

/* NULL = public; otherwise what it is ("a private address"), static. */
const char *proxy_address_refused(GInetAddress *address);
