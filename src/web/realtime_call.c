#include <string.h>
#include "base/text.h"
#include "web/realtime_private.h"

#define MAX_OUTPUT 4000 /* bytes of one function's output that the model sees */
#define MAX_NOTES 12000
#define ARGUMENT_PIECE 24 /* bytes in one delta */

const ChoirRealtimeConfig *choir_realtime_effective(const ChoirRealtimeSession *session) {
  return session->borrowed ? &session->own : &session->config;
}

gboolean choir_realtime_decides(const ChoirRealtimeSession *session) {
  const ChoirRealtimeConfig *config = choir_realtime_effective(session);
  return config->choice != CHOIR_CALL_NONE && choir_call_tools_count(config->tools) > 0;
}

void choir_realtime_configure(ChoirRealtimeSession *session) {
  ChoirLiveOptions live = session->config.live;
  if (session->borrowed)
    live.audio_out = session->borrowed_audio;
  /* With functions on offer a committed turn is not answered before it was decided whether one is called. */
  if (session->config.choice != CHOIR_CALL_NONE && choir_call_tools_count(session->config.tools) > 0)
    live.create_response = FALSE;
  choir_live_configure(session->live, &live);
  choir_realtime_prompt(session);
}

void choir_realtime_prompt(ChoirRealtimeSession *session) {
  const ChoirRealtimeConfig *config = choir_realtime_effective(session);
  session->prompt_owed = FALSE;
  ChoirLivePrompt prompt = {.instructions = *config->instructions ? config->instructions : NULL,
                            .notes = session->notes->len > 0 ? session->notes->str : NULL,
                            .max_tokens = choir_realtime_config_max_tokens(config)};
  choir_live_prompt(session->live, &prompt);
}

/* --- a call as a response ------------------------------------------------------------------------------------------
 */

static json_t *item_fields(const ChoirRealtimeSession *session, const ChoirRealtimeItem *item, gboolean with_content) {
  return json_pack("{s:s,s:i,s:o}", "response_id", session->response.id, "output_index", 0, "item",
                   choir_realtime_item_json(item, with_content));
}

static void emit_arguments(ChoirRealtimeSession *session, const ChoirRealtimeItem *item, const char *type,
                           const char *key, const char *value) {
  json_t *fields = json_pack("{s:s,s:s,s:i,s:s,s:s}", "response_id", session->response.id, "item_id", item->id,
                             "output_index", 0, "call_id", item->call_id, key, value);
  if (strcmp(key, "arguments") == 0)
    json_object_set_new(fields, "name", json_string(item->name));
  choir_realtime_emit(session, choir_realtime_event(type, fields));
}

/* The arguments are whole and valid before the first piece goes out. */
static void emit_pieces(ChoirRealtimeSession *session, const ChoirRealtimeItem *item) {
  const char *at = item->text->str;
  while (*at) {
    gsize n = MIN(strlen(at), (gsize)ARGUMENT_PIECE);
    while (((guchar)at[n] & 0xc0) == 0x80)
      n++;
    g_autofree char *piece = g_strndup(at, n);
    emit_arguments(session, item, "response.function_call_arguments.delta", "delta", piece);
    at += n;
  }
  emit_arguments(session, item, "response.function_call_arguments.done", "arguments", item->text->str);
}

static void respond_with_call(ChoirRealtimeSession *session, const char *name, const char *arguments,
                              const ChoirChatTimings *usage) {
  g_autofree char *response = choir_id("resp_"), *id = choir_id("item_");
  choir_realtime_response_begin(session, response);
  choir_realtime_restore(session);
  ChoirRealtimeItem *item = choir_realtime_item_new(id, NULL, CHOIR_REALTIME_CALL);
  item->call_id = choir_id("call_");
  item->name = g_strdup(name);
  session->response.item = item;
  session->response.input_tokens = usage->prompt_tokens;
  session->response.cached_tokens = MAX(usage->cached_tokens, 0);
  session->response.output_tokens = usage->reply_tokens;
  g_ptr_array_add(session->used, g_strdup(name));
  choir_realtime_emit(session, choir_realtime_event("response.output_item.added", item_fields(session, item, FALSE)));
  choir_realtime_add(session, item);
  g_string_assign(item->text, arguments);
  emit_pieces(session, item);
  item->done = TRUE; /* for its status in the event */
  choir_realtime_emit(session, choir_realtime_event("response.output_item.done", item_fields(session, item, TRUE)));
  item->done = FALSE;
  choir_realtime_item_done(session, item);
  choir_realtime_emit_response(session, "response.done", "completed", NULL, NULL);
  choir_realtime_response_clear(session);
}

/* --- the decision --------------------------------------------------------------------------------------------------
 */

static void on_decided(const char *name, const char *arguments, const ChoirChatTimings *usage, const GError *error,
                       gpointer user) {
  ChoirRealtimeSession *session = user;
  session->deciding = NULL;
  if (error)
    choir_realtime_request_over(session, "failed", "function_call_refused", error->message);
  else if (name)
    respond_with_call(session, name, arguments, usage);
  else
    choir_live_respond(session->live);
}

