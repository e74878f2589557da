#include "web/realtime_config.h"
#include <string.h>
#include "base/names.h"
#include "base/text.h"

#define MAX_INSTRUCTIONS 32768

void choir_realtime_config_init(ChoirRealtimeConfig *config, const ChoirLiveOptions *defaults, const char *model) {
  *config = (ChoirRealtimeConfig){
      .id = choir_id("sess_"),
      .model = g_strdup(model),
      .instructions = g_strdup(""),
      .live = *defaults,
      .defaults = *defaults,
      .format = CHOIR_REALTIME_PCM,
      .rate = CHOIR_RATE_OUT,
      .transcription = TRUE,
      .tool_choice = json_string("auto"),
      .max_output_tokens = json_string("inf"),
      .tools = choir_call_tools_new(NULL, NULL, NULL),
      .choice = CHOIR_CALL_AUTO,
  };
}

void choir_realtime_config_clear(ChoirRealtimeConfig *config) {
  g_free(config->id);
  g_free(config->model);
  g_free(config->instructions);
  g_free(config->language);
  g_free(config->choice_name);
  g_free(config->eagerness);
  choir_call_tools_unref(config->tools);
  json_decref(config->tool_choice);
  json_decref(config->max_output_tokens);
  *config = (ChoirRealtimeConfig){0};
}

void choir_realtime_config_copy(ChoirRealtimeConfig *to, const ChoirRealtimeConfig *from) {
  *to = *from;
  to->id = g_strdup(from->id);
  to->model = g_strdup(from->model);
  to->instructions = g_strdup(from->instructions);
  to->language = g_strdup(from->language);
  to->choice_name = g_strdup(from->choice_name);
  to->eagerness = g_strdup(from->eagerness);
  choir_call_tools_ref(to->tools);
  json_incref(to->tool_choice);
  json_incref(to->max_output_tokens);
}

static gboolean bad_type(ChoirFault *fault, const char *param, const char *wanted) {
  choir_fault_set(fault, "invalid_type", param, "Invalid type for '%s': expected %s.", param, wanted);
  return FALSE;
}

static gboolean unknown_key(ChoirFault *fault, const char *where, const char *key) {
  g_autofree char *param = g_strdup_printf("%s.%s", where, key);
  choir_fault_set(fault, "unknown_parameter", param, "Unknown parameter: '%s'.", param);
  return FALSE;
}

static gboolean set_bool(const json_t *value, const char *param, gboolean *field, ChoirFault *fault) {
  if (!json_is_boolean(value))
    return bad_type(fault, param, "a boolean");
  *field = json_is_true(value);
  return TRUE;
}

/* Values outside what the engine can do are moved to the nearest it can; the answer shows what is in effect. */
static gboolean set_ms(const json_t *value, const char *param, guint low, guint high, guint *field, ChoirFault *fault) {
  if (!json_is_number(value) || json_number_value(value) < 0)
    return bad_type(fault, param, "milliseconds, 0 or more");
  *field = (guint)CLAMP(json_number_value(value), (double)low, (double)high);
  return TRUE;
}

/* The silence that ends a turn, and the bounds it adapts within. A bound of 0 keeps it fixed. */
static void set_silence(ChoirRealtimeConfig *config, guint percent) {
  const ChoirLiveOptions *usual = &config->defaults;
  config->live.silence_ms = CLAMP(usual->silence_ms * percent / 100, 200, 3000);
  config->live.silence_min_ms = CLAMP(usual->silence_min_ms * percent / 100, 200, 3000);
  config->live.silence_max_ms =
      usual->silence_max_ms > 0 ? CLAMP(usual->silence_max_ms * percent / 100, config->live.silence_min_ms, 5000) : 0;
}

