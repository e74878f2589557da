#include "voice/live_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include <string.h>

void live_turn_release(LiveTurn *turn) {
  if (!turn->twin_done || !turn->closed)
    return;
  if (turn->live != NULL) {
    g_ptr_array_remove_fast(turn->live->turns, turn);
    if (turn->live->turn == turn)
      turn->live->turn = NULL;
  }
  g_string_free(turn->reply, TRUE);
  g_free(turn->text);
  g_ptr_array_unref(turn->clauses);
  g_free(turn);
}

static void turn_delta(ChoirTurn *unused, const char *text, gpointer user) {
  LiveTurn *turn = user;
  gsize length = strlen(text);
  if (turn->live == NULL || turn->reply->len + length > LIVE_REPLY_MAX)
    return;
  g_string_append_len(turn->reply, text, (gssize)length);
  live_post(turn->live,
            &(LiveEvent){.event = {.type = SESSION_EV_TWIN_DELTA, .gen = turn->gen, .end = (guint32)length}});
}

static void turn_clause(ChoirTurn *unused, const char *text, gsize begin, gsize end, gpointer user) {
  LiveTurn *turn = user;
  gsize length = strlen(text);
  if (turn->live == NULL || end > LIVE_REPLY_MAX || length > LIVE_REPLY_MAX)
    return;
  LedgerWord words[LEDGER_CLAUSE_WORDS];
  guint n = ledger_split(text, length, words, G_N_ELEMENTS(words));
  live_post(turn->live, &(LiveEvent){.event = {.type = SESSION_EV_TWIN_CLAUSE,
                                               .gen = turn->gen,
                                               .begin = (guint32)begin,
                                               .end = (guint32)end,
                                               .text_length = (guint32)length,
                                               .words = words,
                                               .n_words = n},
                                     .text = text});
}

static void turn_done(ChoirTurn *asked, const char *reply, const GError *error, gpointer user) {
  LiveTurn *turn = user;
  turn->timings = *choir_turn_timings(asked);
  turn->limited = choir_turn_limited(asked);
  if (turn->live != NULL) {
    SessionOutcome outcome = SESSION_COMPLETED;
    if (error != NULL)
      outcome =
          g_error_matches(error, CHOIR_TWIN_ERROR, CHOIR_TWIN_ERROR_CANCELLED) ? SESSION_CANCELLED : SESSION_FAILED;
    live_post(turn->live, &(LiveEvent){.event = {.type = SESSION_EV_TWIN_DONE,
                                                 .gen = turn->gen,
                                                 .outcome = outcome,
                                                 .end = reply != NULL ? (guint32)strlen(reply) : 0},
                                       .text = error != NULL ? error->message : NULL});
  }
  /* Only now: the event may have closed the turn, which must not free it under our feet. */
  turn->twin_done = TRUE;
  live_turn_release(turn);
}

static gint64 speech_end_us(const ChoirLive *live, guint64 position) {
  if (position == 0)
    return 0;
  return live->mic_us - (gint64)(live->mic.end - MIN(position, live->mic.end)) * 1000 / (CHOIR_RATE_MIC / 1000);
}

static void begin_turn(ChoirLive *live, const SessionEffect *fx) {
  static const ChoirTurnHandlers handlers = {.delta = turn_delta, .clause = turn_clause, .done = turn_done};
  g_ptr_array_add(live->unanswered, NULL);
  g_autofree char *text = g_strjoinv(" ", (char **)live->unanswered->pdata);
  g_ptr_array_set_size(live->unanswered, 0);
  g_autofree char *id = g_strdup_printf("resp_%s%08x", live->salt, fx->response);
  LiveTurn *turn = g_new0(LiveTurn, 1);
  *turn = (LiveTurn){.live = live, .gen = fx->gen, .item = fx->item, .reply = g_string_new(NULL)};
  turn->text = g_strdup(text);
  turn->clauses = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(live->turns, turn);
  live->turn = turn;
  const ChoirTurnRequest request = {.text = text,
                                    .source = fx->position > 0 ? "voice" : live->source,
                                    .request_id = id,
                                    .spoken = fx->flag,
                                    .speech_end_us = speech_end_us(live, fx->position),
                                    .transcript_us = fx->position > 0 ? live->transcript_us : 0,
                                    .instructions = live->instructions,
                                    .notes = live->notes,
                                    .max_tokens = live->max_tokens};
  g_autoptr(GError) error = NULL;
  turn->turn = choir_twin_begin(live->voice->twin, &request, &handlers, turn, &error);
  if (turn->turn != NULL)
    return;
  turn->twin_done = TRUE;
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TWIN_REFUSED, .gen = fx->gen},
                               .text = error != NULL ? error->message : NULL});
}

