#include "base/log.h"
#include "base/clock.h"
#include "base/scrub.h"
#include "base/text.h"
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define KEPT_LINES 2000
#define MAX_TEXT 1900  /* a whole line, escaped, stays below PIPE_BUF: a write to a pipe then never waits or mixes */
#define MAX_RAW 65536  /* longer text is cut before it is searched for secrets */
#define BURST 200      /* lines that a topic may write at once, and per second */
#define MAX_TOPICS 256 /* more share one bucket */
#define DELIVERY_BATCH 100

typedef struct {
  GPatternSpec *pattern;
  ChoirLogLevel level;
} Rule;

typedef struct {
  ChoirLogLevel level;
  double allowance; /* token bucket */
  gint64 refilled_us;
  guint64 dropped; /* since the last line that was let through */
} Topic;

/* One allocation, counted: the ring, and a delivery in progress, each hold a reference. */
typedef struct {
  ChoirLogLine line;
  gboolean quiet; /* logged by a listener: showing it to listeners would never end */
  char strings[];
} Kept;

typedef struct {
  guint id;
  guint64 next; /* serial of the next line to deliver */
  ChoirLogListener callback;
  gpointer user;
} Listener;

static GMutex lock;
static GHashTable *topics; /* name -> Topic */
static GArray *rules;      /* Rule; the last that matches wins */
static ChoirLogLevel default_level = CHOIR_LOG_INFO;
static gboolean as_json;
static Kept *ring[KEPT_LINES]; /* by serial modulo; a slot may hold nothing where a line was dropped */
static guint64 next_serial = 1, total_dropped;
static GList *listeners;
static guint next_listener_id = 1;
static gboolean delivery_pending, drop_report_pending, output_stuck;
static __thread gboolean delivering;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

const char *choir_log_level_name(ChoirLogLevel level) {
  return level_names[level];
}

static gboolean parse_level(const char *text, ChoirLogLevel *ret_level, GError **error) {
  for (guint i = 0; i < G_N_ELEMENTS(level_names); i++) {
    if (g_ascii_strcasecmp(text, level_names[i]) == 0) {
      *ret_level = (ChoirLogLevel)i;
      return TRUE;
    }
  }
  g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
              "unknown log level \"%s\"; accepted are error, warning, info, debug", text);
  return FALSE;
}

/* Topics, their levels and limits: called under the lock. */
static ChoirLogLevel level_of(const char *topic) {
  for (guint i = rules != NULL ? rules->len : 0; i > 0; i--) {
    const Rule *rule = &g_array_index(rules, Rule, i - 1);
    if (g_pattern_spec_match_string(rule->pattern, topic))
      return rule->level;
  }
  return default_level;
}

static Topic *topic_get(const char *name) {
  if (topics == NULL)
    topics = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  Topic *topic = g_hash_table_lookup(topics, name);
  if (topic != NULL)
    return topic;
  if (g_hash_table_size(topics) >= MAX_TOPICS && strcmp(name, "other") != 0)
    return topic_get("other");
  topic = g_new0(Topic, 1);
  *topic = (Topic){.level = level_of(name), .allowance = BURST, .refilled_us = choir_clock_us()};
  g_hash_table_insert(topics, g_strdup(name), topic);
  return topic;
}

static gboolean topic_take(Topic *topic) {
  gint64 now = choir_clock_us();
  topic->allowance += (double)(now - topic->refilled_us) * BURST / G_USEC_PER_SEC;
  topic->allowance = CLAMP(topic->allowance, 0, BURST);
  topic->refilled_us = now;
  if (topic->allowance < 1)
    return FALSE;
  topic->allowance -= 1;
  return TRUE;
}

/* Control characters would let a line forge others or steer the terminal that shows it. */
static char *one_line(const char *text) {
  GString *line = g_string_sized_new(strlen(text) + 1);
  for (const char *c = text; *c != '\0'; c = g_utf8_next_char(c)) {
    gunichar character = g_utf8_get_char(c);
    if (line->len > MAX_TEXT) {
      g_string_append(line, "…");
      break;
    }
    if (character == '\n' && c[1] == '\0')
      break;
    if (character == '\n')
      g_string_append(line, " | ");
    else if (character == '\t')
      g_string_append_c(line, ' ');
    else if (character < 0x20 || (character >= 0x7f && character < 0xa0) || character == 0x2028 || character == 0x2029)
      g_string_append_c(line, '?');
    else
      g_string_append_unichar(line, character);
  }
  return g_string_free(line, FALSE);
}

