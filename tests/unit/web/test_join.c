/* Tokens and requests of joining machines: every wrong call changes nothing, on disk neither. */
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>
#include "base/text.h"
#include "web/join.h"

#define NOW G_GINT64_CONSTANT(1900000000)
#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define KEY2 "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define MACHINE "00112233445566778899aabbccddeeff"
#define MACHINE2 "10112233445566778899aabbccddeeff"

typedef struct {
  char *dir, *ready;
  ChoirJoin *join;
} House;

static void open_house(House *house) {
  g_autoptr(GError) error = NULL;
  house->join = choir_join_open(house->dir, house->ready, &error);
  g_assert_no_error(error);
}

static void set_up(House *house, gconstpointer user) {
  house->dir = g_dir_make_tmp("choir-join-XXXXXX", NULL);
  house->ready = g_build_filename(house->dir, "ready", NULL);
  g_mkdir(house->ready, 0700);
  open_house(house);
}

static void remove_all(const char *path) {
  GDir *dir = g_dir_open(path, 0, NULL);
  for (const char *name = dir ? g_dir_read_name(dir) : NULL; name; name = g_dir_read_name(dir)) {
    g_autofree char *inner = g_build_filename(path, name, NULL);
    remove_all(inner);
  }
  if (dir)
    g_dir_close(dir);
  g_remove(path);
}

static void tear_down(House *house, gconstpointer user) {
  choir_join_free(house->join);
  remove_all(house->dir);
  g_free(house->ready);
  g_free(house->dir);
}

static char *disk(const House *house) {
  g_autofree char *path = g_build_filename(house->dir, "join.json", NULL);
  char *text = NULL;
  g_file_get_contents(path, &text, NULL, NULL);
  return text;
}

static guint spool(const House *house) {
  g_autofree char *path = g_build_filename(house->dir, "approved", NULL);
  g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
  guint n = 0;
  while (g_dir_read_name(dir))
    n++;
  return n;
}

static char *token(House *house, gboolean at_once) {
  g_autoptr(GError) error = NULL;
  char *made = choir_join_token_new(house->join, 60, at_once, "f00d", NOW, &error);
  g_assert_no_error(error);
  return made;
}

static json_t *request(const char *made, const char *host, const char *machine, const char *key) {
  return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:i}", "token", made, "hostname", host, "machine_id", machine, "key", key,
                   "cpu", "core2", "mac", "00:1e:c9:2f:aa:01", "ram_mb", 8000);
}

/* Asks, and proves that a refusal changed nothing. Returns the error's code, -1 = accepted. */
static int ask(House *house, json_t *asked /* stolen */, gint64 now, const json_t **ret_node) {
  g_autoptr(GError) error = NULL;
  g_autofree char *before = disk(house);
  guint spooled = spool(house);
  const json_t *node = NULL;
  gboolean good = choir_join_ask(house->join, asked, "10.0.0.12", now, &node, &error);
  json_decref(asked);
  if (ret_node)
    *ret_node = node;
  if (good)
    return -1;
  g_autofree char *after = disk(house);
  g_assert_cmpstr(before, ==, after);
  g_assert_cmpuint(spool(house), ==, spooled);
  g_assert_cmpuint(strlen(error->message), >, 10);
  return error->code;
}

static void test_one_shot(House *house, gconstpointer user) {
  const json_t *node;
  g_autofree char *made = token(house, FALSE);
  g_autofree char *text = disk(house);
  g_assert_true(g_str_has_prefix(made, "cj1.") && g_str_has_suffix(made, ".f00d"));
  g_auto(GStrv) parts = g_strsplit(made, ".", -1);
  g_assert_null(strstr(text, parts[1])); /* only its sum is kept */
  g_assert_cmpint(ask(house, request(made, "atlas", MACHINE, KEY), NOW + 1, &node), ==, -1);
  g_assert_cmpstr(choir_json_string(node, "status", ""), ==, "pending");
  g_assert_cmpstr(choir_json_string(node, "address", ""), ==, "10.0.0.12");
  g_assert_cmpuint(spool(house), ==, 0);
  /* its own repetition is the same request, anybody else's is refused */
  g_assert_cmpint(ask(house, request(made, "atlas", MACHINE, KEY), NOW + 2, NULL), ==, -1);
  g_assert_cmpint(ask(house, request(made, "atlas", MACHINE, KEY2), NOW + 2, NULL), ==, CHOIR_JOIN_ERROR_TOKEN);
  g_assert_cmpint(ask(house, request(made, "other", MACHINE2, KEY), NOW + 2, NULL), ==, CHOIR_JOIN_ERROR_TOKEN);
  json_auto_t *nodes = choir_join_nodes(house->join, NOW);
  g_assert_cmpuint(json_array_size(nodes), ==, 1);
  g_assert_null(json_object_get(json_array_get(nodes, 0), "key_sha256"));
}

