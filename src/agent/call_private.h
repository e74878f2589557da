/* Shared by call.c and call_tools.c. */
#pragma once
#include "agent/call.h"

#define CALL_NAME_TOKENS 2 /* of a name that are scored */

typedef struct {
  char *words; /* the name as a model reads it */
  gint tokens[CALL_NAME_TOKENS];
  guint n_tokens; /* 0 = not asked for yet */
  double prior;
  gboolean has_prior;
} CallName;

typedef struct {
  char *name, *description;
  json_t *schema; /* owned reference */
  CallName label;
} CallTool;

/* What is remembered of the model (tokens, priors) is the only part that changes. */
struct ChoirCallTools {
  guint refs;
  json_t *json;
  GPtrArray *list; /* CallTool */
  CallName answer;
  char *model; /* whose tokens these are */
};

const CallTool *choir_call_tools_find(const ChoirCallTools *tools, const char *name);
/* "city (text: where to go), day (text, optional)"; caller frees. */
char *choir_call_arguments_text(const json_t *schema);