static gboolean set_eagerness(const json_t *value, ChoirRealtimeConfig *config, ChoirFault *fault) {
  const char *param = "session.audio.input.turn_detection.eagerness";
  const char *word = json_string_value(value);
  if (g_strcmp0(word, "low") == 0)
    set_silence(config, 200);
  else if (g_strcmp0(word, "high") == 0)
    set_silence(config, 50);
  else if (g_strcmp0(word, "medium") == 0 || g_strcmp0(word, "auto") == 0)
    set_silence(config, 100);
  else
    return bad_type(fault, param, "low, medium, high or auto");
  g_free(config->eagerness);
  config->eagerness = g_strdup(word);
  return TRUE;
}

static gboolean set_turn_key(const char *key, const json_t *value, ChoirRealtimeConfig *config, ChoirFault *fault) {
  const char *where = "session.audio.input.turn_detection";
  g_autofree char *param = g_strdup_printf("%s.%s", where, key);
  ChoirLiveOptions *live = &config->live;
  if (strcmp(key, "type") == 0)
    return TRUE; /* checked by the caller */
  if (strcmp(key, "create_response") == 0)
    return set_bool(value, param, &live->create_response, fault);
  if (strcmp(key, "interrupt_response") == 0)
    return set_bool(value, param, &live->interrupt, fault);
  if (strcmp(key, "silence_duration_ms") == 0) {
    /* A client that names a silence gets that one: nothing shortens or lengthens it. */
    if (!set_ms(value, param, 200, 3000, &live->silence_ms, fault))
      return FALSE;
    live->silence_min_ms = live->silence_ms;
    live->silence_max_ms = 0;
    return TRUE;
  }
  if (strcmp(key, "prefix_padding_ms") == 0)
    return set_ms(value, param, 0, 1000, &live->prefix_ms, fault);
  if (strcmp(key, "idle_timeout_ms") == 0)
    return set_ms(value, param, 5000, 30000, &live->idle_ms, fault);
  if (strcmp(key, "eagerness") == 0)
    return config->eagerness ? set_eagerness(value, config, fault)
                             : bad_type(fault, param, "no such member with server_vad");
  if (strcmp(key, "threshold") != 0)
    return unknown_key(fault, where, key);
  if (!json_is_number(value) || !(json_number_value(value) >= 0 && json_number_value(value) <= 1))
    return bad_type(fault, param, "a number from 0 to 1");
  live->threshold = CLAMP(json_number_value(value), 0.1, 0.95);
  return TRUE;
}

static gboolean set_turn_detection(const json_t *value, ChoirRealtimeConfig *config, ChoirFault *fault) {
  const char *param = "session.audio.input.turn_detection";
  if (json_is_null(value)) {
    config->live.server_vad = config->live.create_response = FALSE;
    return TRUE;
  }
  const char *type = choir_json_string(value, "type", config->live.server_vad ? "server_vad" : "");
  if (!json_is_object(value) || (strcmp(type, "server_vad") != 0 && strcmp(type, "semantic_vad") != 0))
    return bad_type(fault, param, "null or an object of type server_vad or semantic_vad");
  if (!config->live.server_vad) {
    config->live.server_vad = TRUE;
    config->live.create_response = TRUE;
    config->live.interrupt = config->defaults.interrupt;
  }
  gboolean semantic = strcmp(type, "semantic_vad") == 0;
  if (semantic != (config->eagerness != NULL)) {
    g_free(config->eagerness);
    config->eagerness = semantic ? g_strdup("auto") : NULL;
    set_silence(config, 100);
  }
  const char *key;
  json_t *member;
  if (json_is_null(json_object_get(value, "idle_timeout_ms")))
    config->live.idle_ms = 0; /* said to be none; left out it stays */
  json_object_foreach((json_t *)value, key, member) {
    if (!json_is_null(member) && !set_turn_key(key, member, config, fault))
      return FALSE;
  }
  return TRUE;
}

