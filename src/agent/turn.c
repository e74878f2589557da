#include <string.h>
#include "agent/twin_private.h"
#include "agent/wire.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"

/* Marks that some models print instead of ending. The template's own end is the server's business. */
static const char *const stops[] = {
    "<|im_end|>", "<|im_start|>", "<end_of_turn>", "<|eot_id|>", "\nUser:", "\nuser:", NULL};
/* No repeat penalty: at 1.1 the default model's answers grew from one sentence to several in the persona bench, because
 * the right words were used up. Loops are stopped by choir_repeat_check() instead. */
#define TOP_P 0.9
#define RESUMES 2         /* of a turn whose machine is gone */
#define ORDER_ANYWAY 0.45 /* likeness to an example of a tool */

gsize choir_turn_utf8_floor(const char *text, gsize bytes) {
  while (bytes > 0 && ((guchar)text[bytes] & 0xc0) == 0x80)
    bytes--;
  return bytes;
}

/* The live slot holds the window as it is now, unless this turn was answered elsewhere or with notes. */
static void keep_slot(const ChoirTurn *turn) {
  if (turn->instructions || turn->notes)
    choir_prefix_stale(turn->twin);
  else
    choir_prefix_turn_done(turn->twin);
}

/* Nothing is awaited from the memory any more. */
static void stop_recall(ChoirTurn *turn) {
  if (turn->recall)
    turn->twin->memory.forget(turn->twin->memory.self, turn->recall);
  turn->recall = 0;
}

static void stop_preparing(ChoirTurn *turn) {
  if (turn->preparing && turn->twin->shortlist)
    choir_shortlist_forget(turn->twin->shortlist, turn->preparing);
  turn->preparing = 0;
}

static void turn_free(ChoirTurn *turn) {
  g_clear_pointer(&turn->steps, choir_steps_cancel);
  stop_recall(turn);
  stop_preparing(turn);
  choir_taint_free(turn->taint);
  g_hash_table_remove(turn->twin->turns, turn);
  g_clear_handle_id(&turn->cancel_idle, g_source_remove);
  choir_clause_free(turn->clause);
  choir_repeat_clear(&turn->repeat);
  choir_echo_clear(&turn->echo);
  g_string_free(turn->reply, TRUE);
  g_clear_error(&turn->error);
  g_free(turn->id);
  g_free(turn->text);
  g_free(turn->source);
  g_free(turn->request_id);
  g_free(turn->instructions);
  g_free(turn->notes);
  g_free(turn->shown);
  g_free(turn->said_back);
  g_free(turn);
}

static void maybe_free(ChoirTurn *turn) {
  if (turn->state == CHOIR_TURN_DONE && !turn->telling && (!turn->spoken || turn->heard))
    turn_free(turn);
}

/* Calls done, the last thing a typed turn lives to see. */
static void complete(ChoirTurn *turn) {
  ChoirTwin *twin = turn->twin;
  turn->state = CHOIR_TURN_DONE;
  const char *error = turn->error ? turn->error->message : NULL;
  if (g_error_matches(turn->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED)) {
    choir_counter_add(twin->m_cancelled, 1);
    if (!turn->spoken)
      choir_twin_emit(twin, "cut", turn->reply->str, turn);
  } else if (error) {
    choir_counter_add(twin->m_failed, 1);
    choir_warning(CHOIR_TOPIC_AGENT, "turn %s: %s", turn->id, error);
    if (!turn->unconfirmed)
      choir_twin_emit(twin, "error", error, turn);
  } else {
    choir_counter_add(twin->m_done, 1);
    choir_histogram_observe(twin->m_total, (double)(choir_clock_us() - turn->begin_us) / G_USEC_PER_SEC);
    if (!turn->unconfirmed && !turn->discarded && !(turn->heard && turn->heard_cut))
      choir_twin_emit(twin, "agent", turn->reply->str, turn);
  }
  if (!turn->spoken)
    choir_latency_print(turn);
  turn->telling = TRUE; /* done may call choir_turn_heard() at once */
  turn->handlers.done(turn, turn->reply->str, turn->error, turn->user);
  turn->telling = FALSE;
  maybe_free(turn);
  choir_twin_pump_soon(twin);
}

