#include "daemon/settings.h"
#include <string.h>
#include <unistd.h>
#include "base/names.h"
#include "base/place.h"
#include "web/web_config.h"

#ifndef CHOIR_SOURCE_DIR
#define CHOIR_SOURCE_DIR "/usr/share/choir"
#endif

#define SYSTEM_STATE "/var/lib/choir"
#define SYSTEM_MODELS "/opt/nomad/models"
#define SYSTEM_ENGINE "/usr/lib/choir/engine"
#define SYSTEM_RUNTIME "/usr/lib/choir/runtime"

const ChoirConfigItem choir_settings[] = {
    {"web", "address", CHOIR_CONFIG_STRING, "127.0.0.1", 0, 0, NULL, "CHOIR_ADDRESS",
     "loopback address to listen on; lan serves every one"},
    {"web", "port", CHOIR_CONFIG_INT, "8000", 0, 65535, NULL, "WEB_PORT",
     "TCP port of the page and the API; 0 takes any free one"},
    {"web", "lan", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, NULL,
     "serve every address, with a TLS twin; the same as choir serve --lan"},
    {"web", "tls_port", CHOIR_CONFIG_INT, "8443", 1, 65535, NULL, NULL, "TCP port of the TLS twin"},
    {"web", "public_tls_port", CHOIR_CONFIG_INT, "0", 0, 65535, NULL, NULL,
     "port by which others reach the TLS twin where something forwards to it, as choir forward does; 0: tls_port"},
    {"web", "machine_keys", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "PIPECAT_API_KEYS,PIECAT_API_KEYS",
     "SHA-256 of keys that the original's clients send, comma separated; they may do what an operator may"},
    CHOIR_WEB_CONFIG_ITEMS{
        "paths", "state", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_STATE",
        "folder for history, caches and choices; empty: /var/lib/choir where it is installed and ours, else the user's "
        "state folder"},
    {"paths", "engine", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_ENGINE",
     "folder that holds bin/llama-server; empty: found"},
    {"paths", "models", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_MODELS",
     "folder of the converted models; empty: found (/opt/nomad/models where it is installed)"},
    {"paths", "runtime", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_RUNTIME",
     "folder of libonnxruntime.so; empty: found"},
    {"paths", "prompts", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_PROMPTS",
     "folder of the persona files; empty: the checkout's, or /etc/choir/prompts where it is installed"},
    {"paths", "list", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_MODEL_LIST",
     "models.yaml; empty: the checkout's, or /etc/choir/models.yaml where it is installed"},
    {"log", "format", CHOIR_CONFIG_ENUM, "plain", 0, 0, "plain|json", "CHOIR_LOG_FORMAT",
     "plain lines or one JSON object a line"},
    {"log", "levels", CHOIR_CONFIG_STRING, "info", 0, 0, NULL, "CHOIR_LOG",
     "level, or levels by topic: info,llm=debug"},
    {"log", "debug", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, "DEBUG_MODE", "true is the same as levels = debug"},
    {"llm", "base_url", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "LLM_BASE_URL",
     "an OpenAI-compatible server to use instead of the local one"},
    {"llm", "model", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "LLM_MODEL",
     "name from the model list; empty: the chosen one, else the largest that fits"},
    {"llm", "context", CHOIR_CONFIG_INT, "4096", 512, 131072, NULL, NULL,
     "tokens of context for each of the two slots"},
    {"llm", "threads", CHOIR_CONFIG_INT, "0", 0, 256, NULL, NULL,
     "threads that generate; 0: all cores but one, at least one"},
    {"llm", "cache_ram_mb", CHOIR_CONFIG_INT, "-1", -1, 65536, NULL, NULL,
     "memory in MB for prompts that left their slot; -1: a 32nd of the machine's, at least 64, at most 1024"},
    {"llm", "variant", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_CPU_VARIANT",
     "force a CPU variant (x64, core2, haswell ...); empty: the best that runs"},
    {"llm", "max_tokens", CHOIR_CONFIG_INT, "200", 8, 8192, NULL, NULL, "longest reply in tokens"},
    {"llm", "temperature", CHOIR_CONFIG_DOUBLE, "-1", -1, 2, NULL, NULL,
     "sampling temperature; below 0: by the model's size"},
    {"stt", "service", CHOIR_CONFIG_ENUM, "auto", 0, 0, "auto|whisper|pocketsphinx|wyoming|faster-whisper=whisper",
     "STT_SERVICE",
     "speech recogniser; auto: Whisper where it is fast enough, else fixed commands; wyoming: the one of another "
     "machine, at url"},
    {"stt", "url", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "for service = wyoming: the other machine, as in tcp://192.168.1.30:10300"},
    {"stt", "fallback", CHOIR_CONFIG_ENUM, "whisper", 0, 0, "whisper|pocketsphinx|none", NULL,
     "for service = wyoming: who listens on this machine while the other one does not answer"},
    {"stt", "language", CHOIR_CONFIG_STRING, "en", 0, 0, NULL, NULL, "language spoken to Whisper, or auto"},
    {"stt", "threads", CHOIR_CONFIG_INT, "0", 0, 64, NULL, NULL, "threads of the recogniser; 0: all cores, at most 4"},
    {"stt", "grammar", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "JSGF file for pocketsphinx; empty: the shipped commands"},
    {"wyoming", "address", CHOIR_CONFIG_STRING, "127.0.0.1", 0, 0, NULL, NULL,
     "address on which Home Assistant may use hearing and voice; beyond this machine, set allow too"},
    {"wyoming", "stt_port", CHOIR_CONFIG_INT, "10300", 0, 65535, NULL, NULL,
     "TCP port of speech to text by the Wyoming protocol; 0: none"},
    {"wyoming", "tts_port", CHOIR_CONFIG_INT, "10200", 0, 65535, NULL, NULL,
     "TCP port of text to speech by the Wyoming protocol, which may be the same one; 0: none"},
    {"wyoming", "only", CHOIR_CONFIG_ENUM, "no", 0, 0, "no|stt|tts|both", NULL,
     "run as a server of hearing, voice or both for other machines: no language model, no conversations"},
    {"wyoming", "allow", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "other machines that may call, comma separated: 192.168.1.20, 192.168.1.0/24; the protocol knows no passwords"},
    {"tts", "service", CHOIR_CONFIG_ENUM, "auto", 0, 0, "auto|piper|flite|wyoming", "TTS_SERVICE",
     "voice; auto: Piper where it is fast enough, else flite; wyoming: the one of another machine, at url"},
    {"tts", "url", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "for service = wyoming: the other machine, as in tcp://192.168.1.30:10200"},
    {"tts", "fallback", CHOIR_CONFIG_ENUM, "piper", 0, 0, "piper|flite|none", NULL,
     "for service = wyoming: who speaks on this machine while the other one does not answer"},
    {"vad", "threshold", CHOIR_CONFIG_DOUBLE, "0.5", 0.1, 0.95, NULL, NULL, "speech probability that counts as speech"},
    {"vad", "silence_ms", CHOIR_CONFIG_INT, "600", 200, 3000, NULL, NULL,
     "silence in ms that ends a turn, as long as nothing is known of speaker and words"},
    {"vad", "prefix_ms", CHOIR_CONFIG_INT, "300", 0, 1000, NULL, NULL, "audio in ms kept from before the onset"},
    {"vad", "interrupt", CHOIR_CONFIG_BOOL, "true", 0, 0, NULL, NULL, "speech stops a reply"},
    {"voice", "silence_min_ms", CHOIR_CONFIG_INT, "300", 200, 3000, NULL, NULL,
     "shortest silence in ms that ends a turn: after a whole sentence of a quick speaker"},
    {"voice", "silence_max_ms", CHOIR_CONFIG_INT, "1500", 0, 5000, NULL, NULL,
     "longest one: after \"and\", numbers, spelled letters or of a slow speaker; 0: vad.silence_ms, always"},
    {"voice", "speculate", CHOIR_CONFIG_BOOL, "true", 0, 0, NULL, NULL,
     "begin a reply at the first pause that may be the end, and drop it when the person goes on"},
    {"voice", "half_duplex", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, NULL,
     "do not listen while the agent speaks: for loudspeakers without echo cancellation"},
    {"voice", "wake_phrase", CHOIR_CONFIG_STRING, "hey choir", 0, 0, NULL, NULL,
     "what wakes it: English words of at least five sounds in all; several phrases are separated by commas"},
    {"voice", "wake_word", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, NULL,
     "sleep until the wake word is said, and again 8 s after the last reply"},
    {"voice", "idle_ms", CHOIR_CONFIG_INT, "0", 0, 3600000, NULL, NULL,
     "silence in ms after a reply until the agent asks, once, whether somebody is there; 0: never"},
    {"voice", "fillers", CHOIR_CONFIG_BOOL, "true", 0, 0, NULL, NULL,
     "a short \"let me think\" when a reply takes over a second"},
    {"voice", "languages", CHOIR_CONFIG_STRING, "en", 0, 0, NULL, NULL,
     "languages the engines can do (en,de); others are answered with a sentence that says so; empty: all"},
    {"voice", "microphone", CHOIR_CONFIG_STRING, "off", 0, 0, NULL, "CHOIR_MICROPHONE",
     "this machine's own microphone: an ALSA device, default, or off"},
    {"voice", "speaker", CHOIR_CONFIG_STRING, "off", 0, 0, NULL, "CHOIR_SPEAKER",
     "where its replies are played: an ALSA device, default, or off (they are then only written)"},
    {"voice", "echo_cancellation", CHOIR_CONFIG_BOOL, "true", 0, 0, NULL, NULL,
     "take what the speaker plays out of what that microphone hears"},
    {"voice", "microphone_wake_word", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, NULL,
     "that microphone sleeps until the wake word, also when wake_word is false"},
    {"tools", "approval", CHOIR_CONFIG_ENUM, "ask", 0, 0, "ask|strict|true=ask|false=ask|1=ask|0=ask", "APPROVAL_MODE",
     "ask before anything is changed; strict: also before something runs in the sandbox"},
    {"tools", "denied", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "tools that never run, comma separated, * stands for anything: ssh.*, shell.execute_command"},
    {"tools", "git_protocols", CHOIR_CONFIG_STRING, "https:ssh:git", 0, 0, NULL, NULL,
     "protocols that the git tool may use, colon separated; ext and file run programs or read what is not ours"},
    {"tools", "known_hosts", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "file of the machines that the ssh tool may reach; empty: the user's own known_hosts"},
    {"tools", "playbooks", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "folder of the playbooks that the ansible tool may run; empty: Choir's own"},
    {"tools", "documents", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "folders whose documents may be added to the searchable ones, colon separated; empty: Documents of the home "
     "folder; the agent's own folder always is"},
    {"tools", "web_hosts", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "hosts whose pages the web browser opens without asking, comma separated"},
    {"tools", "web_local", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "ADDRESS:PORT of servers in this house that the web browser may reach nonetheless, comma separated"},
    {"tools", "web_ports", CHOIR_CONFIG_STRING, "80,443", 0, 0, NULL, NULL,
     "ports that the web browser may reach, comma separated"},
    {"tools", "summarizer", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, "USE_SUMMARIZER",
     "offer the summarizer, which finds what was said about something"},
    {"memory", "enabled", CHOIR_CONFIG_BOOL, "true", 0, 0, NULL, NULL, "the long-term memory"},
    {"memory", "learn", CHOIR_CONFIG_BOOL, "true", 0, 0, NULL, NULL,
     "keep facts that the person states; false: only those given with choir memory add or the API"},
    {"memory", "recall", CHOIR_CONFIG_BOOL, "true", 0, 0, NULL, NULL,
     "give the model the facts that belong to a message"},
    {"llm", "service", CHOIR_CONFIG_STRING, "", 0, 0, NULL,
     "LLAMA_API_SERVICE_NAME,MAIN_API_SERVICE_NAME,PRIMA_API_SERVICE_NAME",
     "service of Consul to use as the language model while it is healthy; this machine's own stays ready for when it "
     "is "
     "not"},
    {"experts", "list", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "experts without Consul, with one or more servers each: coding=http://10.0.0.5:8080 http://10.0.0.6:8080, "
     "creative=http://10.0.0.7:8080"},
    {"experts", "external", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "EXTERNAL_EXPERTS_CONFIG",
     "experts outside of this house, as JSON or a file of it: {\"NAME\": {\"base_url\": \"https://...\", "
     "\"api_key_env\": \"...\", \"model\": \"...\"}}"},
    {"experts", "key_file", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "file with the key of the experts' servers (llama-server --api-key-file)"},
    {"experts", "max_tokens", CHOIR_CONFIG_INT, "400", 8, 8192, NULL, NULL, "longest answer of an expert in tokens"},
    {"cluster", "consul_url", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CONSUL_HTTP_ADDR",
     "address of Consul: http://127.0.0.1:8500; empty: CONSUL_HOST and CONSUL_PORT, else none"},
    {"cluster", "consul_token_file", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CONSUL_HTTP_TOKEN_FILE",
     "file with a Consul token that may read services and nodes; read again when it changes"},
    {"cluster", "nomad_url", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "NOMAD_ADDR",
     "address of Nomad: http://127.0.0.1:4646; empty: none"},
    {"cluster", "controllers", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "join services that the page asks who wants to join: http://10.0.0.10:8003; empty: the servers that Nomad names"},
    {"cluster", "nomad_token_file", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "file with a Nomad token that may read jobs and logs; read again when it changes"},
    {"standby", "key_file", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "file with the key that all nodes share: the agent's state is kept on other nodes, which run choir standby; "
     "empty: "
     "it is not"},
    {"standby", "peers", CHOIR_CONFIG_STRING, "", 0, 0, NULL, NULL,
     "those nodes without Consul: http://10.0.0.5:8011, http://10.0.0.6:8011; empty: those that Consul names"},
    {"standby", "copies", CHOIR_CONFIG_INT, "2", 1, 4, NULL, NULL, "on how many of them"},
    {"agent", "benchmark", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, "BENCHMARK_MODE",
     "print the latency block of each turn to standard output"},
    {NULL, NULL, CHOIR_CONFIG_STRING, NULL, 0, 0, NULL, NULL, NULL},
};

