/* choir-phonemes: English (or other) text to IPA phonemes by espeak-ng.
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * espeak-ng is under the GPL, so it lives alone in this small program; choir-tts talks to it over a socket only.
 * Protocol, one line each way, UTF-8, on the descriptor --fd (default 3):
 *   request   ID TAB TEXT LF            ID: decimal; TEXT without TAB and LF, at most 4096 bytes
 *   answer    ID TAB IPA TAB WORDS LF   WORDS: "offset:count:at" separated by spaces: byte offset in TEXT of a word
 * that espeak-ng spoke, how many phonemes that took, and at which character of IPA (from 0) they begin; ":at" is absent
 * when that is not known A line that cannot be read is answered with empty IPA and WORDS. The program ends with its
 * input. */
#include <espeak-ng/speak_lib.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define TEXT_MAX 4096
#define LINE_MAX_BYTES (TEXT_MAX + 64)
#define WORDS_MAX 2048
#define IPA_MAX 65536
#define SPOKEN_MAX 65536
#define UNSPOKEN_MAX 4 /* characters between two phonemes: stress marks, spaces */

typedef struct {
  int position; /* characters, from 1 */
  int phonemes;
  int at;         /* first character in the IPA, -1 = unknown */
  size_t strings; /* its phonemes' IPA in spoken, one after the other, each ended by NUL */
} Word;

static Word words[WORDS_MAX];
static int n_words;
static char spoken[SPOKEN_MAX];
static size_t spoken_length;

static void add_phoneme(const char *name) {
  size_t n = strnlen(name, sizeof((espeak_EVENT *)0)->id.string);
  words[n_words - 1].phonemes++;
  if (spoken_length + n + 1 > SPOKEN_MAX)
    return;
  memcpy(spoken + spoken_length, name, n);
  spoken[spoken_length + n] = 0;
  spoken_length += n + 1;
}

static int on_events(short *samples, int n, espeak_EVENT *event) {
  (void)samples;
  (void)n;
  for (; event->type != espeakEVENT_LIST_TERMINATED; event++) {
    if (event->type == espeakEVENT_WORD && n_words < WORDS_MAX)
      words[n_words++] = (Word){.position = event->text_position, .at = -1, .strings = spoken_length};
    else if (event->type == espeakEVENT_PHONEME && event->id.string[0] && n_words > 0)
      add_phoneme(event->id.string);
  }
  return 0;
}

static size_t byte_offset(const char *text, int position) {
  size_t at = 0;
  for (int left = position - 1; text[at]; at++)
    if (((unsigned char)text[at] & 0xc0) != 0x80 && left-- == 0)
      break;
  return at;
}

/* Takes out the language marks, "(fr)", that espeak-ng writes around foreign words. */
static void append_ipa(char *ipa, size_t *length, const char *part) {
  if (*length > 0 && *length < IPA_MAX - 1 && *part)
    ipa[(*length)++] = ' ';
  for (; *part && *length < IPA_MAX - 1; part++) {
    if (*part == '(') {
      const char *end = strchr(part, ')');
      if (end) {
        part = end;
        continue;
      }
    }
    ipa[(*length)++] = *part == '\n' || *part == '\t' ? ' ' : *part;
  }
  ipa[*length] = 0;
}

static const char *next_char(const char *p) {
  do
    p++;
  while (((unsigned char)*p & 0xc0) == 0x80);
  return p;
}

/* Finds the phonemes of each word in the IPA text, which has stress marks and spaces between them. */
static void align(const char *ipa) {
  const char *p = ipa;
  int index = 0;
  for (int w = 0; w < n_words; w++) {
    size_t at = words[w].strings;
    for (int i = 0; i < words[w].phonemes && at < spoken_length; i++) {
      const char *name = spoken + at, *q = p;
      size_t n = strlen(name);
      int skipped = 0;
      at += n + 1;
      for (; *q && skipped <= UNSPOKEN_MAX && strncmp(q, name, n) != 0; skipped++)
        q = next_char(q);
      if (!*q || skipped > UNSPOKEN_MAX)
        continue; /* written in another way than it is spoken */
      index += skipped;
      if (words[w].at < 0)
        words[w].at = index;
      for (p = q; p < q + n; p = next_char(p))
        index++;
    }
  }
}

