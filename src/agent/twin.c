#include <string.h>
#include "agent/twin_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define MAX_CHARACTERS 10000
#define LEARN_TOOLS_MS 20000 /* behind the start, when the language model is loaded and measured */

G_DEFINE_QUARK(choir - twin - error - quark, choir_twin_error)

/* Observers */

guint choir_twin_observe(ChoirTwin *twin, ChoirTwinObserver observer, gpointer user) {
  ChoirTwinListener listener = {++twin->last_listener, observer, user};
  g_array_append_val(twin->listeners, listener);
  return listener.id;
}

void choir_twin_unobserve(ChoirTwin *twin, guint id) {
  for (guint i = 0; i < twin->listeners->len; i++)
    if (g_array_index(twin->listeners, ChoirTwinListener, i).id == id) {
      g_array_remove_index(twin->listeners, i);
      return;
    }
}

static gboolean still_listens(const ChoirTwin *twin, guint id) {
  for (guint i = 0; i < twin->listeners->len; i++)
    if (g_array_index(twin->listeners, ChoirTwinListener, i).id == id)
      return TRUE;
  return FALSE;
}

void choir_twin_show(ChoirTwin *twin, const ChoirTwinEvent *event) {
  /* An observer may remove itself or another one while we walk. */
  g_autoptr(GArray) walk = g_array_copy(twin->listeners);
  for (guint i = 0; i < walk->len; i++) {
    ChoirTwinListener *listener = &g_array_index(walk, ChoirTwinListener, i);
    if (still_listens(twin, listener->id))
      listener->observer(event, listener->user);
  }
}

void choir_twin_emit(ChoirTwin *twin, const char *type, const char *text, const ChoirTurn *turn) {
  ChoirTwinEvent event = {.type = type, .text = text};
  if (turn) {
    event.source = turn->source;
    event.request_id = turn->request_id;
    event.turn_id = turn->id;
  }
  choir_twin_show(twin, &event);
}

void choir_twin_set_state(ChoirTwin *twin, const char *state) {
  if (g_str_equal(twin->state, state))
    return;
  twin->state = state;
  choir_twin_emit(twin, "status", state, NULL);
}

/* Conversations */

static void load_window(ChoirTwin *twin, gint64 conversation) {
  g_autoptr(GError) error = NULL;
  twin->conversation = conversation;
  json_t *entries = choir_history_entries(twin->history, conversation, 4 * CHOIR_WINDOW_MAX, &error);
  if (!entries)
    choir_warning(CHOIR_TOPIC_AGENT, "%s", error->message);
  choir_window_load(twin->window, entries, choir_history_turns(twin->history, conversation));
  json_decref(entries);
}

void choir_twin_sync_conversation(ChoirTwin *twin) {
  gint64 current = choir_history_current(twin->history);
  if (current == twin->conversation)
    return;
  load_window(twin, current);
  g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, current);
  choir_twin_emit(twin, "conversation", text, NULL);
}

static void on_selected(gint64 id, const GError *error, gpointer user) {
  ChoirTwin *twin = user;
  if (!twin->dead) {
    twin->opening--;
    if (error)
      choir_twin_emit(twin, "error", error->message, NULL);
    choir_twin_sync_conversation(twin);
    choir_twin_pump_soon(twin);
  }
  choir_twin_unref(twin);
}

static void on_created(gint64 id, const GError *error, gpointer user) {
  ChoirTwin *twin = user;
  if (!twin->dead && !error)
    choir_history_select(twin->history, id, on_selected, twin); /* the reference goes along */
  else
    on_selected(id, error, user);
}

void choir_twin_open_conversation(ChoirTwin *twin, gint64 conversation) {
  twin->opening++;
  twin->refs++;
  if (conversation == 0)
    choir_history_new_conversation(twin->history, NULL, on_created, twin);
  else
    choir_history_select(twin->history, conversation, on_selected, twin);
}

/* The queue */

static void pump(ChoirTwin *twin) {
  choir_gauge_set(twin->m_queue, twin->queue.length);
  if (twin->running)
    return;
  if (!choir_llm_server_ready(twin->llm)) {
    choir_twin_set_state(twin, "waiting for the model");
    return;
  }
  /* A conversation that is being opened must be there before the turn that was said into it. */
  if (twin->opening > 0 || choir_prefix_blocks(twin))
    return;
  ChoirTurn *turn = g_queue_pop_head(&twin->queue);
  if (turn) {
    choir_turn_start(turn);
    return;
  }
  choir_twin_set_state(twin, "idle");
  choir_prefix_work(twin);
}

