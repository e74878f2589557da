#include "speech/tts_timeline.h"
#include <string.h>

static const char *const names[] = {"sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS",
                                    "nn",  "RR", "aa", "E",  "I",  "O",  "U"};

#define PAUSE_MS 90 /* a gap between words that long closes the mouth */

const char *choir_viseme_name(ChoirViseme viseme) {
  return viseme < G_N_ELEMENTS(names) ? names[viseme] : names[CHOIR_VISEME_SIL];
}

ChoirViseme choir_viseme_of_ipa(gunichar c) {
  static const struct {
    const char *characters;
    ChoirViseme viseme;
  } table[] = {
      {"pbmɓʙ", CHOIR_VISEME_PP},   {"fvɱʋⱱɸβ", CHOIR_VISEME_FF},       {"θð", CHOIR_VISEME_TH},
      {"tdɾɖʈɗ", CHOIR_VISEME_DD},  {"kgɡxɣqɢχʁħʕɟc", CHOIR_VISEME_KK}, {"ʃʒʂʐɕʑ", CHOIR_VISEME_CH},
      {"szç", CHOIR_VISEME_SS},     {"nlŋɲɳɴɫɬɭʎʟ", CHOIR_VISEME_NN},   {"ɹrɻɽʀɚɝɜ", CHOIR_VISEME_RR},
      {"aɑɐæʌɒɶ", CHOIR_VISEME_AA}, {"eɛəɘɞœøε", CHOIR_VISEME_E},       {"iɪjyʏɨᵻ", CHOIR_VISEME_I},
      {"oɔɵɤ", CHOIR_VISEME_O},     {"uʊwʉɯʍɥ", CHOIR_VISEME_U},        {"hɦʔˈˌ", CHOIR_VISEME_NEXT},
      {".,;:!?", CHOIR_VISEME_SIL},
  };
  if (c == 0)
    return CHOIR_VISEME_SIL;
  if (c == ' ')
    return CHOIR_VISEME_GAP;
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    if (g_utf8_strchr(table[i].characters, -1, c))
      return table[i].viseme;
  return CHOIR_VISEME_PREVIOUS;
}

ChoirViseme choir_viseme_of_arpabet(const char *phone) {
  static const struct {
    const char *phones;
    ChoirViseme viseme;
  } table[] = {
      {" p b m em ", CHOIR_VISEME_PP}, {" f v ", CHOIR_VISEME_FF},
      {" th dh ", CHOIR_VISEME_TH},    {" t d dx ", CHOIR_VISEME_DD},
      {" k g ", CHOIR_VISEME_KK},      {" ch jh sh zh ", CHOIR_VISEME_CH},
      {" s z ", CHOIR_VISEME_SS},      {" n l ng en el nx ", CHOIR_VISEME_NN},
      {" r er axr ", CHOIR_VISEME_RR}, {" aa ae ah ay aw ", CHOIR_VISEME_AA},
      {" eh ey ax ", CHOIR_VISEME_E},  {" ih iy ix y ", CHOIR_VISEME_I},
      {" ao ow oy ", CHOIR_VISEME_O},  {" uh uw w ", CHOIR_VISEME_U},
      {" hh hv ", CHOIR_VISEME_NEXT},
  };
  g_autofree char *spaced = g_strdup_printf(" %s ", phone);
  for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
    if (strstr(table[i].phones, spaced))
      return table[i].viseme;
  return CHOIR_VISEME_SIL; /* pau, and what is not known */
}

void choir_tts_timeline_init(ChoirTtsTimeline *timeline) {
  *timeline = (ChoirTtsTimeline){.phones = g_array_new(FALSE, FALSE, sizeof(ChoirTtsPhone))};
}

void choir_tts_timeline_clear(ChoirTtsTimeline *timeline) {
  g_clear_pointer(&timeline->phones, g_array_unref);
}

void choir_tts_timeline_add(ChoirTtsTimeline *timeline, guint64 samples, int word, ChoirViseme viseme) {
  ChoirTtsPhone phone = {.samples = samples, .word = word, .viseme = viseme};
  g_array_append_val(timeline->phones, phone);
  timeline->samples += samples;
}