/* The last whole word at or before `bytes` of the reply. */
static gsize snap(const GString *reply, gsize bytes) {
  if (bytes >= reply->len)
    return reply->len;
  gboolean inside = bytes > 0 && !g_ascii_isspace(reply->str[bytes - 1]) &&
                    (g_ascii_isalnum(reply->str[bytes]) || (guchar)reply->str[bytes] >= 0x80);
  while (inside && bytes > 0 && !g_ascii_isspace(reply->str[bytes - 1]))
    bytes--;
  return bytes;
}

/* This side is done with the reply, of which so many bytes count as received. */
static void close_turn(ChoirLive *live, gsize bytes) {
  LiveTurn *turn = live->turn;
  g_free(live->ended_text);
  live->ended_text = g_strndup(turn->reply->str, bytes);
  live->turn = NULL;
  turn->turn = NULL;
  turn->closed = TRUE;
  live_turn_release(turn);
}

/* A turn's audio kept until its job's turn comes: the item's number in front of the samples. */
static GArray *find_capture(ChoirLive *live, guint32 item, guint *ret_index) {
  for (guint i = 0; i < live->captures->len; i++) {
    GArray *capture = live->captures->pdata[i];
    guint32 owner;
    memcpy(&owner, capture->data, sizeof owner);
    if (owner == item) {
      *ret_index = i;
      return capture;
    }
  }
  return NULL;
}

static void capture(ChoirLive *live, const SessionEffect *fx) {
  GArray *audio = g_array_new(FALSE, FALSE, sizeof(gint16));
  g_array_append_vals(audio, &fx->item, 2);
  mic_ring_copy(&live->mic, fx->position, fx->end, audio);
  /* Turns whose transcription failed leave theirs behind. */
  if (live->captures->len >= SESSION_TURNS)
    g_ptr_array_remove_index(live->captures, 0);
  g_ptr_array_add(live->captures, audio);
}

static void stt_job(ChoirLive *live, const SessionEffect *fx) {
  guint index = 0;
  g_autoptr(GArray) own = NULL;
  const GArray *kept = find_capture(live, fx->item, &index);
  if (kept == NULL) {
    own = g_array_new(FALSE, FALSE, sizeof(gint16));
    mic_ring_copy(&live->mic, fx->position, fx->end, own);
  }
  const gint16 *pcm = kept != NULL ? (const gint16 *)kept->data + 2 : (const gint16 *)own->data;
  gsize n = kept != NULL ? kept->len - 2 : own->len;
  ChoirWorker *stt = live->voice->worker[SESSION_STT];
  if (stt == NULL ||
      !choir_worker_send(stt, CHOIR_WIRE_STT_JOB, fx->flag ? 1 : 0, live->session, fx->gen, 0, pcm, n * sizeof(gint16)))
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_STT_FAILED, .gen = fx->gen},
                                 .text = "the recogniser takes no more work"});
  if (kept != NULL)
    g_ptr_array_remove_index(live->captures, index);
}

static void tts_job(ChoirLive *live, const SessionEffect *fx) {
  const char *text = live->turn->clauses->pdata[fx->index];
  ChoirWorker *tts = live->voice->worker[SESSION_TTS];
  if (tts == NULL ||
      !choir_worker_send(tts, CHOIR_WIRE_TTS_JOB, 0, live->session, fx->gen, fx->index, text, strlen(text)))
    live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TTS_FAILED, .gen = fx->gen, .index = fx->index},
                                 .text = "the voice takes no more work"});
}

