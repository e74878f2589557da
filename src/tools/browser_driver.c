#include "tools/browser_driver.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <glib/gstdio.h>
#include "base/text.h"
#include "tools/proxy.h"

#define CHROMIUM "/usr/lib/chromium/chromium"
#define CHROMEDRIVER "/usr/bin/chromedriver"
#define INSIDE "/run/choir-sandbox" /* where the sandbox puts choir-sandbox */
#define START_S 90
#define LOOK_MS 200
#define COMMAND_MS 60000
#define ANSWER_MAX (24u << 20) /* a screenshot in base64 */
#define LIFE_S 3600
#define MEMORY_MB 1536
#define FOLDER ".browser"
#define SOCKET "driver.sock"

struct BrowserDriver {
  ChoirSandbox *sandbox;
  char *folder, *proxy_path, *ports, *allowed, *names;
  Proxy *proxy;
  ChoirSandboxRun *run;
  ChoirHttpClient *http;
  int socket_fd; /* the very socket that was looked at; -1 */
  char *session;
  gint64 started_us;
  guint look;
  char *path; /* the command that waits or runs */
  json_t *body;
  BrowserDone done;
  gpointer user;
};

/* There is one browser at a time. A run may outlive its driver by a moment: its callbacks look here. */
static BrowserDriver *current;

gboolean browser_driver_there(char **ret_reason, char **ret_remedy) {
  if (g_file_test(CHROMIUM, G_FILE_TEST_IS_EXECUTABLE) && g_file_test(CHROMEDRIVER, G_FILE_TEST_IS_EXECUTABLE))
    return TRUE;
  *ret_reason = g_strdup("Chromium or its driver is not installed");
  *ret_remedy = g_strdup("apt-get install chromium chromium-driver");
  return FALSE;
}

static void finish(BrowserDriver *driver, const json_t *value, const GError *error) {
  BrowserDone done = driver->done;
  driver->done = NULL;
  g_clear_pointer(&driver->path, g_free);
  json_t *body = g_steal_pointer(&driver->body);
  if (done)
    done(value, error, driver->user);
  json_decref(body);
}

static void fail(BrowserDriver *driver, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void fail(BrowserDriver *driver, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_autoptr(GError) error = g_error_new_valist(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, format, args);
  va_end(args);
  finish(driver, NULL, error);
}

static void forget(BrowserDriver *driver) {
  g_clear_handle_id(&driver->look, g_source_remove);
  g_clear_pointer(&driver->session, g_free);
  g_clear_pointer(&driver->http, choir_http_client_free);
  g_clear_pointer(&driver->proxy, proxy_free);
  if (driver->socket_fd >= 0)
    close(g_steal_fd(&driver->socket_fd));
}

static void on_ended(ChoirSandboxRun *run, int status, const char *killed, gpointer user) {
  BrowserDriver *driver = current;
  if (!driver || driver->run != run)
    return;
  driver->run = NULL;
  forget(driver);
  if (driver->done)
    fail(driver, "the browser ended%s%s; try again", killed ? ", because it used too much: " : "",
         killed ? killed : "");
}

static void on_reply(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  BrowserDriver *driver = user;
  json_auto_t *json = body ? json_loadb(body, length, 0, NULL) : NULL; /* depth: jansson's own limit */
  const json_t *value = json_object_get(json, "value");
  if (error && !value) {
    fail(driver, "the browser does not answer: %s", error->message);
  } else if (status >= 400) {
    g_autofree char *message = g_strdup(choir_json_string(value, "message", "it failed"));
    message[strcspn(message, "\n")] = '\0';
    fail(driver, "the browser says: %s", message);
  } else {
    finish(driver, value, NULL);
  }
}

static void request(BrowserDriver *driver, const char *path, const json_t *body, ChoirHttpDone done) {
  g_autofree char *text = body ? choir_json_dump(body) : NULL, *url = g_strconcat("http://localhost", path, NULL);
  choir_http_request(driver->http, body ? "POST" : "GET", url, body ? "application/json" : NULL, text,
                     text ? strlen(text) : 0, NULL, COMMAND_MS, ANSWER_MAX, NULL, done, driver);
}

static void send_now(BrowserDriver *driver) {
  g_autofree char *path = g_strdup_printf("/session/%s%s", driver->session, driver->path);
  request(driver, path, driver->body, on_reply);
}

static void on_session(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  BrowserDriver *driver = user;
  json_auto_t *json = body ? json_loadb(body, length, 0, NULL) : NULL;
  const json_t *value = json_object_get(json, "value");
  const char *id = choir_json_string(value, "sessionId", NULL);
  if (error || !id || strlen(id) > 64 || strpbrk(id, "/?# ")) {
    g_autofree char *message = g_strdup(choir_json_string(value, "message", error ? error->message : "no session"));
    message[strcspn(message, "\n")] = '\0';
    fail(driver, "the browser does not start: %s", message);
    browser_driver_stop(driver);
    return;
  }
  driver->session = g_strdup(id);
  if (driver->done)
    send_now(driver);
}

/* --no-sandbox: Chromium's own sandbox makes namespaces, which our seccomp filter forbids inside. It would keep one
 * page from another's data; here all pages belong to one throw-away profile, and what keeps them from the machine
 * (mounts, processes, network, system calls) is the sandbox around the whole browser. */
static void open_session(BrowserDriver *driver) {
  json_auto_t *body =
      json_pack("{s:{s:{s:s,s:b,s:{s:i,s:i,s:i},s:s,s:{s:s,s:[s,s,s,s,s,s,s,s,s]}}}}", "capabilities", "alwaysMatch",
                "browserName", "chrome", "acceptInsecureCerts", 0, "timeouts", "pageLoad", 45000, "script", 15000,
                "implicit", 0, "unhandledPromptBehavior", "dismiss", "goog:chromeOptions", "binary", CHROMIUM, "args",
                "--headless=new", "--no-sandbox", "--disable-gpu", "--no-zygote", "--disable-dev-shm-usage",
                "--proxy-server=127.0.0.1:3128", "--proxy-bypass-list=<-loopback>",
                "--force-webrtc-ip-handling-policy=disable_non_proxied_udp", "--window-size=1280,900");
  request(driver, "/session", body, on_session);
}

static gboolean on_look(gpointer user);

static void look_again(BrowserDriver *driver) {
  if (driver->run && driver->look == 0)
    driver->look = g_timeout_add(LOOK_MS, on_look, driver);
}

static void on_status(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  BrowserDriver *driver = user;
  json_auto_t *json = body ? json_loadb(body, length, 0, NULL) : NULL;
  if (!driver->run)
    return;
  if (!error && choir_json_bool(json_object_get(json, "value"), "ready", FALSE))
    open_session(driver);
  else
    look_again(driver);
}

/* What runs inside may put anything there, a link to another daemon's socket too: it is opened without following and
 * connected to by its descriptor. */
static gboolean open_socket(BrowserDriver *driver) {
  g_autofree char *path = g_build_filename(driver->folder, SOCKET, NULL), *again = NULL;
  struct stat status;
  int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return FALSE;
  if (fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode)) {
    close(fd);
    return FALSE;
  }
  driver->socket_fd = fd;
  again = g_strdup_printf("/proc/self/fd/%d", fd);
  driver->http = choir_http_client_new_local(again);
  return TRUE;
}

