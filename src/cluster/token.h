/* A secret that lies in a file and is read again when the file changes, so that a token can be renewed while the daemon
 * runs. Main thread only. */
#pragma once
#include <glib.h>

typedef struct ChoirToken ChoirToken;

/* path: NULL or "" = none. fallback: the value where there is no file; may be NULL. */
ChoirToken *choir_token_new(const char *path, const char *fallback);
void choir_token_free(ChoirToken *token);
/* The value of this moment, NULL when there is none. Valid until the next call. */
const char *choir_token_read(ChoirToken *token);
/* Grows whenever a look found another value than the one before. */
guint choir_token_changes(const ChoirToken *token);
/* Why the file gives no token, or NULL. */
const char *choir_token_problem(const ChoirToken *token);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirToken, choir_token_free)