static void cancel_jobs(ChoirLive *live, SessionWorker worker, guint16 type, guint32 gen) {
  if (live->voice->worker[worker] != NULL)
    (void)choir_worker_send(live->voice->worker[worker], type, 0, live->session, gen, 0, NULL, 0);
}

static void drop_store(ChoirLive *live) {
  g_array_set_size(live->store, 0);
  live->store_head = 0;
}

static void store_pcm(ChoirLive *live, const gint16 *pcm, gsize n) {
  if (live->store_head > live->store->len / 2) {
    g_array_remove_range(live->store, 0, (guint)live->store_head);
    live->store_head = 0;
  }
  g_array_append_vals(live->store, pcm, (guint)n);
}

static const char *worker_problem(const ChoirLive *live, SessionWorker index) {
  ChoirWorker *worker = live->voice->worker[index];
  if (worker == NULL)
    return "it is not installed";
  ChoirChild *child = choir_worker_child(worker);
  const char *error = child != NULL ? choir_child_last_error(child) : NULL;
  return error != NULL ? error : "it is still loading";
}

static char *error_text(const ChoirLive *live, SessionError code) {
  const char *why = live->problem != NULL ? live->problem : "no reason was given";
  switch (code) {
  case SESSION_ERR_EAR_MISSING:
    return g_strdup_printf("Nobody listens to the microphone, choir-ear is not ready (%s): type your message, or see "
                           "`choir status` and speak again when it is.",
                           worker_problem(live, SESSION_EAR));
  case SESSION_ERR_STT_MISSING:
    return g_strdup_printf("Speech cannot be understood, choir-stt is not ready (%s): type your message, or see "
                           "`choir status` and speak again when it is.",
                           worker_problem(live, SESSION_STT));
  case SESSION_ERR_EAR_LOST:
    return g_strdup("The speech detector stopped while you spoke and starts again: what you said until then is used, "
                    "wait a moment before you go on.");
  case SESSION_ERR_STT_LOST:
    return g_strdup("The speech recogniser stopped and starts again: please say that again in a moment, or type it.");
  case SESSION_ERR_STT_FAILED:
    return g_strdup_printf("Your words could not be transcribed (%s): please say them again, or type them.", why);
  case SESSION_ERR_STT_TIMEOUT:
    return g_strdup("The speech recogniser gave no answer for two minutes: please say that again, or type it.");
  case SESSION_ERR_TTS_LOST:
    return g_strdup("The voice stopped and starts again: read the rest of this reply, the next one is spoken when the "
                    "voice is back.");
  case SESSION_ERR_TTS_FAILED:
    return g_strdup_printf("A part of the reply could not be spoken (%s): read it in the text.", why);
  case SESSION_ERR_TTS_TIMEOUT:
    return g_strdup("The voice gave no sound for a minute: read the rest of this reply.");
  case SESSION_ERR_REPLY_FAILED:
    return g_strdup_printf("There is no reply (%s): try again, or see `choir status`.", why);
  case SESSION_ERR_COMMIT_EMPTY:
    return g_strdup("There is no speech to commit: send at least 100 ms of audio first.");
  case SESSION_ERR_NOTHING_TO_ANSWER:
    return g_strdup("There is nothing to answer: send a message first.");
  case SESSION_ERR_NOT_UNDERSTOOD:
    return g_strdup("Nothing was understood, so there is nothing to answer: please say it again.");
  case SESSION_ERR_RESPONSE_ACTIVE:
    return g_strdup("A reply is under way: wait for its end or cancel it.");
  case SESSION_ERR_TOO_MANY_TURNS:
    return g_strdup("The recogniser is behind, this was not taken: please wait for the transcripts and say it again.");
  }
  return g_strdup("Something went wrong: see `choir status`.");
}

static void emit_error(ChoirLive *live, ChoirLiveEventType type, const char *item, SessionError code) {
  g_autofree char *text = error_text(live, code);
  choir_counter_add(live->voice->failures, 1);
  live_emit(live, &(ChoirLiveEvent){.type = type, .item_id = item, .text = text});
}

