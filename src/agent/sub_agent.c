#include "agent/sub_agent.h"
#include <string.h>
#include "agent/persona.h"

#define PARTS_MAX 20

struct ChoirSubAgent {
  ChoirSubAgentRequest request;
  char *among, *session, *turn_id;
  ChoirSubAgentHandlers handlers;
  gpointer user;
  ChoirShortlist *shortlist; /* of its own: it may outlive the agent's */
  ChoirTaint *taint;         /* of all parts: what one has read, the next may have been told */
  char **parts;
  guint next, steps, n_parts, idle;
  ChoirSteps *running;
  GString *answer;
};

/* Where one part ends and another begins: length of the joint at text, 0 = none. */
static gsize joint(const char *text) {
  static const char *const joints[] = {", and then ", " and then ", ", then ", "; then ", ". Then ", " after that ",
                                       "; ",          ".\n",        "\n",      ". ",      "? ",      "! "};
  for (gsize i = 0; i < G_N_ELEMENTS(joints); i++)
    if (g_ascii_strncasecmp(text, joints[i], strlen(joints[i])) == 0)
      return strlen(joints[i]);
  return 0;
}

char **choir_sub_agent_parts(const char *task) {
  g_autoptr(GPtrArray) parts = g_ptr_array_new();
  const char *begin = task;
  gboolean quoted = FALSE;
  for (const char *c = task;; c++) {
    gsize length = *c && !quoted && parts->len + 1 < PARTS_MAX ? joint(c) : 0;
    quoted ^= *c == '"';
    if (*c && length == 0)
      continue;
    char *part = g_strstrip(g_strndup(begin, (gsize)(c - begin)));
    if (*part)
      g_ptr_array_add(parts, part);
    else
      g_free(part);
    if (!*c)
      break;
    begin = c + length;
    c = begin - 1;
  }
  g_ptr_array_add(parts, NULL);
  return (char **)g_ptr_array_steal(parts, NULL);
}

static void agent_free(ChoirSubAgent *agent) {
  g_clear_pointer(&agent->running, choir_steps_cancel);
  g_clear_handle_id(&agent->idle, g_source_remove);
  choir_shortlist_free(agent->shortlist);
  choir_taint_free(agent->taint);
  g_strfreev(agent->parts);
  g_string_free(agent->answer, TRUE);
  g_free(agent->among);
  g_free(agent->session);
  g_free(agent->turn_id);
  g_free(agent);
}

void choir_sub_agent_cancel(ChoirSubAgent *agent) {
  agent_free(agent);
}

static void finish(ChoirSubAgent *agent, const char *why) {
  g_autoptr(GError) error = NULL;
  if (agent->steps == 0)
    g_set_error(&error, CHOIR_TOOL_ERROR, CHOIR_TOOL_ERROR_FAILED,
                "no part of this task fits one of the sub-agent's tools (%s); say what is to be done in single steps",
                agent->among);
  else if (why) {
    g_string_append(agent->answer, why);
    if (agent->handlers.part)
      agent->handlers.part(why, agent->user);
  }
  agent->handlers.done(agent->answer->str, agent->steps, error, agent->user);
  agent_free(agent);
}

static void go_on(ChoirSubAgent *agent);

static void on_started(const char *name, const char *args, gpointer user) {
  ((ChoirSubAgent *)user)->steps++;
}

static void on_done(const char *answer, const char *notes, gpointer user) {
  ChoirSubAgent *agent = user;
  const char *part = agent->parts[agent->next - 1];
  g_autofree char *text = g_strdup_printf("%s: %s\n", part,
                                          answer  ? answer
                                          : notes ? notes
                                                  : "none of the sub-agent's tools does that");
  agent->running = NULL;
  g_string_append(agent->answer, text);
  if (agent->handlers.part)
    agent->handlers.part(text, agent->user);
  go_on(agent);
}

static void go_on(ChoirSubAgent *agent) {
  static const ChoirStepsHandlers handlers = {.started = on_started, .done = on_done};
  if (agent->next >= agent->n_parts) {
    finish(agent, NULL);
    return;
  }
  if (agent->steps >= agent->request.max_steps) {
    finish(agent, "The budget of steps is used up; the rest was not done.\n");
    return;
  }
  ChoirStepsRequest request = {.toolbox = agent->request.toolbox,
                               .shortlist = agent->shortlist,
                               .llm = agent->request.llm,
                               .text = agent->parts[agent->next++],
                               .session = agent->session,
                               .turn_id = agent->turn_id,
                               .max_steps = agent->n_parts > 1 ? 1 : agent->request.max_steps - agent->steps,
                               .among = agent->among,
                               .taint = agent->taint};
  agent->running = choir_steps_begin(&request, &handlers, agent);
}

static gboolean on_begin(gpointer user) {
  ChoirSubAgent *agent = user;
  agent->idle = 0;
  go_on(agent);
  return G_SOURCE_REMOVE;
}

static gboolean is_small(const ChoirSubAgentRequest *request) {
  guint64 params = choir_llm_server_params(request->llm);
  return !choir_chat_plain(choir_llm_server_chat(request->llm)) && (params == 0 || params < CHOIR_SMALL_PARAMS);
}

ChoirSubAgent *choir_sub_agent_begin(const ChoirSubAgentRequest *request, const ChoirSubAgentHandlers *handlers,
                                     gpointer user) {
  const char *whole[] = {request->task, NULL};
  ChoirSubAgent *agent = g_new0(ChoirSubAgent, 1);
  agent->request = *request;
  agent->among = g_strdup(request->among);
  agent->session = g_strdup(request->session);
  agent->turn_id = g_strdup(request->turn_id);
  agent->handlers = *handlers;
  agent->user = user;
  agent->shortlist = choir_shortlist_new(request->toolbox);
  agent->taint = choir_taint_new();
  if (request->tainted)
    choir_taint_stranger(agent->taint, "a task that a stranger may have worded", request->task);
  else
    choir_taint_person(agent->taint, request->task);
  agent->parts = is_small(request) ? choir_sub_agent_parts(request->task) : g_strdupv((char **)whole);
  agent->n_parts = g_strv_length(agent->parts);
  agent->answer = g_string_new(NULL);
  agent->idle = g_idle_add(on_begin, agent);
  return agent;
}
