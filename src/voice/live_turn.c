#include "voice/live_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/names.h"
#include <string.h>

#define PLAYED_FOR_MS 8000 /* behind a reply: its last words may still be in a recording */
#define PLAYED_BYTES 240

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
  g_ptr_array_unref(turn->visemes);
  g_free(turn);
}

static void turn_delta(ChoirTurn *unused, const char *text, gpointer user) {
  LiveTurn *turn = user;
  gsize length = strlen(text);
  if (turn->live == NULL || turn->reply->len + length > LIVE_REPLY_MAX)
    return;
  g_string_append_len(turn->reply, text, (gssize)length);
  live_marks_first(&turn->live->marks, LIVE_MARK_DELTA, choir_clock_us());
  live_post(turn->live,
            &(LiveEvent){.event = {.type = SESSION_EV_TWIN_DELTA, .gen = turn->gen, .end = (guint32)length}});
}

static void turn_clause(ChoirTurn *unused, const char *text, gsize begin, gsize end, gpointer user) {
  LiveTurn *turn = user;
  gsize length = strlen(text);
  if (turn->live == NULL || end > LIVE_REPLY_MAX || length > LIVE_REPLY_MAX)
    return;
  live_marks_first(&turn->live->marks, LIVE_MARK_CLAUSE, choir_clock_us());
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

/* What is unanswered, and for a guess what is about to be. */
static char *question(ChoirLive *live, gboolean guess) {
  GString *text = g_string_new(NULL);
  for (guint i = 0; i < live->unanswered->len; i++)
    g_string_append_printf(text, "%s%s", i > 0 ? " " : "", (const char *)live->unanswered->pdata[i]);
  if (guess)
    g_string_append_printf(text, "%s%s", text->len > 0 ? " " : "", live->kept != NULL ? live->kept : "");
  else
    g_ptr_array_set_size(live->unanswered, 0);
  return g_string_free(text, FALSE);
}

static LiveTurn *turn_new(ChoirLive *live, const SessionEffect *fx) {
  LiveTurn *turn = g_new0(LiveTurn, 1);
  *turn = (LiveTurn){.live = live, .gen = fx->gen, .item = fx->item, .reply = g_string_new(NULL)};
  turn->clauses = g_ptr_array_new_with_free_func(g_free);
  turn->visemes = g_ptr_array_new_with_free_func(g_free);
  g_ptr_array_add(live->turns, turn);
  live->turn = turn;
  return turn;
}

void live_turn_begin(ChoirLive *live, const SessionEffect *fx) {
  static const ChoirTurnHandlers handlers = {.delta = turn_delta, .clause = turn_clause, .done = turn_done};
  gboolean guess = fx->code == 1;
  g_autofree char *id = g_strdup_printf("resp_%s%08x", live->salt, fx->response);
  LiveTurn *turn = turn_new(live, fx);
  turn->text = question(live, guess);
  live_marks_set(&live->marks, LIVE_MARK_BEGUN, choir_clock_us());
  const ChoirTurnRequest request = {.text = turn->text,
                                    .source = fx->position > 0 ? "voice" : live->source,
                                    .request_id = id,
                                    .spoken = fx->flag,
                                    .speech_end_us = speech_end_us(live, fx->position),
                                    .transcript_us = fx->position > 0 ? live->transcript_us : 0,
                                    .speculative = guess,
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

/* A sentence that no model writes and no history keeps. */
void live_turn_canned(ChoirLive *live, const SessionEffect *fx) {
  g_autofree char *languages =
      live->voice->languages != NULL ? g_strjoinv(", ", live->voice->languages) : g_strdup("en");
  g_autofree char *text = NULL;
  if (fx->code == SESSION_CANNED_NOTICE)
    text = live->notices->len > 0 ? g_ptr_array_steal_index(live->notices, 0) : g_strdup("");
  else if (fx->code == SESSION_CANNED_IDLE)
    text = g_strdup("Are you still there?");
  else if (g_str_equal(languages, "en"))
    text = g_strdup("Sorry, I only understand English. Please say that in English.");
  else
    text = g_strdup_printf("Sorry, I do not understand that language. I can do these: %s.", languages);
  LiveTurn *turn = turn_new(live, fx);
  turn->text = g_strdup("");
  turn->twin_done = TRUE;
  gsize length = strlen(text);
  g_string_append(turn->reply, text);
  LedgerWord words[LEDGER_CLAUSE_WORDS];
  guint n = ledger_split(text, length, words, G_N_ELEMENTS(words));
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TWIN_DELTA, .gen = fx->gen, .end = (guint32)length}});
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TWIN_CLAUSE,
                                         .gen = fx->gen,
                                         .end = (guint32)length,
                                         .text_length = (guint32)length,
                                         .words = words,
                                         .n_words = n},
                               .text = text});
  live_post(live, &(LiveEvent){.event = {.type = SESSION_EV_TWIN_DONE, .gen = fx->gen, .end = (guint32)length}});
}