static void test_expiry(House *house, gconstpointer user) {
  g_autofree char *made = token(house, FALSE), *revoked = token(house, FALSE);
  g_autoptr(GError) error = NULL;
  g_assert_cmpint(ask(house, request(made, "atlas", MACHINE, KEY), NOW + 3600, NULL), ==, CHOIR_JOIN_ERROR_TOKEN);
  g_assert_cmpint(ask(house, request("cj1.00.f00d", "atlas", MACHINE, KEY), NOW, NULL), ==, CHOIR_JOIN_ERROR_TOKEN);
  g_assert_cmpint(ask(house, request("", "atlas", MACHINE, KEY), NOW, NULL), ==, CHOIR_JOIN_ERROR_TOKEN);
  json_auto_t *list = choir_join_tokens(house->join, NOW);
  const char *id = choir_json_string(json_array_get(list, 1), "id", "");
  g_assert_true(choir_join_token_revoke(house->join, id, &error));
  g_assert_cmpint(ask(house, request(revoked, "atlas", MACHINE, KEY), NOW, NULL), ==, CHOIR_JOIN_ERROR_TOKEN);
  g_assert_false(choir_join_token_revoke(house->join, id, &error));
  g_clear_error(&error);
  g_assert_null(choir_join_token_new(house->join, 0, FALSE, "f", NOW, &error));
  g_clear_error(&error);
  g_assert_null(choir_join_token_new(house->join, CHOIR_JOIN_MINUTES_MAX + 1, FALSE, "f", NOW, &error));
  g_assert_cmpint(ask(house, request(made, "atlas", MACHINE, KEY), NOW + 3599, NULL), ==, -1);
}

static void test_fields(House *house, gconstpointer user) {
  static const struct {
    const char *field, *value;
  } wrong[] = {
      {"hostname", "Atlas"},
      {"hostname", "a b"},
      {"hostname", "../x"},
      {"hostname", ""},
      {"hostname", "{{x}}"},
      {"hostname", "10.0.0.1"},
      {"hostname", "localhost"},
      {"hostname", "-a"},
      {"hostname", "a..b"},
      {"machine_id", "xyz"},
      {"machine_id", ""},
      {"key", "short"},
      {"address", "10.0.0.1; reboot"},
      {"address", "0.0.0.0"},
      {"address", "224.0.0.1"},
      {"address", "::"},
      {"address", "fe80::1%eth0"},
      {"mac", "zz:1e:c9:2f:aa:01"},
      {"mac", "00:1e:c9"},
      {"cpu", "a\nb"},
      {"ssh_host_key", "ssh-rsa \x01"},
      {"token", "cj1.\n"},
  };
  g_autofree char *made = token(house, TRUE);
  for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
    json_t *asked = request(made, "atlas", MACHINE, KEY);
    json_object_set_new(asked, wrong[i].field, json_string(wrong[i].value));
    g_assert_cmpint(ask(house, asked, NOW, NULL), ==, CHOIR_JOIN_ERROR_INVALID);
    asked = request(made, "atlas", MACHINE, KEY);
    json_object_set_new(asked, wrong[i].field, json_integer(7));
    if (strcmp(wrong[i].field, "mac") != 0 && strcmp(wrong[i].field, "cpu") != 0 &&
        strcmp(wrong[i].field, "ssh_host_key") != 0)
      g_assert_cmpint(ask(house, asked, NOW, NULL), >=, 0);
    else
      json_decref(asked);
  }
  json_t *asked = request(made, "atlas", MACHINE, KEY);
  json_object_set_new(asked, "ram_mb", json_integer(-1));
  g_assert_cmpint(ask(house, asked, NOW, NULL), ==, CHOIR_JOIN_ERROR_INVALID);
  g_assert_cmpint(ask(house, request(made, "atlas", MACHINE, KEY), NOW, NULL), ==, -1);
  g_assert_cmpuint(spool(house), ==, 1); /* an auto-join token needs no yes */
}