typedef struct {
  ChoirTwin *twin;
  ChoirTurn *turn; /* NULL when it need not be told */
} Saved;

/* Runs on the main context; the turn still waits in SAVING, so nobody has freed it. */
static void on_saved(gint64 id, const GError *error, gpointer user) {
  Saved *saved = user;
  ChoirTwin *twin = saved->twin;
  if (twin->dead) {
    if (saved->turn)
      turn_free(saved->turn);
  } else {
    if (error && !saved->turn)
      choir_twin_emit(twin, "error", error->message, NULL);
    if (error && saved->turn && !saved->turn->error)
      saved->turn->error = g_error_new(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_MODEL, "answered, but %s", error->message);
    if (saved->turn)
      complete(saved->turn);
  }
  choir_twin_unref(twin);
  g_free(saved);
}

/* Both halves of the turn in one transaction. tell: the turn waits for it. */
static void save(ChoirTurn *turn, const char *heard, gboolean cut, gboolean tell) {
  ChoirHistoryEntry user_entry = {.role = "user", .text = turn->text, .source = turn->source, .wall_us = turn->wall_us};
  ChoirHistoryEntry reply_entry = {.role = "assistant",
                                   .text = heard,
                                   .source = turn->source,
                                   .cut = cut,
                                   .full_text = cut ? turn->reply->str : NULL};
  Saved *saved = g_new0(Saved, 1);
  saved->twin = turn->twin;
  saved->turn = tell ? turn : NULL;
  turn->twin->refs++;
  /* Here and nowhere else: guesses that were dropped and turns without an answer never come by. */
  if (turn->twin->memory.said)
    turn->twin->memory.said(turn->twin->memory.self, turn->text, turn->source, turn->id);
  choir_history_append_turn(turn->twin->history, turn->conversation, &user_entry, &reply_entry, on_saved, saved);
}

/* A spoken turn whose text and playback are both over. Only what was heard becomes part of the conversation. */
static void settle_heard(ChoirTurn *turn) {
  ChoirTwin *twin = turn->twin;
  if (turn->discarded) {
    choir_window_remove(twin->window, turn);
    choir_prefix_stale(twin);
    if (!turn->unconfirmed)
      choir_twin_emit(twin, "cut", "", turn); /* its question comes again with what follows */
    return;
  }
  /* Not cut: what could not be spoken was still read on the page. */
  gsize bytes = turn->heard_cut ? MIN(turn->heard_bytes, turn->reply->len) : turn->reply->len;
  bytes = choir_turn_utf8_floor(turn->reply->str, bytes);
  choir_latency_print(turn);
  if (bytes == 0 && !turn->heard_cut) {
    choir_window_remove(twin->window, turn);
    return;
  }
  g_autofree char *heard = g_strndup(turn->reply->str, bytes);
  gboolean whole = bytes == turn->reply->len && !turn->error;
  if (!choir_window_amend(twin->window, turn, heard) && turn->conversation == twin->conversation)
    choir_window_add(twin->window, NULL, turn->text, turn->wall_us, heard);
  /* After a cut the slot holds words that nobody heard. */
  if (whole && !turn->aside)
    keep_slot(turn);
  else
    choir_prefix_stale(twin);
  save(turn, heard, !whole, FALSE);
  if (turn->heard_cut)
    choir_twin_emit(twin, "cut", heard, turn);
}

