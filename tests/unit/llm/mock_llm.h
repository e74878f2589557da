/* A chat server in this process that does what the script says: answers, breaks off, lies. Test only. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef enum {
  MOCK_OK,
  MOCK_STATUS_500,
  MOCK_CONTEXT,     /* 400, prompt too long */
  MOCK_CUT,         /* the connection closes in mid-stream, after half of the pieces */
  MOCK_EARLY_END,   /* a clean end without a finish reason */
  MOCK_GARBAGE,     /* 200 and an event stream of things that are not JSON */
  MOCK_ERROR_EVENT, /* an error object inside the stream, after half of the pieces */
  MOCK_HTML,        /* 200 and a web page */
  MOCK_HANG,        /* headers, then nothing */
} MockMode;

typedef struct MockLlm MockLlm;

MockLlm *mock_llm_new(void);
void mock_llm_free(MockLlm *mock);
const char *mock_llm_url(const MockLlm *mock);
/* What the next chat request gets. pieces: deltas separated by '|'. Without a script an answer is "Fine.". */
void mock_llm_push(MockLlm *mock, MockMode mode, const char *pieces, guint delay_ms);
/* Chat requests that ask for an answer, in order; borrowed. Prefix evaluations (n_predict 0) are counted apart. */
guint mock_llm_requests(const MockLlm *mock);
json_t *mock_llm_request(const MockLlm *mock, guint index);
guint mock_llm_warms(const MockLlm *mock);
/* Streams that the client left before their end. */
guint mock_llm_left(const MockLlm *mock);
void mock_llm_set_ready(MockLlm *mock, gboolean ready); /* /health */
/* GET /slots answers n of them, busy of which work. Without, there is no such route. */
void mock_llm_set_slots(MockLlm *mock, guint n, guint busy);
/* Its machine lost the network: what asks for /health or /slots waits for ever. */
void mock_llm_mute(MockLlm *mock);
void mock_llm_set_plain(MockLlm *mock); /* another make of server: /health is 404 */
