#include "cluster/ask.h"
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "cluster/experts_private.h"
#include "cluster/persona.h"
#include "cluster/replica.h"

#define TOKENS 400
#define LOOK_MS 800    /* for all servers together to say how busy they are */
#define SILENT_MS 1500 /* without a word, after which a server is asked whether it lives; it has as long to say so */
#define MISSES 2
#define WATCH_MS 250
#define SMALL_PARAMS 400000000
#define TOP_P 0.9
#define HALVES 3
#define GO_ON "Go on exactly where you stopped. Repeat nothing."

G_DEFINE_QUARK(choir - ask - error - quark, choir_ask_error)

static const char *const stops[] = {"<|im_end|>", "<|im_start|>", "<end_of_turn>", "<|eot_id|>", NULL};

typedef struct {
  ChoirAsk *ask; /* NULL: it goes without */
  ChoirReplica *replica;
} Look;

struct ChoirAsk {
  ChoirExperts *experts;
  ChoirExpert *expert;
  char *name, *query;
  gint64 conversation;
  guint max_tokens;
  ChoirAskHandlers handlers;
  gpointer user;
  GPtrArray *tried; /* ids of replicas, char* */
  GPtrArray *looks; /* Look, under way */
  guint look_timer, watch, idle;
  ChoirReplica *replica; /* that is asked now; NULL with call: the light model */
  ChoirChatCall *call;
  ChoirEcho echo;
  GString *said;
  gboolean trim; /* white space was said last: none comes first */
  gboolean light, told_fallback, dead;
  gboolean lost;       /* the call is cancelled because its server is gone */
  GCancellable *alive; /* the question whether it lives */
  gint64 begun_us, asked_us, first_us, heard_us;
  guint halves, misses;
  char *why; /* what went wrong last */
  GError *error;
};

static void ask_free(ChoirAsk *ask) {
  if (ask->experts)
    g_ptr_array_remove_fast(ask->experts->asks, ask);
  g_clear_handle_id(&ask->look_timer, g_source_remove);
  g_clear_handle_id(&ask->watch, g_source_remove);
  g_clear_handle_id(&ask->idle, g_source_remove);
  for (guint i = 0; i < ask->looks->len; i++)
    ((Look *)ask->looks->pdata[i])->ask = NULL;
  g_ptr_array_unref(ask->looks);
  g_ptr_array_unref(ask->tried);
  if (ask->alive)
    g_cancellable_cancel(ask->alive);
  g_clear_object(&ask->alive);
  g_clear_pointer(&ask->replica, choir_replica_unref);
  choir_echo_clear(&ask->echo);
  g_string_free(ask->said, TRUE);
  g_clear_error(&ask->error);
  g_free(ask->name);
  g_free(ask->query);
  g_free(ask->why);
  g_free(ask);
}

static void count(const ChoirAsk *ask, const char *outcome) {
  g_autofree char *labels = g_strdup_printf("expert=\"%s\",outcome=\"%s\"", ask->name, outcome);
  choir_counter_add(choir_counter("choir_expert_answers_total", labels, "Answers of experts by outcome."), 1);
}

static gboolean on_finish(gpointer user) {
  ChoirAsk *ask = user;
  ask->idle = 0;
  ask->handlers.done(ask->error, ask->user);
  ask_free(ask);
  return G_SOURCE_REMOVE;
}

static void finish(ChoirAsk *ask, GError *error /* taken */) {
  ask->error = error;
  ask->idle = g_idle_add(on_finish, ask);
}

static void answered(ChoirAsk *ask) {
  double seconds = (double)(choir_clock_us() - ask->begun_us) / G_USEC_PER_SEC;
  ChoirThread *thread = choir_experts_thread(ask->experts, ask->conversation, ask->name);
  choir_thread_add(thread, ask->query, ask->said->str);
  if (ask->light) {
    ask->expert->failed++;
    count(ask, "light");
  } else {
    g_free(thread->home);
    thread->home = g_strdup(ask->replica->id);
    ask->expert->answered++;
    ask->expert->seconds += seconds;
    choir_histogram_observe(ask->expert->m_whole, seconds);
    choir_histogram_observe(ask->expert->m_first, (double)(ask->first_us - ask->begun_us) / G_USEC_PER_SEC);
    choir_replica_answered(ask->replica, (double)(ask->first_us - ask->asked_us) / G_USEC_PER_SEC);
    count(ask, "answered");
  }
  finish(ask, NULL);
}

/* --- asking */

static void next(ChoirAsk *ask);

