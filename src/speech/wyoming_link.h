/* A worker's line to a Wyoming server on another machine: one connection for each job, as such servers expect, and a
 * thread that looks, with back-off, whether a lost one is back. Blocking calls belong to the engine's thread. */
#pragma once
#include <glib.h>
#include "net/wyoming.h"

typedef struct ChoirWyomingLink ChoirWyomingLink;
typedef struct ChoirWyomingCall ChoirWyomingCall;
typedef gboolean (*ChoirWyomingCancelled)(gpointer user);
/* Its state changed; from any thread. detail: one sentence for the status page. */
typedef void (*ChoirWyomingReport)(const char *detail, gpointer user);

typedef struct {
  const char *url;      /* tcp://host:port */
  const char *service;  /* "asr" or "tts": what the server must offer */
  const char *what;     /* "the recogniser", "the voice" */
  const char *fallback; /* who does the work meanwhile, NULL = nobody */
  ChoirWyomingReport report;
  gpointer user;
} ChoirWyomingLinkOptions;

#define CHOIR_WYOMING_LINK_ERROR (choir_wyoming_link_error_quark())
GQuark choir_wyoming_link_error_quark(void);
enum {
  CHOIR_WYOMING_LINK_ERROR_URL,
  CHOIR_WYOMING_LINK_ERROR_GONE,   /* not reached, broken off, silent too long */
  CHOIR_WYOMING_LINK_ERROR_REFUSED /* the server said so; the line is good */
};

/* Looks once (2 s at most) and then in the background. NULL with error only for a url that is none; options are copied.
 * ret_detail: the first state. */
ChoirWyomingLink *choir_wyoming_link_new(const ChoirWyomingLinkOptions *options, char **ret_detail, GError **error);
void choir_wyoming_link_free(ChoirWyomingLink *link);
gboolean choir_wyoming_link_up(ChoirWyomingLink *link);
/* A job found it lost. */
void choir_wyoming_link_lost(ChoirWyomingLink *link, const GError *why);

/* NULL with error; NULL without one when cancelled, as with all calls here. */
ChoirWyomingCall *choir_wyoming_call(ChoirWyomingLink *link, ChoirWyomingCancelled cancelled, gpointer user,
                                     GError **error);
void choir_wyoming_call_free(ChoirWyomingCall *call); /* hangs up */
/* data is stolen. */
gboolean choir_wyoming_call_send(ChoirWyomingCall *call, const char *type, json_t *data, const void *payload,
                                 gsize length, GError **error);
/* The next event, waited for silence_ms at most. An "error" event of the server comes as error REFUSED. */
const ChoirWyomingEvent *choir_wyoming_call_next(ChoirWyomingCall *call, guint silence_ms, GError **error);
