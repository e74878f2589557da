#include "daemon/mind.h"
#include <glib/gstdio.h>
#include <string.h>
#include "agent/sub_agent.h"
#include "base/text.h"
#include "tools/tools.h"

#define ASK_TOKENS_MAX 1000

struct ChoirMind {
  ChoirMindOptions options;
  char *work_dir, *state_dir, *source_dir;
  ChoirSandbox *sandbox;
  ChoirApprovals *approvals;
  ChoirAudit *audit;
  ChoirToolbox *toolbox;
  ChoirEmbedder *embedder;
  ChoirMemory *memory; /* NULL: switched off */
  GHashTable *recalls; /* id to Recall, those that somebody waits for */
  guint last_recall;
};

/* What tools may ask of the agent */

static char *status(gpointer self) {
  ChoirMind *mind = self;
  return mind->options.status(mind->options.user);
}

static char *memory_summary(gpointer self) {
  ChoirMind *mind = self;
  ChoirHistory *history = choir_twin_history(mind->options.twin);
  g_autoptr(GError) error = NULL;
  json_auto_t *list = choir_history_list(history, 1000, &error);
  if (!list)
    return g_strdup_printf("The conversations cannot be read: %s", error->message);
  return g_strdup_printf("%zu conversations are kept; the current one has %u turns.", json_array_size(list),
                         choir_history_turns(history, choir_history_current(history)));
}

static void clear_short_term(gpointer self) {
  ChoirMind *mind = self;
  choir_twin_open_conversation(mind->options.twin, 0);
}

static gint64 conversation(gpointer self) {
  return choir_history_current(choir_twin_history(((ChoirMind *)self)->options.twin));
}

typedef struct {
  GString *text;
  GCancellable *cancellable;
  gulong handler;
  ChoirChatCall *call;
  void (*done)(const char *text, const GError *error, gpointer user);
  gpointer user;
} Question;

static void on_delta(const char *text, gpointer user) {
  g_string_append(((Question *)user)->text, text);
}

static void on_answered(const char *finish, const ChoirChatTimings *timings, const GError *error, gpointer user) {
  Question *question = user;
  if (question->handler)
    g_cancellable_disconnect(question->cancellable, question->handler);
  g_clear_object(&question->cancellable);
  question->done(question->text->str, error, question->user);
  g_string_free(question->text, TRUE);
  g_free(question);
}

static void on_cancelled(GCancellable *cancellable, gpointer user) {
  Question *question = user;
  question->handler = 0; /* on_answered() may run inside: nothing is to be disconnected there */
  if (question->call)
    choir_chat_cancel(question->call);
}

static void ask(gpointer self, const char *system, const char *user, guint max_tokens, GCancellable *cancellable,
                void (*done)(const char *text, const GError *error, gpointer user), gpointer user_data) {
  static const ChoirChatHandlers handlers = {.delta = on_delta, .done = on_answered};
  ChoirMind *mind = self;
  Question *question = g_new0(Question, 1);
  question->text = g_string_new(NULL);
  question->done = done;
  question->user = user_data;
  json_auto_t *messages =
      json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "system", "content", system, "role", "user", "content", user);
  ChoirChatRequest request = {.messages = messages,
                              .slot = CHOIR_SLOT_API,
                              .max_tokens = (int)MIN(max_tokens, ASK_TOKENS_MAX),
                              .temperature = 0};
  question->call =
      choir_chat_begin(choir_llm_server_chat(choir_twin_llm(mind->options.twin)), &request, &handlers, question);
  if (cancellable) {
    question->cancellable = g_object_ref(cancellable);
    question->handler = g_cancellable_connect(cancellable, G_CALLBACK(on_cancelled), question, NULL);
  }
}

static void say(gpointer self, const char *text) {
  ChoirMind *mind = self;
  choir_twin_show(mind->options.twin, &(ChoirTwinEvent){.type = "agent", .text = text, .source = "clock"});
  if (mind->options.speak)
    mind->options.speak(text, mind->options.user);
}