/* The model is done with the turn, one way or the other. */
static void finish(ChoirTurn *turn, GError *error /* taken */) {
  ChoirTwin *twin = turn->twin;
  if (twin->running == turn)
    twin->running = NULL;
  twin->last_turn_us = choir_clock_us();
  if (turn->keep < turn->reply->len) {
    gsize keep_bytes = choir_turn_utf8_floor(turn->reply->str, turn->keep);
    if (turn->clause)
      keep_bytes = choir_clause_truncate(turn->clause, keep_bytes);
    g_string_truncate(turn->reply, keep_bytes);
  }
  if (!error && turn->reply->len == 0)
    error =
        g_error_new(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_MODEL, "the model gave an empty answer; say it in other words");
  turn->error = error;
  if (!error && turn->clause)
    choir_clause_end(turn->clause);
  gboolean cancelled = g_error_matches(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED);
  gboolean keep = !turn->discarded && (!error || (cancelled && turn->reply->len > 0));
  if (keep && !turn->unconfirmed && turn->conversation == twin->conversation)
    choir_window_add(twin->window, turn, turn->text, turn->wall_us, turn->reply->str);
  if (!error && !turn->unconfirmed && !turn->aside)
    keep_slot(turn);
  else
    choir_prefix_stale(twin);
  turn->state = CHOIR_TURN_SAVING;
  if (turn->spoken && turn->heard)
    settle_heard(turn);
  if (!turn->spoken && keep) {
    choir_window_amend(twin->window, turn, turn->reply->str); /* final: the key goes before the turn does */
    save(turn, turn->reply->str, cancelled, TRUE);
  } else {
    complete(turn);
  }
  choir_twin_pump_soon(twin);
}

static void on_clause(const char *text, gsize begin, gsize end, gpointer user) {
  ChoirTurn *turn = user;
  turn->handlers.clause(turn, text, begin, end, turn->user);
}

static void on_delta(const char *text, gpointer user);

/* Of a server that goes on where another one broke off. */
static void on_more(const char *text, gpointer user) {
  ChoirTurn *turn = user;
  g_autofree char *fresh = choir_echo_feed(&turn->echo, text);
  if (*fresh)
    on_delta(fresh, turn);
}

/* What a tool was saying is enough. */
static gboolean end_steps(gpointer user) {
  ChoirTurn *turn = user;
  turn->cancel_idle = 0;
  g_clear_pointer(&turn->steps, choir_steps_cancel);
  finish(turn, NULL);
  return G_SOURCE_REMOVE;
}

/* What may become a call (wire.h) is shown to nobody until it is none. */
static gboolean held_back(ChoirTurn *turn) {
  if (turn->instructions || !turn->twin->toolbox || turn->steps || turn->aside || turn->wired >= CHOIR_STEPS_MAX ||
      (!turn->held && turn->first_shown) || !choir_wire_may_be(turn->reply->str)) {
    turn->first_shown = TRUE;
    return FALSE;
  }
  turn->held = TRUE;
  return TRUE;
}

static void on_delta(const char *text, gpointer user) {
  ChoirTurn *turn = user;
  ChoirTwin *twin = turn->twin;
  if (turn->cancelled || turn->keep != G_MAXSIZE)
    return;
  if (turn->first_text_us == 0) {
    turn->first_text_us = choir_clock_us();
    gint64 asked = turn->transcript_us ? turn->transcript_us : turn->begin_us;
    choir_histogram_observe(twin->m_first_text, (double)(turn->first_text_us - asked) / G_USEC_PER_SEC);
  }
  gsize before = turn->reply->len;
  g_string_append(turn->reply, text);
  turn->keep = choir_repeat_check(&turn->repeat, turn->reply->str, turn->reply->len);
  g_autofree char *fresh = NULL;
  if (turn->keep != G_MAXSIZE) {
    choir_debug(CHOIR_TOPIC_AGENT, "turn %s repeats itself, stopped", turn->id);
    if (turn->call)
      choir_chat_cancel(turn->call);
    else if (turn->steps && turn->cancel_idle == 0)
      turn->cancel_idle = g_idle_add(end_steps, turn); /* not from inside of the tool */
    if (turn->keep <= before)
      return;
    fresh = g_strndup(text, choir_turn_utf8_floor(text, turn->keep - before));
    text = fresh;
  }
  if (!*text || held_back(turn))
    return;
  if (turn->held)
    text = turn->reply->str; /* it was no call after all */
  turn->held = FALSE;
  if (turn->handlers.delta)
    turn->handlers.delta(turn, text, turn->user);
  if (!turn->unconfirmed)
    choir_twin_emit(twin, "agent_delta", text, turn);
  if (turn->clause)
    choir_clause_feed(turn->clause, text, strlen(text));
}

