/* What the mains of choir-ear, choir-stt and choir-tts share: frames in and out, log line, options, figures. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "speech/wire.h"

/* First call of a main: dies with its parent, ignores SIGPIPE, remembers the name for log lines. */
void choir_runner_init(const char *name);
/* Parses options; prints --help and --version itself and exits. Exits 2 on a mistake. */
void choir_runner_options(int *argc, char ***argv, const GOptionEntry *entries, const char *summary);
/* One line on stderr. Any thread. */
void choir_runner_log(const char *format, ...) G_GNUC_PRINTF(1, 2);
/* Blocking: reads into buffer until a whole frame stands at its front, after dropping the previous one. FALSE at the
 * end of the stream or on garbage. The frame is valid until the next call. One thread. */
gboolean choir_runner_read(int fd, GByteArray *buffer, ChoirWireFrame *ret_frame);
/* Sends a frame; the daemon being gone ends the process, as nothing is left to do. Any thread. */
void choir_runner_send(int fd, guint16 type, const ChoirWireFrame *about, guint32 aux, const void *payload,
                       gsize length);
void choir_runner_send_json(int fd, guint16 type, const ChoirWireFrame *about, guint32 aux,
                            json_t *json); /* steals json */
/* about NULL: the worker itself (gen 0). */
void choir_runner_error(int fd, const ChoirWireFrame *about, const char *format, ...) G_GNUC_PRINTF(3, 4);
void choir_runner_status(int fd, double progress, const char *detail);
void choir_runner_ready(int fd, const char *engine, const char *model, double load_ms, const char *detail);
/* The same with members of the worker's own (steals more, which may be NULL); type STATUS: news of a worker that is
 * ready already. Any thread. */
void choir_runner_report(int fd, guint16 type, const char *engine, const char *model, double load_ms,
                         const char *detail, json_t *more);
double choir_runner_wall_ms(void);
double choir_runner_cpu_ms(void); /* of the whole process */
/* ${XDG_CACHE_HOME:-~/.cache}/choir/<relative>; caller frees. */
char *choir_runner_cache_path(const char *relative);