static json_t *recent(gpointer self, guint turns) {
  ChoirMind *mind = self;
  ChoirHistory *history = choir_twin_history(mind->options.twin);
  json_t *entries = choir_history_entries(history, choir_history_current(history), 2 * turns, NULL);
  return entries ? entries : json_array();
}

static void embed(gpointer self, const char *const *texts, guint n,
                  void (*done)(const float *vectors, guint n, guint dimensions, const GError *error, gpointer user),
                  gpointer user_data) {
  choir_llm_embedder_embed(((ChoirMind *)self)->embedder, texts, n, done, user_data);
}

/* The long-term memory */

typedef struct {
  ChoirMind *mind;
  guint id;
  void (*done)(const char *notes, const char *shown, gpointer user);
  gpointer user;
} Recall;

/* The person's own words, as the person would say them again. */
static char *notes_of(const json_t *facts) {
  GString *notes = g_string_new(NULL);
  size_t i;
  json_t *fact;
  json_array_foreach((json_t *)facts, i, fact) {
    const char *text = choir_json_string(fact, "text", "");
    gboolean ends = *text && strchr(".!?", text[strlen(text) - 1]);
    g_string_append_printf(notes, "%s%s%s", i ? " " : "(I told you before: ", text, ends ? "" : ".");
  }
  g_string_append(notes, ")");
  return g_string_free(notes, FALSE);
}

static void on_recalled(const json_t *result, const GError *error, gpointer user) {
  Recall *recall = user;
  json_t *facts = json_object_get(result, "facts");
  /* Unless the turn forgot it meanwhile. */
  if (recall->mind && g_hash_table_steal(recall->mind->recalls, GUINT_TO_POINTER(recall->id))) {
    if (json_array_size(facts) > 0) {
      g_autofree char *notes = notes_of(facts);
      g_autofree char *shown = choir_json_dump(facts);
      recall->done(notes, shown, recall->user);
    } else {
      recall->done(NULL, NULL, recall->user);
    }
  }
  g_free(recall);
}

static guint recall(gpointer self, const char *text, void (*done)(const char *notes, const char *shown, gpointer user),
                    gpointer user) {
  ChoirMind *mind = self;
  if (choir_memory_count(mind->memory) == 0) {
    done(NULL, NULL, user);
    return 0;
  }
  Recall *recall = g_new0(Recall, 1);
  *recall = (Recall){.mind = mind, .id = ++mind->last_recall, .done = done, .user = user};
  g_hash_table_insert(mind->recalls, GUINT_TO_POINTER(recall->id), recall);
  choir_memory_recall(mind->memory, text, on_recalled, recall);
  return recall->id;
}

static void forget_recall(gpointer self, guint id) {
  g_hash_table_steal(((ChoirMind *)self)->recalls, GUINT_TO_POINTER(id)); /* on_recalled() frees it */
}

static gboolean is_order(gpointer self, const char *text) {
  g_auto(GStrv) sentences = choir_keep_sentences(text);
  for (char **sentence = sentences; *sentence; sentence++) {
    g_autofree char *fact = NULL;
    if (choir_keep_explicit(*sentence, &fact))
      return TRUE;
  }
  return FALSE;
}

static char *acknowledge(gpointer self, const char *text) {
  (void)self;
  return choir_keep_acknowledge(text);
}

static void said(gpointer self, const char *text, const char *source, const char *turn_id) {
  choir_memory_hear(((ChoirMind *)self)->memory, text, source, turn_id);
}

static void learned(gpointer self, const char *text, ChoirFactOutcome outcome, const char *turn_id) {
  ChoirMind *mind = self;
  choir_twin_show(mind->options.twin, &(ChoirTwinEvent){.type = "remembered", .text = text, .turn_id = turn_id});
}