static GError *turn_error(const ChoirTurn *turn, const GError *error) {
  if (turn->cancelled)
    return g_error_new(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED, "the turn was cancelled");
  if (!error || turn->keep != G_MAXSIZE)
    return NULL;
  if (g_error_matches(error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_CONTEXT))
    return g_error_new(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_TOO_LONG,
                       "that is longer than the model's memory; say it in parts");
  return g_error_new(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_MODEL, "the language model failed: %s", error->message);
}

static gboolean run_written(ChoirTurn *turn);

void choir_turn_moved(ChoirTurn *turn) {
  if (!turn->call || !turn->remote || turn->cancelled || turn->moved)
    return;
  turn->moved = TRUE;
  choir_chat_cancel(turn->call);
}

/* TRUE: another machine's server failed, and this one's goes on with the turn. */
static gboolean resume(ChoirTurn *turn, const GError *error) {
  ChoirTwin *twin = turn->twin;
  gboolean context = g_error_matches(error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_CONTEXT);
  if (!error || turn->cancelled || context || !turn->remote || turn->keep != G_MAXSIZE)
    return FALSE;
  gboolean gone = turn->moved || choir_llm_server_drop_remote(twin->llm, error->message);
  turn->moved = turn->remote = FALSE;
  if (!gone || turn->resumes++ >= RESUMES)
    return FALSE;
  turn->resumed_at = turn->reply->len;
  if (turn->reply->len > 0)
    on_delta(" (The other machine broke off; the light local model goes on.) ", turn);
  if (turn->cancelled) /* by who heard that */
    return TRUE;
  if (choir_llm_server_ready(twin->llm)) {
    choir_turn_start(turn);
    return TRUE;
  }
  twin->running = NULL;
  turn->state = CHOIR_TURN_QUEUED;
  g_queue_push_head(&twin->queue, turn);
  choir_twin_pump_soon(twin);
  return TRUE;
}

static void answered(ChoirTurn *turn, const ChoirChatTimings *timings, const GError *error) {
  ChoirTwin *twin = turn->twin;
  turn->timings = *timings;
  if (timings->prompt_tokens > 0) {
    twin->timings = *timings;
    choir_llm_server_observe(twin->llm, timings);
    choir_counter_add(twin->m_evaluated, (guint64)MAX(timings->evaluated_tokens, 0));
    choir_counter_add(twin->m_cached, (guint64)MAX(timings->cached_tokens, 0));
    choir_debug(CHOIR_TOPIC_AGENT, "turn %s: %d tokens cached, %d evaluated in %.0f ms, %d written in %.0f ms",
                turn->id, timings->cached_tokens, timings->evaluated_tokens, timings->prompt_ms, timings->reply_tokens,
                timings->reply_ms);
  }
  if (resume(turn, error))
    return;
  if (!error && turn->resumes) {
    g_autofree char *rest = choir_echo_end(&turn->echo);
    on_delta(rest, turn);
  }
  gboolean context = g_error_matches(error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_CONTEXT);
  if (error && !turn->cancelled && !turn->retried && turn->reply->len == 0) {
    turn->retried = TRUE;
    if (context && choir_prefix_fit(twin, turn->text, TRUE)) {
      choir_turn_start(turn);
      return;
    }
    if (!context && !choir_llm_server_ready(twin->llm)) {
      /* The server died under it before a word came: the turn waits for the next one. */
      twin->running = NULL;
      turn->state = CHOIR_TURN_QUEUED;
      g_queue_push_head(&twin->queue, turn);
      choir_twin_pump_soon(twin);
      return;
    }
  }
  if (!error && !turn->cancelled && turn->held && run_written(turn))
    return;
  finish(turn, turn_error(turn, error));
}

