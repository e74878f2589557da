/* choir-codec: turns sound files into 16 kHz samples and samples into sound files, by libsndfile. It runs once for each
 * file, outside of the daemon: what a stranger sent is parsed here, with no rights and little memory. Standard input to
 * standard output; on failure one sentence on standard error and exit code 1. */
#include "audio/pcm.h"
#include "audio/resample.h"
#include "base/names.h"
#include "speech/runner.h"
#include <errno.h>
#include <math.h>
#include <sndfile.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define FILE_MAX (64u << 20)
#define BLOCK 4096
#define PAGE_MS 100.0 /* of an Ogg stream: what a listener waits for */
#define RATE_MAX 768000

typedef struct {
  const guint8 *data;
  sf_count_t length, at;
} Memory;

/* A pipe, to a library that goes back to mend its headers: what it writes there is dropped, and the file says that its
 * length is unknown, as streams do. */
typedef struct {
  sf_count_t at, written;
} Pipe;

static G_GNUC_NORETURN void give_up(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static gboolean write_all(const void *data, gsize length) {
  const guint8 *p = data;
  while (length > 0) {
    ssize_t n = write(STDOUT_FILENO, p, length);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return FALSE;
    p += n;
    length -= (gsize)n;
  }
  return TRUE;
}

/* Bytes read, 0 at the end. */
static gsize read_some(void *data, gsize length) {
  for (;;) {
    ssize_t n = read(STDIN_FILENO, data, length);
    if (n >= 0)
      return (gsize)n;
    if (errno != EINTR)
      give_up("the input cannot be read");
  }
}

static void limit(int what, rlim_t value) {
  const struct rlimit both = {.rlim_cur = value, .rlim_max = value};
  setrlimit(what, &both);
}

static void drop_rights(void) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NOFILE, 3); /* nothing can be opened */
  limit(RLIMIT_CPU, 600);
#if !defined(__SANITIZE_ADDRESS__)
  limit(RLIMIT_AS, 512u << 20);
#endif
}

/* --- decode --- */

static sf_count_t memory_length(void *user) {
  return ((Memory *)user)->length;
}

static sf_count_t memory_seek(sf_count_t offset, int whence, void *user) {
  Memory *memory = user;
  sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? memory->at : memory->length;
  memory->at = CLAMP(base + offset, 0, memory->length);
  return memory->at;
}

static sf_count_t memory_read(void *target, sf_count_t count, void *user) {
  Memory *memory = user;
  count = CLAMP(count, 0, memory->length - memory->at);
  memcpy(target, memory->data + memory->at, (size_t)count);
  memory->at += count;
  return count;
}

static sf_count_t memory_write(const void *data, sf_count_t count, void *user) {
  return 0;
}

static sf_count_t memory_tell(void *user) {
  return ((Memory *)user)->at;
}

static SF_VIRTUAL_IO memory_io = {
    .get_filelen = memory_length, .seek = memory_seek, .read = memory_read, .write = memory_write, .tell = memory_tell};

static GByteArray *read_file(void) {
  GByteArray *bytes = g_byte_array_new();
  static guint8 chunk[65536];
  gsize n;
  while ((n = read_some(chunk, sizeof chunk)) > 0) {
    if (bytes->len + n > FILE_MAX)
      give_up("the file is larger than 64 MB");
    g_byte_array_append(bytes, chunk, (guint)n);
  }
  return bytes;
}

static SNDFILE *open_file(Memory *memory, SF_INFO *info) {
  if (memory->length == 0)
    give_up("the file is empty");
  SNDFILE *file = sf_open_virtual(&memory_io, SFM_READ, info, memory);
  if (!file)
    give_up("the file is no sound that can be read: WAV, FLAC, Ogg Opus, Ogg Vorbis, MP3, AIFF and AU can");
  if (info->channels < 1 || info->channels > CHOIR_PCM_CHANNELS_MAX)
    give_up("the file has more than 8 channels");
  if (info->samplerate < 4000 || info->samplerate > RATE_MAX)
    give_up("the file's sample rate is not between 4000 and 768000");
  return file;
}

/* Floats, so that a louder file than full scale is clipped and not wrapped. */
static void mix(const float *in, gsize frames, int channels, gint16 *out) {
  for (gsize i = 0; i < frames; i++) {
    float sum = 0;
    for (int c = 0; c < channels; c++)
      sum += in[i * (gsize)channels + (gsize)c];
    float value = sum / (float)channels * 32768.0f;
    out[i] = isfinite(value) ? (gint16)lrintf(CLAMP(value, -32768.0f, 32767.0f)) : 0;
  }
}

static int too_long(int seconds_max) {
  fprintf(stderr, "the recording is longer than %d seconds; send it in parts\n", seconds_max);
  return 2;
}

