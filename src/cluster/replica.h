/* Which of several servers of one expert is asked. Pure. */
#pragma once
#include <glib.h>

typedef struct {
  gboolean tried;    /* in this answer, and it failed */
  gboolean resting;  /* it failed a moment ago */
  gboolean home;     /* the conversation's prompt is evaluated there */
  gboolean fallback; /* it serves a smaller model than the expert is meant to have */
  gboolean silent;   /* it did not say how busy it is, though it could */
  guint slots, busy; /* of the server; slots 0 = unknown */
  guint asking;      /* questions of ours that are under way there */
  double first_s;    /* how long a first word takes there, of late; 0 = unknown */
} ChoirReplicaLook;

/* A server that is this much slower to its first word than the quickest is overloaded, whatever it says. */
#define CHOIR_REPLICA_SLOW_TIMES 3.0
#define CHOIR_REPLICA_SLOW_S 3.0

gboolean choir_replica_overloaded(const ChoirReplicaLook *looks, guint n, guint index);
/* -1: all were tried. Home stays home unless it is overloaded and another is not; what rests or falls back comes last.
 */
gint choir_replica_choose(const ChoirReplicaLook *looks, guint n);
