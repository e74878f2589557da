/* System calls a confined program does without. */
#pragma once
#include <glib.h>

/* outside: files and processes that are not its own can be named (there is no namespace of its own), so their modes,
 * owners, times and attributes are not to be touched, which Landlock does not watch over.
 * network: sockets of the internet families are allowed (its network namespace is its own); otherwise no socket at all
 * but socketpair(). signals: kill() and its kin are allowed. FALSE with errno. */
gboolean choir_seccomp_apply(gboolean network, gboolean signals, gboolean outside);