static gboolean open_memory(ChoirMind *mind, const ChoirMindOptions *options, GError **error) {
  g_autofree char *model = g_build_filename(options->models_dir, CHOIR_EMBEDDER_FILE, NULL);
  const char *variant = choir_config_string(options->config, "llm", "variant");
  ChoirEmbedderOptions embedder = {.engine_dir = options->engine_dir,
                                   .model_path = model,
                                   .state_dir = options->state_dir,
                                   .cpu_variant = *variant ? variant : NULL};
  mind->embedder = choir_llm_embedder_new(&embedder, options->http);
  mind->recalls = g_hash_table_new_full(NULL, NULL, NULL, NULL);
  if (!choir_config_bool(options->config, "memory", "enabled"))
    return TRUE;
  ChoirMemoryOptions memory = {
      .folder = options->state_dir, .module = options->index_module, .embed = embed, .self = mind, .learned = learned};
  mind->memory = choir_memory_open(&memory, error);
  if (!mind->memory)
    return FALSE;
  ChoirTwinMemory hooks = {.self = mind,
                           .recall = recall,
                           .forget = forget_recall,
                           .order = is_order,
                           .acknowledge = acknowledge,
                           .said = said};
  if (!choir_config_bool(options->config, "memory", "recall"))
    hooks.recall = NULL;
  if (!choir_config_bool(options->config, "memory", "learn"))
    hooks.said = NULL;
  choir_twin_use_memory(options->twin, &hooks);
  return TRUE;
}

static void close_memory(ChoirMind *mind) {
  choir_twin_use_memory(mind->options.twin, NULL);
  choir_memory_close(mind->memory);
  g_clear_pointer(&mind->recalls, g_hash_table_unref);
  choir_llm_embedder_free(mind->embedder);
}

/* Sub-agents */

typedef struct {
  ChoirSubAgent *agent;
  ChoirToolCall *parent;
  void (*done)(const char *answer, const GError *error, gpointer user);
  gpointer user;
} Delegation;

static void on_part(const char *text, gpointer user) {
  choir_tool_call_output(((Delegation *)user)->parent, text, -1);
}

static void on_delegated(const char *answer, guint steps, const GError *error, gpointer user) {
  Delegation *delegation = user;
  delegation->agent = NULL;
  delegation->done(answer, error, delegation->user);
  /* The parent's cancellable went with it, and the handler with that. */
}

/* At once: the toolbox may be on its way out. */
static void on_parent_cancelled(GCancellable *cancellable, gpointer user) {
  Delegation *delegation = user;
  g_autoptr(GError) error = g_error_new_literal(CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED, "the sub-agent was stopped");
  if (!delegation->agent)
    return;
  g_clear_pointer(&delegation->agent, choir_sub_agent_cancel);
  delegation->done(NULL, error, delegation->user);
}

static void delegation_free(gpointer data, GClosure *closure) {
  g_free(data);
}

static void delegate(ChoirToolCall *parent, const char *task, const char *tools, guint max_steps,
                     void (*done)(const char *answer, const GError *error, gpointer user), gpointer user_data) {
  static const ChoirSubAgentHandlers handlers = {on_part, on_delegated};
  ChoirMind *mind = choir_tool_call_house(parent)->agent.self;
  Delegation *delegation = g_new0(Delegation, 1);
  *delegation = (Delegation){.parent = parent, .done = done, .user = user_data};
  g_signal_connect_data(choir_tool_call_cancellable(parent), "cancelled", G_CALLBACK(on_parent_cancelled), delegation,
                        delegation_free, 0);
  ChoirSubAgentRequest request = {.toolbox = mind->toolbox,
                                  .llm = choir_twin_llm(mind->options.twin),
                                  .task = task,
                                  .among = tools,
                                  .session = choir_tool_call_session(parent),
                                  .turn_id = choir_tool_call_turn(parent),
                                  .max_steps = max_steps,
                                  .tainted = choir_tool_call_tainted(parent)};
  delegation->agent = choir_sub_agent_begin(&request, &handlers, delegation);
}