/* Of the phone at index, once NEXT and PREVIOUS are looked up; before: the shape so far. */
static ChoirViseme shape(const ChoirTtsTimeline *timeline, guint index, ChoirViseme before, guint rate) {
  const ChoirTtsPhone *phone = &g_array_index(timeline->phones, ChoirTtsPhone, index);
  if (phone->viseme == CHOIR_VISEME_GAP)
    return phone->samples * 1000 >= (guint64)PAUSE_MS * rate ? CHOIR_VISEME_SIL : before;
  if (phone->viseme == CHOIR_VISEME_PREVIOUS)
    return before;
  for (guint i = index; i < timeline->phones->len; i++) {
    ChoirViseme viseme = g_array_index(timeline->phones, ChoirTtsPhone, i).viseme;
    if (viseme < CHOIR_VISEME_NEXT)
      return viseme;
    if (viseme != CHOIR_VISEME_NEXT)
      break;
  }
  return before;
}

static guint64 sent_sample(const ChoirTtsSpan *span, guint64 sample) {
  guint64 kept = sample > span->dropped ? sample - span->dropped : 0;
  return MIN((kept * span->to_rate + span->rate / 2) / span->rate, span->sent);
}

static void stretch_word(GArray *words, int index, guint64 first, guint64 end) {
  if (index < 0 || (guint)index >= words->len || end <= first)
    return;
  ChoirTtsWord *word = &g_array_index(words, ChoirTtsWord, index);
  if (!word->timed || first < word->first)
    word->first = (guint32)first;
  if (!word->timed || end > word->last)
    word->last = (guint32)end;
  word->timed = TRUE;
}

/* "of the" may be one word to the phonemiser: the second one gets its part of the span, by phonemes. */
static void share_spans(GArray *words) {
  for (guint i = 1; i < words->len; i++) {
    ChoirTtsWord *before = &g_array_index(words, ChoirTtsWord, i - 1), *word = before + 1;
    if (word->timed || word->phonemes == 0 || !before->timed)
      continue;
    guint32 length = before->last - before->first;
    word->last = before->last;
    before->last -= (guint32)((guint64)length * word->phonemes / (before->phonemes + word->phonemes));
    word->first = before->last;
    word->timed = TRUE;
  }
}

ChoirViseme choir_tts_timeline_mouth(const ChoirTtsTimeline *timeline, const ChoirTtsSpan *span, guint *at,
                                     ChoirViseme before, GArray *ret_mouth) {
  const ChoirTtsSpan open = {
      .dropped = span->dropped, .sent = G_MAXUINT32, .rate = span->rate, .to_rate = span->to_rate};
  guint64 sample = 0;
  for (guint i = 0; i < timeline->phones->len; i++) {
    guint64 length = g_array_index(timeline->phones, ChoirTtsPhone, i).samples;
    guint64 first = sent_sample(&open, sample), end = sent_sample(&open, sample + length);
    sample += length;
    if (i < *at)
      continue;
    ChoirViseme viseme = shape(timeline, i, before, span->rate);
    if (end <= first || (ret_mouth->len > 0 && viseme == before))
      continue;
    before = viseme;
    ChoirTtsMouth mouth = {.first = ret_mouth->len == 0 && *at == 0 ? 0 : (guint32)first, .viseme = viseme};
    g_array_append_val(ret_mouth, mouth);
  }
  *at = timeline->phones->len;
  return before;
}

gboolean choir_tts_timeline_finish(const ChoirTtsTimeline *timeline, const ChoirTtsSpan *span, GArray *words,
                                   GArray *ret_mouth) {
  if (timeline->phones->len == 0 || timeline->samples != span->sound || span->sent == 0 || span->sent > G_MAXUINT32)
    return FALSE;
  ChoirTtsMouth mouth = {.viseme = CHOIR_VISEME_SIL};
  guint64 at = 0;
  for (guint i = 0; i < timeline->phones->len; i++) {
    const ChoirTtsPhone *phone = &g_array_index(timeline->phones, ChoirTtsPhone, i);
    guint64 first = sent_sample(span, at), end = sent_sample(span, at + phone->samples);
    ChoirViseme viseme = shape(timeline, i, mouth.viseme, span->rate);
    at += phone->samples;
    stretch_word(words, phone->word, first, end);
    if (end <= first || (ret_mouth->len > 0 && viseme == mouth.viseme))
      continue;
    mouth = (ChoirTtsMouth){.first = ret_mouth->len == 0 ? 0 : (guint32)first, .viseme = viseme};
    g_array_append_val(ret_mouth, mouth);
  }
  share_spans(words);
  return TRUE;
}