static gboolean on_pump(gpointer user) {
  ChoirTwin *twin = user;
  twin->pump_idle = 0;
  pump(twin);
  return G_SOURCE_REMOVE;
}

void choir_twin_pump_soon(ChoirTwin *twin) {
  if (twin->pump_idle == 0 && !twin->dead)
    twin->pump_idle = g_idle_add(on_pump, twin);
}

static void on_llm_change(gpointer user) {
  ChoirTwin *twin = user;
  if (!choir_llm_server_ready(twin->llm))
    choir_prefix_lost(twin);
  if (twin->running && !choir_llm_server_remote(twin->llm))
    choir_turn_moved(twin->running);
  choir_twin_pump_soon(twin);
}

static gboolean check_text(ChoirTwin *twin, const char *text, GError **error) {
  if (!text || !*text) {
    g_set_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_EMPTY, "there is nothing to answer: the message is empty");
    return FALSE;
  }
  if (g_utf8_strlen(text, -1) > MAX_CHARACTERS) {
    g_set_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_TOO_LONG, "the message is longer than %d characters",
                MAX_CHARACTERS);
    return FALSE;
  }
  if (twin->queue.length >= twin->options.max_queue) {
    choir_counter_add(twin->m_refused, 1);
    g_set_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_BUSY,
                "%u messages are waiting already; try again in a moment", twin->queue.length);
    return FALSE;
  }
  return TRUE;
}

ChoirTurn *choir_twin_begin(ChoirTwin *twin, const ChoirTurnRequest *request, const ChoirTurnHandlers *handlers,
                            gpointer user, GError **error) {
  g_autofree char *text = g_strstrip(choir_utf8(request->text ? request->text : "", -1));
  if (!check_text(twin, text, error))
    return NULL;
  ChoirTurn *turn = choir_turn_new(twin, request, text, handlers, user);
  g_queue_push_tail(&twin->queue, turn);
  if (!turn->unconfirmed)
    choir_twin_emit(twin, "user", turn->text, turn);
  choir_twin_pump_soon(twin);
  return turn;
}

/* Life */

static void make_metrics(ChoirTwin *twin) {
  twin->m_first_text = choir_histogram("choir_turn_first_text_seconds", NULL,
                                       "Transcript or message to first text of the reply", NULL, 0);
  twin->m_total = choir_histogram("choir_turn_seconds", NULL, "Message to the end of the reply's text", NULL, 0);
  twin->m_done = choir_counter("choir_turns_total", "result=\"done\"", "Turns by result");
  twin->m_failed = choir_counter("choir_turns_total", "result=\"failed\"", "Turns by result");
  twin->m_cancelled = choir_counter("choir_turns_total", "result=\"cancelled\"", "Turns by result");
  twin->m_refused = choir_counter("choir_turns_total", "result=\"refused\"", "Turns by result");
  twin->m_queue = choir_gauge("choir_turns_queued", NULL, "Turns that wait");
  twin->m_evaluated =
      choir_counter("choir_prompt_tokens_total", "from=\"evaluated\"", "Tokens of prompts by where they came from");
  twin->m_cached =
      choir_counter("choir_prompt_tokens_total", "from=\"cache\"", "Tokens of prompts by where they came from");
  twin->m_cuts =
      choir_counter("choir_window_cuts_total", NULL, "Times the conversation in the prompt was cut to its last turns");
}

