#include "web/answer.h"
#include <string.h>
#include "agent/twin.h"
#include "base/text.h"
#include "memory/history.h"
#include "web/guard.h"

void choir_answer_json(ChoirHttpRequest *request, guint status, json_t *json) {
  g_autofree char *text = choir_json_dump(json);
  json_decref(json);
  choir_http_respond(request, status, "application/json", text, strlen(text), CHOIR_GUARD_API_HEADERS);
}

static void answer_error_body(ChoirHttpRequest *request, guint status, const char *type, const char *code,
                              const char *message, const char *headers) {
  json_auto_t *json = json_pack("{s:{s:s,s:s,s:s}}", "error", "type", type, "code", code, "message", message);
  g_autofree char *text = choir_json_dump(json);
  choir_http_respond(request, status, "application/json", text, strlen(text), headers);
}

void choir_answer_busy(ChoirHttpRequest *request, const char *code, const char *message) {
  answer_error_body(request, 503, "server_error", code, message, CHOIR_GUARD_API_HEADERS "\nRetry-After: 5");
}

void choir_answer_bad(ChoirHttpRequest *request, const char *code, const char *message) {
  answer_error_body(request, 400, "invalid_request_error", code, message, CHOIR_GUARD_API_HEADERS);
}

void choir_answer_error(ChoirHttpRequest *request, const GError *error) {
  if (g_error_matches(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_EMPTY) ||
      g_error_matches(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_TOO_LONG))
    choir_answer_bad(request, "invalid_text", error->message);
  else if (error->domain == CHOIR_TWIN_ERROR)
    choir_answer_busy(request, error->code == CHOIR_TWIN_ERROR_BUSY ? "busy" : "model_unavailable", error->message);
  else if (g_error_matches(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_NOT_FOUND))
    choir_http_respond_error(request, 404, "invalid_request_error", "not_found", "%s", error->message);
  else if (g_error_matches(error, CHOIR_HISTORY_ERROR, CHOIR_HISTORY_ERROR_BUSY))
    choir_answer_busy(request, "busy", error->message);
  else
    choir_http_respond_error(request, 500, "server_error", "internal_error", "%s", error->message);
}

json_t *choir_answer_body(ChoirHttpRequest *request, gboolean optional) {
  gsize length;
  choir_http_request_body(request, &length);
  if (optional && length == 0)
    return json_object();
  json_t *json = choir_http_request_json(request);
  if (!json || json_is_object(json))
    return json;
  json_decref(json);
  choir_answer_bad(request, "invalid_json", "the body must be a JSON object");
  return NULL;
}

const char *choir_answer_text(const json_t *json, const char **why) {
  const char *text = choir_json_string(json, "data", NULL);
  if (!text)
    text = choir_json_string(json, "text", NULL);
  glong length = text ? g_utf8_strlen(text, -1) : 0;
  *why = NULL;
  if (!text)
    *why = "the member 'text' (or 'data') is missing";
  else if (length > CHOIR_WEB_MAX_TEXT)
    *why = "a message has at most 10000 characters";
  else if (strspn(text, " \t\r\n") == strlen(text))
    *why = "the message is empty";
  return *why ? NULL : text;
}