static void test_names(House *house, gconstpointer user) {
  g_autofree char *one = token(house, FALSE), *two = token(house, FALSE), *three = token(house, FALSE);
  g_autofree char *own = g_ascii_strdown(g_get_host_name(), -1);
  g_assert_cmpint(ask(house, request(one, "atlas", MACHINE, KEY), NOW, NULL), ==, -1);
  g_assert_cmpint(ask(house, request(two, "atlas", MACHINE2, KEY2), NOW, NULL), ==, CHOIR_JOIN_ERROR_TAKEN);
  if (choir_join_hostname_ok(own))
    g_assert_cmpint(ask(house, request(two, own, MACHINE2, KEY2), NOW, NULL), ==, CHOIR_JOIN_ERROR_TAKEN);
  /* the same machine again, under another name: one entry */
  g_assert_cmpint(ask(house, request(two, "atlas2", MACHINE, KEY2), NOW, NULL), ==, -1);
  g_assert_cmpint(ask(house, request(three, "atlas", MACHINE2, KEY), NOW, NULL), ==, -1);
  json_auto_t *nodes = choir_join_nodes(house->join, NOW);
  g_assert_cmpuint(json_array_size(nodes), ==, 2);
}

/* A machine was refused, is set up anew and comes back with the same name: the yes is for it, not for what it was. */
static void test_set_up_anew(House *house, gconstpointer user) {
  g_autoptr(GError) error = NULL;
  g_autofree char *one = token(house, FALSE), *two = token(house, FALSE);
  g_assert_cmpint(ask(house, request(one, "atlas", MACHINE, KEY), NOW, NULL), ==, -1);
  g_assert_true(choir_join_refuse(house->join, "atlas", NOW, &error));
  g_assert_cmpint(ask(house, request(two, "atlas", MACHINE2, KEY2), NOW, NULL), ==, -1);
  g_assert_true(choir_join_approve(house->join, "atlas", NOW, &error));
  g_assert_no_error(error);
  g_assert_cmpstr(choir_json_string(choir_join_by_key(house->join, KEY2, NOW), "status", ""), ==, "approved");
  json_auto_t *nodes = choir_join_nodes(house->join, NOW);
  g_assert_cmpuint(json_array_size(nodes), ==, 1);
}

