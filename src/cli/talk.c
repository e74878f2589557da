/* `choir talk`: plays a script into a running daemon in real time and records both sides sample by sample. One clock
 * drives everything: at each tick the samples that are due are taken from the caller's recording, sent, and the same
 * number is pulled from the listener's player, so left and right of the file are what was said and heard at that
 * moment. */
#include <glib-unix.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "audio/resample.h"
#include "audio/wav.h"
#include "base/names.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/talk_measure.h"
#include "cli/talk_player.h"
#include "cli/talk_script.h"
#include "cli/wsclient.h"

#define NAME "talk"
#define RATE CHOIR_RATE_OUT
#define STEP (RATE / 100) /* 10 ms */
#define SEND_STEPS 2      /* the microphone's frames are 20 ms */
#define ACK_STEPS 3       /* playout reports every 30 ms, as the page's */
#define TAIL_STEPS 50     /* recorded after the last instruction */
#define WARM_SECONDS 300
#define AUDIBLE 0.00316 /* -50 dBFS */

static char *option_url, *option_data;
static gboolean option_json, option_no_acks;

static const GOptionEntry entries[] = {
    {"data", 'd', 0, G_OPTION_ARG_FILENAME, &option_data, "folder of recordings that are not beside the script", "DIR"},
    {"no-acks", 0, 0, G_OPTION_ARG_NONE, &option_no_acks,
     "behave like a stock client: no playout reports, and what was received is played to its end", NULL},
    {"json", 0, 0, G_OPTION_ARG_NONE, &option_json, "the figures as one JSON line", NULL},
    {"url", 'u', 0, G_OPTION_ARG_STRING, &option_url, "address of the daemon (default: $CHOIR_URL, else this machine)",
     "URL"},
    G_OPTION_ENTRY_NULL,
};

static const char description[] =
    "OUT.wav gets the caller on the left and, on the right, the agent as a listener hears it; gaps are silence.\n"
    "Voice to voice and interruption to silence are computed from that recording (-50 dBFS for 20 ms).\n\n"
    "The script, one instruction a line:\n"
    "  play FILE.wav                     speak a recording\n"
    "  wait agent [10s]                  until the agent is heard\n"
    "  wait silence [700ms] [30s]        until nothing is heard and no answer is being made\n"
    "  after agent 700ms play FILE.wav   speak over the agent, 700 ms after it began\n"
    "  sleep 500ms                       let time pass\n"
    "  say-text \"Good morning\"           a typed turn\n"
    "  timeout 60s                       longest time of the whole script (120 s without it)\n\n"
    "Examples:\n"
    "  choir talk hello.talk hello.wav\n"
    "  choir talk --json --data ~/.cache/choir/data tests/e2e/talk/interrupt.talk out.wav\n"
    "  choir talk --no-acks hello.talk stock.wav\n\n"
    "Exit codes: 0 the script ran to its end, 1 it did not (what was recorded is written all the same), 2 wrong "
    "usage,\n"
    "130 interrupted.\n";

typedef struct {
  ChoirWsClient *client;
  GMainLoop *loop;
  ChoirTalkScript *script;
  ChoirTalkPlayer *player;
  GHashTable *clips; /* path -> GArray of gint16 at RATE */
  GArray *stereo;    /* the recording so far */
  GArray *turns;     /* of ChoirTalkSpan: what was played */
  GArray *frame;     /* microphone samples not yet sent */
  json_t *transcript;
  gint64 began;       /* g_get_monotonic_time() of the first sample */
  gint64 now;         /* frames recorded */
  gint64 late;        /* longest time a tick came after its moment, us */
  guint step;         /* instruction that runs */
  gboolean entered;   /* it has begun */
  gint64 since;       /* frame at which it did */
  gint64 last_heard;  /* frame after the last one on which the agent was audible, -1 before */
  gint64 turn_end;    /* frame at which the last recording ended */
  const GArray *clip; /* what is being spoken, NULL when nothing is */
  gsize clip_at;
  guint loud; /* audible steps in a row */
  guint tail;
  guint64 acked;
  guint told_underruns;
  gboolean active; /* an answer is being made */
  gboolean running;
  gboolean truncated;
  GString *reply;
  int code;
  char *problem;
} Talk;

static void stop(Talk *talk, int code, const char *problem) {
  if (talk->problem == NULL && problem)
    talk->problem = g_strdup(problem);
  talk->code = MAX(talk->code, code);
  g_main_loop_quit(talk->loop);
}

