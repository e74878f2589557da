#include "web/owners.h"
#include <crypt.h>
#include <string.h>
#include <sys/random.h>
#include "base/log.h"
#include "base/names.h"
#include "web/owners_private.h"

#define PEOPLE_MAX 100
#define TOKENS_MAX 100
#define SESSIONS_MAX 200
#define HASHING_MAX 8
#define PASSWORD_MIN 8
#define PASSWORD_MAX 256
#define CODE_LENGTH 8

G_DEFINE_QUARK(choir - owners - error - quark, choir_owners_error)

static const char *const role_names[] = {"none", "viewer", "operator", "approver", "owner"};

ChoirRole choir_role_parse(const char *name) {
  for (gsize i = CHOIR_ROLE_VIEWER; i < G_N_ELEMENTS(role_names); i++)
    if (strcmp(role_names[i], name) == 0)
      return (ChoirRole)i;
  return CHOIR_ROLE_NONE;
}

const char *choir_role_name(ChoirRole role) {
  return role_names[role];
}

static gint64 now(void) {
  return g_get_real_time() / G_USEC_PER_SEC;
}

static void random_bytes(guint8 *bytes, gsize length) {
  if (getrandom(bytes, length, 0) != (gssize)length)
    g_error("the kernel gives no random numbers"); /* aborts: nothing here may be guessable */
}

/* 256 random bits behind a prefix. */
static char *random_secret(const char *prefix) {
  guint8 bytes[32];
  GString *text = g_string_new(prefix);
  random_bytes(bytes, sizeof bytes);
  for (gsize i = 0; i < sizeof bytes; i++)
    g_string_append_printf(text, "%02x", bytes[i]);
  return g_string_free(text, FALSE);
}

static char *make_code(void) {
  static const char letters[] = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"; /* 32, none that look alike */
  guint8 bytes[CODE_LENGTH];
  GString *code = g_string_new(NULL);
  random_bytes(bytes, sizeof bytes);
  for (guint i = 0; i < CODE_LENGTH; i++)
    g_string_append_printf(code, "%s%c", i == CODE_LENGTH / 2 ? "-" : "", letters[bytes[i] % 32]);
  return g_string_free(code, FALSE);
}

static void unref(ChoirOwners *owners) {
  if (--owners->refs > 0)
    return;
  g_thread_pool_free(owners->hasher, FALSE, TRUE);
  g_ptr_array_unref(owners->people);
  g_ptr_array_unref(owners->tokens);
  g_ptr_array_unref(owners->sessions);
  g_free(owners->code);
  g_free(owners->path);
  g_free(owners);
}

/* Passwords: hashed and compared on the pool's one thread */

typedef struct {
  ChoirOwners *owners;
  char *name, *password, *against; /* against: hash or setting; NULL = make a new one */
  char *result;
  gboolean known;
  ChoirRole role;
  gboolean first, replace;
  ChoirOwnersDone done;
  gpointer user;
} Job;

static gboolean finish_job(gpointer data);

static void hash_in_thread(gpointer data, gpointer user) {
  Job *job = data;
  char setting[CRYPT_GENSALT_OUTPUT_SIZE];
  struct crypt_data *room = g_new0(struct crypt_data, 1);
  if (!job->against && crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof setting))
    job->against = g_strdup(setting);
  const char *hash = job->against ? crypt_r(job->password, job->against, room) : NULL;
  if (hash && hash[0] != '*')
    job->result = g_strdup(hash);
  explicit_bzero(room, sizeof *room);
  g_free(room);
  g_idle_add_full(G_PRIORITY_DEFAULT, finish_job, job, NULL);
}

static Person *find_person(const ChoirOwners *owners, const char *name) {
  for (guint i = 0; i < owners->people->len; i++) {
    Person *person = owners->people->pdata[i];
    if (strcmp(person->name, name) == 0)
      return person;
  }
  return NULL;
}

gboolean choir_owners_exist(const ChoirOwners *owners) {
  for (guint i = 0; i < owners->people->len; i++)
    if (((const Person *)owners->people->pdata[i])->role == CHOIR_ROLE_OWNER)
      return TRUE;
  return FALSE;
}

/* Every byte is looked at: how long it takes tells nothing of a secret of known length. */
static gboolean same_secret(const char *a, const char *b) {
  gsize length = strlen(a);
  guint8 differs = 0;
  if (length != strlen(b))
    return FALSE;
  for (gsize i = 0; i < length; i++)
    differs |= (guint8)(a[i] ^ b[i]);
  return differs == 0;
}

