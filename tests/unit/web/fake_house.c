#include "fake_house.h"
#include <string.h>
#include "base/text.h"
#include "cluster/experts.h"

G_DEFINE_QUARK(choir - twin - error - quark, choir_twin_error)
G_DEFINE_QUARK(choir - chat - error - quark, choir_chat_error)
G_DEFINE_QUARK(choir - models - error - quark, choir_models_error)

struct ChoirTwin {
  int unused;
};
struct ChoirLlmServer {
  int unused;
};
struct ChoirModels {
  int unused;
};
struct ChoirVoice {
  int unused;
};
struct ChoirChat {
  int unused;
};

/* A chat or a turn under way. */
typedef struct {
  ChoirChatHandlers chat;
  ChoirTurnHandlers turn;
  gpointer user;
  char *text;
  gboolean cancelled;
  guint idle;
} Work;

typedef struct {
  void (*changed)(gpointer user);
  gpointer user;
} Listener;

typedef struct {
  guint id;
  ChoirTwinObserver observer;
  gpointer user;
} Observer;

FakeHouse fake_house;
static ChoirTwin twin;
static ChoirLlmServer server;
static ChoirModels models;
static ChoirVoice voice;
static ChoirChat chat;
static ChoirHistory *history;
static GPtrArray *works;
static GArray *listeners, *observers;
static ChoirModel model = {.name = (char *)"small", .bytes = 100, .memory_mb = 200, .present = TRUE};

void fake_house_init(ChoirHistory *with) {
  fake_house = (FakeHouse){.ready = TRUE, .opened = -1};
  history = with;
  works = g_ptr_array_new();
  listeners = g_array_new(FALSE, FALSE, sizeof(Listener));
  observers = g_array_new(FALSE, FALSE, sizeof(Observer));
}

void fake_house_clear(void) {
  g_assert_cmpuint(works->len, ==, 0);
  g_assert_cmpuint(listeners->len, ==, 0);
  g_assert_cmpuint(observers->len, ==, 0);
  g_ptr_array_unref(works);
  g_array_unref(listeners);
  g_array_unref(observers);
  json_decref(fake_house.last_messages);
  g_free(fake_house.last_source);
  g_free(fake_house.last_text);
  g_free(fake_house.used_model);
}

ChoirTwin *fake_house_twin(void) {
  return &twin;
}

ChoirModels *fake_house_models(void) {
  return &models;
}

ChoirVoice *fake_house_voice(void) {
  return &voice;
}

void fake_house_set_ready(gboolean ready) {
  fake_house.ready = ready;
  for (guint i = 0; i < listeners->len; i++)
    g_array_index(listeners, Listener, i).changed(g_array_index(listeners, Listener, i).user);
}

/* --- work -----------------------------------------------------------------------------------------------------------
 */

static gboolean on_work(gpointer user) {
  Work *work = user;
  g_autoptr(GError) error = NULL;
  work->idle = 0;
  g_ptr_array_remove(works, work);
  if (work->cancelled)
    error = work->chat.done ? g_error_new_literal(G_IO_ERROR, G_IO_ERROR_CANCELLED, "cancelled")
                            : g_error_new_literal(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED, "cancelled");
  else if (fake_house.context)
    error = g_error_new_literal(CHOIR_CHAT_ERROR, CHOIR_CHAT_ERROR_CONTEXT, "too long");
  else if (fake_house.fail)
    error = g_error_new_literal(CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_MODEL, "the model broke");
  ChoirChatTimings timings = {.prompt_tokens = 10, .cached_tokens = 4, .evaluated_tokens = 6, .reply_tokens = 2};
  if (work->chat.done) {
    if (!error && !fake_house.hold)
      work->chat.delta("Hel", work->user), work->chat.delta("lo", work->user);
    work->chat.done(error ? NULL : "stop", &timings, error, work->user);
  } else {
    g_autofree char *reply = g_strdup_printf("You said %s", work->text);
    if (!error)
      work->turn.delta((ChoirTurn *)work, reply, work->user);
    work->turn.done((ChoirTurn *)work, error ? "" : reply, error, work->user);
  }
  g_free(work->text);
  g_free(work);
  return G_SOURCE_REMOVE;
}

static Work *work_new(gpointer user) {
  Work *work = g_new0(Work, 1);
  work->user = user;
  g_ptr_array_add(works, work);
  if (!fake_house.hold)
    work->idle = g_idle_add(on_work, work);
  return work;
}

static void work_cancel(Work *work) {
  fake_house.cancelled++;
  work->cancelled = TRUE;
  if (!work->idle)
    work->idle = g_idle_add(on_work, work);
}

void fake_house_finish(void) {
  while (works->len > 0) {
    Work *work = g_ptr_array_index(works, 0);
    if (work->idle)
      g_source_remove(work->idle);
    on_work(work);
  }
}

void fake_house_delta(const char *text) {
  for (guint i = 0; i < works->len; i++) {
    Work *work = g_ptr_array_index(works, i);
    if (work->chat.delta)
      work->chat.delta(text, work->user);
  }
}

/* --- language model
 * --------------------------------------------------------------------------------------------------- */

ChoirChatCall *choir_chat_begin(ChoirChat *unused, const ChoirChatRequest *request, const ChoirChatHandlers *handlers,
                                gpointer user) {
  fake_house.chats++;
  json_decref(fake_house.last_messages);
  fake_house.last_messages = json_deep_copy(request->messages);
  fake_house.last_max_tokens = request->max_tokens;
  fake_house.last_slot = request->slot;
  Work *work = work_new(user);
  work->chat = *handlers;
  return (ChoirChatCall *)work;
}

