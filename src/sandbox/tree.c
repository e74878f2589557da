#include "sandbox/tree.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  pid_t pid, parent;
  guint64 resident_kb;
} Row;

/* FALSE: it is gone. The name in brackets may hold anything, so fields are counted from the last bracket. */
static gboolean read_row(const char *name, Row *row) {
  char path[64], text[512];
  int parent;
  long pages;
  g_snprintf(path, sizeof path, "/proc/%.20s/stat", name);
  FILE *file = fopen(path, "re");
  if (!file)
    return FALSE;
  gsize length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[length] = '\0';
  const char *rest = strrchr(text, ')');
  if (!rest || sscanf(rest + 2, "%*c %d", &parent) != 1)
    return FALSE;
  row->pid = atoi(name);
  row->parent = parent;
  row->resident_kb = 0;
  g_snprintf(path, sizeof path, "/proc/%.20s/statm", name);
  file = fopen(path, "re");
  if (file) {
    if (fscanf(file, "%*s %ld", &pages) == 1)
      row->resident_kb = (guint64)pages * 4;
    fclose(file);
  }
  return TRUE;
}

void choir_tree_read(pid_t root, ChoirTree *ret_tree) {
  g_autoptr(GArray) rows = g_array_new(FALSE, FALSE, sizeof(Row));
  ret_tree->pids = g_array_new(FALSE, FALSE, sizeof(pid_t));
  ret_tree->resident_kb = 0;
  DIR *proc = opendir("/proc");
  for (struct dirent *entry = proc ? readdir(proc) : NULL; entry; entry = readdir(proc)) {
    Row row;
    if (g_ascii_isdigit(entry->d_name[0]) && read_row(entry->d_name, &row))
      g_array_append_val(rows, row);
  }
  if (proc)
    closedir(proc);
  for (gssize at = -1; at < (gssize)ret_tree->pids->len; at++) {
    pid_t parent = at < 0 ? root : g_array_index(ret_tree->pids, pid_t, at);
    for (guint i = 0; i < rows->len; i++) {
      const Row *row = &g_array_index(rows, Row, i);
      if (row->parent != parent)
        continue;
      g_array_append_val(ret_tree->pids, row->pid);
      ret_tree->resident_kb += row->resident_kb;
    }
  }
}

void choir_tree_clear(ChoirTree *tree) {
  g_clear_pointer(&tree->pids, g_array_unref);
}