static void end_sessions_of(ChoirOwners *owners, const char *name) {
  for (guint i = owners->sessions->len; i-- > 0;)
    if (strcmp(((const Session *)owners->sessions->pdata[i])->name, name) == 0)
      g_ptr_array_remove_index(owners->sessions, i);
}

static gboolean store_new(Job *job, GError **error) {
  ChoirOwners *owners = job->owners;
  if (find_person(owners, job->name) || (job->first && choir_owners_exist(owners))) {
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_EXISTS,
                job->first ? "this Choir has an owner already; log in" : "there is somebody of that name already");
    return FALSE;
  }
  Person *person = g_new0(Person, 1);
  person->name = g_strdup(job->name);
  person->hash = g_strdup(job->result);
  person->role = job->role;
  person->created = now();
  g_ptr_array_add(owners->people, person);
  if (!choir_owners_save(owners, error)) {
    g_ptr_array_remove(owners->people, person);
    return FALSE;
  }
  if (choir_owners_exist(owners))
    g_clear_pointer(&owners->code, g_free);
  return TRUE;
}

static gboolean store_password(Job *job, GError **error) {
  Person *person = find_person(job->owners, job->name);
  if (!person) {
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_UNKNOWN, "there is nobody of the name %s", job->name);
    return FALSE;
  }
  g_autofree char *before = g_steal_pointer(&person->hash);
  person->hash = g_strdup(job->result);
  if (!choir_owners_save(job->owners, error)) {
    g_free(person->hash);
    person->hash = g_steal_pointer(&before);
    return FALSE;
  }
  end_sessions_of(job->owners, job->name);
  return choir_owners_save(job->owners, error);
}

static gboolean finish_job(gpointer data) {
  Job *job = data;
  g_autoptr(GError) error = NULL;
  job->owners->hashing--;
  if (!job->result)
    g_set_error_literal(&error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_INVALID, "this password cannot be used");
  else if (job->role != CHOIR_ROLE_NONE)
    store_new(job, &error);
  else if (job->replace)
    store_password(job, &error);
  else if (!job->known || !same_secret(job->result, job->against))
    g_set_error_literal(&error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_WRONG, "name or password is wrong");
  job->done(error, job->user);
  unref(job->owners);
  explicit_bzero(job->password, strlen(job->password));
  g_free(job->password);
  g_free(job->name);
  g_free(job->against);
  g_free(job->result);
  g_free(job);
  return G_SOURCE_REMOVE;
}

static void start_job(ChoirOwners *owners, Job job) {
  if (owners->hashing >= HASHING_MAX) {
    g_autoptr(GError) error = g_error_new_literal(CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_BUSY,
                                                  "too many people log in at this moment; try again");
    g_free(job.against);
    job.done(error, job.user);
    return;
  }
  Job *copy = g_memdup2(&job, sizeof job);
  copy->owners = owners;
  copy->name = g_strdup(job.name);
  copy->password = g_strdup(job.password);
  owners->refs++;
  owners->hashing++;
  g_thread_pool_push(owners->hasher, copy, NULL);
}

static gboolean name_ok(const char *name) {
  glong length = g_utf8_validate(name, -1, NULL) ? g_utf8_strlen(name, -1) : 0;
  if (length < 1 || length > 32 || *name == ' ' || g_str_has_suffix(name, " "))
    return FALSE;
  for (const char *at = name; *at; at = g_utf8_next_char(at))
    if (!g_unichar_isalnum(g_utf8_get_char(at)) && !strchr(" ._-'", *at))
      return FALSE;
  return TRUE;
}

static gboolean check_new(const ChoirOwners *owners, const char *name, const char *password, GError **error) {
  glong length = g_utf8_validate(password, -1, NULL) ? g_utf8_strlen(password, -1) : 0;
  if (!name_ok(name))
    g_set_error_literal(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_INVALID,
                        "a name has 1 to 32 letters, digits, spaces or . _ - '");
  else if (length < PASSWORD_MIN || strlen(password) > PASSWORD_MAX)
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_INVALID,
                "a password has at least %d characters and at most %d bytes", PASSWORD_MIN, PASSWORD_MAX);
  else if (owners->people->len >= PEOPLE_MAX)
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_INVALID, "there are %d people already", PEOPLE_MAX);
  else
    return TRUE;
  return FALSE;
}

