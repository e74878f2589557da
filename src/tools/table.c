#include "tools/tools.h"

static const ChoirTool *const all[] = {&choir_tool_ssh,
                                       &choir_tool_mcp,
                                       &choir_tool_vision,
                                       &choir_tool_desktop_control,
                                       &choir_tool_code_runner,
                                       &choir_tool_smol_agent_computer,
                                       &choir_tool_web_browser,
                                       &choir_tool_ansible,
                                       &choir_tool_power,
                                       &choir_tool_term_everything,
                                       &choir_tool_rag,
                                       &choir_tool_ha,
                                       &choir_tool_git,
                                       &choir_tool_orchestrator,
                                       &choir_tool_route_to_expert,
                                       &choir_tool_llxprt_code,
                                       &choir_tool_claude_clone,
                                       &choir_tool_final_answer,
                                       &choir_tool_shell,
                                       &choir_tool_prompt_improver,
                                       &choir_tool_clock,
                                       &choir_tool_summarizer,
                                       NULL};
static const ChoirTool *without_summarizer[G_N_ELEMENTS(all)];

const ChoirTool *const *choir_tools(gboolean summarizer) {
  guint n = 0;
  if (summarizer)
    return all;
  for (guint i = 0; all[i]; i++)
    if (all[i] != &choir_tool_summarizer)
      without_summarizer[n++] = all[i];
  without_summarizer[n] = NULL;
  return without_summarizer;
}

void choir_tools_each_example(void (*each)(const char *id, const char *example, gpointer user), gpointer user) {
  for (guint i = 0; all[i]; i++)
    for (guint k = 0; k < all[i]->n_actions; k++) {
      const ChoirToolAction *action = &all[i]->actions[k];
      for (const char *const *example = action->examples; example && *example; example++)
        each(all[i]->id, *example, user);
      for (const ChoirToolShot *shot = action->shots; shot && shot->said; shot++)
        each(all[i]->id, shot->said, user);
    }
}
