#include "web/openai_request.h"
#include <string.h>
#include "base/text.h"

static gboolean refuse(ChoirFault *fault, const char *code, const char *param, const char *message) {
  choir_fault_set(fault, code, param, "%s", message);
  return FALSE;
}

static gboolean is_set(const json_t *body, const char *key) {
  const json_t *value = json_object_get(body, key);
  return value && !json_is_null(value);
}

/* Content is a string or a list of text parts; NULL with fault. Caller frees. */
static char *content_text(const json_t *content, const char *param, ChoirFault *fault) {
  if (json_is_string(content))
    return g_strdup(json_string_value(content));
  if (!json_is_array(content) || json_array_size(content) == 0) {
    choir_fault_set(fault, "invalid_type", param, "'%s' must be a string or a list of text parts.", param);
    return NULL;
  }
  g_autoptr(GString) text = g_string_new(NULL);
  size_t i;
  json_t *part;
  json_array_foreach((json_t *)content, i, part) {
    const char *piece = choir_json_string(part, "text", NULL);
    if (strcmp(choir_json_string(part, "type", ""), "text") != 0 || !piece) {
      choir_fault_set(fault, "unsupported_content", param, "'%s': only parts of the type 'text' are supported.", param);
      return NULL;
    }
    g_string_append(text, piece);
  }
  return g_strdup(text->str);
}

static gboolean parse_message(const json_t *message, size_t index, ChoirOpenaiRequest *request, gsize *characters,
                              ChoirFault *fault) {
  g_autofree char *param = g_strdup_printf("messages[%zu]", index);
  if (!json_is_object(message))
    return refuse(fault, "invalid_type", param, "Every message is an object with 'role' and 'content'.");
  const char *role = choir_json_string(message, "role", "");
  if (strcmp(role, "developer") == 0)
    role = "system";
  if (strcmp(role, "tool") == 0 || strcmp(role, "function") == 0 ||
      json_array_size(json_object_get(message, "tool_calls")) > 0)
    return refuse(fault, "unsupported_parameter", param, "Tools are not supported yet.");
  if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
    return refuse(fault, "invalid_value", param, "A role is 'system', 'developer', 'user' or 'assistant'.");
  g_autofree char *content_param = g_strdup_printf("%s.content", param);
  g_autofree char *text = content_text(json_object_get(message, "content"), content_param, fault);
  if (!text)
    return FALSE;
  *characters += strlen(text);
  if (*characters > CHOIR_OPENAI_MAX_CHARACTERS)
    return refuse(fault, "context_length_exceeded", "messages", "The messages together are longer than 400000 bytes.");
  request->has_system |= strcmp(role, "system") == 0;
  json_array_append_new(request->messages, json_pack("{s:s,s:s}", "role", role, "content", text));
  return TRUE;
}

static gboolean parse_messages(const json_t *body, ChoirOpenaiRequest *request, ChoirFault *fault) {
  const json_t *messages = json_object_get(body, "messages");
  if (!json_is_array(messages) || json_array_size(messages) == 0)
    return refuse(fault, "invalid_type", "messages", "'messages' must be a list with at least one message.");
  if (json_array_size(messages) > CHOIR_OPENAI_MAX_MESSAGES)
    return refuse(fault, "invalid_value", "messages", "More than 512 messages.");
  gsize characters = 0;
  size_t i;
  json_t *message;
  json_array_foreach((json_t *)messages, i, message) {
    if (!parse_message(message, i, request, &characters, fault))
      return FALSE;
  }
  return TRUE;
}

/* A number in [low, high], or absent. */
static gboolean parse_number(const json_t *body, const char *key, double low, double high, double *field,
                             ChoirFault *fault) {
  const json_t *value = json_object_get(body, key);
  if (!is_set(body, key))
    return TRUE;
  if (!json_is_number(value) || !(json_number_value(value) >= low && json_number_value(value) <= high)) {
    choir_fault_set(fault, "invalid_value", key, "'%s' must be a number from %g to %g.", key, low, high);
    return FALSE;
  }
  *field = json_number_value(value);
  return TRUE;
}

