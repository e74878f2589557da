/* Small answers that several routes give. Main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "net/http_server.h"

#define CHOIR_WEB_MAX_TEXT 10000 /* characters of a message */

/* 2xx JSON with the protecting headers; json is stolen. */
void choir_answer_json(ChoirHttpRequest *request, guint status, json_t *json);
/* 503 with Retry-After. */
void choir_answer_busy(ChoirHttpRequest *request, const char *code, const char *message);
void choir_answer_bad(ChoirHttpRequest *request, const char *code, const char *message);
/* The status that fits an error of the twin or the history. */
void choir_answer_error(ChoirHttpRequest *request, const GError *error);
/* Body as a JSON object, or NULL after having answered 400. Caller decrefs. An empty body is {} when optional. */
json_t *choir_answer_body(ChoirHttpRequest *request, gboolean optional);
/* `data` or `text` of a message: 1 to 10000 characters, NULL with a sentence in why. Belongs to json. */
const char *choir_answer_text(const json_t *json, const char **why);