static char *clean(const char *raw) {
  g_autofree char *valid = choir_utf8(raw, (gssize)strnlen(raw, MAX_RAW));
  g_autofree char *scrubbed = choir_scrub(valid);
  return one_line(scrubbed);
}

static void append_escaped(GString *text, const char *string) {
  for (const char *c = string; *c != '\0'; c++) {
    if (*c == '"' || *c == '\\')
      g_string_append_c(text, '\\');
    g_string_append_c(text, *c);
  }
}

static GString *format_line(const ChoirLogLine *line) {
  g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(line->wall_us / G_USEC_PER_SEC);
  gint ms = (gint)(line->wall_us % G_USEC_PER_SEC / 1000);
  GString *text = g_string_sized_new(256);
  if (as_json) {
    g_autofree char *date = g_date_time_format(time, "%Y-%m-%dT%H:%M:%S");
    g_string_append_printf(text,
                           "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"serial\":%" G_GUINT64_FORMAT ",\"topic\":\"",
                           date, ms, level_names[line->level], line->serial);
    append_escaped(text, line->topic);
    g_string_append(text, "\",\"text\":\"");
    append_escaped(text, line->text);
    g_string_append(text, "\"}\n");
  } else {
    g_autoptr(GDateTime) local = g_date_time_to_local(time);
    g_autofree char *date = g_date_time_format(local != NULL ? local : time, "%H:%M:%S");
    g_string_append_printf(text, "%s.%03d %-7s %-6s %s\n", date, ms, level_names[line->level], line->topic, line->text);
  }
  return text;
}

/* Never waits long for whoever reads standard error: a stopped terminal or a full pipe costs lines, not the voice. */
static gboolean write_out(const GString *text) {
  struct pollfd poller = {.fd = STDERR_FILENO, .events = POLLOUT};
  if (poll(&poller, 1, output_stuck ? 0 : 20) != 1 || (poller.revents & POLLOUT) == 0) {
    output_stuck = TRUE;
    return FALSE;
  }
  output_stuck = FALSE;
  return write(STDERR_FILENO, text->str, text->len) == (gssize)text->len;
}

static Kept *kept_new(const char *topic, ChoirLogLevel level, const char *text) {
  gsize topic_size = strlen(topic) + 1, text_size = strlen(text) + 1;
  Kept *kept = g_atomic_rc_box_alloc0(sizeof *kept + topic_size + text_size);
  memcpy(kept->strings, topic, topic_size);
  memcpy(kept->strings + topic_size, text, text_size);
  kept->line = (ChoirLogLine){.wall_us = g_get_real_time(),
                              .serial = next_serial++,
                              .level = level,
                              .topic = kept->strings,
                              .text = kept->strings + topic_size};
  kept->quiet = delivering;
  return kept;
}

/* Listeners: a cursor into the ring each, so that a slow one costs nothing and sees a gap in the serials. */
static Listener *listener_find(guint id) {
  for (GList *l = listeners; l != NULL; l = l->next)
    if (((Listener *)l->data)->id == id)
      return l->data;
  return NULL;
}

/* The next line for this listener, with a reference; NULL when it has seen all. Under the lock. */
static Kept *listener_next(Listener *listener) {
  if (next_serial > KEPT_LINES)
    listener->next = MAX(listener->next, next_serial - KEPT_LINES);
  while (listener->next < next_serial) {
    Kept *kept = ring[listener->next++ % KEPT_LINES];
    if (kept != NULL && kept->line.serial == listener->next - 1 && !kept->quiet)
      return g_atomic_rc_box_acquire(kept);
  }
  return NULL;
}