static void note(ChoirAsk *ask, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void note(ChoirAsk *ask, const char *format, ...) {
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  ask->handlers.note(text, ask->user);
}

static void hand_out(ChoirAsk *ask, char *text /* taken */) {
  g_autofree char *owned = text;
  char *fresh = owned;
  if (ask->trim) {
    while (g_ascii_isspace(*fresh))
      fresh++;
    if (!*fresh)
      return;
    ask->trim = FALSE;
  }
  if (!*fresh)
    return;
  g_string_append(ask->said, fresh);
  ask->handlers.text(fresh, ask->user);
}

static void on_delta(const char *text, gpointer user) {
  ChoirAsk *ask = user;
  if (ask->dead || ask->lost)
    return;
  ask->heard_us = choir_clock_us();
  ask->misses = 0;
  if (ask->first_us == 0)
    ask->first_us = ask->heard_us;
  hand_out(ask, choir_echo_feed(&ask->echo, text));
}

static void release(ChoirAsk *ask) {
  g_clear_handle_id(&ask->watch, g_source_remove);
  if (ask->alive)
    g_cancellable_cancel(ask->alive);
  g_clear_object(&ask->alive);
  ask->call = NULL;
  if (ask->replica)
    ask->replica->asking--;
}

static void broke_off(ChoirAsk *ask, const char *why) {
  if (ask->dead)
    return;
  choir_warning(CHOIR_TOPIC_CLUSTER, "the %s expert%s%s: %s", ask->name, ask->replica ? " at " : "'s light model",
                ask->replica ? ask->replica->url : "", why);
  char *copy = g_strdup(why); /* it may be our own */
  g_free(ask->why);
  why = ask->why = copy;
  if (ask->light) {
    ask->expert->failed++;
    count(ask, "failed");
    finish(ask,
           g_error_new(CHOIR_ASK_ERROR, CHOIR_ASK_ERROR_AWAY, "the %s expert does not answer: %s", ask->name, why));
    return;
  }
  g_autofree char *labels = g_strdup_printf("expert=\"%s\"", ask->name);
  choir_counter_add(
      choir_counter("choir_expert_failovers_total", labels, "Servers of an expert that broke off or did not answer."),
      1);
  choir_replica_failed(ask->replica);
  g_ptr_array_add(ask->tried, g_strdup(ask->replica->id));
  g_clear_pointer(&ask->replica, choir_replica_unref);
  next(ask);
}

static void again(ChoirAsk *ask);

static void on_done(const char *reason, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  ChoirAsk *ask = user;
  gboolean lost = ask->lost;
  release(ask);
  if (ask->dead) {
    ask_free(ask);
    return;
  }
  ask->lost = FALSE;
  if (!error && !lost)
    hand_out(ask, choir_echo_end(&ask->echo));
  ChoirThread *thread = choir_experts_thread(ask->experts, ask->conversation, ask->name);
  if (g_error_matches(error, CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_CONTEXT) && json_array_size(thread->messages) > 0 &&
      ask->halves++ < HALVES) {
    choir_thread_halve(thread);
    again(ask);
  } else if (lost) {
    broke_off(ask, "its machine does not answer any more");
  } else if (error) {
    broke_off(ask, error->message);
  } else if (ask->said->len == 0) {
    broke_off(ask, "it gave an empty answer");
  } else {
    choir_debug(CHOIR_TOPIC_CLUSTER, "the %s expert: %d tokens cached, %d evaluated, %d written", ask->name,
                timings->cached_tokens, timings->evaluated_tokens, timings->reply_tokens);
    answered(ask);
  }
}

/* --- is it alive? */

typedef struct {
  ChoirAsk *ask;
  GCancellable *asked; /* whose answer it is */
} Alive;

static void on_alive(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Alive *alive = user;
  ChoirAsk *ask = alive->ask;
  /* Cancelled: the ask may be gone. Any status is a sign of life. */
  gboolean mine = !g_cancellable_is_cancelled(alive->asked);
  if (mine) {
    g_clear_object(&ask->alive);
    gboolean dead = error && !g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS);
    /* A machine with too much to do misses one question; nobody refuses a connection by being busy. */
    ask->misses = dead ? ask->misses + 1 : 0;
    if (!dead)
      ask->heard_us = choir_clock_us();
    else if (ask->call &&
             (ask->misses >= MISSES || g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_CONNECT))) {
      ask->lost = TRUE;
      choir_chat_cancel(ask->call);
    }
  }
  g_object_unref(alive->asked);
  g_free(alive);
}

static gboolean on_watch(gpointer user) {
  ChoirAsk *ask = user;
  if (ask->alive || ask->lost || choir_clock_us() - ask->heard_us < SILENT_MS * 1000)
    return G_SOURCE_CONTINUE;
  ask->alive = g_cancellable_new();
  Alive *alive = g_new0(Alive, 1);
  *alive = (Alive){.ask = ask, .asked = g_object_ref(ask->alive)};
  g_autofree char *url = g_strconcat(ask->replica->url, "/health", NULL);
  choir_http_request(ask->experts->options.http, "GET", url, NULL, NULL, 0, NULL, SILENT_MS, 65536, ask->alive,
                     on_alive, alive);
  return G_SOURCE_CONTINUE;
}

