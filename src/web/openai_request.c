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

typedef struct {
  ChoirOpenaiRequest *request;
  GHashTable *calls; /* id to name: what the assistant called */
  gsize characters;
} Parser;

static gboolean take_characters(Parser *parser, const char *text, ChoirFault *fault) {
  parser->characters += strlen(text);
  return parser->characters <= CHOIR_OPENAI_MAX_CHARACTERS ||
         refuse(fault, "context_length_exceeded", "messages", "The messages together are longer than 400000 bytes.");
}

static gboolean parse_calls(const json_t *calls, const char *param, Parser *parser, ChoirFault *fault) {
  size_t i;
  json_t *call;
  json_array_foreach((json_t *)calls, i, call) {
    const char *id = choir_json_string(call, "id", NULL);
    const char *name = choir_json_string(json_object_get(call, "function"), "name", NULL);
    if (!id || !name || strlen(name) > 64)
      return refuse(fault, "invalid_value", param, "A call has an 'id' and a 'function' with its 'name'.");
    g_hash_table_insert(parser->calls, g_strdup(id), g_strdup(name));
    g_ptr_array_add(parser->request->used, g_strdup(name));
  }
  return TRUE;
}

/* What a function returned goes behind the question that led to it. */
static gboolean parse_output(const json_t *message, const char *param, Parser *parser, ChoirFault *fault) {
  json_t *messages = parser->request->messages;
  size_t last = json_array_size(messages);
  const char *name = g_hash_table_lookup(parser->calls, choir_json_string(message, "tool_call_id", ""));
  if (!name)
    return refuse(fault, "invalid_value", param,
                  "A message of the role 'tool' names by 'tool_call_id' a call of an assistant's message before it.");
  while (last > 0 && strcmp(choir_json_string(json_array_get(messages, last - 1), "role", ""), "user") != 0)
    last--;
  g_autofree char *content_param = g_strdup_printf("%s.content", param);
  g_autofree char *text = content_text(json_object_get(message, "content"), content_param, fault);
  if (!text || !take_characters(parser, text, fault))
    return FALSE;
  if (last == 0)
    return refuse(fault, "invalid_value", param, "There is no message of the role 'user' that led to the call.");
  json_t *question = json_array_get(messages, last - 1);
  g_autofree char *words = choir_call_words(name);
  g_autofree char *joined =
      g_strdup_printf("%s\n\nResult of %s: %s", choir_json_string(question, "content", ""), words, text);
  json_object_set_new(question, "content", json_string(joined));
  return TRUE;
}

static gboolean parse_message(const json_t *message, size_t index, Parser *parser, ChoirFault *fault) {
  ChoirOpenaiRequest *request = parser->request;
  g_autofree char *param = g_strdup_printf("messages[%zu]", index);
  if (!json_is_object(message))
    return refuse(fault, "invalid_type", param, "Every message is an object with 'role' and 'content'.");
  const char *role = choir_json_string(message, "role", "");
  if (strcmp(role, "developer") == 0)
    role = "system";
  if (strcmp(role, "tool") == 0)
    return parse_output(message, param, parser, fault);
  if (strcmp(role, "system") != 0 && strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0)
    return refuse(fault, "invalid_value", param, "A role is 'system', 'developer', 'user', 'assistant' or 'tool'.");
  const json_t *calls = json_object_get(message, "tool_calls");
  if (json_array_size(calls) > 0) {
    if (strcmp(role, "assistant") != 0)
      return refuse(fault, "invalid_value", param, "Only an assistant calls functions.");
    if (!parse_calls(calls, param, parser, fault))
      return FALSE;
    const json_t *content = json_object_get(message, "content");
    if (!content || json_is_null(content) || (json_is_string(content) && json_string_length(content) == 0))
      return TRUE;
  }
  g_autofree char *content_param = g_strdup_printf("%s.content", param);
  g_autofree char *text = content_text(json_object_get(message, "content"), content_param, fault);
  if (!text)
    return FALSE;
  if (!take_characters(parser, text, fault))
    return FALSE;
  if (strcmp(role, "user") == 0) {
    g_free(request->question);
    request->question = g_strdup(text);
    g_ptr_array_set_size(request->used, 0);
  }
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
  g_autoptr(GHashTable) calls = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
  Parser parser = {.request = request, .calls = calls};
  size_t i;
  json_t *message;
  json_array_foreach((json_t *)messages, i, message) {
    if (!parse_message(message, i, &parser, fault))
      return FALSE;
  }
  if (json_array_size(request->messages) == 0)
    return refuse(fault, "invalid_value", "messages", "There is no message to answer.");
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
  if (json_array_size(json_object_get(body, "functions")) > 0)
    return refuse(fault, "unsupported_parameter", "functions", "'functions' is the old form: send 'tools'.");
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

static gboolean parse_tools(const json_t *body, ChoirOpenaiRequest *request, ChoirFault *fault) {
  g_autoptr(GError) error = NULL;
  g_autofree char *param = NULL;
  request->tools = choir_call_tools_new(json_object_get(body, "tools"), &param, &error);
  if (!request->tools)
    return refuse(fault, "invalid_value", param, error->message);
  const json_t *choice = json_object_get(body, "tool_choice");
  if (!choir_call_choice_read(choice, request->tools, &request->choice, &request->choice_name) ||
      (request->choice == CHOIR_CALL_REQUIRED && choir_call_tools_count(request->tools) == 0))
    return refuse(fault, "invalid_value", "tool_choice",
                  "'tool_choice' is 'none', 'auto', 'required' (with tools) or a function that 'tools' holds.");
  return choir_call_tools_count(request->tools) == 0 || request->question ||
         refuse(fault, "invalid_value", "messages", "With 'tools' there must be a message of the role 'user'.");
}

gboolean choir_openai_request_parse(const json_t *body, ChoirOpenaiRequest *ret_request, ChoirFault *fault) {
  ChoirOpenaiRequest request = {
      .messages = json_array(), .temperature = -1, .used = g_ptr_array_new_with_free_func(g_free)};
  double seed = 0;
  gboolean ok = json_is_object(body) || refuse(fault, "invalid_type", NULL, "The body must be a JSON object.");
  ok = ok && check_unsupported(body, fault) && parse_messages(body, &request, fault) &&
       parse_tools(body, &request, fault) && parse_max_tokens(body, &request, fault) &&
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
  choir_call_tools_unref(request->tools);
  g_free(request->choice_name);
  g_free(request->question);
  g_clear_pointer(&request->used, g_ptr_array_unref);
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
