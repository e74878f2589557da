#include "speech/desk.h"
#include <string.h>
#include "base/log.h"
#include "base/metrics.h"
#include "base/names.h"
#include "base/text.h"
#include "speech/jobs.h"
#include "speech/stt_text.h"

#define SESSIONS 0x80000000u /* live clients count from 1 */
#define PIECE_MS 28000       /* Whisper's window is 30 s */
#define ENOUGH_MS 40000      /* audio that waits: more than the next piece */

enum { LISTEN, SPEAK, KINDS };

typedef struct Request Request;

typedef struct {
  ChoirWorker *worker;
  GQueue open; /* Request; who was served last is last */
  Request *current;
  const char *missing; /* what is not there without it */
  guint16 cancel;      /* frame type */
  ChoirMetric *open_gauge, *total, *refused;
} Line;

struct ChoirDesk {
  Line lines[KINDS];
  guint32 sessions;
};

struct Request {
  ChoirDesk *desk;
  Line *line;
  guint32 session, gen;
  gboolean ended, finished;
  guint idle;
  GError *error;
  gpointer user;
  /* listening */
  const ChoirDeskListenHandlers *listener;
  char *language, *prompt;
  gboolean segments, hungry;
  gsize piece;     /* longest, in samples */
  GArray *samples; /* that were not sent */
  guint64 taken;   /* samples that were */
  gsize in_flight;
  /* speaking */
  const ChoirDeskSpeakHandlers *speaker;
  double speed;
  GQueue clauses; /* char* */
  gboolean held;
};

G_DEFINE_QUARK(choir - desk - error - quark, choir_desk_error)

static void line_init(Line *line, const char *kind, const char *missing, guint16 cancel) {
  g_autofree char *labels = g_strdup_printf("kind=\"%s\"", kind);
  *line = (Line){
      .missing = missing,
      .cancel = cancel,
      .open_gauge = choir_gauge("choir_desk_open", labels, "Open requests for speech outside of conversations."),
      .total = choir_counter("choir_desk_requests_total", labels, "Requests for speech outside of conversations."),
      .refused = choir_counter("choir_desk_refused_total", labels, "Such requests that were refused."),
  };
  g_queue_init(&line->open);
}

ChoirDesk *choir_desk_new(void) {
  ChoirDesk *desk = g_new0(ChoirDesk, 1);
  line_init(&desk->lines[LISTEN], "listen", "speech recognition", CHOIR_WIRE_STT_CANCEL);
  line_init(&desk->lines[SPEAK], "speak", "the voice", CHOIR_WIRE_TTS_CANCEL);
  return desk;
}

static void request_free(Request *request) {
  Line *line = request->line;
  if (line->current == request)
    line->current = NULL;
  g_queue_remove(&line->open, request);
  choir_gauge_set(line->open_gauge, line->open.length);
  if (request->idle)
    g_source_remove(request->idle);
  g_clear_error(&request->error);
  g_free(request->language);
  g_free(request->prompt);
  if (request->samples)
    g_array_unref(request->samples);
  g_queue_clear_full(&request->clauses, g_free);
  g_free(request);
}

void choir_desk_free(ChoirDesk *desk) {
  if (!desk)
    return;
  for (guint i = 0; i < KINDS; i++)
    while (desk->lines[i].open.head)
      request_free(desk->lines[i].open.head->data);
  g_free(desk);
}

/* --- sending --- */

static gsize next_piece(const Request *request) {
  gsize n = request->samples->len;
  if (n < request->piece)
    return request->ended ? n : 0;
  return choir_stt_cut(&g_array_index(request->samples, gint16, 0), n, request->piece);
}

static gboolean has_work(const Request *request) {
  if (request->finished)
    return FALSE;
  return request->listener ? next_piece(request) > 0 : request->clauses.length > 0 && !request->held;
}

/* Options as speech/jobs.h reads them. */
static void add_options(GByteArray *payload, json_t *options) {
  g_autofree char *text = choir_json_dump(options);
  gsize length = strlen(text), padded = (length + 1) & ~(gsize)1;
  const guint8 size[2] = {(guint8)padded, (guint8)(padded >> 8)};
  g_byte_array_append(payload, size, 2);
  g_byte_array_append(payload, (const guint8 *)text, (guint)length);
  g_byte_array_append(payload, (const guint8 *)" ", (guint)(padded - length));
}