static void on_done(const char *finish_reason, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  ChoirTurn *turn = user;
  ChoirTwin *twin = turn->twin;
  turn->call = NULL;
  turn->limited = turn->max_tokens > 0 && g_strcmp0(finish_reason, "length") == 0;
  if (turn->abandoned) {
    turn_free(turn);
    choir_twin_unref(twin);
    return;
  }
  answered(turn, timings, error);
  choir_twin_unref(twin);
}

static double temperature(const ChoirTwin *twin) {
  guint64 params = choir_llm_server_params(twin->llm);
  if (twin->options.temperature >= 0)
    return twin->options.temperature;
  return params > 0 && params < CHOIR_SMALL_PARAMS ? 0.0 : 0.6;
}

ChoirTurn *choir_turn_new(ChoirTwin *twin, const ChoirTurnRequest *request, const char *text,
                          const ChoirTurnHandlers *handlers, gpointer user) {
  ChoirTurn *turn = g_new0(ChoirTurn, 1);
  turn->twin = twin;
  turn->id = choir_id("turn_");
  turn->text = g_strdup(text);
  turn->source = g_strdup(request->source ? request->source : "internal");
  turn->request_id = g_strdup(request->request_id);
  turn->instructions = g_strdup(request->instructions && *request->instructions ? request->instructions : NULL);
  turn->notes = g_strdup(request->notes && *request->notes ? request->notes : NULL);
  turn->max_tokens = request->max_tokens;
  turn->spoken = request->spoken;
  turn->unconfirmed = request->spoken && request->speculative;
  turn->handlers = *handlers;
  turn->user = user;
  turn->conversation = twin->conversation;
  turn->begin_us = choir_clock_us();
  turn->wall_us = g_get_real_time();
  turn->speech_end_us = request->speech_end_us;
  turn->transcript_us = request->transcript_us;
  turn->reply = g_string_new(NULL);
  turn->keep = G_MAXSIZE;
  choir_repeat_init(&turn->repeat);
  if (handlers->clause)
    turn->clause = choir_clause_new(on_clause, turn);
  g_hash_table_add(twin->turns, turn);
  return turn;
}

/* Tools */

static void on_tool_started(const char *name, const char *args, gpointer user) {
  ChoirTurn *turn = user;
  json_auto_t *json = json_pack("{s:s,s:o?}", "tool", name, "args", json_loads(args, 0, NULL));
  g_autofree char *text = choir_json_dump(json);
  choir_twin_emit(turn->twin, "tool", text, turn);
  choir_twin_set_state(turn->twin, "using a tool");
}

static void on_tool_output(const char *text, gsize length, gpointer user) {
  ChoirTurn *turn = user;
  g_autofree char *copy = choir_utf8(text, (gssize)length);
  choir_twin_emit(turn->twin, "tool_output", copy, turn);
}

/* A tool that answers by itself: its words are the turn's. */
static void on_steps_speak(const char *text, gsize length, gpointer user) {
  ChoirTurn *turn = user;
  g_autofree char *copy = choir_utf8(text, (gssize)length);
  if (!turn->aside && turn->handlers.started)
    turn->handlers.started(turn, turn->user);
  turn->aside = TRUE;
  on_delta(copy, turn);
}

static void on_steps_done(const char *answer, const char *notes, gpointer user) {
  ChoirTurn *turn = user;
  turn->steps = NULL;
  if (turn->aside) {
    if (answer)
      on_delta(answer, turn);
    if (turn->cancelled) /* by who heard it: that ends the turn */
      return;
    g_clear_handle_id(&turn->cancel_idle, g_source_remove);
    finish(turn, NULL);
    return;
  }
  if (answer) {
    turn->aside = TRUE;
    if (turn->handlers.started)
      turn->handlers.started(turn, turn->user);
    on_delta(answer, turn);
    finish(turn, NULL);
    return;
  }
  if (notes) {
    g_autofree char *before = turn->notes;
    turn->notes = g_strconcat(before ? before : "", before ? "\n" : "", notes, NULL);
  }
  choir_turn_start(turn);
}