static void set_policy(ChoirMind *mind) {
  g_auto(GStrv) denied = g_strsplit(choir_config_string(mind->options.config, "tools", "denied"), ",", -1);
  for (char **pattern = denied; *pattern; pattern++)
    g_strstrip(*pattern);
  choir_toolbox_policy(mind->toolbox, choir_config_string(mind->options.config, "tools", "approval"),
                       (const char *const *)denied);
}

ChoirMind *choir_mind_new(const ChoirMindOptions *options, GError **error) {
  /* Beside the state, not in it: nothing the daemon relies on lies below what tools may write. */
  g_autofree char *work = g_strconcat(options->state_dir, "-work", NULL);
  if (g_mkdir_with_parents(work, 0700) != 0) {
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_FAILED, "cannot make the folder %s for the agent's files", work);
    return NULL;
  }
  g_autofree char *log = g_build_filename(options->state_dir, "audit.jsonl", NULL);
  ChoirAudit *audit = choir_audit_open(log, error);
  if (!audit)
    return NULL;
  ChoirMind *mind = g_new0(ChoirMind, 1);
  mind->options = *options;
  mind->state_dir = g_strdup(options->state_dir);
  mind->source_dir = g_strdup(options->source_dir);
  mind->work_dir = g_steal_pointer(&work);
  mind->audit = audit;
  mind->approvals = choir_approvals_new();
  mind->sandbox = choir_sandbox_new(options->sandbox_program);
  if (!open_memory(mind, options, error)) {
    choir_mind_free(mind);
    return NULL;
  }
  ChoirToolHouse house = {.hub = options->hub,
                          .http = options->http,
                          .config = options->config,
                          .sandbox = mind->sandbox,
                          .state_dir = mind->state_dir,
                          .work_dir = mind->work_dir,
                          .source_dir = mind->source_dir,
                          .experts = options->experts,
                          .agent = {.self = mind,
                                    .status = status,
                                    .memory_summary = memory_summary,
                                    .clear_short_term = clear_short_term,
                                    .conversation = conversation,
                                    .ask = ask,
                                    .say = say,
                                    .recent = recent,
                                    .embed = embed,
                                    .delegate = delegate}};
  mind->toolbox = choir_toolbox_new(choir_tools(choir_config_bool(options->config, "tools", "summarizer")), &house,
                                    mind->approvals, audit);
  set_policy(mind);
  choir_toolbox_start(mind->toolbox);
  choir_twin_use_tools(options->twin, mind->toolbox);
  return mind;
}

void choir_mind_free(ChoirMind *mind) {
  if (!mind)
    return;
  choir_twin_use_tools(mind->options.twin, NULL);
  if (mind->toolbox)
    choir_toolbox_free(mind->toolbox);
  close_memory(mind);
  choir_approvals_free(mind->approvals);
  choir_sandbox_free(mind->sandbox);
  choir_audit_close(mind->audit);
  g_free(mind->work_dir);
  g_free(mind->state_dir);
  g_free(mind->source_dir);
  g_free(mind);
}

ChoirToolbox *choir_mind_toolbox(ChoirMind *mind) {
  return mind->toolbox;
}

ChoirApprovals *choir_mind_approvals(ChoirMind *mind) {
  return mind->approvals;
}

ChoirAudit *choir_mind_audit(ChoirMind *mind) {
  return mind->audit;
}

ChoirSandbox *choir_mind_sandbox(ChoirMind *mind) {
  return mind->sandbox;
}

ChoirMemory *choir_mind_memory(ChoirMind *mind) {
  return mind->memory;
}

ChoirChild *choir_mind_embedder(ChoirMind *mind) {
  return choir_llm_embedder_child(mind->embedder);
}

void choir_mind_stop(ChoirMind *mind, void (*done)(gpointer user), gpointer user) {
  choir_llm_embedder_stop(mind->embedder, done, user);
}
