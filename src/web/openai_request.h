/* The body of POST /v1/chat/completions, checked. Main thread only. Source: OpenAI API, CreateChatCompletionRequest. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "agent/call.h"
#include "web/fault.h"

typedef struct {
  /* [{role, content}] with plain strings; roles system, user, assistant. A function's output has become part of the
   * user's message before it, for templates that know no functions. */
  json_t *messages;
  ChoirCallTools *tools; /* never NULL once parsed */
  ChoirCallChoice choice;
  char *choice_name; /* of CHOIR_CALL_NAMED */
  char *question;    /* the last user's message without outputs; NULL = none */
  GPtrArray *used;   /* names of the functions that were called since then; strings */
  gboolean has_system;
  gboolean stream, include_usage;
  gint max_tokens;    /* 0 = not said */
  double temperature; /* -1 = not said */
  double top_p;       /* 0 = not said */
  guint64 seed;       /* 0 = not said */
  char **stop;        /* NULL = none */
} ChoirOpenaiRequest;

#define CHOIR_OPENAI_MAX_MESSAGES 512
#define CHOIR_OPENAI_MAX_CHARACTERS 400000
#define CHOIR_OPENAI_MAX_TOKENS 8192

/* FALSE: fault says what is wrong (HTTP 400). What we cannot do is refused, never silently left out; parameters that
 * only tune (penalties, logit_bias, metadata, user, store) are taken without effect. */
gboolean choir_openai_request_parse(const json_t *body, ChoirOpenaiRequest *ret_request, ChoirFault *fault);
void choir_openai_request_clear(ChoirOpenaiRequest *request);
/* Text of the last user message, or NULL. Belongs to request. */
const char *choir_openai_request_last_user(const ChoirOpenaiRequest *request);
