/* The session object of the Realtime protocol: what a client may set, and what is in effect. Main thread only.
 * Source: OpenAI Realtime GA, RealtimeSessionCreateRequest of openai-python 3.57. */
#pragma once
#include <jansson.h>
#include "agent/call.h"
#include "voice/live.h"
#include "web/fault.h"
#include "web/realtime_audio.h"

typedef struct {
  char *id, *model, *instructions;
  ChoirLiveOptions live;
  ChoirLiveOptions defaults; /* what null and absent values come back to */
  ChoirRealtimeFormat format;
  guint rate;             /* of the microphone */
  gboolean transcription; /* send transcripts of what the person said */
  char *language;         /* NULL = not said */
  json_t *tool_choice;
  json_t *max_output_tokens;
  ChoirCallTools *tools;  /* never NULL */
  ChoirCallChoice choice; /* what tool_choice says */
  char *choice_name;      /* of CHOIR_CALL_NAMED */
  char *eagerness;        /* of semantic_vad, NULL = server_vad */
} ChoirRealtimeConfig;

/* Members that a session and a response share: `tools`, `tool_choice`, `instructions`, `max_output_tokens`. The
 * config's own are changed; where: "session" or "response". TRUE with *ret_known FALSE when key is none of them. */
gboolean choir_realtime_config_prompt_key(ChoirRealtimeConfig *config, const char *where, const char *key,
                                          json_t *value, gboolean *ret_known, ChoirFault *fault);
/* A copy of these members alone, for one response; cleared as any config. */
void choir_realtime_config_copy(ChoirRealtimeConfig *to, const ChoirRealtimeConfig *from);
/* tool_choice against the tools, once both are in. */
gboolean choir_realtime_config_resolve(ChoirRealtimeConfig *config, const char *where, ChoirFault *fault);
guint choir_realtime_config_max_tokens(const ChoirRealtimeConfig *config); /* 0 = not limited */

void choir_realtime_config_init(ChoirRealtimeConfig *config, const ChoirLiveOptions *defaults, const char *model);
void choir_realtime_config_clear(ChoirRealtimeConfig *config);
/* The `session` member of session.update. All or nothing: FALSE fills fault and changes nothing. */
gboolean choir_realtime_config_update(ChoirRealtimeConfig *config, const json_t *session, ChoirFault *fault);
/* ["audio"] or ["text"]. FALSE fills fault. */
gboolean choir_realtime_config_modalities(const json_t *value, const char *param, gboolean *ret_audio,
                                          ChoirFault *fault);
json_t *choir_realtime_config_json(const ChoirRealtimeConfig *config); /* caller decrefs */
