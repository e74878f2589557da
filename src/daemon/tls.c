#include "daemon/tls.h"
#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"
#include "base/names.h"
#include "web/guard_node.h"

#define READY_MS 700
#define LEAF_DAYS "397" /* Apple's devices take no longer ones */
#define CA_DAYS "3650"
#define RENEW_SECONDS "2592000" /* a month before its end */

struct ChoirTls {
  char *dir, *nginx, *ca_file, *secret;
  guint16 port, upstream;
  ChoirChild *child;
  guint ready_timer;
};

static gboolean run(const char *dir, const char *const *argv, gboolean *ret_good, GError **error) {
  g_autofree char *err = NULL, *out = NULL;
  int status;
  if (!g_spawn_sync(dir, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status, error))
    return FALSE;
  gboolean good = g_spawn_check_wait_status(status, NULL);
  if (ret_good) {
    *ret_good = good;
    return TRUE;
  }
  if (!good)
    g_set_error(error, G_SPAWN_ERROR, G_SPAWN_ERROR_FAILED, "%s %s failed: %s", argv[0], argv[1], g_strchomp(err));
  return good;
}

static gboolean write_private(const char *dir, const char *name, const char *text, GError **error) {
  g_autofree char *path = g_build_filename(dir, name, NULL);
  return g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, error);
}

static gboolean exists(const char *dir, const char *name) {
  g_autofree char *path = g_build_filename(dir, name, NULL);
  return g_file_test(path, G_FILE_TEST_EXISTS);
}

static void add_names(GString *names, const char *list) {
  g_auto(GStrv) words = g_strsplit(list ? list : "", ",", -1);
  for (char **word = words; *word; word++) {
    g_autofree char *host = g_ascii_strdown(g_strstrip(*word), -1);
    host[strcspn(host, ":")] = '\0'; /* a port, or an IPv6 address, which nobody lists here */
    gboolean good = *host && strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(host);
    g_autofree char *entry = g_strdup_printf(",%s:%s", g_hostname_is_ip_address(host) ? "IP" : "DNS", host);
    if (good && !strstr(names->str, entry))
      g_string_append(names, entry);
  }
}

/* subjectAltName of this moment. */
static char *alternative_names(const char *more) {
  g_auto(GStrv) hosts = choir_node_hosts();
  GString *names = g_string_new("DNS:localhost,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1");
  for (char **host = hosts; *host; host++) {
    gsize length = strlen(*host);
    if (**host == '[')
      g_string_append_printf(names, ",IP:%.*s", (int)length - 2, *host + 1);
    else
      g_string_append_printf(names, ",%s:%s", g_hostname_is_ip_address(*host) ? "IP" : "DNS", *host);
  }
  add_names(names, more);
  return g_string_free(names, FALSE);
}

static gboolean make_authority(ChoirTls *tls, GError **error) {
  g_autofree char *subject = g_strdup_printf("/CN=Choir on %.40s", g_get_host_name());
  const char *argv[] = {"openssl",
                        "req",
                        "-x509",
                        "-config",
                        "openssl.cnf",
                        "-extensions",
                        "authority",
                        "-newkey",
                        "ec",
                        "-pkeyopt",
                        "ec_paramgen_curve:prime256v1",
                        "-nodes",
                        "-keyout",
                        "ca.key",
                        "-out",
                        "ca.new",
                        "-days",
                        CA_DAYS,
                        "-subj",
                        subject,
                        NULL};
  g_autofree char *made = g_build_filename(tls->dir, "ca.new", NULL);
  if (exists(tls->dir, "ca.crt") && exists(tls->dir, "ca.key"))
    return TRUE;
  if (!run(tls->dir, argv, NULL, error))
    return FALSE;
  if (g_rename(made, tls->ca_file) == 0)
    return TRUE;
  g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot write %s: %s", tls->ca_file, g_strerror(errno));
  return FALSE;
}

