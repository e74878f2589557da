/* Bytes as events of one client; the bookkeeper of the unit tests checks the invariants after every step. Clock,
 * engines and client are the input's: only what their contracts promise is kept. */
#include "../unit/voice/world.h"
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct {
  const uint8_t *data;
  size_t size;
} Input;

static guint32 take(Input *in, guint bytes) {
  guint32 value = 0;
  for (guint i = 0; i < bytes && in->size > 0; i++, in->data++, in->size--)
    value = value << 8 | *in->data;
  return value;
}

/* Mostly a generation that is alive, else results would only ever be stale. */
static guint32 take_gen(Input *in, const SessionState *s) {
  guint32 pick = take(in, 1);
  return pick < 160 ? s->reply.gen : pick < 224 ? s->stt.gen : pick - 224;
}

static SessionOptions take_options(Input *in) {
  guint32 bits = take(in, 1);
  SessionOptions options = world_options();
  options.server_vad = (bits & 1) == 0;
  options.interrupt = (bits & 2) == 0;
  options.create_response = (bits & 4) == 0;
  options.audio_out = (bits & 8) == 0;
  options.silence_ms = 200 + take(in, 1) * 11;
  options.prefix_ms = take(in, 1) * 4 % 1001;
  guint32 more = take(in, 1);
  options.speculate = more & 1;
  options.muted = (more & 6) == 6;
  options.half_duplex = (more & 24) == 24;
  options.wake = (more & 96) == 96;
  options.silence_min_ms = 300;
  options.silence_max_ms = more & 128 ? 1500 : 0;
  options.idle_ms = take(in, 1) * 100;
  return options;
}

static void one_event(World *w, Input *in, SessionOptions *options, LedgerWord *words) {
  SessionState *s = &w->s;
  SessionEvent e = {.type = (SessionEventType)(take(in, 1) % SESSION_EV_HANGUP)};
  w->now += take(in, 1) * 40;
  switch (e.type) {
  case SESSION_EV_CONFIGURE:
    *options = take_options(in);
    e.options = options;
    break;
  case SESSION_EV_WORKER:
    e.worker = (SessionWorker)(take(in, 1) % SESSION_WORKERS);
    e.flag = take(in, 1) & 1;
    break;
  case SESSION_EV_AUDIO:
    e.samples = take(in, 2) * 8;
    e.samples = MIN(e.samples, session_mic_room(s));
    break;
  case SESSION_EV_WINDOW:
    e.position = s->window_end + take(in, 1) * 4;
    e.probability = take(in, 1) / 255.0;
    e.echo = take(in, 1) > 230;
    break;
  case SESSION_EV_VERDICT:
    e.gen = take(in, 1) < 200 ? s->utterance.judge_gen : take(in, 1);
    e.probability = take(in, 1) / 255.0;
    break;
  case SESSION_EV_HEARD:
    e.count = take(in, 1);
    e.position = s->mic_end - MIN(s->mic_end, (guint64)take(in, 2));
    e.echo = take(in, 1) > 200;
    break;
  case SESSION_EV_FILLER:
    e.index = take(in, 1) % (SESSION_FILLERS + 1);
    e.samples = take(in, 2) * 4;
    break;
  case SESSION_EV_STT_TEXT: {
    e.gen = take_gen(in, s);
    guint32 bits = take(in, 1);
    e.flag = bits & 1;
    e.echo = (bits & 6) == 6;
    e.foreign = (bits & 24) == 24;
    e.said = (TurnSaid)(bits >> 5 & 3) % (TURN_SAID_STOP + 1);
    e.ending = (TurnEnding)(take(in, 1) % (TURN_ENDING_OPEN + 1));
    break;
  }
  case SESSION_EV_TEXT:
    e.item = session_new_item(s);
    e.flag = take(in, 1) & 1;
    break;
  case SESSION_EV_TRUNCATE:
  case SESSION_EV_ACK:
    e.item = take(in, 1) < 200 ? s->reply.item : take(in, 1);
    e.samples = take(in, 3);
    e.count = take(in, 1) % 4;
    break;
  case SESSION_EV_TWIN_CLAUSE:
    e.gen = take_gen(in, s);
    e.begin = s->ledger.clauses > 0 ? s->ledger.clause[s->ledger.clauses - 1].end + take(in, 1) % 2 : take(in, 1);
    e.end = e.begin + take(in, 1);
    e.text_length = take(in, 1) & 1 ? e.end - e.begin : take(in, 1);
    break;
  case SESSION_EV_TTS_PCM:
  case SESSION_EV_TTS_DONE:
  case SESSION_EV_TTS_FAILED:
    e.gen = take_gen(in, s);
    e.index = s->reply.next_clause - 1 + (take(in, 1) > 240);
    e.samples = take(in, 3);
    break;
  case SESSION_EV_TWIN_REFUSED:
    e.gen = take_gen(in, s);
    /* there was no turn then, so nothing is owed to it */
    if (s->reply.phase != REPLY_NONE && s->reply.twin_open && e.gen == s->reply.gen)
      w->heard_owed = FALSE;
    break;
  default:
    e.gen = take_gen(in, s);
    e.end = take(in, 2);
    e.flag = take(in, 1) & 1;
    e.outcome = (SessionOutcome)(take(in, 1) % 3);
    break;
  }
  if (e.type == SESSION_EV_TWIN_CLAUSE || e.type == SESSION_EV_TTS_DONE) {
    e.n_words = take(in, 1) % 8;
    for (guint i = 0; i < e.n_words; i++)
      words[i] = (LedgerWord){.begin = (guint16)take(in, 1),
                              .end = (guint16)take(in, 1),
                              .phonemes = (guint16)take(in, 2),
                              .first = take(in, 1) < 128 ? 0 : take(in, 2),
                              .last = take(in, 1) < 128 ? 0 : take(in, 3)};
    e.words = words;
  }
  world_event(w, e);
  w->jobs = 0; /* the input answers, not the fakes */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 16384)
    return 0;
  Input in = {data, size};
  SessionOptions options = take_options(&in);
  LedgerWord words[8];
  World *w = world_new(&options);
  while (in.size > 0)
    one_event(w, &in, &options, words);
  world_simple(w, SESSION_EV_HANGUP);
  g_assert_false(w->heard_owed);
  g_assert_cmpuint(w->active_response, ==, 0);
  g_assert_cmpuint(w->responses, ==, w->dones);
  world_free(w);
  return 0;
}