char *choir_settings_default_file(void) {
  g_autofree char *own = g_build_filename(g_get_user_config_dir(), "choir", "choir.conf", NULL);
  g_autofree char *drop_ins = g_strconcat(own, ".d", NULL);
  if (g_file_test(own, G_FILE_TEST_EXISTS) || g_file_test(drop_ins, G_FILE_TEST_IS_DIR))
    return g_steal_pointer(&own);
  return g_strdup("/etc/choir/choir.conf");
}

/* Where an installed Choir keeps its state: the system's folder for whom it belongs to, else the user's own. */
static char *default_state(const ChoirPlace *place) {
  if (place->installed && access(SYSTEM_STATE, W_OK) == 0)
    return g_strdup(SYSTEM_STATE);
  return g_build_filename(g_get_user_state_dir(), "choir", NULL);
}

/* What ./run made. A checkout looks here first, and an installed Choir last. */
static char *in_cache(const char *a, const char *b) {
  return g_build_filename(g_get_user_cache_dir(), "choir", a, b, NULL);
}

static void resolve_installed(ChoirPaths *paths, const ChoirConfig *config, const ChoirPlace *place) {
  g_autofree char *engine = g_build_filename(place->library, "engine", NULL);
  g_autofree char *runtime = g_build_filename(place->library, "runtime", NULL);
  g_autofree char *cache_engine = in_cache("engine", CHOIR_ENGINE_VERSION), *cache_models = in_cache("models", NULL),
                  *cache_runtime = in_cache("runtime", NULL);
  g_autofree char *set_prompts = g_build_filename(place->settings, "prompts", NULL);
  g_autofree char *set_list = g_build_filename(place->settings, "models.yaml", NULL);
  g_autofree char *set_grammar = g_build_filename(place->settings, "commands.gram", NULL);
  g_autofree char *prompts = g_build_filename(place->data, "prompts", NULL);
  g_autofree char *list = g_build_filename(place->data, "group_vars", "models.yaml", NULL);
  g_autofree char *grammar = g_build_filename(place->data, "commands.gram", NULL);
  paths->engine = choir_place_first(choir_config_string(config, "paths", "engine"), engine, cache_engine, NULL);
  /* The last one is named where none is there. */
  paths->models = choir_place_first(choir_config_string(config, "paths", "models"), SYSTEM_MODELS, cache_models,
                                    SYSTEM_MODELS, NULL);
  paths->runtime = choir_place_first(choir_config_string(config, "paths", "runtime"), runtime, cache_runtime, NULL);
  paths->prompts = choir_place_first(choir_config_string(config, "paths", "prompts"), set_prompts, prompts, NULL);
  paths->list = choir_place_first(choir_config_string(config, "paths", "list"), set_list, list, NULL);
  paths->grammar = choir_place_first(NULL, set_grammar, grammar, NULL);
  paths->index = g_build_filename(place->library, "choir-index.so", NULL);
  paths->sandbox = g_build_filename(place->library, "choir-sandbox", NULL);
  paths->programs = g_strdup(place->library);
  paths->source = g_strdup(g_file_test(place->data, G_FILE_TEST_IS_DIR) ? place->data : "");
}