static gboolean send_piece(Request *request) {
  gsize n = next_piece(request);
  json_auto_t *options = json_object();
  if (request->language)
    json_object_set_new(options, "language", json_string(request->language));
  if (request->prompt)
    json_object_set_new(options, "prompt", json_string(request->prompt));
  json_object_set_new(options, "segments", json_boolean(request->segments));
  g_autoptr(GByteArray) payload = g_byte_array_new();
  add_options(payload, options);
  g_byte_array_append(payload, (const guint8 *)(gpointer)request->samples->data, (guint)(n * sizeof(gint16)));
  request->in_flight = n;
  return choir_worker_send(request->line->worker, CHOIR_WIRE_STT_JOB, CHOIR_JOB_BACKGROUND | CHOIR_JOB_OPTIONS,
                           request->session, request->gen, 0, payload->data, payload->len);
}

static gboolean send_clause(Request *request) {
  g_autofree char *clause = g_queue_pop_head(&request->clauses);
  json_auto_t *options = json_pack("{s:f}", "speed", request->speed);
  g_autoptr(GByteArray) payload = g_byte_array_new();
  add_options(payload, options);
  g_byte_array_append(payload, (const guint8 *)clause, (guint)strlen(clause));
  return choir_worker_send(request->line->worker, CHOIR_WIRE_TTS_JOB, CHOIR_JOB_BACKGROUND | CHOIR_JOB_OPTIONS,
                           request->session, request->gen, request->gen, payload->data, payload->len);
}

static gboolean on_finished(gpointer data) {
  Request *request = data;
  request->idle = 0;
  g_autoptr(GError) error = g_steal_pointer(&request->error);
  gpointer user = request->user;
  void (*done)(const GError *, gpointer) = request->listener ? request->listener->done : request->speaker->done;
  request_free(request);
  done(error, user);
  return G_SOURCE_REMOVE;
}

/* Takes the error. */
static void finish(Request *request, GError *error) {
  if (request->finished) {
    g_clear_error(&error);
    return;
  }
  request->finished = TRUE;
  request->error = error;
  request->idle = g_idle_add(on_finished, request);
}

static GError *unavailable(const Line *line, const char *what) {
  return g_error_new(CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_UNAVAILABLE, "%s %s; 'choir status' says why", line->missing,
                     what);
}

static void finish_if_empty(Request *request) {
  gboolean left = request->listener ? request->samples->len > 0 : request->clauses.length > 0;
  if (request->ended && !left && request->line->current != request)
    finish(request, NULL);
}

static void serve(Line *line) {
  if (line->current || !line->worker || !choir_worker_ready(line->worker))
    return;
  for (GList *link = line->open.head; link; link = link->next) {
    Request *request = link->data;
    if (!has_work(request))
      continue;
    g_queue_unlink(&line->open, link);
    g_queue_push_tail_link(&line->open, link);
    request->gen++;
    line->current = request;
    if (request->listener ? send_piece(request) : send_clause(request))
      return;
    line->current = NULL;
    finish(request, unavailable(line, "takes nothing more at the moment"));
    return;
  }
}

/* --- requests --- */

static Request *request_new(ChoirDesk *desk, int kind, gpointer user, GError **error) {
  Line *line = &desk->lines[kind];
  GError *problem = NULL;
  if (!line->worker || !choir_worker_ready(line->worker))
    problem = unavailable(line, "is not ready");
  else if (line->open.length >= CHOIR_DESK_OPEN)
    problem = g_error_new(CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_BUSY,
                          "%u requests for %s are open already; try again later", line->open.length, line->missing);
  if (problem) {
    choir_counter_add(line->refused, 1);
    g_propagate_error(error, problem);
    return NULL;
  }
  Request *request = g_new0(Request, 1);
  *request = (Request){.desk = desk, .line = line, .user = user, .session = SESSIONS | ++desk->sessions};
  g_queue_init(&request->clauses);
  /* In front of those that were served: a short question does not wait for all pieces of a long recording. */
  g_queue_push_head(&line->open, request);
  choir_counter_add(line->total, 1);
  choir_gauge_set(line->open_gauge, line->open.length);
  return request;
}

