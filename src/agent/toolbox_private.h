/* Shared by toolbox.c (the table, what it shows) and toolbox_call.c (a call from request to result). */
#pragma once
#include "agent/toolbox.h"

struct ChoirToolbox {
  const ChoirTool *const *tools;
  guint n;
  ChoirToolHouse house;
  ChoirApprovals *approvals;
  ChoirAudit *audit;
  GHashTable *states;  /* ChoirTool -> what its open() made */
  GHashTable *schemas; /* ChoirToolAction -> json_t */
  GPtrArray *calls;    /* ChoirToolCall */
  guint last_id;
  gboolean strict;
  GPtrArray *denied; /* GPatternSpec */
  gboolean dead;
};

gboolean choir_toolbox_denied(const ChoirToolbox *toolbox, const char *name);
gpointer choir_toolbox_state(ChoirToolbox *toolbox, const ChoirTool *tool);
const char *choir_tool_class_name(ChoirToolClass class);
