/* /v1/audio/transcriptions, /v1/audio/speech, /v1/audio/voices, /v1/audio/models: speech as OpenAI's clients ask for
 * it. docs/http.md is the contract. Main thread only. */
#pragma once
#include "web/web.h"

#define CHOIR_AUDIO_MAX_BODY (26u << 20) /* a file of 25 MB and the form around it */
#define CHOIR_AUDIO_MAX_FILE (25u << 20)

typedef struct ChoirAudioApi ChoirAudioApi;
typedef struct ChoirTranscriptions ChoirTranscriptions;
typedef struct ChoirSpeeches ChoirSpeeches;

ChoirAudioApi *choir_audio_api_new(const ChoirWebOptions *options);
void choir_audio_api_free(ChoirAudioApi *api);

/* audio_transcribe.c */
ChoirTranscriptions *choir_transcriptions_new(const ChoirWebOptions *options);
void choir_transcriptions_free(ChoirTranscriptions *api);

/* audio_speak.c */
ChoirSpeeches *choir_speeches_new(const ChoirWebOptions *options);
void choir_speeches_free(ChoirSpeeches *api);

/* The status that fits an error of the desk or the codec. */
void choir_audio_answer_error(ChoirHttpRequest *request, const GError *error);
/* One SSE event; json is stolen. FALSE: the client is too far behind. */
gboolean choir_audio_write_event(ChoirHttpStream *stream, json_t *json);
