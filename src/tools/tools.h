/* Every tool there is, in the order in which lists show them; ends with NULL. */
#pragma once
#include "agent/tool.h"

extern const ChoirTool choir_tool_ssh, choir_tool_mcp, choir_tool_vision, choir_tool_desktop_control,
    choir_tool_code_runner, choir_tool_smol_agent_computer, choir_tool_web_browser, choir_tool_ansible,
    choir_tool_power, choir_tool_term_everything, choir_tool_rag, choir_tool_ha, choir_tool_git,
    choir_tool_orchestrator, choir_tool_route_to_expert, choir_tool_llxprt_code, choir_tool_claude_clone,
    choir_tool_final_answer, choir_tool_shell, choir_tool_prompt_improver, choir_tool_summarizer, choir_tool_clock;

/* What a person may say to each of them, by its own id; examples with and without arguments. */
void choir_tools_each_example(void (*each)(const char *id, const char *example, gpointer user), gpointer user);
/* summarizer: USE_SUMMARIZER is set. */
const ChoirTool *const *choir_tools(gboolean summarizer);
