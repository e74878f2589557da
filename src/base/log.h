/* Log: topics, plain or JSON lines, secrets scrubbed, rate-limited, drops counted, last lines kept for the page.
 * All functions may be called from any thread; listeners run on the main context. */
#pragma once
#include <glib.h>

typedef enum { CHOIR_LOG_ERROR, CHOIR_LOG_WARNING, CHOIR_LOG_INFO, CHOIR_LOG_DEBUG } ChoirLogLevel;

typedef struct {
  gint64 wall_us; /* g_get_real_time() */
  guint64 serial; /* increasing, gaps mean drops */
  ChoirLogLevel level;
  const char *topic;
  const char *text; /* one line, valid UTF-8, secrets already scrubbed */
} ChoirLogLine;

typedef void (*ChoirLogListener)(const ChoirLogLine *line, gpointer user);

/* json: JSON lines instead of plain. levels: "info" or "info,llm=debug,net*=warning" (globs per topic). NULL = "info".
 * Returns FALSE and sets error (CHOIR_LOG_ERROR domain text in G_OPTION style) on an unknown level. */
gboolean choir_log_init(gboolean json, const char *levels, GError **error);
void choir_log(const char *topic, ChoirLogLevel level, const char *format, ...) G_GNUC_PRINTF(3, 4);
gboolean choir_log_enabled(const char *topic, ChoirLogLevel level);
/* A string that must never appear in any line (token, key); copied; at least 6 bytes or it is ignored. */
void choir_log_add_secret(const char *secret);
/* Returns an id for choir_log_unlisten(). Replays up to `backlog` kept lines first. Lines always arrive from the loop,
 * never inside a call; a line logged by a listener is kept and written but not shown to listeners. */
guint choir_log_listen(guint backlog, ChoirLogListener listener, gpointer user);
void choir_log_unlisten(guint id);
guint64 choir_log_dropped(void);
const char *choir_log_level_name(ChoirLogLevel level);

#define choir_error(topic, ...) choir_log(topic, CHOIR_LOG_ERROR, __VA_ARGS__)
#define choir_warning(topic, ...) choir_log(topic, CHOIR_LOG_WARNING, __VA_ARGS__)
#define choir_info(topic, ...) choir_log(topic, CHOIR_LOG_INFO, __VA_ARGS__)
#define choir_debug(topic, ...)                                                                                        \
  do {                                                                                                                 \
    if (choir_log_enabled(topic, CHOIR_LOG_DEBUG))                                                                     \
      choir_log(topic, CHOIR_LOG_DEBUG, __VA_ARGS__);                                                                  \
  } while (0)