static gboolean much_like_an_order(const ChoirTurn *turn) {
  ChoirShortlistEntry best;
  return choir_shortlist_find(turn->twin->shortlist, turn->text, &best, 1) > 0 && best.words >= ORDER_ANYWAY;
}

static void on_prepared(gpointer user) {
  ChoirTurn *turn = user;
  turn->preparing = 0;
  choir_turn_start(turn);
}

/* Whose texts this turn holds: the person's, and what functions and the memory said before any tool. */
static ChoirTaint *taint_of(ChoirTurn *turn) {
  if (!turn->taint) {
    turn->taint = choir_taint_new();
    choir_taint_person(turn->taint, turn->text);
    if (turn->notes)
      choir_taint_stranger(turn->taint, "a function of the client", turn->notes);
  }
  return turn->taint;
}

/* name and args: a call that the model wrote by itself, or NULL. */
static void call_tools(ChoirTurn *turn, const char *name, const char *args) {
  static const ChoirStepsHandlers handlers = {
      .started = on_tool_started, .output = on_tool_output, .speak = on_steps_speak, .done = on_steps_done};
  ChoirTwin *twin = turn->twin;
  turn->stepped = TRUE;
  ChoirStepsRequest request = {.toolbox = twin->toolbox,
                               .shortlist = twin->shortlist,
                               .llm = twin->llm,
                               .text = turn->text,
                               .session = turn->source,
                               .turn_id = turn->id,
                               .max_steps = name ? 1 : 0,
                               .taint = taint_of(turn),
                               .name = name,
                               .args = args};
  turn->steps = choir_steps_begin(&request, &handlers, turn);
}

static gboolean on_acknowledge(gpointer user) {
  ChoirTurn *turn = user;
  g_autofree char *text = g_steal_pointer(&turn->said_back);
  turn->cancel_idle = 0;
  turn->aside = TRUE;
  if (turn->handlers.started)
    turn->handlers.started(turn, turn->user);
  on_delta(text, turn);
  if (!turn->cancelled)
    finish(turn, NULL);
  return G_SOURCE_REMOVE;
}

/* A small model would rather correct the sentence than keep it: what is kept is said back. TRUE: it will be. */
static gboolean acknowledge(ChoirTurn *turn) {
  const ChoirTwinMemory *memory = &turn->twin->memory;
  if (!memory->acknowledge || turn->instructions)
    return FALSE;
  g_free(turn->said_back);
  turn->said_back = memory->acknowledge(memory->self, turn->text);
  if (turn->said_back)
    turn->cancel_idle = g_idle_add(on_acknowledge, turn);
  return turn->said_back != NULL;
}

/* TRUE: tools are asked first, or the person must have finished first. */
static gboolean begin_steps(ChoirTurn *turn) {
  ChoirTwin *twin = turn->twin;
  if (turn->stepped || !twin->toolbox || turn->instructions)
    return FALSE;
  if (twin->memory.order && twin->memory.order(twin->memory.self, turn->text)) {
    turn->stepped = TRUE;
    return FALSE;
  }
  /* What the memory knows is answered, unless the words are much like an order. */
  if ((turn->knows && !much_like_an_order(turn)) || !choir_steps_near(twin->shortlist, turn->text)) {
    turn->stepped = TRUE;
    return FALSE;
  }
  turn->preparing = choir_shortlist_prepare(twin->shortlist, turn->text, on_prepared, turn);
  if (turn->preparing)
    return TRUE;
  if (!choir_steps_wanted(twin->shortlist, turn->text)) {
    turn->stepped = TRUE;
    return FALSE;
  }
  if (turn->unconfirmed) {
    turn->waiting = TRUE;
    return TRUE;
  }
  call_tools(turn, NULL, NULL);
  return TRUE;
}

