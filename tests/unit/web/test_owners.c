/* People, passwords, tokens, sessions and the file they are kept in; the back-off; the table of roles. */
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/text.h"
#include "web/guard_tries.h"
#include "web/owners.h"

typedef struct {
  char *dir, *path;
  ChoirOwners *owners;
} Fixture;

static void setup(Fixture *f, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  f->dir = g_dir_make_tmp("choir-owners-XXXXXX", &error);
  f->path = g_build_filename(f->dir, "owners.json", NULL);
  f->owners = choir_owners_open(f->path, &error);
  g_assert_no_error(error);
}

static void teardown(Fixture *f, gconstpointer data) {
  choir_owners_free(f->owners);
  g_unlink(f->path);
  g_rmdir(f->dir);
  g_free(f->path);
  g_free(f->dir);
}

static void reopen(Fixture *f) {
  g_autoptr(GError) error = NULL;
  choir_owners_free(f->owners);
  f->owners = choir_owners_open(f->path, &error);
  g_assert_no_error(error);
}

typedef struct {
  int code; /* -1 = good, -2 = not there yet */
} Result;

static void on_done(const GError *error, gpointer user) {
  ((Result *)user)->code = error ? error->code : -1;
}

static int wait(Result *result) {
  while (result->code == -2)
    g_main_context_iteration(NULL, TRUE);
  return result->code;
}

static int add(Fixture *f, const char *name, ChoirRole role, const char *password, gboolean first) {
  Result result = {-2};
  choir_owners_add(f->owners, name, role, password, first, on_done, &result);
  return wait(&result);
}

static int check(Fixture *f, const char *name, const char *password) {
  Result result = {-2};
  choir_owners_check(f->owners, name, password, on_done, &result);
  return wait(&result);
}

static void test_people(Fixture *f, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  g_assert_false(choir_owners_exist(f->owners));
  g_assert_cmpint(add(f, "grace", CHOIR_ROLE_OPERATOR, "correct horse", FALSE), ==, -1);
  g_assert_false(choir_owners_exist(f->owners));
  g_assert_nonnull(choir_owners_code(f->owners));
  g_assert_cmpint(add(f, "ada", CHOIR_ROLE_OWNER, "battery staple", TRUE), ==, -1);
  g_assert_true(choir_owners_exist(f->owners));
  g_assert_null(choir_owners_code(f->owners));
  g_assert_cmpint(add(f, "eve", CHOIR_ROLE_OWNER, "battery staple", TRUE), ==, CHOIR_OWNERS_ERROR_EXISTS);
  g_assert_cmpint(add(f, "ada", CHOIR_ROLE_VIEWER, "battery staple", FALSE), ==, CHOIR_OWNERS_ERROR_EXISTS);
  static const char *const bad[] = {"", " ada", "a/b", "a\nb", "<b>", "012345678901234567890123456789012", "\xff"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
    g_assert_cmpint(add(f, bad[i], CHOIR_ROLE_VIEWER, "long enough", FALSE), ==, CHOIR_OWNERS_ERROR_INVALID);
  g_assert_cmpint(add(f, "bob", CHOIR_ROLE_VIEWER, "short", FALSE), ==, CHOIR_OWNERS_ERROR_INVALID);
  g_assert_cmpint(add(f, "bob", CHOIR_ROLE_NONE, "long enough", FALSE), ==, CHOIR_OWNERS_ERROR_INVALID);

  for (int round = 0; round < 2; round++, reopen(f)) {
    g_assert_cmpint(check(f, "ada", "battery staple"), ==, -1);
    g_assert_cmpint(check(f, "ada", "battery stapl"), ==, CHOIR_OWNERS_ERROR_WRONG);
    g_assert_cmpint(check(f, "ada", ""), ==, CHOIR_OWNERS_ERROR_WRONG);
    g_assert_cmpint(check(f, "nobody", "battery staple"), ==, CHOIR_OWNERS_ERROR_WRONG);
  }
  g_autofree char *text = NULL;
  struct stat info;
  g_assert_true(g_file_get_contents(f->path, &text, NULL, NULL));
  g_assert_null(strstr(text, "staple"));
  g_assert_nonnull(strstr(text, "$y$"));
  g_assert_cmpint(stat(f->path, &info), ==, 0);
  g_assert_cmpint(info.st_mode & 0777, ==, 0600);

  g_assert_false(choir_owners_remove(f->owners, "ada", &error));
  g_assert_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_LAST);
  g_assert_true(choir_owners_remove(f->owners, "grace", NULL));
  g_assert_false(choir_owners_remove(f->owners, "grace", NULL));
}

