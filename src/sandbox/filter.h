/* System calls a confined program does without. */
#pragma once
#include <glib.h>

/* network: sockets of the internet families are allowed (its network namespace is its own); otherwise no socket at all
 * but socketpair(). signals: kill() and its kin are allowed. FALSE with errno. */
gboolean choir_seccomp_apply(gboolean network, gboolean signals);
