#include "audio/wav.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* Format: "Multimedia Programming Interface and Data Specifications 1.0" (IBM/Microsoft, 1991); the extensible form and
 * its sub-format GUIDs are from Microsoft's mmreg.h. All numbers are little endian. */
#define FORMAT_PCM 1
#define FORMAT_FLOAT 3
#define FORMAT_EXTENSIBLE 0xfffe
#define MAX_RATE 384000
#define MAX_SECONDS (30 * 60)
#define MAX_FILE (G_GUINT64_CONSTANT(2) << 30)

typedef struct {
  guint format, channels, rate, bits;
  const guint8 *data;
  gsize data_length;
} Layout;

GQuark choir_audio_error_quark(void) {
  return g_quark_from_static_string("choir-audio-error");
}

static guint u16(const guint8 *p) {
  return p[0] | (guint)p[1] << 8;
}

static guint32 u32(const guint8 *p) {
  return p[0] | (guint32)p[1] << 8 | (guint32)p[2] << 16 | (guint32)p[3] << 24;
}

static gboolean fail(GError **error, const char *what) {
  g_set_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_FORMAT, "WAV: %s", what);
  return FALSE;
}

static gboolean read_format(const guint8 *chunk, gsize length, Layout *layout, GError **error) {
  if (length < 16)
    return fail(error, "the format chunk is too short");
  layout->format = u16(chunk);
  layout->channels = u16(chunk + 2);
  layout->rate = u32(chunk + 4);
  layout->bits = u16(chunk + 14);
  if (layout->format == FORMAT_EXTENSIBLE) {
    if (length < 26)
      return fail(error, "the extensible format chunk is too short");
    layout->format = u16(chunk + 24); /* the GUID begins with the plain format's number */
  }
  if (layout->channels < 1 || layout->channels > 2)
    return fail(error, "only mono and stereo are read");
  if (layout->rate < 1000 || layout->rate > MAX_RATE)
    return fail(error, "the sample rate is out of range");
  gboolean pcm = layout->format == FORMAT_PCM &&
                 (layout->bits == 8 || layout->bits == 16 || layout->bits == 24 || layout->bits == 32);
  gboolean floating = layout->format == FORMAT_FLOAT && layout->bits == 32;
  if (!pcm && !floating)
    return fail(error, "only PCM of 8, 16, 24 or 32 bit and 32 bit float are read");
  return TRUE;
}

/* Finds the chunks. A data chunk that claims more than there is (recorders that were cut off, streams with length
 * 0xffffffff) is cut to what is there. */
static gboolean find_chunks(const guint8 *data, gsize length, Layout *layout, GError **error) {
  if (length < 12 || memcmp(data, "RIFF", 4) != 0 || memcmp(data + 8, "WAVE", 4) != 0)
    return fail(error, "no RIFF/WAVE header");
  gboolean have_format = FALSE;
  gsize at = 12;
  while (length - at >= 8) {
    const guint8 *body = data + at + 8;
    gsize left = length - at - 8;
    gsize size = u32(data + at + 4);
    if (memcmp(data + at, "data", 4) == 0) {
      if (!have_format)
        return fail(error, "the data comes before its format");
      layout->data = body;
      layout->data_length = MIN(size, left);
      return TRUE;
    }
    if (size > left)
      return fail(error, "a chunk is longer than the file");
    if (memcmp(data + at, "fmt ", 4) == 0) {
      if (!read_format(body, size, layout, error))
        return FALSE;
      have_format = TRUE;
    }
    at += 8 + size;
    if ((size & 1) && at < length)
      at++; /* chunks are padded to even lengths */
  }
  return fail(error, "no data chunk");
}

static gint16 from_float(const guint8 *p) {
  guint32 bits = u32(p);
  float value;
  memcpy(&value, &bits, sizeof value);
  if (!isfinite(value))
    return 0;
  float scaled = value * 32768.0f;
  return scaled >= 32767.0f ? 32767 : scaled <= -32768.0f ? -32768 : (gint16)lrintf(scaled);
}