static gboolean set_format(const json_t *value, ChoirRealtimeConfig *config, ChoirFault *fault) {
  const char *param = "session.audio.input.format";
  const char *type = choir_json_string(value, "type", "audio/pcm");
  if (!json_is_object(value))
    return bad_type(fault, param, "an object");
  if (strcmp(type, "audio/pcm") == 0) {
    gint64 rate = choir_json_int(value, "rate", CHOIR_RATE_OUT);
    if (rate < 8000 || rate > 48000) {
      choir_fault_set(fault, "invalid_value", "session.audio.input.format.rate",
                      "audio/pcm is accepted at 8000 to 48000 Hz, not %" G_GINT64_FORMAT ".", rate);
      return FALSE;
    }
    config->format = CHOIR_REALTIME_PCM;
    config->rate = (guint)rate;
    return TRUE;
  }
  if (strcmp(type, "audio/pcmu") != 0 && strcmp(type, "audio/pcma") != 0) {
    choir_fault_set(fault, "invalid_value", param, "Input is accepted as audio/pcm, audio/pcmu or audio/pcma.");
    return FALSE;
  }
  config->format = strcmp(type, "audio/pcmu") == 0 ? CHOIR_REALTIME_PCMU : CHOIR_REALTIME_PCMA;
  config->rate = 8000;
  return TRUE;
}

static gboolean set_transcription(const json_t *value, ChoirRealtimeConfig *config, ChoirFault *fault) {
  config->transcription = !json_is_null(value);
  if (json_is_null(value))
    return TRUE;
  if (!json_is_object(value))
    return bad_type(fault, "session.audio.input.transcription", "null or an object");
  const char *language = choir_json_string(value, "language", NULL);
  if (language && strlen(language) <= 16) {
    g_free(config->language);
    config->language = g_strdup(language);
  }
  return TRUE;
}

static gboolean set_input(const json_t *input, ChoirRealtimeConfig *config, ChoirFault *fault) {
  if (!json_is_object(input))
    return bad_type(fault, "session.audio.input", "an object");
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)input, key, value) {
    gboolean ok = TRUE;
    if (strcmp(key, "turn_detection") == 0)
      ok = set_turn_detection(value, config, fault);
    else if (strcmp(key, "format") == 0)
      ok = json_is_null(value) || set_format(value, config, fault);
    else if (strcmp(key, "transcription") == 0)
      ok = set_transcription(value, config, fault);
    else if (strcmp(key, "noise_reduction") != 0)
      ok = unknown_key(fault, "session.audio.input", key);
    if (!ok)
      return FALSE;
  }
  return TRUE;
}

static gboolean set_output(const json_t *output, ChoirFault *fault) {
  if (!json_is_object(output))
    return bad_type(fault, "session.audio.output", "an object");
  const json_t *format = json_object_get(output, "format");
  if (format && !json_is_null(format) &&
      (strcmp(choir_json_string(format, "type", ""), "audio/pcm") != 0 ||
       choir_json_int(format, "rate", CHOIR_RATE_OUT) != CHOIR_RATE_OUT)) {
    choir_fault_set(fault, "invalid_value", "session.audio.output.format", "Output is audio/pcm at 24000 Hz only.");
    return FALSE;
  }
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)output, key, value) { /* one voice, one speed: accepted, and the answer says which */
    if (strcmp(key, "format") != 0 && strcmp(key, "voice") != 0 && strcmp(key, "speed") != 0)
      return unknown_key(fault, "session.audio.output", key);
  }
  return TRUE;
}

static gboolean set_audio(const json_t *audio, ChoirRealtimeConfig *config, ChoirFault *fault) {
  if (!json_is_object(audio))
    return bad_type(fault, "session.audio", "an object");
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)audio, key, value) {
    gboolean ok = strcmp(key, "input") == 0    ? set_input(value, config, fault)
                  : strcmp(key, "output") == 0 ? set_output(value, fault)
                                               : unknown_key(fault, "session.audio", key);
    if (!ok)
      return FALSE;
  }
  return TRUE;
}