void choir_owners_add(ChoirOwners *owners, const char *name, ChoirRole role, const char *password, gboolean first,
                      ChoirOwnersDone done, gpointer user) {
  g_autoptr(GError) error = NULL;
  if (role == CHOIR_ROLE_NONE)
    g_set_error_literal(&error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_INVALID,
                        "a role is viewer, operator, approver or owner");
  else
    check_new(owners, name, password, &error);
  if (!error && find_person(owners, name))
    g_set_error_literal(&error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_EXISTS,
                        "there is somebody of that name already");
  if (error)
    done(error, user);
  else
    start_job(owners, (Job){.name = (char *)name,
                            .password = (char *)password,
                            .role = role,
                            .first = first,
                            .done = done,
                            .user = user});
}

void choir_owners_set_password(ChoirOwners *owners, const char *name, const char *password, ChoirOwnersDone done,
                               gpointer user) {
  g_autoptr(GError) error = NULL;
  if (!check_new(owners, name, password, &error))
    done(error, user);
  else
    start_job(owners,
              (Job){.name = (char *)name, .password = (char *)password, .replace = TRUE, .done = done, .user = user});
}

void choir_owners_check(ChoirOwners *owners, const char *name, const char *password, ChoirOwnersDone done,
                        gpointer user) {
  const Person *person = find_person(owners, name);
  gboolean usable = strlen(password) <= PASSWORD_MAX;
  start_job(owners, (Job){.name = (char *)name,
                          .password = usable ? (char *)password : (char *)"",
                          .against = person ? g_strdup(person->hash) : NULL,
                          .known = person != NULL && usable,
                          .done = done,
                          .user = user});
}

gboolean choir_owners_remove(ChoirOwners *owners, const char *name, GError **error) {
  Person *person = find_person(owners, name);
  guint n = 0;
  for (guint i = 0; i < owners->people->len; i++)
    n += ((const Person *)owners->people->pdata[i])->role == CHOIR_ROLE_OWNER;
  if (!person) {
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_UNKNOWN, "there is nobody of the name %s", name);
    return FALSE;
  }
  if (person->role == CHOIR_ROLE_OWNER && n == 1) {
    g_set_error_literal(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_LAST,
                        "the last owner stays; make another one first");
    return FALSE;
  }
  g_autofree char *copy = g_strdup(name); /* `name` may be the person's own */
  end_sessions_of(owners, copy);
  g_ptr_array_remove(owners->people, person);
  return choir_owners_save(owners, error);
}

json_t *choir_owners_list(const ChoirOwners *owners) {
  json_t *list = json_array();
  for (guint i = 0; i < owners->people->len; i++) {
    const Person *person = owners->people->pdata[i];
    json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "name", person->name, "role", choir_role_name(person->role),
                                          "created", (json_int_t)person->created));
  }
  return list;
}

/* Set-up code */

const char *choir_owners_code(const ChoirOwners *owners) {
  return owners->code;
}

gboolean choir_owners_code_is(const ChoirOwners *owners, const char *code) {
  g_autoptr(GString) given = g_string_new(NULL), wanted = g_string_new(NULL);
  for (const char *at = code; *at && given->len < 64; at++)
    if (g_ascii_isalnum(*at))
      g_string_append_c(given, g_ascii_toupper(*at));
  for (const char *at = owners->code ? owners->code : ""; *at; at++)
    if (*at != '-')
      g_string_append_c(wanted, *at);
  return owners->code && same_secret(given->str, wanted->str);
}

/* Sessions and tokens: 256 random bits, so a plain SHA-256 keeps them */

char *choir_owners_session_new(ChoirOwners *owners, const char *name, GError **error) {
  char *secret = random_secret("");
  for (guint i = owners->sessions->len; i-- > 0;)
    if (((const Session *)owners->sessions->pdata[i])->expires <= now())
      g_ptr_array_remove_index(owners->sessions, i);
  if (owners->sessions->len >= SESSIONS_MAX)
    g_ptr_array_remove_index(owners->sessions, 0);
  Session *session = g_new0(Session, 1);
  session->name = g_strdup(name);
  session->sha256 = g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, -1);
  session->expires = now() + CHOIR_SESSION_SECONDS;
  g_ptr_array_add(owners->sessions, session);
  if (choir_owners_save(owners, error))
    return secret;
  g_ptr_array_remove(owners->sessions, session);
  g_free(secret);
  return NULL;
}

static guint find_session(const ChoirOwners *owners, const char *sha256) {
  guint found = G_MAXUINT;
  for (guint i = 0; i < owners->sessions->len; i++)
    if (same_secret(((const Session *)owners->sessions->pdata[i])->sha256, sha256))
      found = i;
  return found;
}