static gboolean parse_max_tokens(const json_t *body, ChoirOpenaiRequest *request, ChoirFault *fault) {
  const char *key = is_set(body, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  const json_t *value = json_object_get(body, key);
  if (!is_set(body, key))
    return TRUE;
  if (!json_is_integer(value) || json_integer_value(value) < 1) {
    choir_fault_set(fault, "invalid_value", key, "'%s' must be a whole number of at least 1.", key);
    return FALSE;
  }
  request->max_tokens = (gint)MIN(json_integer_value(value), CHOIR_OPENAI_MAX_TOKENS);
  return TRUE;
}

static gboolean parse_stop(const json_t *body, ChoirOpenaiRequest *request, ChoirFault *fault) {
  const json_t *stop = json_object_get(body, "stop");
  if (!is_set(body, "stop"))
    return TRUE;
  g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
  size_t count = json_is_array(stop) ? json_array_size(stop) : 1;
  for (size_t i = 0; i < count; i++) {
    const json_t *word = json_is_array(stop) ? json_array_get(stop, i) : stop;
    if (!json_is_string(word) || json_string_length(word) == 0 || json_string_length(word) > 256 || count > 4)
      return refuse(fault, "invalid_value", "stop", "'stop' is a string, or up to 4 of them, of 1 to 256 bytes.");
    g_ptr_array_add(list, g_strdup(json_string_value(word)));
  }
  if (count == 0)
    return TRUE;
  g_ptr_array_add(list, NULL);
  request->stop = (char **)g_ptr_array_free(g_steal_pointer(&list), FALSE);
  return TRUE;
}

static gboolean parse_bool(const json_t *object, const char *key, gboolean *field, ChoirFault *fault) {
  if (!is_set(object, key))
    return TRUE;
  if (!json_is_boolean(json_object_get(object, key))) {
    choir_fault_set(fault, "invalid_type", key, "'%s' must be true or false.", key);
    return FALSE;
  }
  *field = json_is_true(json_object_get(object, key));
  return TRUE;
}

static gboolean check_unsupported(const json_t *body, ChoirFault *fault) {
  if (json_array_size(json_object_get(body, "tools")) > 0 || json_array_size(json_object_get(body, "functions")) > 0)
    return refuse(fault, "unsupported_parameter", "tools",
                  "Tools are not supported yet: leave 'tools' out or send an empty list.");
  if (is_set(body, "n") && choir_json_int(body, "n", 0) != 1)
    return refuse(fault, "unsupported_value", "n", "One answer at a time: 'n' must be 1.");
  const char *format = choir_json_string(json_object_get(body, "response_format"), "type", "text");
  if (strcmp(format, "text") != 0)
    return refuse(fault, "unsupported_value", "response_format", "'response_format' can only be of the type 'text'.");
  if (json_is_true(json_object_get(body, "logprobs")))
    return refuse(fault, "unsupported_parameter", "logprobs", "Log-probabilities are not given.");
  const json_t *modalities = json_object_get(body, "modalities");
  if (is_set(body, "audio") || json_array_size(modalities) > 1 ||
      (json_array_size(modalities) == 1 && g_strcmp0(json_string_value(json_array_get(modalities, 0)), "text") != 0))
    return refuse(fault, "unsupported_parameter", "modalities",
                  "This endpoint answers in text; speech is at /v1/realtime.");
  return TRUE;
}

gboolean choir_openai_request_parse(const json_t *body, ChoirOpenaiRequest *ret_request, ChoirFault *fault) {
  ChoirOpenaiRequest request = {.messages = json_array(), .temperature = -1};
  double seed = 0;
  gboolean ok = json_is_object(body) || refuse(fault, "invalid_type", NULL, "The body must be a JSON object.");
  ok = ok && check_unsupported(body, fault) && parse_messages(body, &request, fault) &&
       parse_max_tokens(body, &request, fault) &&
       parse_number(body, "temperature", 0, 2, &request.temperature, fault) &&
       parse_number(body, "top_p", 0, 1, &request.top_p, fault) &&
       parse_number(body, "seed", -9007199254740992.0, 9007199254740992.0, &seed, fault) &&
       parse_stop(body, &request, fault) && parse_bool(body, "stream", &request.stream, fault);
  const json_t *options = ok ? json_object_get(body, "stream_options") : NULL;
  ok = ok && parse_bool(options, "include_usage", &request.include_usage, fault);
  if (!ok) {
    choir_openai_request_clear(&request);
    return FALSE;
  }
  if (is_set(body, "seed"))
    request.seed = seed == 0 ? 1 : (guint64)(gint64)seed; /* 0 means random further down */
  *ret_request = request;
  return TRUE;
}

void choir_openai_request_clear(ChoirOpenaiRequest *request) {
  json_decref(request->messages);
  g_strfreev(request->stop);
  *request = (ChoirOpenaiRequest){0};
}

const char *choir_openai_request_last_user(const ChoirOpenaiRequest *request) {
  for (size_t i = json_array_size(request->messages); i > 0; i--) {
    const json_t *message = json_array_get(request->messages, i - 1);
    if (strcmp(choir_json_string(message, "role", ""), "user") == 0)
      return choir_json_string(message, "content", "");
  }
  return NULL;
}