/* TRUE: the reply was a call, and runs; then the model goes on with what came of it. */
static gboolean run_written(ChoirTurn *turn) {
  g_autofree char *name = NULL, *args = NULL;
  if (!choir_wire_read(turn->reply->str, &name, &args)) {
    /* Only the looks of one: it is the answer. */
    g_autofree char *text = g_strdup(turn->reply->str);
    turn->held = FALSE;
    turn->wired = CHOIR_STEPS_MAX;
    g_string_truncate(turn->reply, 0);
    on_delta(text, turn);
    return FALSE;
  }
  turn->held = FALSE;
  g_string_truncate(turn->reply, 0);
  if (turn->unconfirmed) { /* no tool runs for a guess: asked again, once it is none */
    turn->waiting = TRUE;
    return TRUE;
  }
  turn->wired++;
  call_tools(turn, name, args);
  return TRUE;
}

/* Memory */

static void show_recalled(ChoirTurn *turn) {
  if (turn->shown && !turn->unconfirmed) {
    choir_twin_emit(turn->twin, "recall", turn->shown, turn);
    g_clear_pointer(&turn->shown, g_free);
  }
}

static void take_recalled(ChoirTurn *turn, const char *notes, const char *shown) {
  if (!notes)
    return;
  choir_taint_stranger(taint_of(turn), CHOIR_TAINT_MEMORY, notes);
  g_autofree char *before = turn->notes;
  turn->notes = g_strconcat(before ? before : "", before ? "\n" : "", notes, NULL);
  turn->knows = TRUE;
  turn->shown = g_strdup(shown);
  show_recalled(turn);
}

static void on_recalled(const char *notes, const char *shown, gpointer user) {
  ChoirTurn *turn = user;
  gboolean waited = turn->recall != 0;
  turn->recall = 0;
  take_recalled(turn, notes, shown);
  if (waited)
    choir_turn_start(turn);
}

/* TRUE: the turn goes on once the memory answered. */
static gboolean begin_recall(ChoirTurn *turn) {
  ChoirTwin *twin = turn->twin;
  if (turn->recalled || !twin->memory.recall || turn->instructions)
    return FALSE;
  turn->recalled = TRUE;
  turn->recall = twin->memory.recall(twin->memory.self, turn->text, on_recalled, turn);
  return turn->recall != 0;
}

void choir_turn_forget_recall(ChoirTurn *turn) {
  if (!turn->recall)
    return;
  stop_recall(turn);
  if (!turn->cancelled)
    choir_turn_start(turn);
}

void choir_turn_start(ChoirTurn *turn) {
  ChoirTwin *twin = turn->twin;
  choir_twin_sync_conversation(twin);
  turn->conversation = twin->conversation;
  turn->state = CHOIR_TURN_RUNNING;
  twin->running = turn;
  choir_prefix_yield(twin);
  choir_twin_set_state(twin, "thinking");
  if (acknowledge(turn) || begin_recall(turn) || begin_steps(turn))
    return;
  const char *ours = choir_prefix_persona(twin);
  const char *persona = turn->instructions ? turn->instructions : ours;
  if (!choir_prefix_fit(twin, turn->text, FALSE)) {
    finish(turn, g_error_new(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_TOO_LONG,
                             "that is longer than the model's memory; say it in parts"));
    return;
  }
  turn->wall_us = g_get_real_time();
  g_autofree char *with_notes = turn->notes ? g_strconcat(turn->text, "\n\n", turn->notes, NULL) : NULL;
  g_autofree char *message = choir_window_message(twin->window, with_notes ? with_notes : turn->text, turn->wall_us);
  json_t *messages = choir_window_messages(twin->window, persona, message);
  g_autofree char *said = g_strchomp(g_strndup(turn->reply->str, turn->resumed_at));
  if (*said) /* a llama-server goes on with the assistant's message that stands last */
    json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "assistant", "content", said));
  choir_echo_clear(&turn->echo);
  choir_echo_init(&turn->echo, said);
  turn->remote = choir_llm_server_remote(twin->llm) != NULL;
  ChoirChatRequest request = {.messages = messages,
                              .slot = turn->instructions ? CHOIR_SLOT_API : CHOIR_SLOT_LIVE,
                              .max_tokens = (int)(turn->max_tokens ? turn->max_tokens : twin->options.max_reply_tokens),
                              .temperature = temperature(twin),
                              .top_p = TOP_P,
                              .stop = stops};
  ChoirChatHandlers handlers = {.delta = *said ? on_more : on_delta, .done = on_done};
  twin->refs++;
  turn->call = choir_chat_begin(choir_llm_server_chat(twin->llm), &request, &handlers, turn);
  json_decref(messages);
  if (turn->handlers.started && !turn->retried && !turn->resumes)
    turn->handlers.started(turn, turn->user);
}

