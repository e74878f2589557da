/* Opens and reads web pages. What a page says is a stranger's; what is clicked and typed there asks first. */
#include <string.h>
#include <glib/gstdio.h>
#include "base/text.h"
#include "tools/boxed.h"
#include "tools/browser_driver.h"
#include "tools/schema.h"
#include "tools/tools.h"

#define IDLE_S 600
#define TEXT_MAX 30000
#define ELEMENT "element-6066-11e4-a52e-4f735466cecf" /* the key of an element's id: WebDriver, section 12 */
#define READ_PAGE                                                                                                      \
  "return [document.title, location.href, document.body ? document.body.innerText.slice(0, " G_STRINGIFY(              \
      TEXT_MAX) ") : "                                                                                                 \
                "'']"

typedef struct {
  BrowserDriver *driver;
  GHashTable *visited; /* hosts that were opened with permission */
  char *host;          /* of the page that is open; NULL = none */
  guint idle;
} Browser;

/* The table's callbacks see the house, not the state; there is one browser a daemon. */
static Browser *browser;

typedef struct Task Task;
struct Task {
  ChoirToolCall *call;
  gulong handler;
  void (*next)(Task *task, const json_t *value);
};

static gboolean on_idle(gpointer user) {
  browser->idle = 0;
  browser_driver_stop(browser->driver);
  return G_SOURCE_REMOVE;
}

static void rest(void) {
  g_clear_handle_id(&browser->idle, g_source_remove);
  browser->idle = g_timeout_add_seconds(IDLE_S, on_idle, NULL);
}

/* error: taken. */
static void end(Task *task, GError *error) {
  ChoirToolCall *call = task->call;
  if (browser) {
    g_autofree char *hosts = browser_driver_hosts(browser->driver), *note = NULL;
    if (*hosts) {
      note = g_strdup_printf("\n(servers asked: %s)\n", hosts);
      choir_tool_call_output(call, note, -1);
      g_auto(GStrv) list = g_strsplit(hosts, ", ", -1);
      for (char **host = list; *host; host++)
        choir_tool_call_talked_to(call, *host);
    }
    g_autofree char *origin = g_strdup_printf("web %s", browser->host ? browser->host : "nowhere");
    choir_tool_call_origin(call, origin);
    rest();
  }
  g_cancellable_disconnect(choir_tool_call_cancellable(call), task->handler);
  g_free(task);
  choir_tool_call_done(call, FALSE, error);
}

static void fail(Task *task, const char *what) {
  end(task, g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, what));
}

static void on_value(const json_t *value, const GError *error, gpointer user) {
  Task *task = user;
  if (error)
    end(task, g_error_copy(error));
  else
    task->next(task, value);
}

static void send(Task *task, const char *path, json_t *body, void (*next)(Task *task, const json_t *value)) {
  task->next = next;
  browser_driver_send(browser->driver, path, body, on_value, task);
}

static gboolean stop_now(gpointer user) {
  if (browser)
    browser_driver_stop(browser->driver);
  return G_SOURCE_REMOVE;
}

/* A page that hangs: the whole browser goes, the next call starts another. Not within the cancellable's own lock. */
static void on_cancelled(GCancellable *cancellable, gpointer user) {
  g_idle_add(stop_now, NULL);
}

static Task *begin(ChoirToolCall *call, gboolean need_page) {
  choir_tool_call_state(call); /* makes it with the first call */
  if (need_page && (!browser->host || !browser_driver_running(browser->driver))) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "no page is open; open one with web_browser.goto first");
    return NULL;
  }
  Task *task = g_new0(Task, 1);
  task->call = call;
  task->handler = g_cancellable_connect(choir_tool_call_cancellable(call), G_CALLBACK(on_cancelled), task, NULL);
  g_clear_handle_id(&browser->idle, g_source_remove);
  return task;
}

