/* Nomad's HTTP API (v1), read only: single questions with a token from a file. Main thread only. */
#pragma once
#include <gio/gio.h>
#include <jansson.h>
#include "net/http_client.h"

typedef struct ChoirNomad ChoirNomad;

#define CHOIR_NOMAD_ERROR (choir_nomad_error_quark())
GQuark choir_nomad_error_quark(void);
enum {
  CHOIR_NOMAD_ERROR_AWAY,   /* it does not answer */
  CHOIR_NOMAD_ERROR_DENIED, /* the token is unknown or not allowed to */
  CHOIR_NOMAD_ERROR_NONE,   /* there is no such thing */
  CHOIR_NOMAD_ERROR_ANSWER, /* what came is not Nomad's */
};

/* url: "http://127.0.0.1:4646" or "127.0.0.1:4646". token_file may be NULL or empty. */
ChoirNomad *choir_nomad_new(const char *url, const char *token_file);
void choir_nomad_free(ChoirNomad *nomad); /* no callback runs any more */
const char *choir_nomad_url(const ChoirNomad *nomad);

/* Exactly once; json and text borrowed. text: the body of what is no JSON (a log). */
typedef void (*ChoirNomadDone)(const json_t *json, const char *text, const GError *error, gpointer user);
void choir_nomad_get(ChoirNomad *nomad, const char *path, guint timeout_ms, ChoirNomadDone done, gpointer user);
/* The end of a task's log, at most `bytes`. alloc: its id; type: "stdout" or "stderr". The task's name is escaped. */
void choir_nomad_log(ChoirNomad *nomad, const char *alloc, const char *task, const char *type, guint bytes,
                     ChoirNomadDone done, gpointer user);
gboolean choir_nomad_id_ok(const char *id); /* of an allocation */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirNomad, choir_nomad_free)
