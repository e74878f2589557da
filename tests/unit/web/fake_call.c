#include "fake_call.h"

struct ChoirCall {
  ChoirCallDone done;
  gpointer user;
};

FakeCall fake_call;

void fake_call_clear(void) {
  g_clear_pointer(&fake_call.call, g_free);
  g_free(fake_call.text);
  g_free(fake_call.name);
  g_free(fake_call.used);
  fake_call = (FakeCall){0};
}

ChoirCall *choir_call_begin(ChoirChat *chat, const ChoirCallRequest *request, ChoirCallDone done, gpointer user) {
  g_assert_null(fake_call.call);
  ChoirCall *call = g_new0(ChoirCall, 1);
  call->done = done;
  call->user = user;
  g_free(fake_call.text);
  g_free(fake_call.name);
  g_free(fake_call.used);
  fake_call.text = g_strdup(request->text);
  fake_call.name = g_strdup(request->name);
  fake_call.used = request->used ? g_strjoinv(",", (char **)request->used) : g_strdup("");
  fake_call.choice = request->choice;
  fake_call.begun++;
  fake_call.call = call;
  return call;
}

void choir_call_cancel(ChoirCall *call) {
  g_assert_true(call == fake_call.call);
  fake_call.cancelled++;
  g_clear_pointer(&fake_call.call, g_free);
}

void fake_call_decide(const char *name, const char *arguments, const char *error) {
  const ChoirChatTimings usage = {.prompt_tokens = 100, .cached_tokens = 60, .reply_tokens = 7};
  g_autofree ChoirCall *call = g_steal_pointer(&fake_call.call);
  g_autoptr(GError) failure = error ? g_error_new_literal(CHOIR_CALL_ERROR, CHOIR_CALL_ERROR_BROKEN, error) : NULL;
  g_assert_nonnull(call);
  call->done(name, arguments, &usage, failure, call->user);
}