void choir_chat_cancel(ChoirChatCall *call) {
  work_cancel((Work *)call);
}

gboolean choir_llm_server_ready(const ChoirLlmServer *unused) {
  return fake_house.ready;
}

void choir_llm_server_on_change(ChoirLlmServer *unused, void (*changed)(gpointer user), gpointer user) {
  Listener listener = {changed, user};
  g_array_append_val(listeners, listener);
}

void choir_llm_server_off_change(ChoirLlmServer *unused, void (*changed)(gpointer user), gpointer user) {
  for (guint i = listeners->len; i-- > 0;)
    if (g_array_index(listeners, Listener, i).changed == changed && g_array_index(listeners, Listener, i).user == user)
      g_array_remove_index(listeners, i);
}

ChoirChat *choir_llm_server_chat(ChoirLlmServer *unused) {
  return &chat;
}

const char *choir_llm_server_model(const ChoirLlmServer *unused) {
  return "fake";
}

const char *choir_llm_server_progress(const ChoirLlmServer *unused) {
  return fake_house.ready ? "ready" : "loading the language model";
}

json_t *choir_llm_server_status(const ChoirLlmServer *unused) {
  return json_pack("{s:s,s:s}", "model", "small", "state", "ready");
}

/* --- cluster: there is none
 * ------------------------------------------------------------------------------------------------------------- */

json_t *choir_experts_json(ChoirExperts *unused) {
  return json_object();
}

/* --- twin
 * ------------------------------------------------------------------------------------------------------------- */

ChoirTurn *choir_twin_begin(ChoirTwin *unused, const ChoirTurnRequest *request, const ChoirTurnHandlers *handlers,
                            gpointer user, GError **error) {
  if (fake_house.refuse_turns) {
    g_set_error_literal(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_BUSY, "too many turns wait");
    return NULL;
  }
  fake_house.turns++;
  g_free(fake_house.last_source);
  g_free(fake_house.last_text);
  fake_house.last_source = g_strdup(request->source);
  fake_house.last_text = g_strdup(request->text);
  Work *work = work_new(user);
  work->turn = *handlers;
  work->text = g_strdup(request->text);
  return (ChoirTurn *)work;
}

void choir_turn_cancel(ChoirTurn *turn) {
  work_cancel((Work *)turn);
}

guint choir_twin_observe(ChoirTwin *unused, ChoirTwinObserver observer, gpointer user) {
  static guint last;
  Observer item = {++last, observer, user};
  g_array_append_val(observers, item);
  return last;
}

void choir_twin_unobserve(ChoirTwin *unused, guint id) {
  for (guint i = observers->len; i-- > 0;)
    if (g_array_index(observers, Observer, i).id == id)
      g_array_remove_index(observers, i);
}

void choir_twin_show(ChoirTwin *unused, const ChoirTwinEvent *event) {
  fake_house_say(event);
}

void fake_house_say(const ChoirTwinEvent *event) {
  for (guint i = 0; i < observers->len; i++)
    g_array_index(observers, Observer, i).observer(event, g_array_index(observers, Observer, i).user);
}

const char *choir_twin_persona(ChoirTwin *unused) {
  return "You are Choir.";
}

char *choir_twin_message(ChoirTwin *unused, const char *text) {
  return g_strconcat("[now] ", text, NULL);
}

void choir_twin_open_conversation(ChoirTwin *unused, gint64 conversation) {
  fake_house.opened = conversation;
}

ChoirHistory *choir_twin_history(ChoirTwin *unused) {
  return history;
}

ChoirLlmServer *choir_twin_llm(ChoirTwin *unused) {
  return &server;
}

/* --- models
 * ------------------------------------------------------------------------------------------------------------- */

json_t *choir_models_json(const ChoirModels *unused) {
  return json_pack("{s:s,s:[{s:s}]}", "current", "small", "models", "name", "small");
}

const ChoirModel *choir_models_current(const ChoirModels *unused) {
  return &model;
}

const ChoirModel *choir_models_find(const ChoirModels *unused, const char *name) {
  return strcmp(name, model.name) == 0 ? &model : NULL;
}

gboolean choir_models_use(ChoirModels *unused, const char *name, GError **error) {
  g_free(fake_house.used_model);
  fake_house.used_model = g_strdup(name);
  return TRUE;
}

void choir_models_fetch(ChoirModels *unused, const char *name,
                        void (*progress)(guint64 done, guint64 total, gpointer user), GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer user) {
  g_autoptr(GTask) task = g_task_new(NULL, cancellable, callback, user);
  progress(50, 100, user);
  if (fake_house.fail)
    g_task_return_new_error(task, CHOIR_MODELS_ERROR, CHOIR_MODELS_ERROR_FETCH, "the disk is full");
  else
    g_task_return_boolean(task, TRUE);
}

gboolean choir_models_fetch_finish(ChoirModels *unused, GAsyncResult *result, GError **error) {
  return g_task_propagate_boolean(G_TASK(result), error);
}

/* --- voice: the realtime tests have a fake live of their own
 * ------------------------------------------------------------- */

const ChoirLiveOptions *choir_voice_defaults(const ChoirVoice *unused) {
  static const ChoirLiveOptions options = {.server_vad = TRUE, .threshold = 0.5, .silence_ms = 600, .audio_out = TRUE};
  return &options;
}
