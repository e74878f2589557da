/* owners.json: {"version":1,"people":[...],"tokens":[...],"sessions":[...]}, mode 0600, replaced as a whole. */
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include "base/text.h"
#include "web/owners_private.h"

#define VERSION 1

void choir_owners_person_free(gpointer data) {
  Person *person = data;
  g_free(person->name);
  g_free(person->hash);
  g_free(person);
}

void choir_owners_token_free(gpointer data) {
  Token *token = data;
  g_free(token->name);
  g_free(token->sha256);
  g_free(token);
}

void choir_owners_session_free(gpointer data) {
  Session *session = data;
  g_free(session->sha256);
  g_free(session->name);
  g_free(session);
}

static gboolean is_sha256(const char *text) {
  return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static gboolean load_person(ChoirOwners *owners, const json_t *item) {
  const char *name = choir_json_string(item, "name", ""), *hash = choir_json_string(item, "hash", "");
  ChoirRole role = choir_role_parse(choir_json_string(item, "role", ""));
  if (!*name || !*hash || role == CHOIR_ROLE_NONE)
    return FALSE;
  Person *person = g_new0(Person, 1);
  person->name = g_strdup(name);
  person->hash = g_strdup(hash);
  person->role = role;
  person->created = choir_json_int(item, "created", 0);
  g_ptr_array_add(owners->people, person);
  return TRUE;
}

static gboolean load_token(ChoirOwners *owners, const json_t *item) {
  const char *name = choir_json_string(item, "name", ""), *sha256 = choir_json_string(item, "sha256", "");
  ChoirRole role = choir_role_parse(choir_json_string(item, "role", ""));
  if (!*name || !is_sha256(sha256) || role == CHOIR_ROLE_NONE || role == CHOIR_ROLE_OWNER)
    return FALSE;
  Token *token = g_new0(Token, 1);
  token->name = g_strdup(name);
  token->sha256 = g_strdup(sha256);
  token->role = role;
  token->created = choir_json_int(item, "created", 0);
  g_ptr_array_add(owners->tokens, token);
  return TRUE;
}

static gboolean load_session(ChoirOwners *owners, const json_t *item) {
  const char *name = choir_json_string(item, "name", ""), *sha256 = choir_json_string(item, "sha256", "");
  if (!*name || !is_sha256(sha256))
    return FALSE;
  Session *session = g_new0(Session, 1);
  session->name = g_strdup(name);
  session->sha256 = g_strdup(sha256);
  session->expires = choir_json_int(item, "expires", 0);
  g_ptr_array_add(owners->sessions, session);
  return TRUE;
}

static gboolean load_list(ChoirOwners *owners, const json_t *all, const char *key,
                          gboolean (*load)(ChoirOwners *, const json_t *)) {
  const json_t *list = json_object_get(all, key);
  gboolean good = json_is_array(list);
  for (size_t i = 0; good && i < json_array_size(list); i++)
    good = load(owners, json_array_get(list, i));
  return good;
}

gboolean choir_owners_load(ChoirOwners *owners, GError **error) {
  g_autofree char *text = NULL;
  gsize length;
  g_autoptr(GError) why = NULL;
  if (!g_file_get_contents(owners->path, &text, &length, &why)) {
    if (g_error_matches(why, G_FILE_ERROR, G_FILE_ERROR_NOENT))
      return TRUE;
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_FILE, "cannot read who owns this Choir: %s",
                why->message);
    return FALSE;
  }
  json_auto_t *all = choir_json_parse(text, length, NULL);
  if (choir_json_int(all, "version", 0) != VERSION || !load_list(owners, all, "people", load_person) ||
      !load_list(owners, all, "tokens", load_token) || !load_list(owners, all, "sessions", load_session)) {
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_FILE,
                "%s is damaged; restore it from a backup, or remove it to set the owner up anew", owners->path);
    return FALSE;
  }
  if (g_chmod(owners->path, 0600) != 0) {
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_FILE, "%s cannot be made private: %s", owners->path,
                g_strerror(errno));
    return FALSE;
  }
  return TRUE;
}

gboolean choir_owners_save(const ChoirOwners *owners, GError **error) {
  json_auto_t *all = json_pack("{s:i,s:[],s:[],s:[]}", "version", VERSION, "people", "tokens", "sessions");
  for (guint i = 0; i < owners->people->len; i++) {
    const Person *person = owners->people->pdata[i];
    json_array_append_new(json_object_get(all, "people"),
                          json_pack("{s:s,s:s,s:s,s:I}", "name", person->name, "role", choir_role_name(person->role),
                                    "hash", person->hash, "created", (json_int_t)person->created));
  }
  for (guint i = 0; i < owners->tokens->len; i++) {
    const Token *token = owners->tokens->pdata[i];
    json_array_append_new(json_object_get(all, "tokens"),
                          json_pack("{s:s,s:s,s:s,s:I}", "name", token->name, "role", choir_role_name(token->role),
                                    "sha256", token->sha256, "created", (json_int_t)token->created));
  }
  for (guint i = 0; i < owners->sessions->len; i++) {
    const Session *session = owners->sessions->pdata[i];
    json_array_append_new(json_object_get(all, "sessions"),
                          json_pack("{s:s,s:s,s:I}", "name", session->name, "sha256", session->sha256, "expires",
                                    (json_int_t)session->expires));
  }
  g_autofree char *text = choir_json_dump(all);
  g_autoptr(GError) why = NULL;
  if (g_file_set_contents_full(owners->path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                               0600, &why))
    return TRUE;
  g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_FILE, "cannot save: %s", why->message);
  return FALSE;
}
