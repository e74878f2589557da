#include "agent/window.h"
#include <string.h>
#include "base/text.h"

#define STAMP_BYTES 40 /* about */

typedef struct {
  gconstpointer key;
  char *text, *reply;
  gint64 wall_us;
} Turn;

struct ChoirWindow {
  GPtrArray *turns;
  guint total; /* of the conversation, those that were cut included */
  gboolean stamped;
};

static void turn_free(gpointer data) {
  Turn *turn = data;
  g_free(turn->text);
  g_free(turn->reply);
  g_free(turn);
}

ChoirWindow *choir_window_new(void) {
  ChoirWindow *window = g_new0(ChoirWindow, 1);
  window->turns = g_ptr_array_new_with_free_func(turn_free);
  return window;
}

void choir_window_free(ChoirWindow *window) {
  if (!window)
    return;
  g_ptr_array_unref(window->turns);
  g_free(window);
}

void choir_window_clear(ChoirWindow *window) {
  g_ptr_array_set_size(window->turns, 0);
  window->total = 0;
}

guint choir_window_turns(const ChoirWindow *window) {
  return window->turns->len;
}

void choir_window_set_stamped(ChoirWindow *window, gboolean stamped) {
  window->stamped = stamped;
}

/* What changes (date and time) goes into the message itself, behind everything that is cached, and stays there. */
char *choir_window_message(const ChoirWindow *window, const char *text, gint64 wall_us) {
  g_autoptr(GDateTime) time = window->stamped ? g_date_time_new_from_unix_local(wall_us / G_USEC_PER_SEC) : NULL;
  g_autofree char *stamp = time ? g_date_time_format(time, "%A %-d %B %Y, %H:%M") : NULL;
  return stamp ? g_strdup_printf("[%s] %s", stamp, text) : g_strdup(text);
}

void choir_window_add(ChoirWindow *window, gconstpointer key, const char *text, gint64 wall_us, const char *reply) {
  Turn *turn = g_new0(Turn, 1);
  turn->key = key;
  turn->text = g_strdup(text);
  turn->wall_us = wall_us;
  turn->reply = g_strchomp(g_strdup(reply ? reply : ""));
  g_ptr_array_add(window->turns, turn);
  window->total++;
}

static gint find(const ChoirWindow *window, gconstpointer key) {
  for (guint i = window->turns->len; key && i-- > 0;)
    if (((Turn *)window->turns->pdata[i])->key == key)
      return (gint)i;
  return -1;
}

gboolean choir_window_amend(ChoirWindow *window, gconstpointer key, const char *reply) {
  gint index = find(window, key);
  if (index < 0)
    return FALSE;
  Turn *turn = window->turns->pdata[index];
  g_free(turn->reply);
  turn->reply = g_strchomp(g_strdup(reply));
  turn->key = NULL; /* the turn may be freed now and its address come again */
  return TRUE;
}

void choir_window_remove(ChoirWindow *window, gconstpointer key) {
  gint index = find(window, key);
  if (index < 0)
    return;
  g_ptr_array_remove_index(window->turns, (guint)index);
  window->total--;
}

void choir_window_load(ChoirWindow *window, json_t *entries, guint total) {
  gsize i;
  json_t *entry;
  choir_window_clear(window);
  json_array_foreach(entries, i, entry) {
    const char *text = choir_json_string(entry, "text", "");
    gboolean assistant = g_str_equal(choir_json_string(entry, "role", ""), "assistant");
    Turn *last = window->turns->len ? window->turns->pdata[window->turns->len - 1] : NULL;
    if (!assistant)
      choir_window_add(window, NULL, text, choir_json_int(entry, "time", 0) * G_USEC_PER_SEC, "");
    else if (last && !*last->reply) {
      g_free(last->reply);
      last->reply = g_strchomp(g_strdup(text));
    }
  }
  window->total = MAX(total, window->turns->len);
  choir_window_cut(window, choir_window_target(window));
}

guint choir_window_target(const ChoirWindow *window) {
  if (window->total < CHOIR_WINDOW_MAX)
    return window->total;
  return CHOIR_WINDOW_KEEP + window->total % (CHOIR_WINDOW_MAX - CHOIR_WINDOW_KEEP);
}

gboolean choir_window_cut(ChoirWindow *window, guint keep) {
  if (window->turns->len <= keep)
    return FALSE;
  g_ptr_array_remove_range(window->turns, 0, window->turns->len - keep);
  return TRUE;
}

gsize choir_window_bytes(const ChoirWindow *window) {
  gsize bytes = 0;
  for (guint i = 0; i < window->turns->len; i++) {
    Turn *turn = window->turns->pdata[i];
    bytes += strlen(turn->text) + strlen(turn->reply) + (window->stamped ? STAMP_BYTES : 0);
  }
  return bytes;
}

static void add_message(json_t *messages, const char *role, const char *text) {
  json_t *last = json_array_get(messages, json_array_size(messages) - 1);
  if (last && g_str_equal(choir_json_string(last, "role", ""), role)) {
    g_autofree char *joined = g_strconcat(choir_json_string(last, "content", ""), "\n", text, NULL);
    json_object_set_new(last, "content", json_string(joined));
    return;
  }
  json_array_append_new(messages, json_pack("{s:s,s:s}", "role", role, "content", text));
}

json_t *choir_window_messages(const ChoirWindow *window, const char *persona, const char *next) {
  json_t *messages = json_array();
  json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "system", "content", persona));
  for (guint i = 0; i < window->turns->len; i++) {
    Turn *turn = window->turns->pdata[i];
    g_autofree char *message = choir_window_message(window, turn->text, turn->wall_us);
    add_message(messages, "user", message);
    if (*turn->reply)
      add_message(messages, "assistant", turn->reply);
  }
  if (next)
    add_message(messages, "user", next);
  return messages;
}

char *choir_window_hash(json_t *messages) {
  g_autofree char *text = choir_json_dump(messages);
  return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}