static const ChoirTalkStep *current(const Talk *talk) {
  return talk->step < talk->script->steps->len ? talk->script->steps->pdata[talk->step] : NULL;
}

static void said(Talk *talk, const char *role, const char *text) {
  if (text && *text)
    json_array_append_new(talk->transcript, json_pack("{s:s,s:s,s:i}", "role", role, "text", text, "at_ms",
                                                      (int)(talk->now * 1000 / RATE)));
}

/* --- what the daemon says ------------------------------------------------------------------------------------------
 */

static void on_audio(Talk *talk, const json_t *event) {
  const char *delta = choir_json_string(event, "delta", ""), *item = choir_json_string(event, "item_id", "");
  gsize length;
  g_autofree guchar *bytes = g_base64_decode(delta, &length);
  choir_talk_player_add(talk->player, item, (const gint16 *)(gpointer)bytes, length / sizeof(gint16));
}

static void on_response_done(Talk *talk, const json_t *event) {
  const json_t *response = json_object_get(event, "response");
  const char *status = choir_json_string(response, "status", "failed");
  talk->active = FALSE;
  said(talk, "agent", talk->reply->str);
  g_string_truncate(talk->reply, 0);
  if (strcmp(status, "failed") == 0) {
    const json_t *why = json_object_get(json_object_get(response, "status_details"), "error");
    stop(talk, CHOIR_CLI_FAILED,
         choir_json_string(why, "message", "the answer failed; choir status says what is missing"));
  }
}

static void on_event(const json_t *event, const char *type, gpointer user) {
  Talk *talk = user;
  if (strcmp(type, "session.updated") == 0 && !talk->running) {
    talk->running = TRUE;
    talk->began = g_get_monotonic_time();
  } else if (strcmp(type, "response.output_audio.delta") == 0) {
    on_audio(talk, event);
  } else if (strcmp(type, "response.output_audio.done") == 0) {
    choir_talk_player_end(talk->player, choir_json_string(event, "item_id", ""));
  } else if (strcmp(type, "response.output_audio_transcript.delta") == 0) {
    g_string_append(talk->reply, choir_json_string(event, "delta", ""));
  } else if (strcmp(type, "response.created") == 0) {
    talk->active = TRUE;
  } else if (strcmp(type, "response.done") == 0) {
    on_response_done(talk, event);
  } else if (strcmp(type, "input_audio_buffer.speech_started") == 0) {
    if (!option_no_acks)
      choir_talk_player_flush(talk->player);
  } else if (strcmp(type, "conversation.item.truncated") == 0) {
    said(talk, "heard", choir_json_string(event, "text", NULL));
    if (!option_no_acks)
      choir_talk_player_flush(talk->player);
    else
      choir_talk_player_end(talk->player, choir_json_string(event, "item_id", ""));
  } else if (strcmp(type, "conversation.item.input_audio_transcription.completed") == 0) {
    said(talk, "caller", choir_json_string(event, "transcript", NULL));
  } else if (strcmp(type, "error") == 0) {
    const char *message = choir_json_string(json_object_get(event, "error"), "message", "the daemon reported an error");
    stop(talk, CHOIR_CLI_FAILED, message);
  }
}

static void on_open(gpointer user) {
  Talk *talk = user;
  choir_wsclient_send(talk->client, json_pack("{s:s,s:{s:s,s:[s],s:{s:{s:{s:s,s:i}}}}}", "type", "session.update",
                                              "session", "type", "realtime", "output_modalities", "audio", "audio",
                                              "input", "format", "type", "audio/pcm", "rate", RATE));
}

static void on_closed(const char *why, gpointer user) {
  stop(user, CHOIR_CLI_FAILED, why);
}

/* --- the script ----------------------------------------------------------------------------------------------------
 */

static gboolean audible(const Talk *talk) {
  return talk->last_heard > talk->turn_end && talk->now - talk->last_heard < RATE / 5;
}

static gboolean quiet_for(const Talk *talk, guint ms) {
  gint64 since = MAX(MAX(talk->last_heard, talk->turn_end), talk->since);
  return !talk->active && choir_talk_player_empty(talk->player) && talk->now - since >= (gint64)ms * RATE / 1000;
}