ChoirTwin *choir_twin_new(const ChoirTwinOptions *options, ChoirLlmServer *llm, ChoirHistory *history, GError **error) {
  if (!options->prompts_dir) {
    g_set_error(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_EMPTY, "no folder for the persona files is set");
    return NULL;
  }
  ChoirTwin *twin = g_new0(ChoirTwin, 1);
  twin->refs = 1;
  twin->options = *options;
  twin->options.prompts_dir = NULL;
  twin->options.max_queue = options->max_queue ? options->max_queue : 16;
  twin->options.max_reply_tokens = options->max_reply_tokens ? options->max_reply_tokens : 200;
  twin->llm = llm;
  twin->history = history;
  twin->persona = choir_persona_new(options->prompts_dir);
  twin->window = choir_window_new();
  twin->turns = g_hash_table_new(NULL, NULL);
  twin->listeners = g_array_new(FALSE, FALSE, sizeof(ChoirTwinListener));
  twin->state = "waiting for the model";
  twin->slot_fresh = TRUE;
  g_queue_init(&twin->queue);
  make_metrics(twin);
  load_window(twin, choir_history_current(history));
  choir_llm_server_on_change(llm, on_llm_change, twin);
  choir_twin_pump_soon(twin);
  return twin;
}

void choir_twin_unref(ChoirTwin *twin) {
  if (--twin->refs > 0)
    return;
  choir_prefix_clear(twin);
  choir_persona_free(twin->persona);
  choir_window_free(twin->window);
  g_hash_table_unref(twin->turns);
  g_array_unref(twin->listeners);
  g_free(twin);
}

void choir_twin_free(ChoirTwin *twin) {
  if (!twin)
    return;
  choir_llm_server_off_change(twin->llm, on_llm_change, twin);
  g_clear_handle_id(&twin->pump_idle, g_source_remove);
  choir_prefix_yield(twin);
  /* Turns in flight are told nothing any more: their owners are going too. */
  g_autoptr(GList) turns = g_hash_table_get_keys(twin->turns);
  for (GList *l = turns; l; l = l->next)
    choir_turn_abandon(l->data);
  twin->dead = TRUE;
  g_queue_clear(&twin->queue);
  choir_twin_unref(twin);
}

guint choir_twin_queued(const ChoirTwin *twin) {
  return twin->queue.length;
}

const char *choir_twin_state(const ChoirTwin *twin) {
  return twin->state;
}

void choir_twin_use_model(ChoirTwin *twin, const char *model_path, const char *model_name) {
  if (twin->running)
    choir_turn_cancel(twin->running);
  choir_prefix_lost(twin);
  choir_llm_server_use_model(twin->llm, model_path, model_name);
}

const char *choir_twin_persona(ChoirTwin *twin) {
  return choir_prefix_persona(twin);
}

char *choir_twin_message(ChoirTwin *twin, const char *text) {
  (void)choir_prefix_persona(twin); /* it decides about the stamp, and may have been edited */
  return choir_window_message(twin->window, text, g_get_real_time());
}

ChoirHistory *choir_twin_history(ChoirTwin *twin) {
  return twin->history;
}

ChoirLlmServer *choir_twin_llm(ChoirTwin *twin) {
  return twin->llm;
}

const ChoirChatTimings *choir_twin_timings(const ChoirTwin *twin) {
  return &twin->timings;
}

gboolean choir_twin_settled(ChoirTwin *twin) {
  return !twin->running && twin->queue.length == 0 && twin->pump_idle == 0 && twin->opening == 0 &&
         choir_prefix_settled(twin);
}

void choir_twin_use_tools(ChoirTwin *twin, ChoirToolbox *toolbox) {
  for (GList *item = g_hash_table_get_keys(twin->turns), *next; item; item = next) {
    ChoirTurn *turn = item->data;
    next = item->next;
    if (turn->steps)
      choir_turn_cancel(turn);
    g_list_free_1(item);
  }
  twin->toolbox = NULL; /* a turn that waited for the list goes on without tools */
  g_clear_pointer(&twin->shortlist, choir_shortlist_free);
  twin->toolbox = toolbox;
  twin->shortlist = toolbox ? choir_shortlist_new(toolbox) : NULL;
  if (twin->shortlist)
    choir_shortlist_learn(twin->shortlist, LEARN_TOOLS_MS);
}

void choir_twin_use_memory(ChoirTwin *twin, const ChoirTwinMemory *memory) {
  g_autoptr(GList) turns = g_hash_table_get_keys(twin->turns);
  for (GList *item = turns; item; item = item->next)
    if (g_hash_table_contains(twin->turns, item->data)) /* one that goes on may end at once */
      choir_turn_forget_recall(item->data);
  twin->memory = memory ? *memory : (ChoirTwinMemory){0};
}