static void resolve_checkout(ChoirPaths *paths, const ChoirConfig *config, const ChoirPlace *place) {
  g_autofree char *cache_engine = in_cache("engine", CHOIR_ENGINE_VERSION), *cache_models = in_cache("models", NULL),
                  *cache_runtime = in_cache("runtime", NULL);
  paths->engine = choir_place_first(choir_config_string(config, "paths", "engine"), cache_engine, SYSTEM_ENGINE,
                                    cache_engine, NULL);
  paths->models = choir_place_first(choir_config_string(config, "paths", "models"), cache_models, SYSTEM_MODELS,
                                    cache_models, NULL);
  paths->runtime = choir_place_first(choir_config_string(config, "paths", "runtime"), cache_runtime, SYSTEM_RUNTIME,
                                     cache_runtime, NULL);
  paths->prompts =
      choir_place_first(choir_config_string(config, "paths", "prompts"), CHOIR_SOURCE_DIR "/prompts", NULL);
  paths->list =
      choir_place_first(choir_config_string(config, "paths", "list"), CHOIR_SOURCE_DIR "/group_vars/models.yaml", NULL);
  paths->grammar = g_strdup(CHOIR_SOURCE_DIR "/src/speech/data/commands.gram");
  paths->index = g_build_filename(place->own, "src", "memory", "choir-index.so", NULL);
  paths->sandbox = g_build_filename(place->own, "src", "sandbox", "choir-sandbox", NULL);
  paths->programs = g_build_filename(place->own, "src", "speech", NULL);
  paths->source = g_strdup(g_file_test(CHOIR_SOURCE_DIR, G_FILE_TEST_IS_DIR) ? CHOIR_SOURCE_DIR : "");
}