static gboolean on_look(gpointer user) {
  BrowserDriver *driver = user;
  driver->look = 0;
  if (g_get_monotonic_time() - driver->started_us > (gint64)START_S * G_USEC_PER_SEC) {
    fail(driver, "the browser did not start within %d seconds; try again", START_S);
    browser_driver_stop(driver);
  } else if (driver->http || open_socket(driver)) {
    request(driver, "/status", NULL, on_status);
  } else {
    look_again(driver);
  }
  return G_SOURCE_REMOVE;
}

static gboolean start(BrowserDriver *driver, GError **error) {
  static const ChoirSandboxHandlers handlers = {NULL, on_ended};
  static const char forward[] = "./" SOCKET "=9515";
  static const char *const argv[] = {INSIDE, "--forward",  "3128=/run/proxy.sock", forward,
                                     "--",   CHROMEDRIVER, "--port=9515",          NULL};
  const char *writable[] = {driver->folder, NULL};
  ProxyRules rules = {.ports = driver->ports, .allowed = driver->allowed, .names = driver->names};
  g_autofree char *path = g_build_filename(driver->folder, SOCKET, NULL);
  g_mkdir_with_parents(driver->folder, 0700);
  g_unlink(path);
  driver->proxy = proxy_new(driver->proxy_path, &rules, error);
  if (!driver->proxy)
    return FALSE;
  ChoirSandboxSpec spec = {.argv = argv,
                           .writable = writable,
                           .proxy_socket = driver->proxy_path,
                           .seconds = LIFE_S,
                           .memory_mb = MEMORY_MB,
                           .processes = 600, /* threads count */
                           .file_mb = 128,
                           .output_max = 64u << 10,
                           .stdin_fd = -1};
  driver->started_us = g_get_monotonic_time();
  driver->run = choir_sandbox_run(driver->sandbox, &spec, &handlers, NULL, error);
  if (!driver->run)
    forget(driver);
  look_again(driver);
  return driver->run != NULL;
}

void browser_driver_send(BrowserDriver *driver, const char *path, json_t *body, BrowserDone done, gpointer user) {
  g_autoptr(GError) error = NULL;
  if (driver->done) {
    g_set_error_literal(&error, CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED,
                        "the browser is busy with another call; wait until it is done");
    json_decref(body);
    done(NULL, error, user);
    return;
  }
  driver->path = g_strdup(path);
  driver->body = body;
  driver->done = done;
  driver->user = user;
  if (driver->session)
    send_now(driver);
  else if (!driver->run && !start(driver, &error))
    finish(driver, NULL, error);
}

void browser_driver_stop(BrowserDriver *driver) {
  ChoirSandboxRun *run = g_steal_pointer(&driver->run);
  forget(driver);
  if (run)
    choir_sandbox_kill(run);
  if (driver->done)
    fail(driver, "the browser was closed");
}

gboolean browser_driver_running(const BrowserDriver *driver) {
  return driver->run != NULL;
}

char *browser_driver_hosts(BrowserDriver *driver) {
  return driver->proxy ? proxy_take_hosts(driver->proxy) : g_strdup("");
}

BrowserDriver *browser_driver_new(ChoirSandbox *sandbox, const char *work_dir, const char *state_dir,
                                  const BrowserRules *rules) {
  BrowserDriver *driver = g_new0(BrowserDriver, 1);
  driver->sandbox = sandbox;
  current = driver;
  driver->socket_fd = -1;
  driver->folder = g_build_filename(work_dir, FOLDER, NULL);
  driver->proxy_path = g_build_filename(state_dir, "browser-proxy.sock", NULL);
  driver->ports = g_strdup(rules->ports);
  driver->allowed = g_strdup(rules->allowed);
  driver->names = g_strdup(rules->names);
  return driver;
}

void browser_driver_free(BrowserDriver *driver) {
  if (!driver)
    return;
  browser_driver_stop(driver);
  if (current == driver)
    current = NULL;
  g_free(driver->folder);
  g_free(driver->proxy_path);
  g_free(driver->ports);
  g_free(driver->allowed);
  g_free(driver->names);
  g_free(driver);
}