static gboolean make_certificate(ChoirTls *tls, const char *names, GError **error) {
  g_autofree char *subject = g_strdup_printf("/CN=%.60s", g_get_host_name());
  g_autofree char *path = g_build_filename(tls->dir, "node.names", NULL), *before = NULL;
  guint64 number;
  gboolean fresh = FALSE;
  const char *check[] = {"openssl", "x509", "-checkend", RENEW_SECONDS, "-noout", "-in", "node.crt", NULL};
  if (exists(tls->dir, "node.key") && g_file_get_contents(path, &before, NULL, NULL) && strcmp(before, names) == 0 &&
      run(tls->dir, check, &fresh, NULL) && fresh)
    return TRUE;
  const char *ask[] = {"openssl", "req",         "-new",
                       "-config", "openssl.cnf", "-newkey",
                       "ec",      "-pkeyopt",    "ec_paramgen_curve:prime256v1",
                       "-nodes",  "-keyout",     "node.key",
                       "-out",    "node.csr",    "-subj",
                       subject,   NULL};
  if (getrandom(&number, sizeof number, 0) != sizeof number)
    return FALSE;
  g_autofree char *serial = g_strdup_printf("0x%016" G_GINT64_MODIFIER "x", number >> 1 | 1);
  const char *sign[] = {"openssl",  "x509",        "-req",        "-in",  "node.csr", "-CA",      "ca.crt",
                        "-CAkey",   "ca.key",      "-set_serial", serial, "-days",    LEAF_DAYS,  "-sha256",
                        "-extfile", "openssl.cnf", "-extensions", "node", "-out",     "node.crt", NULL};
  choir_info(CHOIR_TOPIC_DAEMON, "a certificate is made for %s", names);
  return run(tls->dir, ask, NULL, error) && run(tls->dir, sign, NULL, error) &&
         write_private(tls->dir, "node.names", names, error);
}

static gboolean make_certificates(ChoirTls *tls, const char *more, GError **error) {
  g_autofree char *names = alternative_names(more);
  g_autofree char *config =
      g_strdup_printf("[req]\ndistinguished_name = name\n[name]\n[authority]\nbasicConstraints = critical,CA:TRUE,"
                      "pathlen:0\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n[node]\n"
                      "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\nextendedKeyUsage = "
                      "serverAuth\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\nsubjectAltName = %s\n",
                      names);
  mode_t mask = umask(0077);
  gboolean good = write_private(tls->dir, "openssl.cnf", config, error) && make_authority(tls, error) &&
                  make_certificate(tls, names, error);
  umask(mask);
  return good;
}

static const char nginx_format[] =
    "daemon off;\nmaster_process off;\npid %1$s/nginx.pid;\nerror_log stderr warn;\n"
    "events { worker_connections 256; }\n"
    "http {\n"
    "  access_log off;\n  server_tokens off;\n  default_type application/octet-stream;\n"
    "  client_body_temp_path %1$s/body;\n  proxy_temp_path %1$s/proxy;\n  fastcgi_temp_path %1$s/fastcgi;\n"
    "  uwsgi_temp_path %1$s/uwsgi;\n  scgi_temp_path %1$s/scgi;\n"
    "  map $http_upgrade $choir_connection { default upgrade; '' ''; }\n"
    "  limit_conn_zone $binary_remote_addr zone=choir:1m;\n"
    "  server {\n"
    "    listen %2$s%3$u ssl%4$s;\n"
    "    ssl_certificate %1$s/node.crt;\n    ssl_certificate_key %1$s/node.key;\n"
    "    ssl_protocols TLSv1.2 TLSv1.3;\n    ssl_session_cache shared:choir_tls:1m;\n    ssl_session_tickets off;\n"
    "    client_max_body_size 32m;\n    client_header_timeout 10s;\n    limit_conn choir 32;\n"
    "    error_page 497 =307 https://$http_host$request_uri;\n"
    "    location / {\n"
    "      proxy_pass http://127.0.0.1:%5$u;\n      proxy_http_version 1.1;\n      proxy_buffering off;\n"
    "      proxy_request_buffering off;\n      proxy_read_timeout 1h;\n      proxy_send_timeout 60s;\n"
    "      proxy_set_header Host $http_host;\n      proxy_set_header Upgrade $http_upgrade;\n"
    "      proxy_set_header Connection $choir_connection;\n      proxy_set_header X-Real-IP $remote_addr;\n"
    "      proxy_set_header X-Choir-Twin %6$s;\n    }\n  }\n}\n";

static gboolean configure_nginx(ChoirTls *tls, GError **error) {
  gboolean six = g_file_test("/proc/net/if_inet6", G_FILE_TEST_EXISTS);
  if (strpbrk(tls->dir, " \t\"';{}$\\\n")) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                "nginx cannot work in the folder %s, whose name has a space or a sign; choose another with --state",
                tls->dir);
    return FALSE;
  }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  g_autofree char *text = g_strdup_printf(nginx_format, tls->dir, six ? "[::]:" : "", tls->port,
                                          six ? " ipv6only=off" : "", tls->upstream, tls->secret);
#pragma GCC diagnostic pop
  return write_private(tls->dir, "nginx.conf", text, error);
}

static char *find_nginx(void) {
  char *found = g_find_program_in_path("nginx");
  return found || !g_file_test("/usr/sbin/nginx", G_FILE_TEST_IS_EXECUTABLE) ? found : g_strdup("/usr/sbin/nginx");
}