static void phonemize(const char *text, char *ipa) {
  size_t length = 0;
  ipa[0] = 0;
  n_words = 0;
  spoken_length = 0;
  for (const void *rest = text; rest;)
    append_ipa(ipa, &length, espeak_TextToPhonemes(&rest, espeakCHARS_UTF8, espeakPHONEMES_IPA));
  /* The events of a synthesis, whose sound nobody hears, say which phonemes belong to which word. */
  espeak_Synth(text, strlen(text) + 1, 0, POS_CHARACTER, 0, espeakCHARS_UTF8, NULL, NULL);
  espeak_Synchronize();
  align(ipa);
}

static int answer(FILE *out, char *line) {
  static char ipa[IPA_MAX];
  char *tab = strchr(line, '\t');
  size_t digits = strspn(line, "0123456789");
  if (!tab || digits == 0 || digits > 10 || line + digits != tab || strlen(tab + 1) > TEXT_MAX) {
    fprintf(out, "%.*s\t\t\n", digits <= 10 ? (int)digits : 0, line);
    return fflush(out);
  }
  phonemize(tab + 1, ipa);
  fprintf(out, "%.*s\t%s\t", (int)digits, line, ipa);
  for (int i = 0; i < n_words; i++) {
    fprintf(out, "%s%zu:%d", i > 0 ? " " : "", byte_offset(tab + 1, words[i].position), words[i].phonemes);
    if (words[i].at >= 0)
      fprintf(out, ":%d", words[i].at);
  }
  fputc('\n', out);
  return fflush(out);
}

static int serve(int fd) {
  static char line[LINE_MAX_BYTES];
  FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
  if (!in || !out) {
    fprintf(stderr, "choir-phonemes: descriptor %d: %s\n", fd, strerror(errno));
    return 1;
  }
  fprintf(stderr, "choir-phonemes: ready: espeak-ng %s\n", espeak_Info(NULL));
  while (fgets(line, sizeof line, in)) {
    size_t n = strlen(line);
    if (n > 0 && line[n - 1] == '\n') {
      line[n - 1] = 0;
    } else { /* too long: the rest goes, and the answer is empty */
      int c;
      while ((c = getc(in)) != EOF && c != '\n')
        ;
      line[strspn(line, "0123456789")] = 0;
    }
    if (answer(out, line) != 0)
      return 0;
  }
  return 0;
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"help", 0, NULL, 'h'}, {"version", 0, NULL, 'V'}, {"voice", 1, NULL, 'v'},
                                          {"data", 1, NULL, 'd'}, {"fd", 1, NULL, 'f'},      {0}};
  const char *voice = "en-us", *data = NULL;
  int fd = 3;
  for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
    switch (c) {
    case 'h':
      puts("usage: choir-phonemes [--voice en-us] [--data DIR] [--fd 3]\n"
           "Turns lines of text into IPA phonemes by espeak-ng, for choir-tts. GPL-3.0-or-later.\n"
           "  --voice NAME  espeak-ng voice\n  --data DIR    folder that holds espeak-ng-data\n"
           "  --fd N        descriptor of requests and answers\n  --version     print the version");
      return 0;
    case 'V':
      printf("choir-phonemes %s, espeak-ng %s\n", CHOIR_PHONEMES_VERSION, espeak_Info(NULL));
      return 0;
    case 'v':
      voice = optarg;
      break;
    case 'd':
      data = optarg;
      break;
    case 'f':
      fd = atoi(optarg);
      break;
    default:
      return 2;
    }
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  int flags = espeakINITIALIZE_PHONEME_EVENTS | espeakINITIALIZE_PHONEME_IPA | espeakINITIALIZE_DONT_EXIT;
  if (espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, data, flags) < 0 || espeak_SetVoiceByName(voice) != EE_OK) {
    fprintf(stderr, "choir-phonemes: espeak-ng has no voice '%s' or no data\n", voice);
    return 1;
  }
  espeak_SetSynthCallback(on_events);
  return serve(fd);
}
