#include <string.h>
#include "base/text.h"
#include "cluster/standby.h"
#include "cluster/standby_frame.h"

typedef struct {
  ChoirSealKey key;
  guint8 salt[CHOIR_SEAL_SALT];
  ChoirStandbyAnswered answered;
  gpointer user;
} Ask;

GByteArray *choir_standby_frame(const json_t *head, const void *data, gsize length) {
  g_autofree char *text = choir_json_dump(head);
  gsize size = strlen(text);
  guint32 told = GUINT32_TO_BE((guint32)size);
  GByteArray *frame = g_byte_array_sized_new((guint)(sizeof told + size + length));
  g_byte_array_append(frame, (const guint8 *)&told, sizeof told);
  g_byte_array_append(frame, (const guint8 *)text, (guint)size);
  if (length > 0)
    g_byte_array_append(frame, data, (guint)length);
  return frame;
}

json_t *choir_standby_unframe(GBytes *bytes, const guint8 **ret_data, gsize *ret_length) {
  gsize length;
  const guint8 *all = g_bytes_get_data(bytes, &length);
  guint32 told;
  if (length < sizeof told)
    return NULL;
  memcpy(&told, all, sizeof told);
  told = GUINT32_FROM_BE(told);
  if (told > length - sizeof told)
    return NULL;
  json_t *head = choir_json_parse((const char *)all + sizeof told, told, NULL);
  if (!json_is_object(head)) {
    json_decref(head);
    return NULL;
  }
  *ret_data = all + sizeof told + told;
  *ret_length = length - sizeof told - told;
  return head;
}

/* What the other side says is wrong. */
static GError *refusal(const json_t *answer) {
  static const struct {
    const char *code;
    int error;
  } codes[] = {{"older", CHOIR_STATE_ERROR_OLDER},
               {"limit", CHOIR_STATE_ERROR_LIMIT},
               {"damaged", CHOIR_STATE_ERROR_DAMAGED},
               {"changed", CHOIR_STATE_ERROR_CHANGED}};
  const char *code = choir_json_string(answer, "code", "");
  g_autofree char *message = choir_utf8(choir_json_string(answer, "message", "it refuses, and does not say why"), -1);
  for (gsize i = 0; i < G_N_ELEMENTS(codes); i++)
    if (g_str_equal(code, codes[i].code))
      return g_error_new_literal(CHOIR_STATE_ERROR, codes[i].error, message);
  return g_error_new_literal(CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_IO, message);
}

static void on_done(guint status, const char *body, gsize length, const GError *error, gpointer user) {
  Ask *ask = user;
  g_autoptr(GError) problem = error ? g_error_copy(error) : NULL;
  g_autoptr(GBytes) opened = NULL;
  const guint8 *data = NULL;
  gsize data_length = 0;
  if (!problem)
    opened = choir_unseal(&ask->key, CHOIR_STANDBY_ANSWER, ask->salt, sizeof ask->salt, body, length, &problem);
  json_auto_t *answer = opened ? choir_standby_unframe(opened, &data, &data_length) : NULL;
  if (!answer && !problem)
    problem = g_error_new_literal(CHOIR_STATE_ERROR, CHOIR_STATE_ERROR_DAMAGED, "the answer is no frame");
  if (answer && !choir_json_bool(answer, "ok", FALSE))
    problem = refusal(answer);
  ask->answered(problem ? NULL : answer, data, data_length, problem, ask->user);
  g_free(ask);
}

void choir_standby_ask(ChoirHttpClient *http, const ChoirSealKey *key, const char *url, json_t *question,
                       const void *data, gsize length, guint timeout_ms, GCancellable *cancellable,
                       ChoirStandbyAnswered answered, gpointer user) {
  g_autoptr(GByteArray) frame = choir_standby_frame(question, data, length);
  g_autoptr(GBytes) sealed = choir_seal(key, CHOIR_STANDBY_QUESTION, NULL, 0, frame->data, frame->len);
  g_autofree char *whole = g_strconcat(url, CHOIR_STANDBY_PATH, NULL);
  gsize size;
  const guint8 *bytes = g_bytes_get_data(sealed, &size);
  json_decref(question);
  Ask *ask = g_new0(Ask, 1);
  *ask = (Ask){.key = *key, .answered = answered, .user = user};
  memcpy(ask->salt, bytes + CHOIR_SEAL_MARK, sizeof ask->salt);
  choir_http_request(http, "POST", whole, "application/octet-stream", (const char *)bytes, size, NULL, timeout_ms,
                     CHOIR_STANDBY_BODY_MAX, cancellable, on_done, ask);
}