static void leave(const House *house, const json_t *node, const char *ending, const char *text) {
  g_autofree char *path = g_strdup_printf("%s/%s.%s", house->ready, choir_json_string(node, "id", ""), ending);
  g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void test_way(House *house, gconstpointer user) {
  g_autoptr(GError) error = NULL;
  g_autofree char *made = token(house, FALSE);
  json_auto_t *report = json_pack("{s:s,s:s,s:s}", "status", "joined", "step", "nomad", "version", "0.1.0+7.abc~1-1");
  static const char *const no_versions[] = {"a b", "$(id)", "../x", "-e", "{{x}}", "a\nb"};
  g_assert_cmpint(ask(house, request(made, "atlas", MACHINE, KEY), NOW, NULL), ==, -1);
  g_assert_null(choir_join_by_key(house->join, KEY2, NOW));
  g_assert_null(choir_join_by_key(house->join, "", NOW));
  const json_t *node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_false(choir_join_report(house->join, node, report, NOW, &error)); /* nobody said yes */
  g_clear_error(&error);
  g_assert_false(choir_join_approve(house->join, "nobody", NOW, &error));
  g_clear_error(&error);
  g_assert_true(choir_join_approve(house->join, "atlas", NOW, &error));
  g_assert_false(choir_join_approve(house->join, "atlas", NOW, &error));
  g_clear_error(&error);
  g_assert_cmpuint(spool(house), ==, 1);
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_cmpstr(choir_json_string(node, "status", ""), ==, "approved");
  leave(house, node, "error", "no leader\n");
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_cmpstr(choir_json_string(node, "status", ""), ==, "failed");
  g_assert_cmpstr(choir_json_string(node, "message", ""), ==, "no leader");
  g_assert_true(choir_join_approve(house->join, "atlas", NOW, &error)); /* again: the old failure is not read */
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_cmpstr(choir_json_string(node, "status", ""), ==, "approved");
  leave(house, node, "tar.gz", "bundle");
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_cmpstr(choir_json_string(node, "status", ""), ==, "ready");
  g_autofree char *bundle = choir_join_bundle(house->join, node);
  g_assert_nonnull(bundle);
  for (gsize i = 0; i < G_N_ELEMENTS(no_versions); i++) {
    json_auto_t *strange = json_pack("{s:s,s:s}", "status", "joined", "version", no_versions[i]);
    g_assert_false(choir_join_report(house->join, node, strange, NOW, &error));
    g_assert_cmpint(error->code, ==, CHOIR_JOIN_ERROR_INVALID);
    g_clear_error(&error);
  }
  guint asked_up = spool(house);
  json_auto_t *begun = json_pack("{s:s,s:s}", "status", "provisioning", "version", "0.1.0");
  g_assert_true(choir_join_report(house->join, node, begun, NOW, &error));
  g_assert_cmpuint(spool(house), ==, asked_up); /* only what has joined is told on */
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_true(choir_join_report(house->join, node, report, NOW, &error));
  g_assert_cmpuint(spool(house), ==, asked_up + 1);
  /* it outlives a restart */
  choir_join_free(house->join);
  open_house(house);
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_cmpstr(choir_json_string(node, "status", ""), ==, "joined");
  /* a known machine with another address */
  guint before = spool(house);
  g_assert_true(choir_join_address(house->join, node, "10.0.0.12", NOW, &error));
  g_assert_cmpuint(spool(house), ==, before);
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_true(choir_join_address(house->join, node, "10.0.0.77", NOW, &error));
  g_assert_cmpuint(spool(house), ==, before + 1);
  node = choir_join_by_key(house->join, KEY, NOW);
  g_assert_false(choir_join_address(house->join, node, "nowhere", NOW, &error));
  g_clear_error(&error);
  /* out again: its key opens nothing any more */
  g_assert_true(choir_join_refuse(house->join, "atlas", NOW, &error));
  g_assert_null(choir_join_by_key(house->join, KEY, NOW));
  g_assert_cmpuint(spool(house), ==, before + 2);
}

static void test_damaged(House *house, gconstpointer user) {
  g_autoptr(GError) error = NULL;
  g_autofree char *path = g_build_filename(house->dir, "join.json", NULL);
  g_assert_true(g_file_set_contents(path, "{\"tokens\":[", -1, NULL));
  g_assert_null(choir_join_open(house->dir, house->ready, &error));
  g_assert_nonnull(strstr(error->message, "damaged"));
}

static void test_full_disk(House *house, gconstpointer user) {
  g_autoptr(GError) error = NULL;
  g_autofree char *made = token(house, FALSE), *moved = g_strconcat(house->dir, "-gone", NULL);
  g_assert_cmpint(g_rename(house->dir, moved), ==, 0); /* as good as no space: nothing can be written */
  g_assert_null(choir_join_token_new(house->join, 5, FALSE, "f", NOW, &error));
  g_assert_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FILE);
  g_clear_error(&error);
  json_auto_t *asked = request(made, "atlas", MACHINE, KEY);
  const json_t *node;
  g_assert_false(choir_join_ask(house->join, asked, "10.0.0.1", NOW, &node, &error));
  g_assert_error(error, CHOIR_JOIN_ERROR, CHOIR_JOIN_ERROR_FILE);
  g_assert_cmpint(g_rename(moved, house->dir), ==, 0);
  g_assert_cmpint(ask(house, json_incref(asked), NOW, NULL), ==, -1); /* the token was not lost */
}

int main(int argc, char **argv) {
  alarm(25);
  g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/web/join/" #name, House, NULL, set_up, test_##name, tear_down)
  ADD(one_shot);
  ADD(expiry);
  ADD(fields);
  ADD(names);
  ADD(set_up_anew);
  ADD(way);
  ADD(damaged);
  ADD(full_disk);
  return g_test_run();
}
