/* choir_wav_parse() on outside bytes: never reads past the end, never gives more frames than bytes. */
#include "audio/wav.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  ChoirWav wav = {0};
  g_autoptr(GError) error = NULL;
  if (choir_wav_parse(data, size, 1 << 20, &wav, &error)) {
    g_assert_no_error(error);
    g_assert_cmpuint(wav.frames * wav.channels, <=, size);
    g_assert_true(wav.channels == 1 || wav.channels == 2);
    g_assert_cmpuint(wav.rate, >, 0);
    gint64 sum = 0; /* every sample is there */
    for (gsize i = 0; i < wav.frames * wav.channels; i++)
      sum += wav.samples[i];
    g_assert_cmpint(ABS(sum), <=, (gint64)(wav.frames * wav.channels) * 32768);
  } else {
    g_assert_nonnull(error);
    g_assert_null(wav.samples);
  }
  choir_wav_clear(&wav);
  return 0;
}
