/* What owners.c and owners_file.c share. */
#pragma once
#include "web/owners.h"

typedef struct {
  char *name, *hash;
  ChoirRole role;
  gint64 created;
} Person;

typedef struct {
  char *name, *sha256;
  ChoirRole role;
  gint64 created, used; /* used: not kept over a restart */
} Token;

typedef struct {
  char *sha256, *name;
  gint64 expires;
} Session;

struct ChoirOwners {
  gint refs; /* atomic not needed: main thread only */
  char *path;
  GPtrArray *people, *tokens, *sessions;
  char *code;
  GThreadPool *hasher;
  guint hashing;
};

void choir_owners_person_free(gpointer data);
void choir_owners_token_free(gpointer data);
void choir_owners_session_free(gpointer data);
gboolean choir_owners_load(ChoirOwners *owners, GError **error);
gboolean choir_owners_save(const ChoirOwners *owners, GError **error);
