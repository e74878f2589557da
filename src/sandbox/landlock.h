/* Landlock: which files a process may read, execute and write, whatever its user may. Linux 5.13 and later; what newer
 * kernels can do besides (refer, truncate, TCP, ioctl, signals and abstract sockets) is used where it is there. */
#pragma once
#include <glib.h>

int choir_landlock_abi(void); /* 0: this kernel has none */

typedef struct {
  const char *const *read;  /* may be read and executed; those that do not exist are left out */
  const char *const *write; /* may be read, executed and changed */
  gboolean tcp;             /* may use TCP */
} ChoirLandlockRules;
/* For the calling thread and all its children, for ever. no_new_privs must be set. FALSE with errno. */
gboolean choir_landlock_apply(const ChoirLandlockRules *rules);