static void emit_status(ChoirLive *live, SessionStatus status) {
  char lead[64];
  g_autofree char *text = NULL;
  if (status == SESSION_STATUS_LEAD) {
    pacer_status(&live->state.pacer, lead, sizeof lead);
    text = g_strdup(lead);
  } else if (status == SESSION_STATUS_ACKS_LOST) {
    text = g_strdup("no playback reports for 1.5 s: audio is paced by the server's clock");
  } else {
    text = g_strdup_printf("Replies come as text: choir-tts is not ready (%s).", worker_problem(live, SESSION_TTS));
  }
  live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_STATUS, .text = text});
}

static void keep_unanswered(ChoirLive *live, const char *text) {
  if (live->unanswered->len >= SESSION_UNANSWERED) {
    g_ptr_array_remove_index(live->unanswered, 0);
    choir_warning(CHOIR_TOPIC_VOICE, "the oldest of %d unanswered messages is forgotten", SESSION_UNANSWERED);
  }
  g_ptr_array_add(live->unanswered, g_strdup(text));
}

static void emit_transcript(ChoirLive *live, const char *item, const SessionEffect *fx) {
  const char *text = live->kept_gen == fx->gen && live->kept != NULL ? live->kept : "";
  live->transcript_us = choir_clock_us();
  if (fx->flag)
    keep_unanswered(live, text);
  g_autofree char *copy = g_strdup(text);
  live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = item, .text = copy});
}

static void emit_truncated(ChoirLive *live, const char *item, const SessionEffect *fx) {
  const LiveTurn *turn = live->turn;
  g_autofree char *text = turn != NULL && turn->item == fx->item
                              ? g_strndup(turn->reply->str, snap(turn->reply, fx->bytes))
                              : g_strdup(live->ended_text);
  live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_TRUNCATED,
                                    .item_id = item,
                                    .ms = fx->samples / (CHOIR_RATE_OUT / 1000),
                                    .text = text});
}

static void emit_response_done(ChoirLive *live, ChoirLiveEvent *event, const SessionEffect *fx) {
  static const char *const status[] = {"completed", "cancelled", "failed"};
  static const char *const reason[] = {NULL, "turn_detected", "client_cancelled", NULL};
  g_autofree char *text = g_strdup(live->turn->reply->str);
  event->type = CHOIR_LIVE_RESPONSE_DONE;
  event->status = status[fx->code];
  event->reason = fx->code == SESSION_FAILED ? "server_error" : reason[fx->reason];
  event->text = text;
  if (fx->code == SESSION_COMPLETED && live->turn->limited) {
    event->status = "incomplete";
    event->reason = "max_output_tokens";
  }
  event->prompt_tokens = live->turn->timings.prompt_tokens;
  event->cached_tokens = MAX(live->turn->timings.cached_tokens, 0);
  event->reply_tokens = live->turn->timings.reply_tokens;
  if (fx->reason == SESSION_REASON_TURN_DETECTED)
    choir_counter_add(live->voice->barge_ins, 1);
  live_emit(live, event);
  if (fx->flag)
    close_turn(live, live->turn->reply->len);
}

/* Effects of a reply name its response; those go out with both ids. */
static void reply_effect(ChoirLive *live, const SessionEffect *fx, const char *item) {
  g_autofree char *response = g_strdup_printf("resp_%s%08x", live->salt, fx->response);
  ChoirLiveEvent event = {.item_id = item, .response_id = response};
  switch (fx->type) {
  case SESSION_FX_RESPONSE_STARTED:
    event.type = CHOIR_LIVE_RESPONSE_STARTED;
    live_emit(live, &event);
    break;
  case SESSION_FX_TEXT_DELTA: {
    g_autofree char *text = g_strndup(live->turn->reply->str + live->turn->delivered, fx->bytes);
    live->turn->delivered += fx->bytes;
    event.type = CHOIR_LIVE_TEXT_DELTA;
    event.text = text;
    live_emit(live, &event);
    break;
  }
  case SESSION_FX_SEND_AUDIO:
    event.type = CHOIR_LIVE_AUDIO;
    event.pcm = (const gint16 *)live->store->data + live->store_head;
    event.samples = fx->samples;
    live->store_head += fx->samples;
    live_emit(live, &event);
    break;
  default:
    emit_response_done(live, &event, fx);
    break;
  }
}

