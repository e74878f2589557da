#include "sandbox/tree.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIDS_MAX (1u << 22) /* the kernel's own limit */

/* What a small file of /proc holds, "" when it is gone. */
static gssize read_text(const char *path, char *text, gsize room) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  gssize length = fd >= 0 ? read(fd, text, room - 1) : -1;
  if (fd >= 0)
    close(fd);
  text[MAX(length, 0)] = '\0';
  return length;
}

static gboolean append(ChoirTree *tree, pid_t pid) {
  if ((tree->n & (tree->n - 1)) == 0) { /* a power of two: full */
    pid_t *more = tree->n < PIDS_MAX ? realloc(tree->pids, MAX(2 * tree->n, 1) * sizeof *more) : NULL;
    if (!more)
      return FALSE;
    tree->pids = more;
  }
  tree->pids[tree->n++] = pid;
  return TRUE;
}

static void add_resident(ChoirTree *tree, pid_t pid) {
  char path[64], text[128];
  long pages;
  snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
  read_text(path, text, sizeof text);
  if (sscanf(text, "%*s %ld", &pages) == 1)
    tree->resident_kb += (guint64)pages * 4;
}

/* The children of one thread. FALSE: this kernel does not tell (CONFIG_PROC_CHILDREN), or the thread is gone. */
static gboolean append_children(ChoirTree *tree, pid_t pid, const char *thread) {
  char path[96], word[32];
  snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", (int)pid, thread);
  FILE *file = fopen(path, "re");
  while (file && fscanf(file, "%31s", word) == 1)
    if (!append(tree, atoi(word)))
      break;
  if (file)
    fclose(file);
  return file != NULL;
}

/* Of all its threads: any of them may have forked. */
static gboolean append_family(ChoirTree *tree, pid_t pid) {
  char path[64];
  gboolean known = FALSE;
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR *threads = opendir(path);
  for (struct dirent *entry = threads ? readdir(threads) : NULL; entry; entry = readdir(threads))
    if (isdigit((unsigned char)entry->d_name[0]))
      known |= append_children(tree, pid, entry->d_name);
  if (threads)
    closedir(threads);
  return known;
}

/* The parent of a process, 0 when it is gone. Its name in brackets may hold anything, so fields count from the last. */
static pid_t parent_of(const char *name) {
  char path[64], text[512];
  int parent = 0;
  snprintf(path, sizeof path, "/proc/%.20s/stat", name);
  read_text(path, text, sizeof text);
  const char *rest = strrchr(text, ')');
  return rest && sscanf(rest + 2, "%*c %d", &parent) == 1 ? parent : 0;
}

static void append_by_parent(ChoirTree *tree, pid_t parent) {
  DIR *proc = opendir("/proc");
  for (struct dirent *entry = proc ? readdir(proc) : NULL; entry; entry = readdir(proc))
    if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == parent)
      append(tree, atoi(entry->d_name));
  if (proc)
    closedir(proc);
}

/* By a look at every process of the machine, where the kernel does not say who is whose child. */
static void read_by_parent(pid_t root, ChoirTree *tree) {
  append_by_parent(tree, root);
  for (guint i = 0; i < tree->n; i++) {
    add_resident(tree, tree->pids[i]);
    append_by_parent(tree, tree->pids[i]);
  }
}

void choir_tree_read(pid_t root, ChoirTree *ret_tree) {
  *ret_tree = (ChoirTree){NULL, 0, 0};
  if (!append_family(ret_tree, root)) {
    read_by_parent(root, ret_tree);
    return;
  }
  for (guint i = 0; i < ret_tree->n; i++) {
    add_resident(ret_tree, ret_tree->pids[i]);
    append_family(ret_tree, ret_tree->pids[i]);
  }
}

void choir_tree_clear(ChoirTree *tree) {
  free(tree->pids);
  *tree = (ChoirTree){NULL, 0, 0};
}
