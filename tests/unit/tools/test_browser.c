/* The web browser: a real Chromium in the sandbox against a web server of the test. */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "house.h"
#include "tools/tools.h"

static atomic_uint secret; /* how often the port that nobody may reach was asked */
static atomic_uint served;
static guint16 port, secret_port;

static const char page[] =
    "<!doctype html><title>The orchard</title><body style='margin:0'><h1>Apples</h1><p>Ripe in <b>September</b>.</p>"
    "<button id=b style='position:absolute;left:100px;top:200px;width:100px;height:50px' "
    "onclick=\"document.getElementById('o').innerText='clicked '+(++n)\">Go</button>"
    "<input id=i style='position:absolute;left:100px;top:300px;width:200px;height:30px' "
    "oninput=\"document.getElementById('o').innerText='typed '+this.value\"><p id=o>nothing yet</p><script>var "
    "n=0</script>";

static gboolean on_request(GThreadedSocketService *service, GSocketConnection *connection, GObject *source,
                           gpointer user) {
  GIOStream *stream = G_IO_STREAM(connection);
  char head[8192];
  gssize n = g_input_stream_read(g_io_stream_get_input_stream(stream), head, sizeof head - 1, NULL, NULL);
  head[MAX(n, 0)] = '\0';
  if (user) {
    secret++;
    return FALSE;
  }
  served++;
  g_autofree char *said = NULL;
  if (g_str_has_prefix(head, "GET /to?")) {
    g_auto(GStrv) words = g_strsplit(head, " ", 3);
    said =
        g_strdup_printf("HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", words[1] + strlen("/to?"));
  } else if (g_str_has_prefix(head, "GET / ")) {
    said = g_strdup_printf("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %zu\r\n\r\n%s", strlen(page),
                           page);
  } else {
    said = g_strdup("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  }
  g_output_stream_write_all(g_io_stream_get_output_stream(stream), said, strlen(said), NULL, NULL, NULL);
  return FALSE;
}

static GSocketService *serve(guint16 *ret_port, gpointer user) {
  g_autoptr(GError) error = NULL;
  GSocketService *service = g_threaded_socket_service_new(4);
  *ret_port = g_socket_listener_add_any_inet_port(G_SOCKET_LISTENER(service), NULL, &error);
  g_assert_no_error(error);
  g_signal_connect(service, "run", G_CALLBACK(on_request), user);
  return service;
}

static House *house_with_browser(void) {
  House *house = house_new();
  char *reason = NULL, *remedy = NULL;
  if (!choir_toolbox_available(house->toolbox, &choir_tool_web_browser, &reason, &remedy)) {
    g_autofree char *why = g_strdup_printf("%s; %s", reason, remedy);
    g_test_skip(why);
    g_free(reason);
    g_free(remedy);
    house_free(house);
    return NULL;
  }
  g_autofree char *local = g_strdup_printf("127.0.0.1:%u", port);
  g_assert_true(choir_config_set(house->config, "tools", "web_local", local, NULL));
  return house;
}

static char *visit(const char *url) {
  return g_strdup_printf("{\"url\": \"%s\"}", url);
}

static void test_reads_and_acts(void) {
  g_autoptr(House) house = house_with_browser();
  if (!house)
    return;
  g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u/", port), *args = visit(url);
  g_autofree char *closed = house_fails(house, "web_browser.get_page_content", "{}");
  g_assert_nonnull(strstr(closed, "no page is open"));
  g_autofree char *first = house_ok(house, "web_browser.goto", args);
  g_assert_nonnull(strstr(first, "The orchard"));
  g_assert_nonnull(strstr(first, "Ripe in September."));
  g_assert_null(strstr(first, "<b>"));
  g_assert_nonnull(strstr(first, "servers asked: 127.0.0.1"));
  g_assert_cmpuint(house->asked, ==, 1);
  g_assert_nonnull(strstr(house->last_card, "web 127.0.0.1"));
  g_free(house_ok(house, "web_browser.goto", args)); /* known now: it does not ask again */
  g_assert_cmpuint(house->asked, ==, 1);
  g_autofree char *clicked = house_ok(house, "web_browser.click", "{\"selector\": \"#b\"}");
  g_assert_nonnull(strstr(clicked, "clicked 1"));
  g_autofree char *again = house_ok(house, "web_browser.click_at", "{\"x\": 150, \"y\": 225}");
  g_assert_nonnull(strstr(again, "clicked 2"));
  g_autofree char *typed = house_ok(house, "web_browser.type", "{\"selector\": \"#i\", \"text\": \"pear\"}");
  g_assert_nonnull(strstr(typed, "typed pear"));
  g_autofree char *at = house_ok(house, "web_browser.type_text_at", "{\"x\": 290, \"y\": 315, \"text\": \"s é\"}");
  g_assert_nonnull(strstr(at, "typed pears é"));
  g_assert_cmpuint(house->asked, ==, 5);
  g_autofree char *missing = house_fails(house, "web_browser.click", "{\"selector\": \"#none\"}");
  g_assert_nonnull(strstr(missing, "no such element"));
  g_autofree char *shot = house_ok(house, "web_browser.get_screenshot", "{}");
  g_autofree char *picture = NULL;
  gsize length;
  *strchrnul(shot, '\n') = '\0';
  g_assert_true(g_str_has_prefix(shot, house->work));
  g_assert_true(g_file_get_contents(shot, &picture, &length, NULL));
  g_assert_true(length > 1000 && memcmp(picture, "\x89PNG", 4) == 0);
  house->approve = FALSE;
  g_autofree char *denied = house_fails(house, "web_browser.click", "{\"selector\": \"#b\"}");
  g_assert_nonnull(strstr(denied, "said no"));
  g_autofree char *end = house_ok(house, "web_browser.close", "{}");
  g_assert_cmpstr(end, ==, "The browser is closed.");
}

/* Wherever a page sends it: nothing of this machine or its network is opened. */
static void test_redirects(void) {
  static const char *const to[] = {"http://127.0.0.1:%u/",          "http://localhost:%u/", "http://[::1]:%u/",
                                   "http://[::ffff:127.0.0.1]:%u/", "http://0.0.0.0:%u/",   "http://2130706433:%u/",
                                   "http://169.254.169.254/?%u",    "http://10.0.0.1/?%u"};
  g_autoptr(House) house = house_with_browser();
  if (!house)
    return;
  for (guint i = 0; i < G_N_ELEMENTS(to); i++) {
    g_auto(GStrv) parts = g_strsplit(to[i], "%u", 2);
    g_autofree char *target = g_strdup_printf("%s%u%s", parts[0], secret_port, parts[1]);
    g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u/to?%s", port, target), *args = visit(url);
    g_autoptr(GError) error = NULL;
    g_autofree char *said = house_call(house, "web_browser.goto", args, &error);
    g_test_message("%s: %.200s", target, said);
    g_assert_true(error || strstr(said, "Choir does not open"));
    g_assert_true(strstr(said, "(this machine)") || strstr(said, "address)") ||
                  strstr(said, "address of this network)"));
  }
  g_assert_cmpuint(secret, ==, 0);
  static const char *const bad[] = {"file:///etc/passwd", "chrome://settings", "http://user:pw@a.b/",
                                    "data:text/html,x"};
  for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autofree char *args = visit(bad[i]);
    g_free(house_fails(house, "web_browser.goto", args));
  }
}

static void on_ended(ChoirSandboxRun *run, int status, const char *killed, gpointer user) {
  *(int *)user = status;
}

/* A program in the same kind of network finds no way but the proxy's socket. */
static void test_no_other_way(void) {
  g_autoptr(House) house = house_new();
  if (choir_sandbox_mode(house->sandbox) != CHOIR_SANDBOX_FULL) {
    g_test_skip("bubblewrap does not work here");
    return;
  }
  g_autofree char *socket_path = g_build_filename(house->state, "p.sock", NULL);
  g_assert_true(g_file_set_contents(socket_path, "", 0, NULL));
  g_autofree char *script = g_strdup_printf("exec 3<>/dev/tcp/127.0.0.1/%u", secret_port);
  const char *scripts[] = {script, "exec 3<>/dev/tcp/1.1.1.1/80", "exec 3<>/dev/udp/1.1.1.1/53 && echo x >&3"};
  const char *writable[] = {house->work, NULL};
  static const ChoirSandboxHandlers handlers = {NULL, on_ended};
  for (guint i = 0; i < G_N_ELEMENTS(scripts); i++) {
    const char *argv[] = {"/bin/bash", "-c", scripts[i], NULL};
    ChoirSandboxSpec spec = {
        .argv = argv, .writable = writable, .proxy_socket = socket_path, .seconds = 20, .stdin_fd = -1};
    int status = -1;
    g_assert_nonnull(choir_sandbox_run(house->sandbox, &spec, &handlers, &status, NULL));
    while (status == -1)
      g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(status, !=, 0);
  }
  g_assert_cmpuint(secret, ==, 0);
}

int main(int argc, char **argv) {
  alarm(280);
  g_test_init(&argc, &argv, NULL);
  g_autoptr(GSocketService) web = serve(&port, NULL), hidden = serve(&secret_port, GINT_TO_POINTER(1));
  g_test_add_func("/browser/no-other-way", test_no_other_way);
  g_test_add_func("/browser/reads-and-acts", test_reads_and_acts);
  g_test_add_func("/browser/redirects", test_redirects);
  int failed = g_test_run();
  g_socket_service_stop(web);
  g_socket_service_stop(hidden);
  return failed;
}