static gboolean deliver_to(guint id) {
  for (guint i = 0; i < DELIVERY_BATCH; i++) {
    g_mutex_lock(&lock);
    Listener *listener = listener_find(id); /* a callback may have removed it */
    Kept *kept = listener != NULL ? listener_next(listener) : NULL;
    Listener copy = listener != NULL ? *listener : (Listener){0};
    g_mutex_unlock(&lock);
    if (kept == NULL)
      return FALSE;
    delivering = TRUE;
    copy.callback(&kept->line, copy.user);
    delivering = FALSE;
    g_atomic_rc_box_release(kept);
  }
  return TRUE;
}

static gboolean deliver(gpointer user) {
  g_autoptr(GArray) ids = g_array_new(FALSE, FALSE, sizeof(guint));
  g_mutex_lock(&lock);
  delivery_pending = FALSE;
  for (GList *l = listeners; l != NULL; l = l->next)
    g_array_append_val(ids, ((Listener *)l->data)->id);
  g_mutex_unlock(&lock);
  gboolean more = FALSE;
  for (guint i = 0; i < ids->len; i++)
    more |= deliver_to(g_array_index(ids, guint, i));
  if (!more)
    return G_SOURCE_REMOVE;
  g_mutex_lock(&lock);
  gboolean other = delivery_pending; /* scheduled meanwhile: one is enough */
  delivery_pending = TRUE;
  g_mutex_unlock(&lock);
  return other ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

static void schedule_delivery(void) {
  if (delivery_pending || listeners == NULL)
    return;
  delivery_pending = TRUE;
  /* Below sockets and timers: the page's log may lag, speech may not. */
  g_idle_add_full(G_PRIORITY_DEFAULT + 50, deliver, NULL, NULL);
}

guint choir_log_listen(guint backlog, ChoirLogListener callback, gpointer user) {
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  Listener *listener = g_new0(Listener, 1);
  guint64 first = next_serial - MIN((guint64)MIN(backlog, KEPT_LINES), next_serial - 1);
  *listener = (Listener){next_listener_id++, first, callback, user};
  listeners = g_list_append(listeners, listener);
  schedule_delivery();
  return listener->id;
}

void choir_log_unlisten(guint id) {
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  Listener *listener = listener_find(id);
  if (listener == NULL)
    return;
  listeners = g_list_remove(listeners, listener);
  g_free(listener);
}

/* Under the lock. */
static void emit(const char *topic, ChoirLogLevel level, const char *text) {
  Kept *kept = kept_new(topic, level, text);
  Kept **slot = &ring[kept->line.serial % KEPT_LINES];
  g_clear_pointer(slot, g_atomic_rc_box_release);
  *slot = kept;
  g_autoptr(GString) line = format_line(&kept->line);
  if (!write_out(line))
    total_dropped++;
  if (!kept->quiet)
    schedule_delivery();
}

static void report_drops(const char *name, Topic *topic) {
  if (topic->dropped == 0)
    return;
  g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT " lines dropped", topic->dropped);
  topic->dropped = 0;
  emit(name, CHOIR_LOG_WARNING, text);
}

/* A flood that ends in silence would otherwise never be told. */
static gboolean report_all_drops(gpointer user) {
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  drop_report_pending = FALSE;
  GHashTableIter iter;
  gpointer name, topic;
  g_hash_table_iter_init(&iter, topics);
  while (g_hash_table_iter_next(&iter, &name, &topic))
    report_drops(name, topic);
  return G_SOURCE_REMOVE;
}

static void drop(Topic *topic) {
  topic->dropped++;
  total_dropped++;
  next_serial++;
  if (!drop_report_pending) {
    drop_report_pending = TRUE;
    g_timeout_add(1000, report_all_drops, NULL);
  }
}

static void log_raw(const char *name, ChoirLogLevel level, const char *raw) {
  g_mutex_lock(&lock);
  Topic *topic = topic_get(name);
  gboolean wanted = level <= topic->level, taken = wanted && topic_take(topic);
  if (wanted && !taken)
    drop(topic);
  g_mutex_unlock(&lock);
  if (!taken)
    return;
  /* The searching is the slow part: outside the lock. */
  g_autofree char *text = clean(raw);
  g_autofree char *topic_text = one_line(name);
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  report_drops(name, topic_get(name));
  emit(topic_text, level, text);
}

