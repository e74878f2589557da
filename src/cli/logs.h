/* The parts of `choir logs` that need no cluster. Pure. */
#pragma once
#include <glib.h>
#include <jansson.h>

/* Of each stream, in Consul, whose values hold 512 kB. */
#define CHOIR_LOGS_KEPT (64 * 1024)
#define CHOIR_LOGS_KEPT_TEXT "64 kB"

/* The last `lines` lines of text (0 = all); part of it. */
const char *choir_logs_tail(const char *text, guint lines);
/* What is kept of a run. Caller decrefs. */
json_t *choir_logs_record(const char *alloc, const char *node, const char *task, const char *out, const char *err);
char *choir_logs_key(const char *name_space, const char *job); /* path of Consul's API; caller frees */
