/* A Chromium of our own in the sandbox, driven by W3C WebDriver (https://www.w3.org/TR/webdriver2/). All its traffic
 * goes through our proxy; there is no other way out of its network. Main thread only; one command at a time. */
#pragma once
#include "agent/tool.h"

typedef struct BrowserDriver BrowserDriver;

typedef struct {
  const char *ports, *allowed, *names; /* as ProxyRules */
} BrowserRules;

/* value: what WebDriver answered, borrowed; or error. */
typedef void (*BrowserDone)(const json_t *value, const GError *error, gpointer user);

gboolean browser_driver_there(char **ret_reason, char **ret_remedy);
/* work_dir: where its socket and profile lie; state_dir: where the proxy's socket lies. */
BrowserDriver *browser_driver_new(ChoirSandbox *sandbox, const char *work_dir, const char *state_dir,
                                  const BrowserRules *rules);
void browser_driver_free(BrowserDriver *driver); /* done of what runs is called with an error */
/* Starts the browser when it is not there. path: below the session ("/url"); body (taken): NULL = GET. */
void browser_driver_send(BrowserDriver *driver, const char *path, json_t *body, BrowserDone done, gpointer user);
void browser_driver_stop(BrowserDriver *driver);
gboolean browser_driver_running(const BrowserDriver *driver);
char *browser_driver_hosts(BrowserDriver *driver); /* as proxy_take_hosts(); caller frees */