void choir_paths_resolve(ChoirPaths *paths, const ChoirConfig *config) {
  ChoirPlace place;
  choir_place_find(&place, NULL);
  const char *state = choir_config_string(config, "paths", "state");
  paths->state = *state ? g_strdup(state) : default_state(&place);
  if (place.installed)
    resolve_installed(paths, config, &place);
  else
    resolve_checkout(paths, config, &place);
  choir_place_clear(&place);
}

gboolean choir_paths_load(ChoirPaths *ret_paths, GError **error) {
  g_autofree char *file = choir_settings_default_file();
  g_autoptr(ChoirConfig) config = choir_config_load(choir_settings, file, error);
  if (config)
    choir_paths_resolve(ret_paths, config);
  return config != NULL;
}

void choir_paths_clear(ChoirPaths *paths) {
  g_clear_pointer(&paths->state, g_free);
  g_clear_pointer(&paths->engine, g_free);
  g_clear_pointer(&paths->models, g_free);
  g_clear_pointer(&paths->runtime, g_free);
  g_clear_pointer(&paths->prompts, g_free);
  g_clear_pointer(&paths->list, g_free);
  g_clear_pointer(&paths->grammar, g_free);
  g_clear_pointer(&paths->programs, g_free);
  g_clear_pointer(&paths->sandbox, g_free);
  g_clear_pointer(&paths->index, g_free);
  g_clear_pointer(&paths->source, g_free);
}