/* --- one server */

static json_t *messages_for(ChoirAsk *ask, guint64 params, gboolean plain, const char *said) {
  g_autoptr(ChoirExpertPersona) persona =
      choir_expert_persona_read(ask->experts->options.prompts_dir, ask->name, params);
  ChoirThread *thread = choir_experts_thread(ask->experts, ask->conversation, ask->name);
  json_t *messages = json_array();
  json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "system", "content", persona->text));
  json_array_extend(messages, thread->messages);
  json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "user", "content", ask->query));
  if (*said) /* llama-server goes on with an assistant's message that stands last */
    json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "assistant", "content", said));
  if (*said && plain)
    json_array_append_new(messages, json_pack("{s:s,s:s}", "role", "user", "content", GO_ON));
  return messages;
}

static void begin_chat(ChoirAsk *ask, ChoirChat *chat, guint64 params, int slot) {
  static const ChoirChatHandlers handlers = {.delta = on_delta, .done = on_done};
  g_autofree char *said = g_strchomp(g_strdup(ask->said->str));
  gboolean plain = choir_chat_plain(chat);
  json_auto_t *messages = messages_for(ask, params, plain, said);
  choir_echo_clear(&ask->echo);
  choir_echo_init(&ask->echo, said);
  ask->trim = *said && strlen(said) < ask->said->len;
  ChoirChatRequest request = {.messages = messages,
                              .slot = slot,
                              .max_tokens = (int)ask->max_tokens,
                              .temperature = params > 0 && params < SMALL_PARAMS ? 0 : 0.6,
                              .top_p = TOP_P,
                              .stop = stops};
  ask->asked_us = ask->heard_us = choir_clock_us();
  ask->call = choir_chat_begin(chat, &request, &handlers, ask);
}

static void again(ChoirAsk *ask) {
  if (!ask->replica) {
    ChoirLlmServer *llm = ask->experts->options.llm;
    ChoirChat *light = choir_llm_server_light(llm);
    begin_chat(ask, light ? light : choir_llm_server_chat(llm),
               choir_llm_server_remote(llm) ? 0 : choir_llm_server_params(llm), CHOIR_SLOT_API);
    return;
  }
  const char *key = choir_token_read(ask->experts->key);
  if (ask->replica->source != CHOIR_EXPERT_OUTSIDE && key) /* it may have been renewed */
    choir_chat_set_server(ask->replica->chat, ask->replica->url, key);
  ask->replica->asking++;
  begin_chat(ask, ask->replica->chat, ask->replica->params, -1);
  ask->watch = g_timeout_add(WATCH_MS, on_watch, ask);
}

static void ask_replica(ChoirAsk *ask, ChoirReplica *replica) {
  ask->replica = choir_replica_ref(replica);
  choir_debug(CHOIR_TOPIC_CLUSTER, "the %s expert is asked at %s", ask->name, replica->url);
  if (replica->fallback && !ask->told_fallback) {
    note(ask,
         ask->said->len ? "The small fallback model of the %s expert goes on."
                        : "This is the small fallback model of the %s expert.",
         ask->name);
    ask->told_fallback = TRUE;
  }
  again(ask);
}

static void ask_light(ChoirAsk *ask) {
  ChoirLlmServer *llm = ask->experts->options.llm;
  ask->light = TRUE;
  if (!llm || !choir_llm_server_light(llm)) {
    broke_off(ask, ask->why ? ask->why : "none of its servers is there, and the light model is not ready");
    return;
  }
  note(ask,
       ask->said->len ? "The %s expert broke off; the light local model goes on."
                      : "The %s expert does not answer; this is the light local model.",
       ask->name);
  again(ask);
}

static gboolean was_tried(const ChoirAsk *ask, const ChoirReplica *replica) {
  for (guint i = 0; i < ask->tried->len; i++)
    if (g_str_equal(ask->tried->pdata[i], replica->id))
      return TRUE;
  return FALSE;
}

