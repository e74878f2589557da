/* A TCG plugin for qemu-user that counts the instructions a program executes: qemu-x86_64 -plugin insn.so,counts=FILE.
 * FILE (CELLS 64-bit numbers, made by the caller) is mapped, one number a thread, so that the caller can read it while
 * the program waits for its next job: no start-up cost in any figure, and a model is loaded once for several of them.
 * Counting is by translated block and per thread. The declarations below are the part of qemu-plugin.h that is used;
 * Debian packages no such header. They are the same from qemu 4.2 to 10. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define CELLS 512 /* threads with higher numbers share cells */

struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*cb)(uint64_t id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*cb)(unsigned vcpu, void *data), int flags,
                                          void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = INSN_PLUGIN_VERSION; /* of the qemu that was found when this was configured */

static volatile uint64_t *counts;

static void executed(unsigned vcpu, void *insns) {
  counts[vcpu % CELLS] += (uintptr_t)insns;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
  (void)info;
  const char *path = argc == 1 && strncmp(argv[0], "counts=", 7) == 0 ? argv[0] + 7 : NULL;
  int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0 || lseek(fd, 0, SEEK_END) < (off_t)(CELLS * sizeof *counts)) {
    fprintf(stderr, "insn: the option counts=FILE must name a file of %zu bytes\n", CELLS * sizeof *counts);
    return 1;
  }
  void *map = mmap(NULL, CELLS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (map == MAP_FAILED)
    return 1;
  counts = map;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  return 0;
}
