// usage: transcribe MODEL.bin SPEECH.wav [THREADS]
// One Whisper transcription on the CPU variant that ggml's loader picks from the folder in CHOIR_ENGINE_DIR: prints the
// text, and CPU and wall seconds without loading the model. The WAV file is 16 kHz, mono, 16 bit.
//   gcc -O2 -I ENGINE/include engine/bench/transcribe.c -o transcribe -L ENGINE/bin -lwhisper -lggml -lggml-base
#include <ggml-backend.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <whisper.h>

static double seconds(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
  (void)data;
  if (level == GGML_LOG_LEVEL_ERROR)
    fputs(text, stderr);
}

static float *read_wav(const char *path, int *ret_n) {
  static int16_t pcm[16000 * 60];
  uint8_t chunk[8];
  FILE *f = fopen(path, "rb");
  if (!f || fseek(f, 12, SEEK_SET) != 0)
    return NULL;
  while (fread(chunk, 1, 8, f) == 8 && memcmp(chunk, "data", 4) != 0) {
    uint32_t size;
    memcpy(&size, chunk + 4, 4);
    fseek(f, (long)size, SEEK_CUR);
  }
  *ret_n = (int)fread(pcm, 2, sizeof pcm / 2, f);
  fclose(f);
  float *samples = malloc(sizeof(float) * ((size_t)*ret_n + 1));
  for (int i = 0; samples && i < *ret_n; i++)
    samples[i] = (float)pcm[i] / 32768.0f;
  return samples;
}

int main(int argc, char **argv) {
  if (argc < 3 || !getenv("CHOIR_ENGINE_DIR")) {
    fprintf(stderr, "usage: transcribe MODEL.bin SPEECH.wav [THREADS], with CHOIR_ENGINE_DIR set\n");
    return 2;
  }
  int n = 0;
  float *samples = read_wav(argv[2], &n);
  whisper_log_set(quiet, NULL);
  ggml_backend_load_all_from_path(getenv("CHOIR_ENGINE_DIR"));
  struct whisper_context_params cp = whisper_context_default_params();
  cp.use_gpu = 0;
  struct whisper_context *ctx = whisper_init_from_file_with_params(argv[1], cp);
  if (!samples || n == 0 || !ctx) {
    fprintf(stderr, "transcribe: cannot read the model or the recording\n");
    return 1;
  }
  struct whisper_full_params p = whisper_full_default_params(WHISPER_SAMPLING_GREEDY);
  p.n_threads = argc > 3 ? atoi(argv[3]) : 1;
  p.print_progress = p.print_realtime = p.print_timestamps = 0;
  p.language = "en";
  p.single_segment = 1;
  p.no_timestamps = 1;
  const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
  if (whisper_full(ctx, p, samples, n) != 0)
    return 1;
  printf("cpu %.2f s, wall %.2f s:", seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, seconds(CLOCK_MONOTONIC) - wall);
  for (int i = 0; i < whisper_full_n_segments(ctx); i++)
    printf("%s", whisper_full_get_segment_text(ctx, i));
  printf("\n");
  whisper_free(ctx);
  free(samples);
  return 0;
}