/* The host of an address that may be opened at all; NULL = none. */
static char *host_of(const char *url) {
  g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
  const char *scheme = uri ? g_uri_get_scheme(uri) : "", *host = uri ? g_uri_get_host(uri) : NULL;
  gboolean web = g_str_equal(scheme, "http") || g_str_equal(scheme, "https");
  return web && host && *host && !g_uri_get_userinfo(uri) ? g_ascii_strdown(host, -1) : NULL;
}

static char *whole_url(const char *url) {
  return strstr(url, "://") ? g_strdup(url) : g_strconcat("https://", url, NULL);
}

/* Reading */

/* Title and first words, as show_page() puts them out. */
static char *gist(const json_t *args, const char *output) {
  g_auto(GStrv) parts = g_strsplit(output, "\n", 4);
  if (g_strv_length(parts) < 4 || *parts[2])
    return NULL;
  const char *notes = strstr(parts[3], "\n(servers asked: ");
  g_autofree char *body = g_strndup(parts[3], notes ? (gsize)(notes - parts[3]) : strlen(parts[3])),
                  *words = choir_short_line(body, 200), *title = choir_short_line(parts[0], 80);
  if (!*words)
    return g_strdup_printf("The page %s has no text.", *title ? title : parts[1]);
  return g_strdup_printf("The page %s begins: %s", *title ? title : parts[1], words);
}

static void show_page(Task *task, const json_t *value) {
  const char *title = json_string_value(json_array_get(value, 0)), *url = json_string_value(json_array_get(value, 1)),
             *text = json_string_value(json_array_get(value, 2));
  g_free(browser->host);
  browser->host = host_of(url ? url : "");
  g_autofree char *whole = g_strdup_printf("%s\n%s\n\n%s\n", title ? title : "", url ? url : "", text ? text : "");
  choir_tool_call_output(task->call, whole, -1);
  end(task, NULL);
}

static void read_page(Task *task, const json_t *value) {
  send(task, "/execute/sync", json_pack("{s:s,s:[]}", "script", READ_PAGE, "args"), show_page);
}

static void go(ChoirToolCall *call) {
  g_autofree char *url = whole_url(choir_tool_call_string(call, "url", "")), *host = host_of(url);
  if (!host) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "%s is no address of a web page; it begins with https:// or http://", url);
    return;
  }
  Task *task = begin(call, FALSE);
  g_hash_table_add(browser->visited, g_steal_pointer(&host));
  send(task, "/url", json_pack("{s:s}", "url", url), read_page);
}

static void get_page_content(ChoirToolCall *call) {
  Task *task = begin(call, TRUE);
  if (task)
    read_page(task, NULL);
}

static void save_screenshot(Task *task, const json_t *value) {
  const ChoirToolHouse *house = choir_tool_call_house(task->call);
  gsize length = 0;
  g_autofree guchar *png = json_is_string(value) ? g_base64_decode(json_string_value(value), &length) : NULL;
  g_autoptr(GDateTime) now = g_date_time_new_now_local();
  g_autofree char *name = g_date_time_format(now, "screenshot-%Y%m%d-%H%M%S.png");
  if (!house || length < 8 || memcmp(png, "\x89PNG", 4) != 0) {
    fail(task, "the browser gave no picture");
    return;
  }
  g_autofree char *path = g_build_filename(house->work_dir, name, NULL);
  g_autoptr(GError) error = NULL;
  if (!g_file_set_contents(path, (const char *)png, (gssize)length, &error)) {
    fail(task, error->message);
    return;
  }
  choir_tool_call_output(task->call, path, -1);
  end(task, NULL);
}

static void get_screenshot(ChoirToolCall *call) {
  Task *task = begin(call, TRUE);
  if (task)
    send(task, "/screenshot", NULL, save_screenshot);
}

/* Acting */

static void send_to_element(Task *task, const json_t *value, const char *what, json_t *body) {
  const char *id = choir_json_string(value, ELEMENT, "");
  g_autofree char *escaped = g_uri_escape_string(id, NULL, FALSE),
                  *path = g_strdup_printf("/element/%s/%s", escaped, what);
  send(task, path, body, read_page);
}

static void click_element(Task *task, const json_t *value) {
  send_to_element(task, value, "click", json_object());
}

