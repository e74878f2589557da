/* Keeps slot 0 of the server warm: what a person says next is the only thing that has to be evaluated.
 *
 * After a start of the server the slot is filled from a file (the whole conversation, else the persona alone), else by
 * evaluating the persona, which is then saved. The conversation behind it is evaluated in the background; a turn that
 * comes meanwhile interrupts that and keeps what was done. */
#include <string.h>
#include "agent/twin_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

#define IDLE_WARM_US (1 * G_USEC_PER_SEC)  /* silence before the background work after a turn */
#define PREFILL_US (10 * G_USEC_PER_SEC)   /* so long the slot keeps what somebody began to say */
#define IDLE_SAVE_US (20 * G_USEC_PER_SEC) /* silence before the live conversation goes to a file */
#define BYTES_PER_TOKEN 3                  /* on the safe side for every language's text in usual vocabularies */
#define PERSONA_NAME "router"

const char *choir_prefix_persona(ChoirTwin *twin) {
  const char *text = choir_persona_text(twin->persona, PERSONA_NAME, choir_llm_server_params(twin->llm));
  choir_window_set_stamped(twin->window, choir_persona_wants_time(twin->persona));
  return text;
}

static void set_hash(char **slot, const char *hash) {
  char *copy = g_strdup(hash);
  g_free(*slot);
  *slot = copy;
}

static char *persona_hash(ChoirTwin *twin, json_t **ret_messages) {
  g_autoptr(ChoirWindow) empty = choir_window_new();
  json_t *messages = choir_window_messages(empty, choir_prefix_persona(twin), NULL);
  char *hash = choir_window_hash(messages);
  if (ret_messages)
    *ret_messages = messages;
  else
    json_decref(messages);
  return hash;
}

static char *live_hash(ChoirTwin *twin, json_t **ret_messages) {
  json_t *messages = choir_window_messages(twin->window, choir_prefix_persona(twin), NULL);
  char *hash = choir_window_hash(messages);
  if (ret_messages)
    *ret_messages = messages;
  else
    json_decref(messages);
  return hash;
}

void choir_prefix_lost(ChoirTwin *twin) {
  twin->slot_fresh = TRUE;
  set_hash(&twin->tried_hash, NULL);
  set_hash(&twin->warm_hash, NULL);
}

void choir_prefix_turn_done(ChoirTwin *twin) {
  g_autofree char *hash = live_hash(twin, NULL);
  set_hash(&twin->warm_hash, hash);
}

void choir_prefix_stale(ChoirTwin *twin) {
  set_hash(&twin->warm_hash, NULL);
}

void choir_prefix_clear(ChoirTwin *twin) {
  g_clear_handle_id(&twin->idle_timer, g_source_remove);
  g_free(twin->warm_hash);
  g_free(twin->persona_hash);
  g_free(twin->saved_hash);
  g_free(twin->pending_hash);
  g_free(twin->tried_hash);
}

/* Restoring */

static void restore(ChoirTwin *twin, const char *hash, gboolean persona);

static void on_restored(gboolean ok, gint tokens, gpointer user) {
  ChoirTwin *twin = user;
  if (!twin->dead) {
    g_autofree char *hash = g_steal_pointer(&twin->pending_hash);
    twin->slot_busy = FALSE;
    if (ok) {
      choir_info(CHOIR_TOPIC_AGENT, "restored %d tokens of the prompt from a file", tokens);
      set_hash(&twin->warm_hash, hash);
      set_hash(twin->pending_persona ? &twin->persona_hash : &twin->saved_hash, hash);
    } else if (!twin->pending_persona) {
      g_autofree char *persona = persona_hash(twin, NULL);
      restore(twin, persona, TRUE);
    }
    choir_twin_pump_soon(twin);
  }
  choir_twin_unref(twin);
}

static void restore(ChoirTwin *twin, const char *hash, gboolean persona) {
  twin->slot_busy = TRUE;
  twin->pending_persona = persona;
  set_hash(&twin->pending_hash, hash);
  if (persona)
    set_hash(&twin->tried_hash, hash); /* no file: evaluated instead, not looked for again */
  twin->refs++;
  choir_llm_server_slot_restore(twin->llm, CHOIR_SLOT_LIVE, hash, on_restored, twin);
}

