/* Who may do what: people with passwords, tokens of programs, and the sessions of logged-in browsers, in one file that
 * no tool can write. Passwords are hashed (yescrypt) on a thread of their own; everything else is main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "base/principal.h"

typedef struct ChoirOwners ChoirOwners;
/* error: why not, NULL = done. */
typedef void (*ChoirOwnersDone)(const GError *error, gpointer user);

#define CHOIR_OWNERS_ERROR (choir_owners_error_quark())
GQuark choir_owners_error_quark(void);
enum {
  CHOIR_OWNERS_ERROR_INVALID, /* name, role or password cannot be */
  CHOIR_OWNERS_ERROR_EXISTS,
  CHOIR_OWNERS_ERROR_UNKNOWN,
  CHOIR_OWNERS_ERROR_WRONG, /* password */
  CHOIR_OWNERS_ERROR_LAST,  /* the last owner stays */
  CHOIR_OWNERS_ERROR_BUSY,  /* too many passwords at once */
  CHOIR_OWNERS_ERROR_FILE,
};

/* path: owners.json; a missing one means nobody. NULL with error when it cannot be read or is not whole: the daemon
 * must not start then, for it would take a stranger for the first comer. */
ChoirOwners *choir_owners_open(const char *path, GError **error);
void choir_owners_free(ChoirOwners *owners);            /* passwords under way still answer */
gboolean choir_owners_exist(const ChoirOwners *owners); /* there is an owner */

/* The set-up code of this start, "ABCD-EFGH"; NULL once an owner exists. */
const char *choir_owners_code(const ChoirOwners *owners);
gboolean choir_owners_code_is(const ChoirOwners *owners, const char *code); /* case and dashes do not matter */

/* "viewer" ...; NONE for anything else. */
ChoirRole choir_role_parse(const char *name);
const char *choir_role_name(ChoirRole role);

/* first: only as long as there is no owner (the race of two set-ups has one winner). */
void choir_owners_add(ChoirOwners *owners, const char *name, ChoirRole role, const char *password, gboolean first,
                      ChoirOwnersDone done, gpointer user);
void choir_owners_set_password(ChoirOwners *owners, const char *name, const char *password, ChoirOwnersDone done,
                               gpointer user); /* ends the sessions of that person */
/* Takes as long for an unknown name as for a known one. */
void choir_owners_check(ChoirOwners *owners, const char *name, const char *password, ChoirOwnersDone done,
                        gpointer user);
gboolean choir_owners_remove(ChoirOwners *owners, const char *name, GError **error);
json_t *choir_owners_list(const ChoirOwners *owners); /* [{"name","role","created"}]; caller decrefs */

/* A new session of that person; the secret for its cookie, NULL with error. Caller frees. */
char *choir_owners_session_new(ChoirOwners *owners, const char *name, GError **error);
void choir_owners_session_end(ChoirOwners *owners, const char *secret_sha256);
/* Name (belongs to owners) or NULL. */
const char *choir_owners_session(const ChoirOwners *owners, const char *secret_sha256, ChoirRole *ret_role);
#define CHOIR_SESSION_SECONDS (30 * 24 * 3600)

/* role: viewer, operator or approver. The token, shown once; caller frees. */
char *choir_owners_token_new(ChoirOwners *owners, const char *name, ChoirRole role, GError **error);
gboolean choir_owners_token_revoke(ChoirOwners *owners, const char *name, GError **error);
const char *choir_owners_token(ChoirOwners *owners, const char *token_sha256, ChoirRole *ret_role);
json_t *choir_owners_tokens(const ChoirOwners *owners); /* [{"name","role","created","used"}]; caller decrefs */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirOwners, choir_owners_free)
