/* Daemon side of one worker process (choir-ear, choir-stt, choir-tts): supervised child + framed socket + status.
 * Main thread only. Frames to a worker that is not ready are refused (FALSE) and counted; the caller decides. */
#pragma once
#include <glib.h>
#include "base/child.h"
#include "net/hub.h"
#include "speech/wire.h"

typedef struct ChoirWorker ChoirWorker;
typedef void (*ChoirWorkerFrame)(const ChoirWireFrame *frame, gpointer user);
typedef void (*ChoirWorkerState)(ChoirWorker *worker, gboolean ready, gpointer user);

/* argv: program and arguments (copied). name/topic static. nice: added niceness.
 * frame: every frame that is not READY/STATUS. state: on READY and on death (all jobs in flight are lost then). */
ChoirWorker *choir_worker_new(ChoirHub *hub, const char *name, const char *topic, const char *const *argv, int nice,
                              ChoirWorkerFrame frame, ChoirWorkerState state, gpointer user);
void choir_worker_start(ChoirWorker *worker);
void choir_worker_stop(ChoirWorker *worker, void (*done)(gpointer user), gpointer user);
void choir_worker_free(ChoirWorker *worker);
gboolean choir_worker_ready(const ChoirWorker *worker);
gboolean choir_worker_send(ChoirWorker *worker, guint16 type, guint16 flags, guint32 session, guint32 gen, guint32 aux,
                           const void *payload, gsize length);
ChoirChild *choir_worker_child(ChoirWorker *worker);
gsize choir_worker_queued(const ChoirWorker *worker);     /* bytes the worker has not yet read, 8 MiB at most */
const char *choir_worker_info(const ChoirWorker *worker); /* last READY/STATUS JSON, or NULL */
/* choir-phonemes is started with every start of choir-tts, joined to it by a socketpair (fd 4 of choir-tts, 3 of
 * choir-phonemes), and supervised beside it. */
void choir_worker_attach_phonemes(ChoirWorker *tts, const char *const *argv);
ChoirChild *choir_worker_phonemes(ChoirWorker *tts); /* NULL when none is attached */