gboolean choir_prefix_blocks(ChoirTwin *twin) {
  if (twin->slot_busy)
    return TRUE;
  if (!twin->slot_fresh)
    return FALSE;
  twin->slot_fresh = FALSE;
  gboolean persona = choir_window_turns(twin->window) == 0;
  g_autofree char *hash = persona ? persona_hash(twin, NULL) : live_hash(twin, NULL);
  restore(twin, hash, persona);
  return TRUE;
}

/* Evaluating and saving */

static void on_saved(gboolean ok, gint tokens, gpointer user) {
  ChoirTwin *twin = user;
  if (!twin->dead) {
    twin->slot_busy = FALSE;
    if (ok)
      choir_debug(CHOIR_TOPIC_AGENT, "saved %d tokens of the prompt", tokens);
    choir_twin_pump_soon(twin);
  }
  choir_twin_unref(twin);
}

static void save(ChoirTwin *twin, char **slot, const char *hash) {
  set_hash(slot, hash); /* done or not, it is not tried twice */
  twin->slot_busy = TRUE;
  twin->refs++;
  choir_llm_server_slot_save(twin->llm, CHOIR_SLOT_LIVE, hash, on_saved, twin);
}

static void on_warm(const char *finish, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  ChoirTwin *twin = user;
  twin->warm = NULL;
  if (!twin->dead) {
    g_autofree char *hash = g_steal_pointer(&twin->pending_hash);
    gboolean cancelled = error && g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
    if (error && !cancelled)
      choir_debug(CHOIR_TOPIC_AGENT, "the prefix was not evaluated: %s", error->message);
    else if (!error)
      choir_debug(CHOIR_TOPIC_AGENT, "prefix: %d tokens cached, %d evaluated", timings->cached_tokens,
                  timings->evaluated_tokens);
    choir_llm_server_observe(twin->llm, timings);
    /* Some templates refuse a conversation without a user's message: then the first turn pays. */
    if (!cancelled && hash && choir_llm_server_ready(twin->llm)) {
      set_hash(&twin->warm_hash, hash);
      if (twin->pending_persona && error)
        set_hash(&twin->persona_hash, hash);
      else if (twin->pending_persona && !twin->running)
        save(twin, &twin->persona_hash, hash);
    }
    choir_twin_pump_soon(twin);
  }
  choir_twin_unref(twin);
}

static void warm(ChoirTwin *twin, json_t *messages, const char *hash, gboolean persona) {
  static const ChoirChatHandlers handlers = {.done = on_warm};
  if (choir_chat_plain(choir_llm_server_chat(twin->llm))) {
    set_hash(persona ? &twin->persona_hash : &twin->warm_hash, hash);
    choir_twin_pump_soon(twin);
    return;
  }
  ChoirChatRequest request = {.messages = messages, .slot = CHOIR_SLOT_LIVE, .warm = TRUE};
  twin->pending_persona = persona;
  set_hash(&twin->pending_hash, hash);
  twin->refs++;
  twin->warm = choir_chat_begin(choir_llm_server_chat(twin->llm), &request, &handlers, twin);
}

void choir_twin_prefill(ChoirTwin *twin, const char *text) {
  static const ChoirChatHandlers handlers = {.done = on_warm};
  g_autofree char *said = g_strstrip(choir_utf8(text, -1));
  gboolean busy = twin->running || twin->queue.length > 0 || twin->opening > 0 || twin->slot_busy || twin->warm;
  if (busy || twin->slot_fresh || !*said || !choir_llm_server_ready(twin->llm) ||
      choir_chat_plain(choir_llm_server_chat(twin->llm)))
    return;
  choir_twin_sync_conversation(twin);
  g_autofree char *message = choir_window_message(twin->window, said, g_get_real_time());
  json_t *messages = choir_window_messages(twin->window, choir_prefix_persona(twin), message);
  ChoirChatRequest request = {.messages = messages, .slot = CHOIR_SLOT_LIVE, .warm = TRUE};
  choir_prefix_stale(twin);
  twin->prefill_us = choir_clock_us();
  twin->pending_persona = FALSE;
  set_hash(&twin->pending_hash, NULL);
  twin->refs++;
  twin->warm = choir_chat_begin(choir_llm_server_chat(twin->llm), &request, &handlers, twin);
  json_decref(messages);
}