static void type_element(Task *task, const json_t *value) {
  send_to_element(task, value, "value", json_pack("{s:s}", "text", choir_tool_call_string(task->call, "text", "")));
}

static void with_element(ChoirToolCall *call, void (*next)(Task *task, const json_t *value)) {
  Task *task = begin(call, TRUE);
  if (task)
    send(task, "/element",
         json_pack("{s:s,s:s}", "using", "css selector", "value", choir_tool_call_string(call, "selector", "")), next);
}

static void click(ChoirToolCall *call) {
  with_element(call, click_element);
}

static void type_text(ChoirToolCall *call) {
  with_element(call, type_element);
}

static json_t *keys(const char *text) {
  json_t *actions = json_array();
  for (const char *at = text; *at; at = g_utf8_next_char(at)) {
    g_autofree char *key = g_strndup(at, (gsize)(g_utf8_next_char(at) - at));
    json_array_append_new(actions, json_pack("{s:s,s:s}", "type", "keyDown", "value", key));
    json_array_append_new(actions, json_pack("{s:s,s:s}", "type", "keyUp", "value", key));
  }
  return actions;
}

static void type_keys(Task *task, const json_t *value) {
  json_t *body = json_pack("{s:[{s:s,s:s,s:o}]}", "actions", "type", "key", "id", "keyboard", "actions",
                           keys(choir_tool_call_string(task->call, "text", "")));
  send(task, "/actions", body, read_page);
}

static void at_place(ChoirToolCall *call, void (*next)(Task *task, const json_t *value)) {
  Task *task = begin(call, TRUE);
  if (!task)
    return;
  json_t *body = json_pack("{s:[{s:s,s:s,s:[{s:s,s:i,s:I,s:I},{s:s,s:i},{s:s,s:i}]}]}", "actions", "type", "pointer",
                           "id", "mouse", "actions", "type", "pointerMove", "duration", 0, "x",
                           (json_int_t)choir_tool_call_integer(call, "x", 0), "y",
                           (json_int_t)choir_tool_call_integer(call, "y", 0), "type", "pointerDown", "button", 0,
                           "type", "pointerUp", "button", 0);
  send(task, "/actions", body, next);
}

static void click_at(ChoirToolCall *call) {
  at_place(call, read_page);
}

static void type_text_at(ChoirToolCall *call) {
  at_place(call, type_keys);
}

static void close_browser(ChoirToolCall *call) {
  choir_tool_call_state(call);
  gboolean ran = browser_driver_running(browser->driver);
  g_clear_handle_id(&browser->idle, g_source_remove);
  browser_driver_stop(browser->driver);
  g_clear_pointer(&browser->host, g_free);
  tool_answer(call, TRUE, ran ? "The browser is closed." : "No browser was open.");
}

/* Class and target */

static ChoirToolClass classify_go(const ChoirToolHouse *house, const json_t *args, char **ret_why) {
  g_autofree char *url = whole_url(choir_json_string(args, "url", "")), *host = host_of(url);
  g_auto(GStrv) known = g_strsplit_set(choir_config_string(house->config, "tools", "web_hosts"), ", ", -1);
  if (!host || g_strv_contains((const char *const *)known, host) ||
      (browser && g_hash_table_contains(browser->visited, host)))
    return CHOIR_CLASS_READ;
  *ret_why = g_strdup_printf("%s was not opened before", host);
  return CHOIR_CLASS_CHANGE;
}

static char *go_target(const ChoirToolHouse *house, const json_t *args) {
  g_autofree char *url = whole_url(choir_json_string(args, "url", "")), *host = host_of(url);
  return g_strdup_printf("web %s", host ? host : "nowhere");
}

static char *page_target(const ChoirToolHouse *house, const json_t *args) {
  return g_strdup_printf("web %s", browser && browser->host ? browser->host : "nowhere");
}

