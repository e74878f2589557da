/* How well each keyphrase fits in stretches of sound; `keyphrases` beside this file drives it.
 *
 * in:  a number of samples (u32), then so many samples (s16, 16 kHz), again and again
 * out: the first line: TEXT/KIND/THRESHOLD of every phrase, tabs between them; then a line of scores for each stretch
 */
#include "speech/spot_decoder.h"
#include <stdio.h>

#define MODELS "/usr/share/pocketsphinx/model/en-us/"
#define LONGEST (60u * 16000u)

static gboolean read_stretch(GArray *samples) {
  guint32 n = 0;
  if (fread(&n, sizeof n, 1, stdin) != 1 || n > LONGEST)
    return FALSE;
  g_array_set_size(samples, n);
  return fread(samples->data, sizeof(gint16), n, stdin) == n;
}

int main(int argc, char **argv) {
  char *problem = NULL;
  g_autoptr(GError) error = NULL;
  g_autoptr(GArray) samples = g_array_new(FALSE, FALSE, sizeof(gint16));
  ChoirSpotPhrases *phrases =
      choir_spot_phrases_new(argc > 1 ? argv[1] : "hey choir", MODELS "cmudict-en-us.dict", &problem);
  ChoirSpotDecoder *decoder = choir_spot_decoder_new(MODELS "en-us", phrases, &error);
  if (decoder == NULL || problem != NULL) {
    fprintf(stderr, "spot-probe: %s\n", problem != NULL ? problem : error->message);
    return 1;
  }
  guint n = choir_spot_phrases_count(phrases);
  for (guint i = 0; i < n; i++) {
    const ChoirSpotPhrase *phrase = choir_spot_phrases_get(phrases, i);
    printf("%s/%u/%d%c", phrase->text, phrase->kind, phrase->threshold, i + 1 < n ? '\t' : '\n');
  }
  fflush(stdout);
  g_autofree double *scores = g_new(double, n);
  gboolean ok = TRUE;
  while (ok && read_stretch(samples)) {
    ok = choir_spot_decoder_measure(decoder, (const gint16 *)(gpointer)samples->data, samples->len, scores);
    for (guint i = 0; i < n; i++)
      printf("%.2f%c", scores[i], i + 1 < n ? ' ' : '\n');
    fflush(stdout);
  }
  choir_spot_decoder_free(decoder);
  choir_spot_phrases_free(phrases);
  return ok ? 0 : 1;
}