static void cancel(Request *request) {
  Line *line = request->line;
  gboolean at_work = line->current == request;
  if (at_work)
    (void)choir_worker_send(line->worker, line->cancel, 0, request->session, request->gen, 0, NULL, 0);
  request_free(request);
  if (at_work)
    serve(line);
}

ChoirDeskListen *choir_desk_listen(ChoirDesk *desk, const ChoirDeskWish *wish, const ChoirDeskListenHandlers *handlers,
                                   gpointer user, GError **error) {
  Request *request = request_new(desk, LISTEN, user, error);
  if (!request)
    return NULL;
  request->listener = handlers;
  request->language = g_strdup(wish->language);
  request->prompt = g_strdup(wish->prompt);
  request->segments = wish->segments;
  request->piece = (gsize)(wish->piece_ms > 0 ? MIN(wish->piece_ms, PIECE_MS) : PIECE_MS) * CHOIR_RATE_MIC / 1000;
  request->samples = g_array_new(FALSE, FALSE, sizeof(gint16));
  return (ChoirDeskListen *)request;
}

static gboolean is_full(const Request *request) {
  return request->samples->len >= (guint)ENOUGH_MS * CHOIR_RATE_MIC / 1000;
}

gboolean choir_desk_listen_audio(ChoirDeskListen *listen, const gint16 *samples, gsize n) {
  Request *request = (Request *)listen;
  g_array_append_vals(request->samples, samples, (guint)n);
  serve(request->line);
  request->hungry = is_full(request);
  return !request->hungry;
}

void choir_desk_listen_end(ChoirDeskListen *listen) {
  Request *request = (Request *)listen;
  request->ended = TRUE;
  finish_if_empty(request);
  serve(request->line);
}

void choir_desk_listen_cancel(ChoirDeskListen *listen) {
  cancel((Request *)listen);
}

ChoirDeskSpeak *choir_desk_speak(ChoirDesk *desk, double speed, const ChoirDeskSpeakHandlers *handlers, gpointer user,
                                 GError **error) {
  Request *request = request_new(desk, SPEAK, user, error);
  if (!request)
    return NULL;
  request->speaker = handlers;
  request->speed = CLAMP(speed, 0.25, 4);
  return (ChoirDeskSpeak *)request;
}

void choir_desk_speak_clause(ChoirDeskSpeak *speak, const char *clause) {
  Request *request = (Request *)speak;
  g_queue_push_tail(&request->clauses, g_strdup(clause));
  serve(request->line);
}

void choir_desk_speak_end(ChoirDeskSpeak *speak) {
  Request *request = (Request *)speak;
  request->ended = TRUE;
  finish_if_empty(request);
}

void choir_desk_speak_hold(ChoirDeskSpeak *speak, gboolean hold) {
  Request *request = (Request *)speak;
  request->held = hold;
  if (!hold)
    serve(request->line);
}

void choir_desk_speak_cancel(ChoirDeskSpeak *speak) {
  cancel((Request *)speak);
}

/* --- answers --- */

/* The request's piece is done; it may have been cancelled by its own callback. */
static void next(Line *line, guint32 session) {
  if (line->current && line->current->session == session) {
    Request *request = line->current;
    line->current = NULL;
    finish_if_empty(request);
  }
  serve(line);
}