/* What the person said since the last answer. */
static char *question(const ChoirRealtimeSession *session) {
  GString *text = g_string_new(NULL);
  for (GList *link = session->items.head; link; link = link->next) {
    const ChoirRealtimeItem *item = link->data;
    if (item->unanswered)
      g_string_append_printf(text, "%s%s", text->len > 0 ? " " : "", item->text->str);
  }
  return g_string_free(text, FALSE);
}

static gboolean is_transcribing(const ChoirRealtimeSession *session) {
  for (GList *link = session->items.tail; link; link = link->prev) {
    const ChoirRealtimeItem *item = link->data;
    if (item->kind == CHOIR_REALTIME_USER_AUDIO && !item->done)
      return TRUE;
  }
  return session->committing;
}

void choir_realtime_maybe_answer(ChoirRealtimeSession *session) {
  if ((session->owed || session->requested) && session->unanswered > 0 && !session->active && !session->deciding &&
      choir_realtime_decides(session))
    choir_realtime_answer(session);
}

void choir_realtime_answer(ChoirRealtimeSession *session) {
  session->requested = TRUE;
  if (!choir_realtime_decides(session)) {
    choir_live_respond(session->live);
    return;
  }
  if (session->deciding || is_transcribing(session))
    return; /* the transcript comes back to it */
  const ChoirRealtimeConfig *config = choir_realtime_effective(session);
  const char *model = NULL;
  ChoirChat *chat = session->options.chat ? session->options.chat(session->options.user, &model) : NULL;
  if (!chat) {
    choir_realtime_request_over(session, "failed", "model_loading",
                                "The language model is still loading, so no function can be chosen: try again soon.");
    return;
  }
  g_autofree char *text = question(session);
  g_autoptr(GPtrArray) used = g_ptr_array_new();
  for (guint i = 0; i < session->used->len; i++)
    g_ptr_array_add(used, session->used->pdata[i]);
  g_ptr_array_add(used, NULL);
  ChoirCallRequest request = {.tools = config->tools,
                              .choice = config->choice,
                              .name = config->choice_name,
                              .text = text,
                              .used = (const char *const *)used->pdata,
                              .model = model,
                              .slot = CHOIR_SLOT_API};
  session->deciding = choir_call_begin(chat, &request, on_decided, session);
}

gboolean choir_realtime_stop_deciding(ChoirRealtimeSession *session, const char *reason) {
  if (!session->deciding)
    return FALSE;
  choir_call_cancel(g_steal_pointer(&session->deciding));
  choir_realtime_request_over(session, "cancelled", reason, NULL);
  return TRUE;
}

void choir_realtime_taken(ChoirRealtimeSession *session) {
  session->unanswered = 0;
  for (GList *link = session->items.head; link; link = link->next)
    ((ChoirRealtimeItem *)link->data)->unanswered = FALSE;
}

void choir_realtime_said(ChoirRealtimeSession *session) {
  g_ptr_array_set_size(session->used, 0);
}

void choir_realtime_answered(ChoirRealtimeSession *session) {
  g_ptr_array_set_size(session->used, 0);
  if (session->notes->len == 0)
    return;
  g_string_truncate(session->notes, 0);
  choir_realtime_configure(session);
}

/* --- outputs -------------------------------------------------------------------------------------------------------
 */

static ChoirRealtimeItem *open_call(ChoirRealtimeSession *session, const char *call_id) {
  for (GList *link = call_id ? session->items.tail : NULL; link; link = link->prev) {
    ChoirRealtimeItem *item = link->data;
    if (item->kind == CHOIR_REALTIME_CALL && strcmp(item->call_id, call_id) == 0)
      return item;
  }
  return NULL;
}

ChoirRealtimeItem *choir_realtime_take_output(ChoirRealtimeSession *session, const json_t *wanted, const char *id,
                                              ChoirFault *fault) {
  const char *output = choir_json_string(wanted, "output", NULL);
  ChoirRealtimeItem *call = open_call(session, choir_json_string(wanted, "call_id", NULL));
  if (!call || call->answered) {
    choir_fault_set(fault, "invalid_value", "item.call_id",
                    call ? "That call has its output already." : "There is no call with that id.");
    return NULL;
  }
  if (!output) {
    choir_fault_set(fault, "invalid_type", "item.output", "'item.output' is a string.");
    return NULL;
  }
  g_autofree char *made = id ? g_strdup(id) : choir_id("item_");
  ChoirRealtimeItem *item = choir_realtime_item_new(made, NULL, CHOIR_REALTIME_OUTPUT);
  item->call_id = g_strdup(call->call_id);
  item->name = g_strdup(call->name);
  g_string_assign(item->text, output);
  call->answered = TRUE;
  g_autofree char *cut = g_strndup(output, MAX_OUTPUT);
  g_autofree char *shown = choir_utf8(cut, -1);
  g_autofree char *words = choir_call_words(call->name);
  if (session->notes->len + strlen(shown) <= MAX_NOTES)
    g_string_append_printf(session->notes, "%sResult of %s: %s", session->notes->len > 0 ? "\n" : "", words, shown);
  choir_realtime_configure(session);
  return item;
}
