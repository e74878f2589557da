/* choir-card: the machine's own microphone and loudspeaker for choir serve. Frames of speech/wire.h on a descriptor;
 * exits at its end, and when a device is gone: the daemon starts it again, later and later. */
#include "audio/card.h"
#include "speech/runner.h"
#include <string.h>
#include <unistd.h>

static int fd = 3;

static void on_heard(const gint16 *pcm, gsize n, gpointer user) {
  choir_runner_send(fd, CHOIR_WIRE_CARD_HEARD, NULL, 0, pcm, n * sizeof *pcm);
}

static void on_played(guint32 item, guint64 samples, guint underruns, gpointer user) {
  const ChoirWireFrame about = {.gen = item};
  guint32 payload = GUINT32_TO_LE(underruns);
  choir_runner_send(fd, CHOIR_WIRE_CARD_PLAYED, &about, (guint32)samples, &payload, sizeof payload);
}

static void on_failed(const char *why, gpointer user) {
  choir_runner_error(fd, NULL, "%s", why);
  _exit(1);
}

static void handle(ChoirCard *card, const ChoirWireFrame *frame) {
  gint16 pcm[4096];
  switch (frame->type) {
  case CHOIR_WIRE_CARD_PLAY:
    for (gsize at = 0; at + 1 < frame->length; at += sizeof pcm) {
      gsize bytes = MIN(frame->length - at, sizeof pcm) & ~(gsize)1;
      memcpy(pcm, frame->payload + at, bytes); /* the payload need not be aligned */
      choir_card_play(card, frame->gen, pcm, bytes / 2);
    }
    break;
  case CHOIR_WIRE_CARD_END:
    choir_card_end(card, frame->gen);
    break;
  case CHOIR_WIRE_CARD_FLUSH:
    choir_card_flush(card);
    break;
  case CHOIR_WIRE_CARD_PAUSE:
    choir_card_pause(card);
    break;
  case CHOIR_WIRE_CARD_RESUME:
    choir_card_resume(card, frame->gen, frame->aux);
    break;
  default:
    choir_runner_error(fd, frame, "frame type %u is not for choir-card", frame->type);
  }
}

int main(int argc, char **argv) {
  choir_runner_init("choir-card");
  g_autofree char *microphone = NULL, *speaker = NULL;
  gboolean no_echo = FALSE;
  const GOptionEntry entries[] = {
      {"microphone", 0, 0, G_OPTION_ARG_STRING, &microphone, "ALSA device to record from (default: default)", "NAME"},
      {"speaker", 0, 0, G_OPTION_ARG_STRING, &speaker, "ALSA device to play to (default: none)", "NAME"},
      {"no-echo-cancellation", 0, 0, G_OPTION_ARG_NONE, &no_echo, "take the microphone as it is", NULL},
      {"fd", 0, 0, G_OPTION_ARG_INT, &fd, "descriptor of the frames (default 3)", "N"},
      G_OPTION_ENTRY_NULL,
  };
  choir_runner_options(&argc, &argv, entries, "Hears and plays on this machine's sound card, for choir serve.");
  const ChoirCardOptions options = {
      .microphone = microphone ? microphone : "default", .speaker = speaker, .echo = !no_echo};
  const ChoirCardCallbacks callbacks = {.heard = on_heard, .played = on_played, .failed = on_failed};
  g_autoptr(GError) error = NULL;
  double start = choir_runner_wall_ms();
  ChoirCard *card = choir_card_open(&options, &callbacks, NULL, &error);
  if (!card) {
    choir_runner_error(fd, NULL, "%s", error->message);
    return 1;
  }
  g_autofree char *detail = choir_card_describe(card);
  choir_runner_ready(fd, "alsa", options.microphone, choir_runner_wall_ms() - start, detail);
  g_autoptr(GByteArray) buffer = g_byte_array_new();
  ChoirWireFrame frame = {0};
  while (choir_runner_read(fd, buffer, &frame))
    handle(card, &frame);
  choir_card_free(card);
  return 0;
}
