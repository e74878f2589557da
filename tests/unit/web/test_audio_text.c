/* A transcript in each form. */
#include "web/audio_text.h"
#include <string.h>
#include "base/text.h"

static void expect(const ChoirTranscript *transcript, ChoirTranscriptFormat format, const char *expected) {
  g_autofree char *text = choir_transcript_print(transcript, format);
  g_assert_cmpstr(text, ==, expected);
}

static void fill(ChoirTranscript *transcript) {
  json_auto_t *rows = json_pack("[[i,i,s],[i,i,s]]", 0, 1500, "Hello & <you>", 1500, 99999, "go --> there");
  choir_transcript_init(transcript);
  g_strlcpy(transcript->language, "en", sizeof transcript->language);
  g_assert_cmpstr(choir_transcript_add(transcript, "Hello & <you> go --> there", 0, 28000, rows), ==,
                  "Hello & <you> go --> there");
  g_assert_cmpstr(choir_transcript_add(transcript, "", 28000, 30000, NULL), ==, "");
  g_assert_cmpstr(choir_transcript_add(transcript, "End.", 3600000, 3661007, NULL), ==, " End.");
}

static void test_formats(void) {
  ChoirTranscript transcript;
  fill(&transcript);
  expect(&transcript, CHOIR_TRANSCRIPT_JSON,
         "{\"text\":\"Hello & <you> go --> there End.\",\"usage\":{\"type\":\"duration\",\"seconds\":3662}}");
  expect(&transcript, CHOIR_TRANSCRIPT_TEXT, "Hello & <you> go --> there End.\n");
  expect(&transcript, CHOIR_TRANSCRIPT_SRT,
         "1\n00:00:00,000 --> 00:00:01,500\nHello & <you>\n\n"
         "2\n00:00:01,500 --> 00:00:28,000\ngo -> there\n\n3\n01:00:00,000 --> 01:01:01,007\nEnd.\n\n");
  expect(&transcript, CHOIR_TRANSCRIPT_VTT,
         "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello &amp; &lt;you&gt;\n\n"
         "00:00:01.500 --> 00:00:28.000\ngo --&gt; there\n\n01:00:00.000 --> 01:01:01.007\nEnd.\n\n");
  g_autofree char *verbose = choir_transcript_print(&transcript, CHOIR_TRANSCRIPT_VERBOSE);
  json_auto_t *json = choir_json_parse(verbose, strlen(verbose), NULL);
  const json_t *segment = json_array_get(json_object_get(json, "segments"), 1);
  g_assert_cmpuint(json_array_size(json_object_get(json, "segments")), ==, 3);
  g_assert_cmpfloat(choir_json_double(segment, "start", -1), ==, 1.5);
  g_assert_cmpfloat(choir_json_double(segment, "end", -1), ==, 28);
  g_assert_cmpfloat(choir_json_double(json, "duration", -1), ==, 3661.007);
  g_assert_nonnull(strstr(verbose, "\"duration\":3661.007,"));
  choir_transcript_clear(&transcript);
}

static void test_empty(void) {
  ChoirTranscript transcript;
  choir_transcript_init(&transcript);
  choir_transcript_add(&transcript, "", 0, 400, NULL);
  expect(&transcript, CHOIR_TRANSCRIPT_TEXT, "\n");
  expect(&transcript, CHOIR_TRANSCRIPT_SRT, "");
  expect(&transcript, CHOIR_TRANSCRIPT_VTT, "WEBVTT\n\n");
  choir_transcript_clear(&transcript);
}

static void test_rubbish_rows(void) {
  ChoirTranscript transcript;
  json_auto_t *rows = json_pack("[s,[i],[i,i,i],[i,i,s]]", "x", 1, 1, 2, 3, -5, 2, "never");
  choir_transcript_init(&transcript);
  choir_transcript_add(&transcript, "words", 0, 400, rows);
  expect(&transcript, CHOIR_TRANSCRIPT_TEXT, "words\n");
  choir_transcript_clear(&transcript);
}

static void test_names(void) {
  ChoirTranscriptFormat format;
  g_assert_true(choir_transcript_format("verbose_json", &format));
  g_assert_cmpint(format, ==, CHOIR_TRANSCRIPT_VERBOSE);
  g_assert_false(choir_transcript_format("diarized_json", &format));
  g_assert_false(choir_transcript_format("", &format));
}

int main(int argc, char **argv) {
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/web/audio-text/formats", test_formats);
  g_test_add_func("/web/audio-text/empty", test_empty);
  g_test_add_func("/web/audio-text/rubbish-rows", test_rubbish_rows);
  g_test_add_func("/web/audio-text/names", test_names);
  return g_test_run();
}