static void test_two_set_ups(Fixture *f, gconstpointer data) {
  Result a = {-2}, b = {-2};
  choir_owners_add(f->owners, "ada", CHOIR_ROLE_OWNER, "battery staple", TRUE, on_done, &a);
  choir_owners_add(f->owners, "eve", CHOIR_ROLE_OWNER, "battery staple", TRUE, on_done, &b);
  g_assert_cmpint(wait(&a), ==, -1);
  g_assert_cmpint(wait(&b), ==, CHOIR_OWNERS_ERROR_EXISTS);
}

static void test_flood(Fixture *f, gconstpointer data) {
  Result results[40];
  guint busy = 0;
  for (gsize i = 0; i < G_N_ELEMENTS(results); i++) {
    results[i].code = -2;
    choir_owners_check(f->owners, "nobody", "some password", on_done, &results[i]);
  }
  for (gsize i = 0; i < G_N_ELEMENTS(results); i++)
    busy += wait(&results[i]) == CHOIR_OWNERS_ERROR_BUSY;
  g_assert_cmpuint(busy, ==, 32);
}

static void test_sessions(Fixture *f, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  ChoirRole role = CHOIR_ROLE_NONE;
  g_assert_cmpint(add(f, "ada", CHOIR_ROLE_OWNER, "battery staple", TRUE), ==, -1);
  g_assert_cmpint(add(f, "grace", CHOIR_ROLE_APPROVER, "battery staple", FALSE), ==, -1);
  g_autofree char *secret = choir_owners_session_new(f->owners, "grace", &error);
  g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, -1);
  g_assert_cmpstr(choir_owners_session(f->owners, sum, &role), ==, "grace");
  g_assert_cmpint(role, ==, CHOIR_ROLE_APPROVER);
  g_assert_null(choir_owners_session(f->owners, secret, &role));
  reopen(f);
  g_assert_cmpstr(choir_owners_session(f->owners, sum, &role), ==, "grace");
  Result result = {-2};
  choir_owners_set_password(f->owners, "grace", "another one", on_done, &result);
  g_assert_cmpint(wait(&result), ==, -1);
  g_assert_null(choir_owners_session(f->owners, sum, &role));
  g_assert_cmpint(check(f, "grace", "battery staple"), ==, CHOIR_OWNERS_ERROR_WRONG);
  g_assert_cmpint(check(f, "grace", "another one"), ==, -1);

  g_autofree char *second = choir_owners_session_new(f->owners, "grace", &error);
  g_autofree char *second_sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, second, -1);
  g_assert_true(choir_owners_remove(f->owners, "grace", NULL));
  g_assert_null(choir_owners_session(f->owners, second_sum, &role));
  g_assert_cmpint(add(f, "grace", CHOIR_ROLE_OWNER, "battery staple", FALSE), ==, -1);
  g_assert_null(choir_owners_session(f->owners, second_sum, &role)); /* a namesake inherits nothing */
}

static void test_tokens(Fixture *f, gconstpointer data) {
  g_autoptr(GError) error = NULL;
  ChoirRole role = CHOIR_ROLE_NONE;
  g_autofree char *token = choir_owners_token_new(f->owners, "ha", CHOIR_ROLE_OPERATOR, &error);
  g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1);
  g_assert_null(choir_owners_token_new(f->owners, "ha", CHOIR_ROLE_OPERATOR, NULL));
  g_assert_null(choir_owners_token_new(f->owners, "root", CHOIR_ROLE_OWNER, NULL));
  reopen(f);
  g_assert_cmpstr(choir_owners_token(f->owners, sum, &role), ==, "ha");
  g_assert_cmpint(role, ==, CHOIR_ROLE_OPERATOR);
  g_autofree char *text = NULL;
  g_assert_true(g_file_get_contents(f->path, &text, NULL, NULL));
  g_assert_null(strstr(text, token));
  g_assert_true(choir_owners_token_revoke(f->owners, "ha", &error));
  g_assert_null(choir_owners_token(f->owners, sum, &role));
  g_assert_false(choir_owners_token_revoke(f->owners, "ha", NULL));
}