static gboolean cancel_queued(gpointer user) {
  ChoirTurn *turn = user;
  turn->cancel_idle = 0;
  finish(turn, turn_error(turn, NULL));
  return G_SOURCE_REMOVE;
}

void choir_turn_cancel(ChoirTurn *turn) {
  if (turn->cancelled || turn->state == CHOIR_TURN_SAVING || turn->state == CHOIR_TURN_DONE)
    return;
  turn->cancelled = TRUE;
  g_clear_pointer(&turn->steps, choir_steps_cancel);
  stop_recall(turn);
  stop_preparing(turn);
  if (turn->call) {
    choir_chat_cancel(turn->call);
  } else {
    g_queue_remove(&turn->twin->queue, turn);
    g_clear_handle_id(&turn->cancel_idle, g_source_remove);
    turn->cancel_idle = g_idle_add(cancel_queued, turn);
  }
}

static void heard_or_discarded(ChoirTurn *turn) {
  turn->heard = TRUE;
  if (turn->state == CHOIR_TURN_DONE) {
    settle_heard(turn);
    ChoirTwin *twin = turn->twin;
    maybe_free(turn);
    choir_twin_pump_soon(twin);
  } else if (turn->heard_cut || turn->discarded) {
    choir_turn_cancel(turn);
  }
}

void choir_turn_heard(ChoirTurn *turn, gsize heard_bytes, gboolean cut) {
  if (turn->heard)
    return;
  turn->heard_bytes = heard_bytes;
  turn->heard_cut = cut;
  heard_or_discarded(turn);
}

void choir_turn_confirm(ChoirTurn *turn) {
  ChoirTwin *twin = turn->twin;
  if (!turn->unconfirmed || turn->heard)
    return;
  turn->unconfirmed = FALSE;
  choir_twin_emit(twin, "user", turn->text, turn);
  show_recalled(turn);
  if (turn->waiting) {
    turn->waiting = FALSE;
    if (!turn->cancelled)
      choir_turn_start(turn);
    return;
  }
  if (turn->reply->len > 0)
    choir_twin_emit(twin, "agent_delta", turn->reply->str, turn);
  if (turn->state != CHOIR_TURN_DONE)
    return;
  if (turn->error) {
    if (!g_error_matches(turn->error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED))
      choir_twin_emit(twin, "error", turn->error->message, turn);
    return;
  }
  choir_twin_emit(twin, "agent", turn->reply->str, turn);
  if (turn->conversation == twin->conversation) {
    choir_window_add(twin->window, turn, turn->text, turn->wall_us, turn->reply->str);
    keep_slot(turn);
  }
}

void choir_turn_discard(ChoirTurn *turn) {
  if (turn->heard)
    return;
  turn->discarded = TRUE;
  heard_or_discarded(turn);
}

void choir_turn_abandon(ChoirTurn *turn) {
  turn->abandoned = turn->cancelled = TRUE;
  if (turn->call)
    choir_chat_cancel(turn->call); /* its last callback frees the turn */
  else if (turn->state != CHOIR_TURN_SAVING)
    turn_free(turn);
}

const ChoirChatTimings *choir_turn_timings(const ChoirTurn *turn) {
  return &turn->timings;
}

gboolean choir_turn_limited(const ChoirTurn *turn) {
  return turn->limited;
}

const char *choir_turn_id(const ChoirTurn *turn) {
  return turn->id;
}

void choir_turn_first_audio(ChoirTurn *turn, gint64 at_us) {
  if (turn->first_audio_us == 0)
    turn->first_audio_us = at_us;
}
