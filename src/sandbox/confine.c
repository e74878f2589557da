#include "sandbox/confine.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sandbox/filter.h"
#include "sandbox/landlock.h"

#define INSIDE "/run/choir-sandbox" /* this program, inside bubblewrap's mounts */
#define OPEN_FILES 256
#define OTHER_ARGS 32 /* what choir_confine_bwrap() adds one by one, with the NULL at the end */

/* Other people's things: empty inside, and nothing in them can be reached. */
static const char *const masked[] = {"/home",     "/root",    "/mnt", "/media", "/srv", "/var/lib", "/var/spool",
                                     "/var/mail", "/var/log", "/opt", "/boot",  "/sys", NULL};
static const char *const masked_files[] = {"/etc/shadow",      "/etc/gshadow",  "/etc/sudoers", "/etc/ssh",
                                           "/etc/ssl/private", "/etc/consul.d", "/etc/nomad.d", NULL};

static gboolean is_folder(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

typedef struct {
  char **list;
  guint n;
} Args;

static void add(Args *args, const char *text) {
  args->list[args->n++] = (char *)text;
}

static void bind_path(Args *args, const char *option, const char *from, const char *to) {
  add(args, option);
  add(args, from);
  add(args, to);
}

static void mask(Args *args, const char *path) {
  if (is_folder(path)) {
    add(args, "--tmpfs");
    add(args, path);
  } else if (access(path, F_OK) == 0) {
    bind_path(args, "--ro-bind", "/dev/null", path);
  }
}

static guint count(char *const *texts) {
  guint n = 0;
  while (texts[n])
    n++;
  return n;
}

char **choir_confine_bwrap(const ChoirLimits *limits, const char *self, int spec_fd) {
  static const char *const fixed[] = {"bwrap",
                                      "--die-with-parent",
                                      "--unshare-user",
                                      "--unshare-pid",
                                      "--unshare-ipc",
                                      "--unshare-uts",
                                      "--unshare-cgroup-try",
                                      "--hostname",
                                      "sandbox",
                                      "--cap-drop",
                                      "ALL",
                                      "--ro-bind",
                                      "/",
                                      "/",
                                      "--dev",
                                      "/dev",
                                      "--proc",
                                      "/proc",
                                      "--tmpfs",
                                      "/tmp",
                                      "--tmpfs",
                                      "/run",
                                      "--tmpfs",
                                      "/var/tmp",
                                      NULL};
  static char number[16];
  gsize most = G_N_ELEMENTS(fixed) + 3 * (G_N_ELEMENTS(masked) + G_N_ELEMENTS(masked_files)) +
               3 * ((gsize)count(limits->hidden) + count(limits->writable)) + OTHER_ARGS;
  Args args = {calloc(most, sizeof *args.list), 0};
  if (!args.list)
    return NULL;
  for (guint i = 0; fixed[i]; i++)
    add(&args, fixed[i]);
  if (!limits->network)
    add(&args, "--unshare-net");
  if (!limits->pty) /* a terminal's session is made by choir-sandbox, which gives it its controlling terminal */
    add(&args, "--new-session");
  for (guint i = 0; masked[i]; i++)
    mask(&args, masked[i]);
  for (guint i = 0; masked_files[i]; i++)
    mask(&args, masked_files[i]);
  for (guint i = 0; limits->hidden[i]; i++)
    mask(&args, limits->hidden[i]);
  for (guint i = 0; limits->writable[i]; i++)
    bind_path(&args, "--bind", limits->writable[i], limits->writable[i]);
  if (limits->network && is_folder("/run/systemd/resolve")) /* where /etc/resolv.conf may point to */
    bind_path(&args, "--ro-bind", "/run/systemd/resolve", "/run/systemd/resolve");
  if (limits->proxy_socket)
    bind_path(&args, "--bind", limits->proxy_socket, "/run/proxy.sock");
  bind_path(&args, "--ro-bind", self, INSIDE);
  add(&args, "--chdir");
  add(&args, limits->cwd);
  add(&args, "--");
  add(&args, INSIDE);
  add(&args, "--inner");
  snprintf(number, sizeof number, "%d", spec_fd);
  add(&args, number);
  return args.list;
}

static void limit(int which, guint64 most) {
  struct rlimit now;
  if (getrlimit((__rlimit_resource_t)which, &now) != 0)
    return;
  struct rlimit wanted = {MIN((rlim_t)most, now.rlim_max), MIN((rlim_t)most, now.rlim_max)};
  setrlimit((__rlimit_resource_t)which, &wanted);
}

/* The system folders a program needs to run at all. Without bubblewrap nothing else can be read. */
static const char *const system_read[] = {"/usr",
                                          "/bin",
                                          "/sbin",
                                          "/lib",
                                          "/lib32",
                                          "/lib64",
                                          "/libx32",
                                          "/etc/ld.so.cache",
                                          "/etc/ld.so.conf",
                                          "/etc/ld.so.conf.d",
                                          "/etc/passwd",
                                          "/etc/group",
                                          "/etc/nsswitch.conf",
                                          "/etc/hosts",
                                          "/etc/host.conf",
                                          "/etc/alternatives",
                                          "/etc/localtime",
                                          "/etc/timezone",
                                          "/etc/mime.types",
                                          "/etc/profile",
                                          "/etc/bash.bashrc",
                                          "/etc/inputrc",
                                          "/etc/terminfo",
                                          "/etc/python3",
                                          "/etc/python3.11",
                                          "/etc/python3.13",
                                          "/etc/ssl/certs",
                                          "/etc/ssl/openssl.cnf",
                                          "/etc/ca-certificates",
                                          "/etc/fonts",
                                          "/etc/magic",
                                          "/etc/locale.alias",
                                          "/etc/gitconfig",
                                          "/etc/resolv.conf",
                                          "/etc/services",
                                          "/etc/protocols",
                                          "/run/systemd/resolve",
                                          "/etc/debian_version",
                                          "/etc/os-release",
                                          "/proc/cpuinfo",
                                          "/proc/meminfo",
                                          "/proc/stat",
                                          "/proc/uptime",
                                          "/proc/loadavg",
                                          "/proc/version",
                                          "/proc/filesystems",
                                          "/sys/devices/system/cpu",
                                          "/dev/null",
                                          "/dev/zero",
                                          "/dev/full",
                                          "/dev/random",
                                          "/dev/urandom",
                                          "/dev/tty",
                                          NULL};
static const char *const everything[] = {"/", NULL};
static const char *const devices[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
                                      "/dev/tty",  "/dev/pts",  "/dev/ptmx", "/dev/shm",    NULL};

/* What may be written, NULL without memory; made before the limits, which may leave no more. */
static const char **writable_paths(const ChoirLimits *limits) {
  const char **write = calloc((gsize)count(limits->writable) + G_N_ELEMENTS(devices) + 2, sizeof *write);
  guint n = 0;
  if (!write)
    return NULL;
  for (guint i = 0; limits->writable[i]; i++)
    write[n++] = limits->writable[i];
  for (guint i = 0; devices[i] && (limits->full || i < 6); i++)
    write[n++] = devices[i];
  if (limits->full)
    write[n++] = "/tmp";
  return write;
}

void choir_confine_exec(const ChoirLimits *limits) {
  int abi = choir_landlock_abi();
  ChoirLandlockRules rules = {.read = limits->full ? everything : system_read,
                              .write = writable_paths(limits),
                              .tcp = limits->proxy_socket != NULL || limits->network};
  if (!rules.write)
    return;
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, limits->cpu_seconds);
  limit(RLIMIT_DATA, (guint64)limits->memory_mb << 20); /* not RLIMIT_AS: V8 and Go reserve far more than they use */
  limit(RLIMIT_FSIZE, (guint64)limits->file_mb << 20);
  limit(RLIMIT_NOFILE, OPEN_FILES);
  limit(RLIMIT_MEMLOCK, 1 << 20);
  limit(RLIMIT_STACK, 64 << 20);
  if (limits->full) /* counted within its own user namespace; otherwise choir-sandbox counts them */
    limit(RLIMIT_NPROC, limits->processes);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    fprintf(stderr, "choir-sandbox: cannot give up privileges: %s\n", strerror(errno));
    return;
  }
  if (!choir_landlock_apply(&rules) && !(limits->full && errno == ENOSYS)) { /* bubblewrap holds without it */
    fprintf(stderr, "choir-sandbox: Landlock: %s\n", strerror(errno));
    return;
  }
  /* Without its own process namespace a signal reaches every process of the user, unless Landlock keeps it in. */
  if (!choir_seccomp_apply(limits->proxy_socket != NULL || limits->network, limits->full || abi >= 6, !limits->full)) {
    fprintf(stderr, "choir-sandbox: seccomp: %s\n", strerror(errno));
    return;
  }
  if (close_range(3, ~0u, 0) != 0)
    return;
  if (chdir(limits->cwd) != 0) {
    fprintf(stderr, "choir-sandbox: cannot enter %s: %s\n", limits->cwd, strerror(errno));
    return;
  }
  execvpe(limits->argv[0], limits->argv, limits->env);
  fprintf(stderr, "choir-sandbox: cannot run %s: %s\n", limits->argv[0], strerror(errno));
}