static void on_text(Line *line, Request *request, const ChoirWireFrame *frame) {
  guint32 session = request->session;
  json_auto_t *json = choir_json_parse((const char *)frame->payload, frame->length, NULL);
  if (!json) {
    finish(request, g_error_new_literal(CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_FAILED,
                                        "the recogniser's answer cannot be read; see the log under the topic stt"));
    next(line, session);
    return;
  }
  gsize n = request->in_flight;
  ChoirDeskText piece = {
      .text = choir_json_string(json, "text", ""),
      .language = choir_json_string(json, "language", "en"),
      .no_speech = choir_json_double(json, "no_speech", 0),
      .begin_ms = request->taken * 1000 / CHOIR_RATE_MIC,
      .end_ms = (request->taken + n) * 1000 / CHOIR_RATE_MIC,
      .segments = json_object_get(json, "segments"),
  };
  request->taken += n;
  request->in_flight = 0;
  g_array_remove_range(request->samples, 0, (guint)n);
  gboolean hungry = request->hungry && !is_full(request);
  if (hungry)
    request->hungry = FALSE;
  const ChoirDeskListenHandlers *listener = request->listener;
  gpointer user = request->user;
  listener->text(&piece, user);
  if (hungry && listener->hungry && line->current && line->current->session == session)
    listener->hungry(user);
  next(line, session);
}

static void on_pcm(Request *request, const ChoirWireFrame *frame) {
  gsize n = frame->length / sizeof(gint16);
  g_autofree gint16 *pcm = g_new(gint16, MAX(n, 1)); /* the frame's payload may lie at an odd address */
  if (n > 0)
    memcpy(pcm, frame->payload, n * sizeof(gint16));
  request->speaker->pcm(pcm, n, request->user);
}

gboolean choir_desk_frame(ChoirDesk *desk, const ChoirWireFrame *frame) {
  if (frame->session < SESSIONS)
    return FALSE;
  gboolean heard = frame->type == CHOIR_WIRE_STT_TEXT;
  Line *line = NULL;
  for (guint i = 0; i < KINDS; i++)
    if (desk->lines[i].current && desk->lines[i].current->session == frame->session)
      line = &desk->lines[i];
  Request *request = line ? line->current : NULL;
  if (!request || request->gen != frame->gen)
    return TRUE; /* it was cancelled */
  if (frame->type == CHOIR_WIRE_ERROR) {
    g_autofree char *why = choir_utf8((const char *)frame->payload, frame->length);
    finish(request, g_error_new_literal(CHOIR_DESK_ERROR, CHOIR_DESK_ERROR_FAILED, why));
    next(line, frame->session);
  } else if (heard && request->listener) {
    on_text(line, request, frame);
  } else if (frame->type == CHOIR_WIRE_TTS_PCM && request->speaker && !request->finished) {
    on_pcm(request, frame);
  } else if (frame->type == CHOIR_WIRE_TTS_DONE && request->speaker) {
    next(line, frame->session);
  }
  return TRUE;
}

static Line *line_of(ChoirDesk *desk, const ChoirWorker *worker) {
  for (guint i = 0; i < KINDS; i++)
    if (desk->lines[i].worker == worker)
      return &desk->lines[i];
  return NULL;
}

void choir_desk_worker_state(ChoirDesk *desk, ChoirWorker *worker, gboolean ready) {
  Line *line = line_of(desk, worker);
  if (!line || ready)
    return;
  line->current = NULL;
  for (GList *link = line->open.head; link; link = link->next)
    finish(link->data, unavailable(line, "stopped"));
}

void choir_desk_set_workers(ChoirDesk *desk, ChoirWorker *stt, ChoirWorker *tts) {
  desk->lines[LISTEN].worker = stt;
  desk->lines[SPEAK].worker = tts;
}

static json_t *info(const Line *line) {
  const char *text = line->worker ? choir_worker_info(line->worker) : NULL;
  json_t *json = text ? choir_json_parse(text, strlen(text), NULL) : NULL;
  return json ? json : json_object();
}

json_t *choir_desk_stt_info(const ChoirDesk *desk) {
  return info(&desk->lines[LISTEN]);
}

json_t *choir_desk_tts_info(const ChoirDesk *desk) {
  return info(&desk->lines[SPEAK]);
}

gboolean choir_desk_stt_ready(const ChoirDesk *desk) {
  return desk->lines[LISTEN].worker && choir_worker_ready(desk->lines[LISTEN].worker);
}

gboolean choir_desk_tts_ready(const ChoirDesk *desk) {
  return desk->lines[SPEAK].worker && choir_worker_ready(desk->lines[SPEAK].worker);
}