static int decode(int seconds_max) {
  g_autoptr(GByteArray) bytes = read_file();
  Memory memory = {.data = bytes->data, .length = bytes->len};
  SF_INFO info = {0};
  SNDFILE *file = open_file(&memory, &info);
  ChoirResampler *resampler = choir_resampler_new((guint)info.samplerate, CHOIR_RATE_MIC);
  static float block[BLOCK * CHOIR_PCM_CHANNELS_MAX];
  static gint16 mono[BLOCK];
  g_autoptr(GArray) out = g_array_new(FALSE, FALSE, sizeof(gint16));
  guint64 most = (guint64)seconds_max * (guint64)info.samplerate, frames = 0;
  sf_count_t n;
  /* Said at once where the header tells; streams do not know their length. */
  if (info.frames > 0 && info.frames < SF_COUNT_MAX && (guint64)info.frames > most)
    return too_long(seconds_max);
  while ((n = sf_readf_float(file, block, BLOCK)) > 0) {
    frames += (guint64)n;
    if (frames > most)
      return too_long(seconds_max);
    mix(block, (gsize)n, info.channels, mono);
    choir_resampler_run(resampler, mono, (gsize)n, out);
    if (!write_all(out->data, out->len * sizeof(gint16)))
      return 1;
    g_array_set_size(out, 0);
  }
  if (frames == 0)
    give_up("the file holds no sound");
  choir_resampler_free(resampler);
  sf_close(file);
  return 0;
}

/* --- encode --- */

static sf_count_t pipe_length(void *user) {
  return ((Pipe *)user)->written;
}

static sf_count_t pipe_seek(sf_count_t offset, int whence, void *user) {
  Pipe *out = user;
  sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? out->at : out->written;
  out->at = CLAMP(base + offset, 0, out->written);
  return out->at;
}

static sf_count_t pipe_read(void *target, sf_count_t count, void *user) {
  return 0;
}

static sf_count_t pipe_write(const void *data, sf_count_t count, void *user) {
  Pipe *out = user;
  sf_count_t late = MIN(count, out->written - out->at);
  if (count > late && !write_all((const guint8 *)data + late, (gsize)(count - late)))
    exit(1);
  out->at += count;
  out->written = MAX(out->written, out->at);
  return count;
}

static sf_count_t pipe_tell(void *user) {
  return ((Pipe *)user)->at;
}

static SF_VIRTUAL_IO pipe_io = {
    .get_filelen = pipe_length, .seek = pipe_seek, .read = pipe_read, .write = pipe_write, .tell = pipe_tell};

static int encode(int format, int rate) {
  Pipe out = {0};
  SF_INFO info = {.samplerate = rate, .channels = 1, .format = format};
  SNDFILE *file = sf_open_virtual(&pipe_io, SFM_WRITE, &info, &out);
  if (!file)
    give_up("this build of libsndfile cannot write that format");
  double latency = PAGE_MS;
  sf_command(file, SFC_SET_OGG_PAGE_LATENCY_MS, &latency, sizeof latency);
  static gint16 block[BLOCK];
  gsize have = 0, n;
  while ((n = read_some((guint8 *)block + have, sizeof block - have)) > 0) {
    have += n;
    sf_count_t samples = (sf_count_t)(have / sizeof(gint16));
    if (sf_writef_short(file, block, samples) != samples)
      give_up("the encoder failed");
    have %= sizeof(gint16);
    if (have > 0)
      memcpy(block, (const guint8 *)block + (gsize)samples * sizeof(gint16), have);
  }
  return sf_close(file) == 0 ? 0 : 1;
}

int main(int argc, char **argv) {
  choir_runner_init("choir-codec");
  g_autofree char *to = NULL;
  int seconds = 3600, rate = CHOIR_RATE_OUT;
  const GOptionEntry entries[] = {
      {"encode", 0, 0, G_OPTION_ARG_STRING, &to, "samples to flac or opus; without it, a sound file to samples",
       "NAME"},
      {"rate", 0, 0, G_OPTION_ARG_INT, &rate, "of the samples to encode (default 24000)", "HZ"},
      {"max-seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "longest recording to decode (default 3600)", "N"},
      G_OPTION_ENTRY_NULL,
  };
  choir_runner_options(&argc, &argv, entries,
                       "Sound files to 16-bit mono samples of 16 kHz and back, standard input to standard output.");
  int format = !to                       ? 0
               : g_str_equal(to, "flac") ? SF_FORMAT_FLAC | SF_FORMAT_PCM_16
               : g_str_equal(to, "opus") ? SF_FORMAT_OGG | SF_FORMAT_OPUS
                                         : -1;
  if (format < 0 || seconds < 1) {
    choir_runner_log("%s is no format; choose flac or opus", to ? to : "");
    return 2;
  }
  drop_rights();
  return to ? encode(format, rate) : decode(seconds);
}