static gboolean available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {
  if (!browser_driver_there(ret_reason, ret_remedy))
    return FALSE;
  if (house->sandbox && choir_sandbox_mode(house->sandbox) == CHOIR_SANDBOX_FULL)
    return TRUE;
  *ret_reason = g_strdup("a browser needs a network of its own, and bubblewrap does not work here");
  *ret_remedy = g_strdup("install bubblewrap and allow user namespaces");
  return FALSE;
}

static gpointer open_browser(const ChoirToolHouse *house) {
  BrowserRules rules = {.ports = choir_config_string(house->config, "tools", "web_ports"),
                        .allowed = choir_config_string(house->config, "tools", "web_local"),
                        .names = ""};
  browser = g_new0(Browser, 1);
  browser->driver = browser_driver_new(house->sandbox, house->work_dir, house->state_dir, &rules);
  browser->visited = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  return browser;
}

static void close_state(gpointer state) {
  Browser *old = g_steal_pointer(&browser);
  g_clear_handle_id(&old->idle, g_source_remove);
  browser_driver_free(old->driver);
  g_hash_table_unref(old->visited);
  g_free(old->host);
  g_free(old);
}

static const ChoirToolSink url_sink[] = {{"url", CHOIR_SINK_URL}, {NULL, 0}};
static const ChoirToolSink text_sink[] = {{"text", CHOIR_SINK_REMOTE}, {NULL, 0}};
static const ChoirToolShot go_shots[] = {{"open the page debian.org", "{\"url\": \"debian.org\"}"},
                                         {"go to https://example.com/news", "{\"url\": \"https://example.com/news\"}"},
                                         {"show me the website kernel.org in the browser", "{\"url\": \"kernel.org\"}"},
                                         {NULL, NULL}};

#define PLACE TOOL_INTEGER("x", 0, 4000, "pixels from the left") "," TOOL_INTEGER("y", 0, 4000, "pixels from the top")
#define TYPED TOOL_TEXT("text", 1000, "what to type")
#define SELECTOR TOOL_TEXT("selector", 500, "CSS selector of the element")

static const ChoirToolAction actions[] = {
    {.name = "goto",
     .help = "Open a web page and read it.",
     .schema = TOOL_OBJECT(TOOL_COPIED("url", 2000, "its address"), "\"url\""),
     .sinks = url_sink,
     .timeout_s = 120,
     .shots = go_shots,
     .classify = classify_go,
     .target = go_target,
     .gist = gist,
     .run = go},
    {.name = "get_page_content",
     .help = "Read the open web page again.",
     .schema = TOOL_NOTHING,
     .timeout_s = 60,
     .gist = gist,
     .run = get_page_content},
    {.name = "get_screenshot",
     .help = "Save a picture of the open web page.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_NOTHING,
     .timeout_s = 60,
     .run = get_screenshot},
    {.name = "click",
     .help = "Click an element of the open web page.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(SELECTOR, "\"selector\""),
     .timeout_s = 60,
     .target = page_target,
     .run = click},
    {.name = "type",
     .help = "Type text into an element of the open web page.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(SELECTOR "," TYPED, "\"selector\",\"text\""),
     .sinks = text_sink,
     .timeout_s = 60,
     .target = page_target,
     .run = type_text},
    {.name = "click_at",
     .help = "Click at a place of the open web page.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(PLACE, "\"x\",\"y\""),
     .timeout_s = 60,
     .target = page_target,
     .run = click_at},
    {.name = "type_text_at",
     .help = "Click at a place of the open web page and type text there.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(PLACE "," TYPED, "\"x\",\"y\",\"text\""),
     .sinks = text_sink,
     .timeout_s = 60,
     .target = page_target,
     .run = type_text_at},
    {.name = "close",
     .help = "Close the web browser.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_NOTHING,
     .run = close_browser},
};

const ChoirTool choir_tool_web_browser = {.id = "web_browser",
                                          .title = "Web browser",
                                          .help = "Opens and reads web pages, and acts on them when allowed.",
                                          .actions = actions,
                                          .n_actions = G_N_ELEMENTS(actions),
                                          .available = available,
                                          .open = open_browser,
                                          .close = close_state};
