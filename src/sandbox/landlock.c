/* Source: Documentation/userspace-api/landlock.rst. The constants stand here because the headers of bookworm stop at
 * ABI 2. */
#include "sandbox/landlock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef __NR_landlock_create_ruleset
#define __NR_landlock_create_ruleset 444
#define __NR_landlock_add_rule 445
#define __NR_landlock_restrict_self 446
#endif
#define CREATE_VERSION 1u
#define RULE_PATH_BENEATH 1

#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_REMOVE_DIR (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_CHAR (1ull << 6)
#define FS_MAKE_DIR (1ull << 7)
#define FS_MAKE_REG (1ull << 8)
#define FS_MAKE_SOCK (1ull << 9)
#define FS_MAKE_FIFO (1ull << 10)
#define FS_MAKE_BLOCK (1ull << 11)
#define FS_MAKE_SYM (1ull << 12)
#define FS_REFER (1ull << 13)     /* ABI 2 */
#define FS_TRUNCATE (1ull << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (1ull << 15) /* ABI 5 */
#define NET_BIND_TCP (1ull << 0)  /* ABI 4 */
#define NET_CONNECT_TCP (1ull << 1)
#define SCOPE_ABSTRACT_UNIX (1ull << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ull << 1)

#define READ (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
#define DEVICES (FS_MAKE_CHAR | FS_MAKE_BLOCK)
#define FILE_ONLY (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

typedef struct {
  uint64_t handled_fs, handled_net, scoped;
} Ruleset;
typedef struct {
  uint64_t allowed;
  int32_t parent_fd;
} __attribute__((packed)) PathBeneath;

int choir_landlock_abi(void) {
  long abi = syscall(__NR_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
  return abi > 0 ? (int)abi : 0;
}

static gboolean allow(int ruleset, const char *path, uint64_t rights) {
  int fd = open(path, O_PATH | O_CLOEXEC);
  struct stat status;
  if (fd < 0)
    return errno == ENOENT || errno == EACCES || errno == ENOTDIR; /* what is not there need not be allowed */
  if (fstat(fd, &status) == 0 && !S_ISDIR(status.st_mode))
    rights &= FILE_ONLY;
  PathBeneath rule = {rights, fd};
  long done = syscall(__NR_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0);
  close(fd);
  return done == 0;
}

gboolean choir_landlock_apply(const ChoirLandlockRules *rules) {
  int abi = choir_landlock_abi();
  if (abi == 0) {
    errno = ENOSYS;
    return FALSE;
  }
  Ruleset set = {.handled_fs = (1ull << 13) - 1};
  if (abi >= 2)
    set.handled_fs |= FS_REFER;
  if (abi >= 3)
    set.handled_fs |= FS_TRUNCATE;
  if (abi >= 4 && !rules->tcp)
    set.handled_net = NET_BIND_TCP | NET_CONNECT_TCP;
  if (abi >= 5)
    set.handled_fs |= FS_IOCTL_DEV;
  if (abi >= 6)
    set.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
  gsize size = abi >= 6 ? sizeof set : abi >= 4 ? 16 : 8;
  int fd = (int)syscall(__NR_landlock_create_ruleset, &set, size, 0);
  if (fd < 0)
    return FALSE;
  gboolean ok = TRUE;
  for (guint i = 0; ok && rules->read && rules->read[i]; i++)
    ok = allow(fd, rules->read[i], READ & set.handled_fs);
  for (guint i = 0; ok && rules->write && rules->write[i]; i++)
    ok = allow(fd, rules->write[i], set.handled_fs & ~DEVICES);
  ok = ok && syscall(__NR_landlock_restrict_self, fd, 0) == 0;
  int code = errno;
  close(fd);
  errno = code;
  return ok;
}