static void engine_effect(ChoirLive *live, const SessionEffect *fx, const LiveEvent *cause) {
  switch (fx->type) {
  case SESSION_FX_STT_JOB:
    stt_job(live, fx);
    break;
  case SESSION_FX_STT_CANCEL:
    cancel_jobs(live, SESSION_STT, CHOIR_WIRE_STT_CANCEL, fx->gen);
    break;
  case SESSION_FX_KEEP_TEXT:
    g_free(live->kept);
    live->kept = g_strdup(cause->text);
    live->kept_gen = fx->gen;
    break;
  case SESSION_FX_CAPTURE:
    capture(live, fx);
    break;
  case SESSION_FX_TWIN_BEGIN:
    begin_turn(live, fx);
    break;
  case SESSION_FX_TWIN_CANCEL:
    if (!live->turn->twin_done)
      choir_turn_cancel(live->turn->turn);
    break;
  case SESSION_FX_TWIN_HEARD:
    choir_turn_heard(live->turn->turn, snap(live->turn->reply, fx->bytes), fx->flag);
    close_turn(live, snap(live->turn->reply, fx->bytes));
    break;
  case SESSION_FX_TWIN_DISCARD:
    g_ptr_array_insert(live->unanswered, 0, g_strdup(live->turn->text));
    choir_turn_discard(live->turn->turn);
    close_turn(live, 0);
    break;
  case SESSION_FX_TWIN_ENDS:
    g_string_truncate(live->turn->reply, MIN(fx->bytes, live->turn->reply->len));
    break;
  case SESSION_FX_FIRST_AUDIO:
    choir_turn_first_audio(live->turn->turn, choir_clock_us());
    break;
  case SESSION_FX_KEEP_CLAUSE:
    g_ptr_array_add(live->turn->clauses, g_strdup(cause->text));
    break;
  case SESSION_FX_TTS_JOB:
    tts_job(live, fx);
    break;
  case SESSION_FX_TTS_CANCEL:
    cancel_jobs(live, SESSION_TTS, CHOIR_WIRE_TTS_CANCEL, fx->gen);
    break;
  case SESSION_FX_STORE_PCM:
    store_pcm(live, cause->pcm, fx->samples);
    break;
  default:
    drop_store(live);
    break;
  }
}

void live_effect(ChoirLive *live, const SessionEffect *fx, const LiveEvent *cause) {
  g_autofree char *item = live_item_id(live, fx->item);
  const guint64 ms = fx->position / (CHOIR_RATE_MIC / 1000);
  switch (fx->type) {
  case SESSION_FX_SPEECH_STARTED:
    live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STARTED, .item_id = item, .ms = ms});
    break;
  case SESSION_FX_SPEECH_STOPPED:
    live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_SPEECH_STOPPED, .item_id = item, .ms = ms});
    break;
  case SESSION_FX_COMMITTED:
    live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_COMMITTED, .item_id = item});
    break;
  case SESSION_FX_TYPED:
    keep_unanswered(live, cause->text);
    break;
  case SESSION_FX_TRANSCRIPT:
    emit_transcript(live, item, fx);
    break;
  case SESSION_FX_TRANSCRIPT_FAILED:
    emit_error(live, CHOIR_LIVE_TRANSCRIPT_FAILED, item, (SessionError)fx->code);
    break;
  case SESSION_FX_RESPONSE_STARTED:
  case SESSION_FX_TEXT_DELTA:
  case SESSION_FX_SEND_AUDIO:
  case SESSION_FX_RESPONSE_DONE:
    reply_effect(live, fx, item);
    break;
  case SESSION_FX_TRUNCATED:
    emit_truncated(live, item, fx);
    break;
  case SESSION_FX_PLAYOUT_DONE:
    live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_PLAYOUT_DONE, .item_id = item});
    break;
  case SESSION_FX_STATE:
    live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_STATE, .text = session_shown_name((SessionShown)fx->code)});
    break;
  case SESSION_FX_STATUS:
    emit_status(live, (SessionStatus)fx->code);
    break;
  case SESSION_FX_ERROR:
    emit_error(live, CHOIR_LIVE_ERROR, NULL, (SessionError)fx->code);
    break;
  default:
    engine_effect(live, fx, cause);
    break;
  }
}