static void enter(Talk *talk, const ChoirTalkStep *step) {
  talk->entered = TRUE;
  talk->since = talk->now;
  if (step->kind == CHOIR_TALK_PLAY) {
    talk->clip = g_hash_table_lookup(talk->clips, step->text);
    talk->clip_at = 0;
    ChoirTalkSpan span = {talk->now, talk->now + talk->clip->len};
    g_array_append_val(talk->turns, span);
  } else if (step->kind == CHOIR_TALK_SAY_TEXT) {
    said(talk, "caller", step->text);
    choir_wsclient_send(talk->client,
                        json_pack("{s:s,s:{s:s,s:s,s:[{s:s,s:s}]}}", "type", "conversation.item.create", "item", "type",
                                  "message", "role", "user", "content", "type", "input_text", "text", step->text));
    choir_wsclient_send(talk->client, json_pack("{s:s}", "type", "response.create"));
  }
}

static gboolean step_done(Talk *talk, const ChoirTalkStep *step) {
  gint64 waited = (talk->now - talk->since) * 1000 / RATE;
  switch (step->kind) {
  case CHOIR_TALK_PLAY:
    return talk->clip == NULL;
  case CHOIR_TALK_SLEEP:
    return waited >= step->ms;
  case CHOIR_TALK_SAY_TEXT:
    return TRUE;
  case CHOIR_TALK_WAIT_AGENT:
  case CHOIR_TALK_WAIT_SILENCE:
    break;
  }
  gboolean agent = step->kind == CHOIR_TALK_WAIT_AGENT;
  if (agent ? audible(talk) : quiet_for(talk, step->ms))
    return TRUE;
  if (waited >= step->limit_ms) {
    g_autofree char *problem =
        g_strdup_printf("line %u: %s within %u ms", step->line,
                        agent ? "the agent was not heard" : "it did not get silent", step->limit_ms);
    stop(talk, CHOIR_CLI_FAILED, problem);
  }
  return FALSE;
}

static void advance(Talk *talk) {
  for (const ChoirTalkStep *step = current(talk); step; step = current(talk)) {
    if (!talk->entered)
      enter(talk, step);
    if (!step_done(talk, step))
      break;
    talk->entered = FALSE;
    talk->step++;
  }
  if (!current(talk) && ++talk->tail >= TAIL_STEPS)
    stop(talk, CHOIR_CLI_OK, NULL);
  if (talk->now * 1000 / RATE >= talk->script->timeout_ms && current(talk)) {
    g_autofree char *problem =
        g_strdup_printf("line %u: the script's time of %u ms is over", current(talk)->line, talk->script->timeout_ms);
    stop(talk, CHOIR_CLI_FAILED, problem);
  }
}

/* --- the clock -----------------------------------------------------------------------------------------------------
 */

static void speak(Talk *talk, gint16 *left) {
  gsize n = talk->clip ? MIN(STEP, talk->clip->len - talk->clip_at) : 0;
  if (n > 0)
    memcpy(left, (const gint16 *)(gconstpointer)talk->clip->data + talk->clip_at, n * sizeof(gint16));
  memset(left + n, 0, (STEP - n) * sizeof(gint16));
  talk->clip_at += n;
  if (talk->clip && talk->clip_at >= talk->clip->len) {
    talk->clip = NULL;
    talk->turn_end = talk->now + STEP;
  }
  g_array_append_vals(talk->frame, left, STEP);
  if (talk->frame->len >= SEND_STEPS * STEP) {
    g_autofree char *audio = g_base64_encode((const guchar *)talk->frame->data, talk->frame->len * sizeof(gint16));
    choir_wsclient_send(talk->client, json_pack("{s:s,s:s}", "type", "input_audio_buffer.append", "audio", audio));
    g_array_set_size(talk->frame, 0);
  }
}

static void acknowledge(Talk *talk) {
  guint64 played;
  const char *item = choir_talk_player_position(talk->player, &played);
  guint underruns = choir_talk_player_underruns(talk->player);
  if (option_no_acks || !item || (played == talk->acked && underruns == talk->told_underruns))
    return;
  choir_wsclient_send(talk->client,
                      json_pack("{s:s,s:s,s:I,s:i}", "type", "choir.playout", "item_id", item, "played_samples",
                                (json_int_t)played, "underruns", (int)(underruns - talk->told_underruns)));
  talk->acked = played;
  talk->told_underruns = underruns;
}