void choir_prefix_yield(ChoirTwin *twin) {
  g_clear_handle_id(&twin->idle_timer, g_source_remove);
  twin->prefill_us = 0;
  if (twin->warm)
    choir_chat_cancel(twin->warm);
}

static gboolean on_idle_timer(gpointer user) {
  ChoirTwin *twin = user;
  twin->idle_timer = 0;
  choir_twin_pump_soon(twin);
  return G_SOURCE_REMOVE;
}

/* FALSE when it was quiet for long enough; else comes back when it will have been. */
static gboolean too_early(ChoirTwin *twin, gint64 quiet_us) {
  gint64 now = choir_clock_us();
  gint64 left = twin->last_turn_us ? twin->last_turn_us + quiet_us - now : 0;
  if (twin->prefill_us)
    left = MAX(left, twin->prefill_us + PREFILL_US - now);
  if (left <= 0)
    return FALSE;
  if (twin->idle_timer == 0)
    twin->idle_timer = g_timeout_add((guint)(left / 1000) + 1, on_idle_timer, twin);
  return TRUE;
}

gboolean choir_prefix_work(ChoirTwin *twin) {
  if (twin->slot_busy || twin->warm)
    return TRUE;
  if (choir_window_turns(twin->window) >= CHOIR_WINDOW_MAX && !too_early(twin, IDLE_WARM_US)) {
    choir_window_cut(twin->window, choir_window_target(twin->window));
    choir_counter_add(twin->m_cuts, 1);
  }
  json_t *messages = NULL, *live = NULL;
  g_autofree char *persona = persona_hash(twin, &messages);
  g_autofree char *hash = live_hash(twin, &live);
  gboolean busy = TRUE;
  if (g_strcmp0(twin->warm_hash, hash) == 0) {
    busy = choir_window_turns(twin->window) > 0 && g_strcmp0(twin->saved_hash, hash) != 0 &&
           !too_early(twin, IDLE_SAVE_US);
    if (busy)
      save(twin, &twin->saved_hash, hash);
  } else if (too_early(twin, IDLE_WARM_US)) {
    busy = FALSE;
  } else if (g_strcmp0(twin->persona_hash, persona) == 0) {
    warm(twin, live, hash, FALSE);
  } else if (g_strcmp0(twin->tried_hash, persona) != 0) {
    restore(twin, persona, TRUE);
  } else {
    warm(twin, messages, persona, TRUE);
  }
  json_decref(messages);
  json_decref(live);
  return busy;
}

gboolean choir_prefix_settled(ChoirTwin *twin) {
  g_autofree char *hash = live_hash(twin, NULL);
  return !twin->slot_fresh && !twin->slot_busy && !twin->warm && choir_window_turns(twin->window) < CHOIR_WINDOW_MAX &&
         g_strcmp0(twin->warm_hash, hash) == 0;
}

/* Room in the slot */

gboolean choir_prefix_fit(ChoirTwin *twin, const char *text, gboolean harder) {
  guint context = choir_llm_server_context(twin->llm);
  if (harder)
    return choir_window_cut(twin->window, choir_window_turns(twin->window) / 2);
  if (context == 0)
    return TRUE;
  gsize fixed = strlen(choir_prefix_persona(twin)) + strlen(text);
  gsize room = (gsize)context * BYTES_PER_TOKEN;
  gsize reply = (gsize)twin->options.max_reply_tokens * BYTES_PER_TOKEN;
  if (fixed + reply > room)
    return fixed < room; /* an estimate: the server has the last word */
  /* In one go to well below the limit, so that it does not happen again at the next turn. */
  if (fixed + reply + choir_window_bytes(twin->window) > room)
    while (fixed + reply + choir_window_bytes(twin->window) > room * 6 / 10 &&
           choir_window_cut(twin->window, choir_window_turns(twin->window) - 1))
      ;
  return TRUE;
}