gsize live_turn_snap(const GString *reply, gsize bytes) {
  if (bytes >= reply->len)
    return reply->len;
  gboolean inside = bytes > 0 && !g_ascii_isspace(reply->str[bytes - 1]) &&
                    (g_ascii_isalnum(reply->str[bytes]) || (guchar)reply->str[bytes] >= 0x80);
  while (inside && bytes > 0 && !g_ascii_isspace(reply->str[bytes - 1]))
    bytes--;
  return bytes;
}

/* This side is done with the reply, of which so many bytes count as received. */
void live_turn_close(ChoirLive *live, gsize bytes) {
  LiveTurn *turn = live->turn;
  g_free(live->ended_text);
  live->ended_text = g_strndup(turn->reply->str, bytes);
  live->turn = NULL;
  turn->turn = NULL;
  turn->closed = TRUE;
  live_turn_release(turn);
}

char *live_turn_played(const ChoirLive *live) {
  const SessionState *s = &live->state;
  gsize end, begin;
  const char *text;
  if (session_audible(s) && live->turn != NULL) {
    /* What is on its way counts as heard, and the word that is being said as a whole. */
    text = live->turn->reply->str;
    end = MIN((gsize)ledger_heard(&s->ledger, s->pacer.sent), live->turn->reply->len);
    while (end < live->turn->reply->len && (end == 0 || !g_ascii_isspace(text[end - 1])))
      end++;
  } else if (live->ended_text != NULL && s->reply_over_at > 0 &&
             s->now - s->reply_over_at < (guint64)PLAYED_FOR_MS * CHOIR_RATE_MIC / 1000) {
    text = live->ended_text;
    end = strlen(text);
  } else {
    return g_strdup("");
  }
  for (begin = end > PLAYED_BYTES ? end - PLAYED_BYTES : 0; begin > 0 && !g_ascii_isspace(text[begin - 1]); begin--)
    ;
  return g_strndup(text + begin, end - begin);
}

static void first_audio(const ChoirLive *live, const LiveTurn *turn) {
  gint64 now = choir_clock_us(), end = speech_end_us(live, live->state.speech_end);
  if (turn->turn != NULL)
    choir_turn_first_audio(turn->turn, now);
  if (turn->turn == NULL || end == 0)
    return;
  g_autofree char *stages = live_marks_text(&live->marks, end, now);
  choir_debug(CHOIR_TOPIC_VOICE, "session %u, ms behind the last sound: %s", live->session, stages);
}

void live_turn_effect(ChoirLive *live, const SessionEffect *fx, const LiveEvent *cause) {
  LiveTurn *turn = live->turn;
  switch (fx->type) {
  case SESSION_FX_TWIN_CONFIRM:
    g_ptr_array_set_size(live->unanswered, 0);
    choir_turn_confirm(turn->turn);
    break;
  case SESSION_FX_TWIN_CANCEL:
    if (!turn->twin_done)
      choir_turn_cancel(turn->turn);
    break;
  case SESSION_FX_TWIN_HEARD:
    if (turn->turn != NULL)
      choir_turn_heard(turn->turn, live_turn_snap(turn->reply, fx->bytes), fx->flag);
    live_turn_close(live, live_turn_snap(turn->reply, fx->bytes));
    break;
  case SESSION_FX_TWIN_DISCARD:
    if (fx->flag)
      g_ptr_array_insert(live->unanswered, 0, g_strdup(turn->text));
    choir_turn_discard(turn->turn);
    live_turn_close(live, 0);
    break;
  case SESSION_FX_TWIN_GONE:
    live_turn_close(live, 0);
    break;
  case SESSION_FX_TWIN_ENDS:
    g_string_truncate(turn->reply, MIN(fx->bytes, turn->reply->len));
    break;
  case SESSION_FX_FIRST_AUDIO:
    first_audio(live, turn);
    break;
  case SESSION_FX_KEEP_CLAUSE:
    g_ptr_array_add(turn->clauses, g_strdup(cause->text));
    break;
  case SESSION_FX_KEEP_VISEMES:
    g_ptr_array_set_size(turn->visemes, MAX((gint)turn->visemes->len, (gint)fx->index + 1));
    g_free(turn->visemes->pdata[fx->index]);
    turn->visemes->pdata[fx->index] = g_strdup(cause->text);
    break;
  default:
    break;
  }
}