gboolean choir_realtime_config_modalities(const json_t *value, const char *param, gboolean *ret_audio,
                                          ChoirFault *fault) {
  const char *word = json_array_size(value) == 1 ? json_string_value(json_array_get(value, 0)) : NULL;
  if (g_strcmp0(word, "audio") != 0 && g_strcmp0(word, "text") != 0)
    return bad_type(fault, param, "[\"audio\"] or [\"text\"]");
  *ret_audio = strcmp(word, "audio") == 0;
  return TRUE;
}

static gboolean set_instructions(const json_t *value, ChoirRealtimeConfig *config, const char *param,
                                 ChoirFault *fault) {
  if (!json_is_string(value) || json_string_length(value) > MAX_INSTRUCTIONS)
    return bad_type(fault, param, "a string of at most 32768 bytes");
  g_free(config->instructions);
  config->instructions = g_strdup(json_string_value(value));
  return TRUE;
}

static void set_json(json_t **field, json_t *value) {
  json_decref(*field);
  *field = json_incref(value);
}

static gboolean set_tools(const json_t *value, ChoirRealtimeConfig *config, const char *where, ChoirFault *fault) {
  g_autoptr(GError) error = NULL;
  g_autofree char *member = NULL;
  ChoirCallTools *tools = choir_call_tools_new(value, &member, &error);
  if (!tools) {
    g_autofree char *param = g_strdup_printf("%s.%s", where, member);
    choir_fault_set(fault, "invalid_value", param, "%s", error->message);
    return FALSE;
  }
  choir_call_tools_unref(config->tools);
  config->tools = tools;
  return TRUE;
}

static gboolean set_max_tokens(json_t *value, ChoirRealtimeConfig *config, const char *param, ChoirFault *fault) {
  gboolean number = json_is_integer(value) && json_integer_value(value) >= 1 && json_integer_value(value) <= 4096;
  if (!number && g_strcmp0(json_string_value(value), "inf") != 0)
    return bad_type(fault, param, "a whole number from 1 to 4096, or \"inf\"");
  set_json(&config->max_output_tokens, value);
  return TRUE;
}

guint choir_realtime_config_max_tokens(const ChoirRealtimeConfig *config) {
  return (guint)json_integer_value(config->max_output_tokens); /* 0 for "inf" */
}

gboolean choir_realtime_config_prompt_key(ChoirRealtimeConfig *config, const char *where, const char *key,
                                          json_t *value, gboolean *ret_known, ChoirFault *fault) {
  g_autofree char *param = g_strdup_printf("%s.%s", where, key);
  *ret_known = TRUE;
  if (strcmp(key, "instructions") == 0)
    return set_instructions(value, config, param, fault);
  if (strcmp(key, "tools") == 0)
    return set_tools(value, config, where, fault);
  if (strcmp(key, "max_output_tokens") == 0)
    return set_max_tokens(value, config, param, fault);
  if (strcmp(key, "tool_choice") == 0)
    set_json(&config->tool_choice, value);
  else
    *ret_known = FALSE;
  return TRUE;
}

gboolean choir_realtime_config_resolve(ChoirRealtimeConfig *config, const char *where, ChoirFault *fault) {
  g_autofree char *param = g_strdup_printf("%s.tool_choice", where);
  g_clear_pointer(&config->choice_name, g_free);
  if (!choir_call_choice_read(config->tool_choice, config->tools, &config->choice, &config->choice_name)) {
    choir_fault_set(fault, "invalid_value", param,
                    "'%s' is \"auto\", \"none\", \"required\" or a function that 'tools' holds.", param);
    return FALSE;
  }
  if (config->choice == CHOIR_CALL_REQUIRED && choir_call_tools_count(config->tools) == 0) {
    choir_fault_set(fault, "invalid_value", param, "'%s' is \"required\", but there are no tools.", param);
    return FALSE;
  }
  return TRUE;
}

