/* Every service name, job name, port, path and key that more than one part of Choir must agree on.
 * group_vars/names.yaml is generated from this file (tools/gen-names); nothing else spells these strings. */
#pragma once

#define CHOIR_VERSION_STRING "0.1.0"

#define CHOIR_ENGINE_VERSION "11434" /* llama.cpp build; tools/build-engine names its folder so */

/* Agent */
#define CHOIR_SERVICE_CLASS "TwinService"
#define CHOIR_PORT_WEB 8000
#define CHOIR_PORT_LLM 8081
#define CHOIR_PORT_JOIN 8002       /* the original provisioning API */
#define CHOIR_PORT_JOIN_HOUSE 8003 /* the same service for the agent's page, sealed */
#define CHOIR_PORT_STANDBY 8011
#define CHOIR_PORT_EMBEDDING 8082
#define CHOIR_PORT_WYOMING_STT 10300
#define CHOIR_PORT_WYOMING_TTS 10200

/* Nomad jobs */
#define CHOIR_JOB_AGENT "pipecat-app"
#define CHOIR_JOB_RPC "llamacpp-rpc"
#define CHOIR_JOB_EXPERT "llama-expert"
#define CHOIR_JOB_HEALTH "health-check"
#define CHOIR_JOB_BENCHMARK "llama-benchmark"

/* Consul: written with the first prefix, read with all three */
#define CHOIR_EXPERT_PREFIX "llama-api-"
#define CHOIR_EXPERT_PREFIX_OLD1 "expert-api-"
#define CHOIR_EXPERT_PREFIX_OLD2 "rpc-"
#define CHOIR_EXPERT_MAIN "llama-api-main"
#define CHOIR_SERVICE_STANDBY "choir-standby" /* keeps copies of the agent's state */

/* Log topics */
#define CHOIR_TOPIC_DAEMON "daemon"
#define CHOIR_TOPIC_NET "net"
#define CHOIR_TOPIC_WEB "web"
#define CHOIR_TOPIC_LLM "llm"
#define CHOIR_TOPIC_EAR "ear"
#define CHOIR_TOPIC_STT "stt"
#define CHOIR_TOPIC_TTS "tts"
#define CHOIR_TOPIC_AGENT "agent"
#define CHOIR_TOPIC_VOICE "voice"
#define CHOIR_TOPIC_MEMORY "memory"
#define CHOIR_TOPIC_CLUSTER "cluster"

/* Audio formats inside the house: mono signed 16 bit little endian */
#define CHOIR_RATE_MIC 16000  /* what choir-ear and choir-stt hear */
#define CHOIR_RATE_OUT 24000  /* what choir-tts says and the Realtime protocol carries */
#define CHOIR_VAD_WINDOW 512  /* samples of CHOIR_RATE_MIC in one VAD window, 32 ms */
#define CHOIR_LEAD_MS 80      /* audio may run this far ahead of the listener */
#define CHOIR_LEAD_MAX_MS 200 /* ... after reported underruns */