void choir_owners_session_end(ChoirOwners *owners, const char *secret_sha256) {
  g_autoptr(GError) error = NULL;
  guint index = find_session(owners, secret_sha256);
  if (index == G_MAXUINT)
    return;
  g_ptr_array_remove_index(owners->sessions, index);
  if (!choir_owners_save(owners, &error))
    choir_error(CHOIR_TOPIC_WEB, "a log-out may be forgotten at the next start: %s", error->message);
}

const char *choir_owners_session(const ChoirOwners *owners, const char *secret_sha256, ChoirRole *ret_role) {
  guint index = find_session(owners, secret_sha256);
  const Session *session = index == G_MAXUINT ? NULL : owners->sessions->pdata[index];
  const Person *person = session && session->expires > now() ? find_person(owners, session->name) : NULL;
  if (!person)
    return NULL;
  *ret_role = person->role;
  return person->name;
}

static guint find_token(const ChoirOwners *owners, const char *name) {
  for (guint i = 0; i < owners->tokens->len; i++)
    if (strcmp(((const Token *)owners->tokens->pdata[i])->name, name) == 0)
      return i;
  return G_MAXUINT;
}

char *choir_owners_token_new(ChoirOwners *owners, const char *name, ChoirRole role, GError **error) {
  if (!name_ok(name) || role == CHOIR_ROLE_NONE || role == CHOIR_ROLE_OWNER) {
    g_set_error_literal(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_INVALID,
                        name_ok(name) ? "a token's role is viewer, operator or approver"
                                      : "a token's name has 1 to 32 letters, digits, spaces or . _ - '");
    return NULL;
  }
  if (find_token(owners, name) != G_MAXUINT || owners->tokens->len >= TOKENS_MAX) {
    g_set_error_literal(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_EXISTS,
                        owners->tokens->len >= TOKENS_MAX ? "there are too many tokens; revoke some"
                                                          : "there is a token of that name already; revoke it first");
    return NULL;
  }
  char *secret = random_secret("choir_");
  Token *token = g_new0(Token, 1);
  token->name = g_strdup(name);
  token->role = role;
  token->created = now();
  token->sha256 = g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, -1);
  g_ptr_array_add(owners->tokens, token);
  if (choir_owners_save(owners, error))
    return secret;
  g_ptr_array_remove(owners->tokens, token);
  g_free(secret);
  return NULL;
}

gboolean choir_owners_token_revoke(ChoirOwners *owners, const char *name, GError **error) {
  guint index = find_token(owners, name);
  if (index == G_MAXUINT) {
    g_set_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_UNKNOWN, "there is no token of the name %s", name);
    return FALSE;
  }
  g_ptr_array_remove_index(owners->tokens, index);
  return choir_owners_save(owners, error);
}

const char *choir_owners_token(ChoirOwners *owners, const char *token_sha256, ChoirRole *ret_role) {
  Token *found = NULL;
  for (guint i = 0; i < owners->tokens->len; i++)
    if (same_secret(((Token *)owners->tokens->pdata[i])->sha256, token_sha256))
      found = owners->tokens->pdata[i];
  if (!found)
    return NULL;
  found->used = now();
  *ret_role = found->role;
  return found->name;
}

json_t *choir_owners_tokens(const ChoirOwners *owners) {
  json_t *list = json_array();
  for (guint i = 0; i < owners->tokens->len; i++) {
    const Token *token = owners->tokens->pdata[i];
    json_array_append_new(list,
                          json_pack("{s:s,s:s,s:I,s:I}", "name", token->name, "role", choir_role_name(token->role),
                                    "created", (json_int_t)token->created, "used", (json_int_t)token->used));
  }
  return list;
}

ChoirOwners *choir_owners_open(const char *path, GError **error) {
  ChoirOwners *owners = g_new0(ChoirOwners, 1);
  owners->refs = 1;
  owners->path = g_strdup(path);
  owners->people = g_ptr_array_new_with_free_func(choir_owners_person_free);
  owners->tokens = g_ptr_array_new_with_free_func(choir_owners_token_free);
  owners->sessions = g_ptr_array_new_with_free_func(choir_owners_session_free);
  owners->hasher = g_thread_pool_new(hash_in_thread, NULL, 1, FALSE, NULL);
  if (!choir_owners_load(owners, error)) {
    unref(owners);
    return NULL;
  }
  if (!choir_owners_exist(owners))
    owners->code = make_code();
  return owners;
}

void choir_owners_free(ChoirOwners *owners) {
  if (owners)
    unref(owners);
}