static void one_step(Talk *talk) {
  gint16 left[STEP], right[STEP], both[STEP * 2];
  speak(talk, left);
  choir_talk_player_pull(talk->player, right, STEP);
  for (gsize i = 0; i < STEP; i++) {
    both[i * 2] = left[i];
    both[i * 2 + 1] = right[i];
  }
  g_array_append_vals(talk->stereo, both, STEP * 2);
  talk->now += STEP;
  talk->loud = choir_pcm_rms(right, STEP) > AUDIBLE ? talk->loud + 1 : 0;
  if (talk->loud >= 2)
    talk->last_heard = talk->now;
  if (talk->now / STEP % ACK_STEPS == 0)
    acknowledge(talk);
  advance(talk);
}

static gboolean on_tick(gpointer user) {
  Talk *talk = user;
  if (!talk->running)
    return G_SOURCE_CONTINUE;
  gint64 elapsed = g_get_monotonic_time() - talk->began;
  gint64 due = elapsed * RATE / G_USEC_PER_SEC;
  talk->late = MAX(talk->late, elapsed - talk->now * G_USEC_PER_SEC / RATE);
  while (talk->now + STEP <= due && g_main_loop_is_running(talk->loop))
    one_step(talk);
  return G_SOURCE_CONTINUE;
}

static gboolean on_interrupt(gpointer user) {
  stop(user, CHOIR_CLI_INTERRUPTED, "interrupted");
  return G_SOURCE_CONTINUE;
}

/* --- beginning and end ---------------------------------------------------------------------------------------------
 */

/* Every recording of the script as mono at RATE. */
static gboolean load_clips(Talk *talk, GError **error) {
  for (guint i = 0; i < talk->script->steps->len; i++) {
    const ChoirTalkStep *step = talk->script->steps->pdata[i];
    if (step->kind != CHOIR_TALK_PLAY || g_hash_table_contains(talk->clips, step->text))
      continue;
    ChoirWav wav = {0};
    if (!choir_wav_read(step->text, &wav, error)) {
      g_prefix_error(error, "line %u: %s: ", step->line, step->text);
      return FALSE;
    }
    for (gsize frame = 0; frame < wav.frames; frame++) { /* mixed down in place */
      gint sum = 0;
      for (guint channel = 0; channel < wav.channels; channel++)
        sum += wav.samples[frame * wav.channels + channel];
      wav.samples[frame] = (gint16)(sum / (gint)MAX(wav.channels, 1));
    }
    GArray *clip = g_array_new(FALSE, FALSE, sizeof(gint16));
    ChoirResampler *resampler = choir_resampler_new(wav.rate, RATE);
    choir_resampler_run(resampler, wav.samples, wav.frames, clip);
    choir_resampler_free(resampler);
    choir_wav_clear(&wav);
    g_hash_table_insert(talk->clips, g_strdup(step->text), clip);
  }
  return TRUE;
}

static gboolean wait_warm(const char *url, GError **error) {
  gboolean said_so = FALSE;
  for (int i = 0; i < WARM_SECONDS * 2; i++) {
    g_autoptr(GError) inner = NULL;
    json_auto_t *health = choir_cli_request(url, "/health", NULL, 5000, NULL);
    if (health)
      return TRUE;
    json_auto_t *status = choir_cli_request(url, "/api/status", NULL, 5000, &inner);
    if (!status) {
      g_propagate_error(error, g_steal_pointer(&inner));
      return FALSE;
    }
    if (!said_so)
      fprintf(stderr, "choir talk: the language model is still loading; waiting\n");
    said_so = TRUE;
    g_usleep(500000);
  }
  g_set_error(error, CHOIR_TALK_ERROR, 0, "the language model did not get ready in %d s; choir status says why",
              WARM_SECONDS);
  return FALSE;
}

static void print_numbers(const char *title, const json_t *numbers) {
  size_t i;
  json_t *number;
  printf("%-24s", title);
  json_array_foreach(numbers, i, number) printf(" %" JSON_INTEGER_FORMAT " ms", json_integer_value(number));
  printf(json_array_size(numbers) ? "\n" : " none\n");
}

