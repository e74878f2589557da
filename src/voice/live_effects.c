#include "voice/live_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include "base/text.h"
#include <string.h>

#define MIC_LATE (CHOIR_RATE_MIC / 2) /* samples: a frame that is later does not come */

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
  } else if (status == SESSION_STATUS_ASLEEP) {
    text = g_strdup("asleep: say the wake word");
  } else if (status == SESSION_STATUS_AWAKE) {
    text = g_strdup("awake: go ahead");
  } else {
    text = g_strdup_printf("Replies come as text: choir-tts is not ready (%s).", worker_problem(live, SESSION_TTS));
  }
  live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_STATUS, .text = text});
}

/* The mouth shapes of a clause, counted from the start of the item. */
static void emit_visemes(ChoirLive *live, const char *item, const SessionEffect *fx) {
  const LiveTurn *turn = live->turn;
  const char *json = fx->index < turn->visemes->len ? turn->visemes->pdata[fx->index] : NULL;
  if (json == NULL)
    return;
  json_auto_t *rows = json_loads(json, 0, NULL);
  size_t i;
  json_t *row;
  json_array_foreach(rows, i, row)
      json_array_set_new(row, 0, json_integer(json_integer_value(json_array_get(row, 0)) + (json_int_t)fx->position));
  g_autofree char *text = choir_json_dump(rows);
  g_autofree char *response = g_strdup_printf("resp_%s%08x", live->salt, fx->response);
  live_emit(live,
            &(ChoirLiveEvent){.type = CHOIR_LIVE_VISEMES, .item_id = item, .response_id = response, .text = text});
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
  live_emit(live,
            &(ChoirLiveEvent){.type = CHOIR_LIVE_TRANSCRIPT, .item_id = item, .text = copy, .no_reply = !fx->flag});
}

static void emit_truncated(ChoirLive *live, const char *item, const SessionEffect *fx) {
  const LiveTurn *turn = live->turn;
  g_autofree char *text = turn != NULL && turn->item == fx->item
                              ? g_strndup(turn->reply->str, live_turn_snap(turn->reply, fx->bytes))
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
    live_turn_close(live, live->turn->reply->len);
}

/* What the microphone may hear from now on. Behind a silence the listener begins anew, so nothing of it sounds yet. */
static void echo_play(ChoirLive *live, const gint16 *pcm, gsize samples) {
  const Pacer *pacer = &live->state.pacer;
  if (pacer->sent == samples)
    live->echo_base = live->echo.track;
  if (pacer->sent - samples == pacer_heard(pacer))
    echo_level_mark(&live->echo, live->mic.end, live->echo.track);
  echo_level_sent(&live->echo, pcm, samples);
  live_echo_follow(live);
}

void live_echo_follow(ChoirLive *live) {
  const Pacer *pacer = &live->state.pacer;
  if (pacer->acks || live->state.reply.phase == REPLY_NONE || pacer->sent == 0)
    return;
  /* Nobody reports: the play clock knows best, and the microphone runs on while its next frame is on the way. */
  guint64 since = (guint64)(choir_clock_us() - live->mic_us) * (CHOIR_RATE_MIC / 1000) / 1000;
  echo_level_mark(&live->echo, live->mic.end + MIN(since, (guint64)MIC_LATE), live->echo_base + pacer_heard(pacer));
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
    event.pcm = live_store_take(live, fx->samples);
    event.samples = fx->samples;
    echo_play(live, event.pcm, event.samples);
    live_emit(live, &event);
    break;
  default:
    emit_response_done(live, &event, fx);
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
    live_marks_set(&live->marks, LIVE_MARK_OVER, choir_clock_us());
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
  case SESSION_FX_PAUSED:
    live_emit(live, &(ChoirLiveEvent){.type = CHOIR_LIVE_PAUSED, .item_id = item});
    break;
  case SESSION_FX_RESUMED:
    live->fade = fx->flag ? SESSION_FADE_MS * CHOIR_RATE_OUT / 1000 : 0;
    live_emit(live, &(ChoirLiveEvent){
                        .type = CHOIR_LIVE_RESUMED, .item_id = item, .ms = fx->samples / (CHOIR_RATE_OUT / 1000)});
    break;
  case SESSION_FX_IDLE:
    live_emit(live,
              &(ChoirLiveEvent){
                  .type = CHOIR_LIVE_IDLE, .item_id = item, .ms = ms, .until_ms = fx->end / (CHOIR_RATE_MIC / 1000)});
    break;
  case SESSION_FX_VISEMES:
    emit_visemes(live, item, fx);
    break;
  case SESSION_FX_TWIN_BEGIN:
    live_turn_begin(live, fx);
    break;
  case SESSION_FX_CANNED:
    live_turn_canned(live, fx);
    break;
  case SESSION_FX_TWIN_CONFIRM:
  case SESSION_FX_TWIN_CANCEL:
  case SESSION_FX_TWIN_HEARD:
  case SESSION_FX_TWIN_DISCARD:
  case SESSION_FX_TWIN_GONE:
  case SESSION_FX_TWIN_ENDS:
  case SESSION_FX_FIRST_AUDIO:
  case SESSION_FX_KEEP_CLAUSE:
  case SESSION_FX_KEEP_VISEMES:
    live_turn_effect(live, fx, cause);
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
    live_job_effect(live, fx, cause);
    break;
  }
}