static void next(ChoirAsk *ask) {
  const GPtrArray *replicas = ask->expert->replicas;
  g_autofree ChoirReplicaLook *looks = g_new0(ChoirReplicaLook, MAX(1, replicas->len));
  const ChoirThread *thread = choir_experts_thread(ask->experts, ask->conversation, ask->name);
  gint64 now = choir_clock_us();
  for (guint i = 0; i < replicas->len; i++) {
    const ChoirReplica *replica = replicas->pdata[i];
    looks[i] = (ChoirReplicaLook){.tried = was_tried(ask, replica),
                                  .resting = replica->rests_until_us > now,
                                  .home = g_strcmp0(thread->home, replica->id) == 0,
                                  .fallback = replica->fallback,
                                  .silent = replica->silent,
                                  .slots = replica->slots,
                                  .busy = replica->busy,
                                  .asking = replica->asking,
                                  .first_s = replica->first_s};
  }
  gint chosen = choir_replica_choose(looks, replicas->len);
  if (chosen >= 0)
    ask_replica(ask, replicas->pdata[chosen]);
  else
    ask_light(ask);
}

/* --- how busy are they? */

static void looked(ChoirAsk *ask) {
  g_clear_handle_id(&ask->look_timer, g_source_remove);
  for (guint i = 0; i < ask->looks->len; i++) {
    Look *look = ask->looks->pdata[i];
    look->replica->silent = TRUE;
    look->ask = NULL;
  }
  g_ptr_array_set_size(ask->looks, 0);
  next(ask);
}

static gboolean on_look_timer(gpointer user) {
  ChoirAsk *ask = user;
  ask->look_timer = 0;
  looked(ask);
  return G_SOURCE_REMOVE;
}

static void on_slots(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Look *look = user;
  json_auto_t *slots = !error && status == 200 ? choir_json_parse(body, length, NULL) : NULL;
  size_t i;
  json_t *slot;
  gboolean stays_silent = error && !g_error_matches(error, CHOIR_HTTP_ERROR, CHOIR_HTTP_ERROR_STATUS);
  look->replica->silent = stays_silent;
  if (json_is_array(slots)) {
    look->replica->slots = (guint)json_array_size(slots);
    look->replica->busy = 0;
    json_array_foreach(slots, i, slot) look->replica->busy += choir_json_bool(slot, "is_processing", FALSE);
  }
  if (look->ask) {
    g_ptr_array_remove_fast(look->ask->looks, look);
    if (look->ask->looks->len == 0)
      looked(look->ask);
  }
  choir_replica_unref(look->replica);
  g_free(look);
}

static void look_around(ChoirAsk *ask) {
  const GPtrArray *replicas = ask->expert->replicas;
  for (guint i = 0; i < replicas->len && replicas->len > 1; i++) {
    ChoirReplica *replica = replicas->pdata[i];
    if (choir_chat_plain(replica->chat))
      continue;
    Look *look = g_new0(Look, 1);
    *look = (Look){.ask = ask, .replica = choir_replica_ref(replica)};
    g_ptr_array_add(ask->looks, look);
    g_autofree char *url = g_strconcat(replica->url, "/slots", NULL);
    choir_http_request(ask->experts->options.http, "GET", url, NULL, NULL, 0, choir_chat_headers(replica->chat),
                       2 * LOOK_MS, 0, NULL, on_slots, look);
  }
  ask->look_timer = g_timeout_add(ask->looks->len ? LOOK_MS : 0, on_look_timer, ask);
}

ChoirAsk *choir_ask_begin(ChoirExperts *experts, const ChoirAskRequest *request, const ChoirAskHandlers *handlers,
                          gpointer user) {
  ChoirAsk *ask = g_new0(ChoirAsk, 1);
  ask->experts = experts;
  ask->expert = choir_experts_find(experts, request->expert);
  ask->name = g_strdup(request->expert);
  ask->query = g_strdup(request->query);
  ask->conversation = request->conversation;
  ask->max_tokens = request->max_tokens ? request->max_tokens : TOKENS;
  ask->handlers = *handlers;
  ask->user = user;
  ask->tried = g_ptr_array_new_with_free_func(g_free);
  ask->looks = g_ptr_array_new();
  ask->said = g_string_new(NULL);
  ask->begun_us = choir_clock_us();
  g_ptr_array_add(experts->asks, ask);
  if (ask->expert)
    look_around(ask);
  else
    finish(ask, g_error_new(CHOIR_ASK_ERROR, CHOIR_ASK_ERROR_UNKNOWN, "there is no expert %s now", request->expert));
  return ask;
}

void choir_ask_cancel(ChoirAsk *ask) {
  if (!ask->call) {
    ask_free(ask);
    return;
  }
  ask->dead = TRUE;
  g_clear_handle_id(&ask->watch, g_source_remove);
  choir_chat_cancel(ask->call); /* on_done() frees it */
}

void choir_experts_end_asks(ChoirExperts *experts) {
  g_autoptr(GError) error = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, "the agent stops");
  while (experts->asks->len > 0) {
    ChoirAsk *ask = g_ptr_array_steal_index_fast(experts->asks, 0);
    ask->experts = NULL;
    if (!ask->dead)
      ask->handlers.done(error, ask->user);
    choir_ask_cancel(ask);
  }
}