void choir_log(const char *topic, ChoirLogLevel level, const char *format, ...) {
  if (!choir_log_enabled(topic, level))
    return;
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *raw = g_strdup_vprintf(format, arguments);
  va_end(arguments);
  log_raw(topic, level, raw);
}

gboolean choir_log_enabled(const char *topic, ChoirLogLevel level) {
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  return level <= topic_get(topic)->level;
}

void choir_log_add_secret(const char *secret) {
  choir_scrub_add_secret(secret);
}

guint64 choir_log_dropped(void) {
  g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&lock);
  return total_dropped;
}

static GLogWriterOutput glib_writer(GLogLevelFlags flags, const GLogField *fields, gsize n_fields, gpointer user) {
  const char *message = NULL, *domain = "glib";
  for (gsize i = 0; i < n_fields; i++) {
    if (strcmp(fields[i].key, "MESSAGE") == 0)
      message = fields[i].value;
    else if (strcmp(fields[i].key, "GLIB_DOMAIN") == 0)
      domain = fields[i].value;
  }
  ChoirLogLevel level = CHOIR_LOG_DEBUG;
  if ((flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL)) != 0)
    level = CHOIR_LOG_ERROR;
  else if ((flags & G_LOG_LEVEL_WARNING) != 0)
    level = CHOIR_LOG_WARNING;
  else if ((flags & (G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_INFO)) != 0)
    level = (flags & G_LOG_LEVEL_MESSAGE) != 0 ? CHOIR_LOG_INFO : CHOIR_LOG_DEBUG;
  g_autofree char *topic = g_ascii_strdown(domain, -1);
  if (choir_log_enabled(topic, level))
    log_raw(topic, level, message != NULL ? message : "(no message)");
  return G_LOG_WRITER_HANDLED;
}

static void rule_clear(gpointer rule) {
  g_pattern_spec_free(((Rule *)rule)->pattern);
}

/* NULL with error on a bad item. */
static GArray *parse_rules(const char *levels, ChoirLogLevel *ret_default, GError **error) {
  g_autoptr(GArray) parsed = g_array_new(FALSE, FALSE, sizeof(Rule));
  g_array_set_clear_func(parsed, rule_clear);
  g_auto(GStrv) items = g_strsplit(levels, ",", -1);
  ChoirLogLevel fallback = CHOIR_LOG_INFO;
  for (guint i = 0; items[i] != NULL; i++) {
    char *item = g_strstrip(items[i]), *equals = strchr(item, '=');
    ChoirLogLevel level;
    if (*item == '\0')
      continue;
    if (!parse_level(equals != NULL ? g_strstrip(equals + 1) : item, &level, error))
      return NULL;
    if (equals == NULL) {
      fallback = level;
      continue;
    }
    *equals = '\0';
    Rule rule = {g_pattern_spec_new(g_strstrip(item)), level};
    g_array_append_val(parsed, rule);
  }
  *ret_default = fallback;
  return g_steal_pointer(&parsed);
}

gboolean choir_log_init(gboolean json, const char *levels, GError **error) {
  static gboolean writer_set; /* GLib allows it once per process */
  ChoirLogLevel fallback;
  g_autoptr(GArray) parsed = parse_rules(levels != NULL ? levels : "info", &fallback, error);
  if (parsed == NULL)
    return FALSE;
  g_mutex_lock(&lock);
  g_clear_pointer(&rules, g_array_unref);
  rules = g_steal_pointer(&parsed);
  default_level = fallback;
  as_json = json;
  if (topics != NULL) {
    GHashTableIter iter;
    gpointer name, topic;
    g_hash_table_iter_init(&iter, topics);
    while (g_hash_table_iter_next(&iter, &name, &topic))
      ((Topic *)topic)->level = level_of(name);
  }
  gboolean set_writer = !writer_set;
  writer_set = TRUE;
  g_mutex_unlock(&lock);
  if (set_writer)
    g_log_set_writer_func(glib_writer, NULL, NULL);
  return TRUE;
}