static gboolean prepare(ChoirChild *child, GStrv *ret_argv, GStrv *ret_env, GArray *fds, gpointer user,
                        GError **error) {
  ChoirTls *tls = user;
  const char *argv[] = {tls->nginx, "-p", tls->dir, "-c", "nginx.conf", "-e", "stderr", NULL};
  *ret_argv = g_strdupv((char **)argv);
  return TRUE;
}

static gboolean on_ready(gpointer user) {
  ChoirTls *tls = user;
  tls->ready_timer = 0;
  if (choir_child_pid(tls->child) != 0)
    choir_child_mark_ready(tls->child);
  return G_SOURCE_REMOVE;
}

/* It says nothing when all is well; what is wrong (a taken port) ends it at once. */
static void on_started(ChoirChild *child, GPid pid, gpointer user) {
  ChoirTls *tls = user;
  g_clear_handle_id(&tls->ready_timer, g_source_remove);
  tls->ready_timer = g_timeout_add(READY_MS, on_ready, tls);
}

static void on_exited(ChoirChild *child, int status, gpointer user) {
  ChoirTls *tls = user;
  g_clear_handle_id(&tls->ready_timer, g_source_remove);
}

static int line_level(const char *line) {
  return strstr(line, "[emerg]") || strstr(line, "[alert]") || strstr(line, "[crit]") ? CHOIR_LOG_ERROR
         : strstr(line, "[warn]") || strstr(line, "[error]")                          ? CHOIR_LOG_WARNING
                                                                                      : CHOIR_LOG_DEBUG;
}

static char *random_secret(void) {
  guint8 bytes[32];
  GString *text = g_string_new(NULL);
  if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
    g_error("the kernel gives no random numbers");
  for (gsize i = 0; i < sizeof bytes; i++)
    g_string_append_printf(text, "%02x", bytes[i]);
  return g_string_free(text, FALSE);
}

ChoirTls *choir_tls_new(const char *state_dir, guint16 port, guint16 upstream, GError **error) {
  return choir_tls_new_named(state_dir, port, upstream, NULL, error);
}

ChoirTls *choir_tls_new_named(const char *state_dir, guint16 port, guint16 upstream, const char *names,
                              GError **error) {
  g_autofree char *nginx = find_nginx(), *openssl = g_find_program_in_path("openssl");
  if (!nginx || !openssl) {
    g_set_error(error, G_SPAWN_ERROR, G_SPAWN_ERROR_NOENT,
                "serving the LAN needs %s, for browsers give no microphone without TLS; install it, or start without "
                "--lan",
                nginx ? "openssl" : "nginx (Debian: nginx-light)");
    return NULL;
  }
  ChoirTls *tls = g_new0(ChoirTls, 1);
  tls->dir = g_build_filename(state_dir, "tls", NULL);
  tls->ca_file = g_build_filename(tls->dir, "ca.crt", NULL);
  tls->nginx = g_steal_pointer(&nginx);
  tls->secret = random_secret();
  tls->port = port;
  tls->upstream = upstream;
  if (g_mkdir_with_parents(tls->dir, 0700) != 0 || !make_certificates(tls, names, error) ||
      !configure_nginx(tls, error)) {
    if (error && !*error)
      g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot write in %s", tls->dir);
    choir_tls_free(tls);
    return NULL;
  }
  ChoirChildSpec spec = {.name = "choir-tls",
                         .topic = CHOIR_TOPIC_WEB,
                         .prepare = prepare,
                         .started = on_started,
                         .exited = on_exited,
                         .line_level = line_level,
                         .user = tls};
  tls->child = choir_child_new(&spec);
  return tls;
}

void choir_tls_start(ChoirTls *tls) {
  choir_child_start(tls->child);
}

void choir_tls_stop(ChoirTls *tls, void (*done)(gpointer user), gpointer user) {
  choir_child_stop(tls->child, done, user);
}

void choir_tls_free(ChoirTls *tls) {
  if (!tls)
    return;
  g_clear_handle_id(&tls->ready_timer, g_source_remove);
  if (tls->child)
    choir_child_free(tls->child);
  g_free(tls->dir);
  g_free(tls->nginx);
  g_free(tls->ca_file);
  g_free(tls->secret);
  g_free(tls);
}

ChoirChild *choir_tls_child(ChoirTls *tls) {
  return tls->child;
}

const char *choir_tls_ca_file(const ChoirTls *tls) {
  return tls->ca_file;
}

const char *choir_tls_secret(const ChoirTls *tls) {
  return tls->secret;
}
