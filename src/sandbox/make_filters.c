/* Run once by the build: libseccomp's compiler takes milliseconds, and what it makes is the same at every start.
 *
 * usage: make-filters > filters_made.h */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <linux/filter.h>
#include <glib.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define NEW_NAMESPACES                                                                                                 \
  (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |         \
   CLONE_NEWTIME)

/* Kernel surface and everything that reaches outside: names, because some are unknown to older libraries. */
static const char *const denied[] = {
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mbind",
    "migrate_pages",
    "modify_ldt",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "set_mempolicy",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "uselib",
    "vhangup",
};
static const char *const signalling[] = {
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"};

static const char *const priorities[] = {"setpriority", "sched_setscheduler", "sched_setparam", "sched_setattr",
                                         "ioprio_set"};
static const char *const metadata[] = {
    "chmod",        "fchmod",       "fchmodat", "fchmodat2", "chown",     "fchown",
    "lchown",       "fchownat",     "setxattr", "lsetxattr", "fsetxattr", "removexattr",
    "lremovexattr", "fremovexattr", "utime",    "utimes",    "futimesat", "utimensat",
};

static int deny(scmp_filter_ctx filter, const char *name) {
  int call = seccomp_syscall_resolve_name(name);
  return call == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0);
}

static int deny_by_arguments(scmp_filter_ctx filter) {
  int bad = 0;
  for (guint bit = 0; bit < 32; bit++)
    if (NEW_NAMESPACES & (1u << bit))
      bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                              SCMP_A0(SCMP_CMP_MASKED_EQ, 1u << bit, 1u << bit));
  /* Its flags lie in memory, where no filter can look; the C library then falls back on clone(). */
  bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                          SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, TIOCSTI));
  bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                          SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, TIOCLINUX));
  static const unsigned devices[] = {S_IFCHR, S_IFBLK};
  for (guint i = 0; i < G_N_ELEMENTS(devices); i++) {
    bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mknod), 1,
                            SCMP_A1(SCMP_CMP_MASKED_EQ, S_IFMT, devices[i]));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mknodat), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, S_IFMT, devices[i]));
  }
  /* Set-user-id bits would outlive the sandbox. */
  for (unsigned bit = S_ISGID; bit <= S_ISUID; bit <<= 1) {
    bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(chmod), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, bit, bit));
    bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(fchmod), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, bit, bit));
    bad |=
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(fchmodat), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, bit, bit));
  }
  return bad;
}

static int deny_sockets(scmp_filter_ctx filter, gboolean network) {
  if (!network)
    return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 0);
  static const int allowed[] = {AF_UNIX, AF_INET, AF_INET6};
  int bad = 0;
  for (int family = 0; family < 64; family++) {
    gboolean known = FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(allowed); i++)
      known |= allowed[i] == family;
    if (!known)
      bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (guint)family));
  }
  bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_GE, 64));
  return bad | seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                                SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_RAW));
}

/* 0, or an error of libseccomp. */
static int fill(scmp_filter_ctx filter, gboolean network, gboolean signals, gboolean outside) {
  int bad = deny_by_arguments(filter) | deny_sockets(filter, network);
  for (guint i = 0; i < G_N_ELEMENTS(denied); i++)
    bad |= deny(filter, denied[i]);
  for (guint i = 0; i < G_N_ELEMENTS(priorities); i++)
    bad |= deny(filter, priorities[i]);
  for (guint i = 0; outside && i < G_N_ELEMENTS(metadata); i++)
    bad |= deny(filter, metadata[i]);
  /* Its own limits only: other processes of the user are within reach of the call. */
  bad |= seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prlimit64), 1, SCMP_A0(SCMP_CMP_NE, 0));
  for (guint i = 0; !signals && i < G_N_ELEMENTS(signalling); i++)
    bad |= deny(filter, signalling[i]);
  return bad;
}

static gboolean print(FILE *bpf, guint number) {
  struct sock_filter step;
  printf("static const struct sock_filter filter_%u[] = {\n", number);
  rewind(bpf);
  while (fread(&step, sizeof step, 1, bpf) == 1)
    printf("  {0x%x, %u, %u, 0x%x},\n", step.code, step.jt, step.jf, step.k);
  puts("};");
  return !ferror(bpf);
}

int main(void) {
  for (guint number = 0; number < 8; number++) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW); /* other ABIs (32 bit, x32) end the program */
    FILE *bpf = tmpfile();
    int bad = filter && bpf ? fill(filter, number & 1, number >> 1 & 1, number >> 2 & 1) : -ENOMEM;
    if (bad == 0)
      bad = seccomp_export_bpf(filter, fileno(bpf));
    if (bad != 0 || !print(bpf, number)) {
      fprintf(stderr, "make-filters: libseccomp cannot make filter %u: error %d\n", number, bad);
      return 1;
    }
    fclose(bpf);
    seccomp_release(filter);
  }
  return fflush(stdout) == 0 ? 0 : 1;
}