static gint16 sample_at(const Layout *layout, const guint8 *p) {
  if (layout->format == FORMAT_FLOAT)
    return from_float(p);
  switch (layout->bits) {
  case 8:
    return (gint16)(((int)p[0] - 128) * 256);
  case 24:
    return (gint16)u16(p + 1);
  case 32:
    return (gint16)u16(p + 2);
  default:
    return (gint16)u16(p);
  }
}

gboolean choir_wav_parse(const guint8 *data, gsize length, gsize max_frames, ChoirWav *ret_wav, GError **error) {
  Layout layout = {0};
  if (!find_chunks(data, length, &layout, error))
    return FALSE;
  gsize bytes = layout.bits / 8;
  gsize frames = layout.data_length / (bytes * layout.channels);
  gsize limit = max_frames > 0 ? max_frames : (gsize)layout.rate * MAX_SECONDS;
  if (frames > limit)
    return fail(error, "the recording is longer than allowed");
  gsize n = frames * layout.channels;
  gint16 *samples = g_try_new(gint16, MAX(n, 1));
  if (!samples)
    return fail(error, "not enough memory for the recording");
  for (gsize i = 0; i < n; i++)
    samples[i] = sample_at(&layout, layout.data + i * bytes);
  *ret_wav = (ChoirWav){.samples = samples, .frames = frames, .channels = layout.channels, .rate = layout.rate};
  return TRUE;
}

gboolean choir_wav_read(const char *path, ChoirWav *ret_wav, GError **error) {
  g_autoptr(GError) local = NULL;
  g_autoptr(GMappedFile) file = g_mapped_file_new(path, FALSE, &local);
  if (!file) {
    g_set_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_IO, "%s", local->message);
    return FALSE;
  }
  gsize length = g_mapped_file_get_length(file);
  if (length > MAX_FILE)
    return fail(error, "the file is larger than 2 GiB");
  if (!choir_wav_parse((const guint8 *)g_mapped_file_get_contents(file), length, 0, ret_wav, error)) {
    g_prefix_error(error, "%s: ", path);
    return FALSE;
  }
  return TRUE;
}

static void put(guint8 **p, guint32 value, guint bytes) {
  for (guint i = 0; i < bytes; i++)
    *(*p)++ = (guint8)(value >> 8 * i);
}

static void put_tag(guint8 **p, const char *tag) {
  for (; *tag; tag++)
    *(*p)++ = (guint8)*tag;
}

static gboolean write_all(int fd, const void *data, gsize length) {
  const guint8 *p = data;
  while (length > 0) {
    ssize_t n = write(fd, p, length);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return FALSE;
    p += n;
    length -= (gsize)n;
  }
  return TRUE;
}

static void write_header(guint8 header[44], guint32 bytes, guint channels, guint rate) {
  guint8 *p = header;
  put_tag(&p, "RIFF");
  put(&p, 36 + bytes, 4);
  put_tag(&p, "WAVEfmt ");
  put(&p, 16, 4);
  put(&p, FORMAT_PCM, 2);
  put(&p, channels, 2);
  put(&p, rate, 4);
  put(&p, rate * channels * 2, 4);
  put(&p, channels * 2, 2);
  put(&p, 16, 2);
  put_tag(&p, "data");
  put(&p, bytes, 4);
}

gboolean choir_wav_write(const char *path, const gint16 *samples, gsize frames, guint channels, guint rate,
                         GError **error) {
  gsize bytes = frames * channels * 2;
  if (channels < 1 || channels > 2 || bytes > G_MAXUINT32 - 44)
    return fail(error, "a WAV file holds one or two channels and less than 4 GiB");
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  guint8 header[44];
  write_header(header, (guint32)bytes, channels, rate);
  gboolean ok = fd >= 0 && write_all(fd, header, sizeof header) && write_all(fd, samples, bytes);
  int saved = errno;
  if (fd >= 0 && close(fd) != 0 && ok) {
    saved = errno;
    ok = FALSE;
  }
  if (!ok)
    g_set_error(error, CHOIR_AUDIO_ERROR, CHOIR_AUDIO_ERROR_IO, "%s: %s", path, g_strerror(saved));
  return ok;
}

void choir_wav_clear(ChoirWav *wav) {
  g_clear_pointer(&wav->samples, g_free);
  wav->frames = 0;
}