static gboolean set_session_key(const char *key, json_t *value, ChoirRealtimeConfig *config, ChoirFault *fault) {
  static const char *const without_effect[] = {"model",   "id",         "object",  "expires_at", "prompt",
                                               "tracing", "truncation", "include", "reasoning",  "parallel_tool_calls",
                                               NULL};
  if (strcmp(key, "audio") == 0)
    return set_audio(value, config, fault);
  gboolean known;
  if (!choir_realtime_config_prompt_key(config, "session", key, value, &known, fault))
    return FALSE;
  if (known)
    return TRUE;
  if (strcmp(key, "output_modalities") == 0)
    return choir_realtime_config_modalities(value, "session.output_modalities", &config->live.audio_out, fault);
  if (strcmp(key, "type") == 0) {
    if (g_strcmp0(json_string_value(value), "realtime") == 0)
      return TRUE;
    choir_fault_set(fault, "invalid_value", "session.type", "Sessions are of type 'realtime' here.");
    return FALSE;
  }
  return g_strv_contains(without_effect, key) || unknown_key(fault, "session", key);
}

gboolean choir_realtime_config_update(ChoirRealtimeConfig *config, const json_t *session, ChoirFault *fault) {
  if (!json_is_object(session))
    return bad_type(fault, "session", "an object");
  ChoirRealtimeConfig next;
  choir_realtime_config_copy(&next, config);
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)session, key, value) {
    if (!json_is_null(value) && !set_session_key(key, value, &next, fault)) {
      choir_realtime_config_clear(&next);
      return FALSE;
    }
  }
  if (!choir_realtime_config_resolve(&next, "session", fault)) {
    choir_realtime_config_clear(&next);
    return FALSE;
  }
  choir_realtime_config_clear(config);
  *config = next;
  return TRUE;
}

static json_t *format_json(const ChoirRealtimeConfig *config) {
  if (config->format == CHOIR_REALTIME_PCM)
    return json_pack("{s:s,s:i}", "type", "audio/pcm", "rate", (int)config->rate);
  return json_pack("{s:s}", "type", config->format == CHOIR_REALTIME_PCMU ? "audio/pcmu" : "audio/pcma");
}

static json_t *turn_detection_json(const ChoirRealtimeConfig *config) {
  const ChoirLiveOptions *live = &config->live;
  if (!live->server_vad)
    return json_null();
  if (config->eagerness)
    return json_pack("{s:s,s:s,s:b,s:b}", "type", "semantic_vad", "eagerness", config->eagerness, "create_response",
                     live->create_response, "interrupt_response", live->interrupt);
  json_t *idle = live->idle_ms > 0 ? json_integer(live->idle_ms) : json_null();
  return json_pack("{s:s,s:f,s:i,s:i,s:b,s:b,s:o}", "type", "server_vad", "threshold", live->threshold,
                   "prefix_padding_ms", (int)live->prefix_ms, "silence_duration_ms", (int)live->silence_ms,
                   "create_response", live->create_response, "interrupt_response", live->interrupt, "idle_timeout_ms",
                   idle);
}

json_t *choir_realtime_config_json(const ChoirRealtimeConfig *config) {
  json_t *transcription =
      config->transcription ? json_pack("{s:s,s:s?}", "model", "choir-stt", "language", config->language) : json_null();
  json_t *input = json_pack("{s:o,s:n,s:o,s:o}", "format", format_json(config), "noise_reduction", "transcription",
                            transcription, "turn_detection", turn_detection_json(config));
  json_t *output = json_pack("{s:{s:s,s:i},s:s,s:f}", "format", "type", "audio/pcm", "rate", CHOIR_RATE_OUT, "voice",
                             "choir", "speed", 1.0);
  return json_pack("{s:s,s:s,s:s,s:s,s:s,s:[s],s:O,s:O,s:O,s:n,s:n,s:{s:o,s:o}}", "type", "realtime", "object",
                   "realtime.session", "id", config->id, "model", config->model, "instructions", config->instructions,
                   "output_modalities", config->live.audio_out ? "audio" : "text", "tools",
                   (json_t *)choir_call_tools_json(config->tools), "tool_choice", config->tool_choice,
                   "max_output_tokens", config->max_output_tokens, "tracing", "prompt", "audio", "input", input,
                   "output", output);
}