static void print_figures(Talk *talk, const char *out) {
  g_autoptr(ChoirTalkFigures) figures =
      choir_talk_measure((const gint16 *)(gpointer)talk->stereo->data, talk->stereo->len / 2, RATE, talk->turns);
  json_auto_t *json = choir_talk_figures_json(figures, RATE);
  json_object_set_new(json, "recording", json_string(out));
  json_object_set_new(json, "length_ms", json_integer(talk->now * 1000 / RATE));
  json_object_set_new(json, "underruns", json_integer(choir_talk_player_underruns(talk->player)));
  json_object_set_new(json, "clock_late_ms", json_integer(talk->late / 1000));
  json_object_set(json, "transcript", talk->transcript);
  if (option_json) {
    g_autofree char *line = choir_json_dump(json);
    printf("%s\n", line);
    return;
  }
  size_t i;
  json_t *entry;
  json_array_foreach(talk->transcript, i, entry)
      printf("%7.1f s  %-6s %s\n", (double)choir_json_int(entry, "at_ms", 0) / 1000,
             choir_json_string(entry, "role", ""), choir_json_string(entry, "text", ""));
  print_numbers("voice to voice", json_object_get(json, "voice_to_voice_ms"));
  print_numbers("interruption to silence", json_object_get(json, "interruption_to_silence_ms"));
  printf("%-24s %u gaps, %u cut-ins; %.1f s in %s\n", "listener", choir_talk_player_underruns(talk->player),
         figures->cut_in, (double)talk->now / RATE, out);
}

static int run(Talk *talk, const char *url, const char *out) {
  static const ChoirWsClientHandlers handlers = {.open = on_open, .event = on_event, .closed = on_closed};
  const char *path = option_no_acks ? "/v1/realtime?source=cli" : "/v1/realtime?choir=1&source=cli";
  guint interrupt = g_unix_signal_add(SIGINT, on_interrupt, talk);
  guint tick = g_timeout_add(STEP * 1000 / RATE, on_tick, talk);
  talk->client = choir_wsclient_open(url, path, &handlers, talk);
  if (talk->code == CHOIR_CLI_OK)
    g_main_loop_run(talk->loop);
  choir_wsclient_free(talk->client);
  g_source_remove(tick);
  g_source_remove(interrupt);
  if (talk->now > 0) {
    g_autoptr(GError) error = NULL;
    print_figures(talk, out);
    if (!choir_wav_write(out, (const gint16 *)(gpointer)talk->stereo->data, talk->stereo->len / 2, 2, RATE, &error))
      return choir_cli_fail(NAME, "%s", error->message);
  }
  if (talk->problem)
    choir_cli_fail(NAME, "%s", talk->problem);
  return talk->code;
}

static gboolean prepare(Talk *talk, const char *path, const char *url, GError **error) {
  g_autofree char *text = NULL;
  g_autofree char *folder = g_path_get_dirname(path);
  if (!g_file_get_contents(path, &text, NULL, error))
    return FALSE;
  talk->script = choir_talk_script_parse(text, folder, option_data, error);
  if (!talk->script) {
    g_prefix_error(error, "%s: ", path);
    return FALSE;
  }
  return load_clips(talk, error) && wait_warm(url, error);
}

int choir_talk_main(int argc, char **argv) {
  if (!choir_cli_parse(NAME, "SCRIPT OUT.wav", description, entries, &argc, &argv))
    return CHOIR_CLI_USAGE;
  if (argc != 3)
    return choir_cli_usage(NAME, "a script and the name of the recording are needed");
  signal(SIGPIPE, SIG_IGN);
  g_autofree char *url = choir_cli_url(option_url);
  g_autoptr(GError) error = NULL;
  Talk talk = {
      .loop = g_main_loop_new(NULL, FALSE), .player = choir_talk_player_new(), .last_heard = -1, .turn_end = -1};
  talk.clips = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_array_unref);
  talk.stereo = g_array_new(FALSE, FALSE, sizeof(gint16));
  talk.turns = g_array_new(FALSE, FALSE, sizeof(ChoirTalkSpan));
  talk.frame = g_array_new(FALSE, FALSE, sizeof(gint16));
  talk.reply = g_string_new(NULL);
  talk.transcript = json_array();
  int code =
      prepare(&talk, argv[1], url, &error) ? run(&talk, url, argv[2]) : choir_cli_fail(NAME, "%s", error->message);
  choir_talk_script_free(talk.script);
  choir_talk_player_free(talk.player);
  g_hash_table_unref(talk.clips);
  g_array_unref(talk.stereo);
  g_array_unref(talk.turns);
  g_array_unref(talk.frame);
  g_string_free(talk.reply, TRUE);
  g_free(talk.problem);
  json_decref(talk.transcript);
  g_main_loop_unref(talk.loop);
  return code;
}