/* A file that is not whole must not look like a Choir without an owner: cut at every byte, and with wrong values. */
static void test_damaged(Fixture *f, gconstpointer data) {
  g_autofree char *text = NULL;
  gsize length;
  g_assert_cmpint(add(f, "ada", CHOIR_ROLE_OWNER, "battery staple", TRUE), ==, -1);
  g_assert_true(g_file_get_contents(f->path, &text, &length, NULL));
  for (gsize n = 0; n < length; n++) {
    g_autoptr(GError) error = NULL;
    g_assert_true(g_file_set_contents(f->path, text, (gssize)n, NULL));
    g_assert_null(choir_owners_open(f->path, &error));
    g_assert_error(error, CHOIR_OWNERS_ERROR, CHOIR_OWNERS_ERROR_FILE);
  }
  static const char *const bad[] = {"[]", "{\"version\":2,\"people\":[],\"tokens\":[],\"sessions\":[]}",
                                    "{\"version\":1,\"people\":[{\"name\":\"a\",\"role\":\"king\",\"hash\":\"x\"}],"
                                    "\"tokens\":[],\"sessions\":[]}",
                                    "{\"version\":1,\"people\":{},\"tokens\":[],\"sessions\":[]}"};
  for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_assert_true(g_file_set_contents(f->path, bad[i], -1, NULL));
    g_assert_null(choir_owners_open(f->path, NULL));
  }
}

static void test_code(Fixture *f, gconstpointer data) {
  const char *code = choir_owners_code(f->owners);
  g_autofree char *lower = g_ascii_strdown(code, -1);
  g_autofree char *bare = g_strdup_printf("%.4s%s", code, code + 5);
  g_autofree char *wrong = g_strdup(code);
  wrong[0] = wrong[0] == 'A' ? 'B' : 'A';
  g_assert_cmpuint(strlen(code), ==, 9);
  g_assert_true(choir_owners_code_is(f->owners, lower) && choir_owners_code_is(f->owners, bare));
  g_assert_false(choir_owners_code_is(f->owners, wrong) || choir_owners_code_is(f->owners, "") ||
                 choir_owners_code_is(f->owners, "-"));
  g_assert_cmpint(add(f, "ada", CHOIR_ROLE_OWNER, "battery staple", TRUE), ==, -1);
  g_assert_false(choir_owners_code_is(f->owners, bare) || choir_owners_code_is(f->owners, ""));
}

static void test_tries(void) {
  ChoirTries *tries = choir_tries_new();
  gint64 now = 1000 * G_USEC_PER_SEC;
  guint before = 0;
  choir_clock_set_test_us(now);
  for (guint i = 0; i < 4; i++) {
    g_assert_cmpuint(choir_tries_wait(tries, "a"), ==, 0);
    choir_tries_begin(tries, "a");
  }
  for (guint i = 0; i < 12; i++) {
    choir_tries_begin(tries, "a");
    guint wait_s = choir_tries_wait(tries, "a");
    g_assert_cmpuint(wait_s, ==, MIN(MAX(2, 2 * before), 300));
    before = wait_s;
  }
  g_assert_cmpuint(choir_tries_wait(tries, "b"), ==, 0);
  choir_clock_set_test_us(now + 301 * G_USEC_PER_SEC);
  g_assert_cmpuint(choir_tries_wait(tries, "a"), ==, 0);
  choir_tries_begin(tries, "a");
  g_assert_cmpuint(choir_tries_wait(tries, "a"), ==, 300);
  choir_tries_good(tries, "a");
  g_assert_cmpuint(choir_tries_wait(tries, "a"), ==, 0);
  for (guint i = 0; i < 20000; i++) { /* a flood of addresses stays bounded and breaks nothing */
    g_autofree char *key = g_strdup_printf("address %u", i);
    choir_tries_begin(tries, key);
  }
  choir_clock_set_test_us(-1);
  choir_tries_free(tries);
}

int main(int argc, char **argv) {
  alarm(60);
  g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/owners/" name, Fixture, NULL, setup, function, teardown)
  ADD("people", test_people);
  ADD("two-set-ups", test_two_set_ups);
  ADD("flood", test_flood);
  ADD("sessions", test_sessions);
  ADD("tokens", test_tokens);
  ADD("damaged", test_damaged);
  ADD("code", test_code);
  g_test_add_func("/owners/tries", test_tries);
  return g_test_run();
}
