/* The systemd unit that starts Choir at boot. Text only: no systemd is asked. */
#pragma once
#include <glib.h>

typedef struct {
  const char *program; /* absolute path of choir */
  const char *user;    /* who runs it; NULL: a unit of a user's own systemd */
  const char *state;   /* absolute; NULL: the default of that user */
  const char *config;  /* absolute; NULL: the default */
  gboolean lan;
} ChoirServiceUnit;

/* The unit's text; caller frees. NULL with error where a path cannot stand in a unit. */
char *choir_service_unit(const ChoirServiceUnit *unit, GError **error);
