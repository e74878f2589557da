/* Settings of the room `web`, as initialisers for the daemon's one table. */
#pragma once

/* clang-format off */
#define CHOIR_WEB_CONFIG_ITEMS                                                                                         \
  {"web", "allowed_hosts", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_ALLOWED_HOSTS",                                 \
   "further host names this server may be called by, comma separated: choir.lan or choir.lan:8443 (no port = any)"},   \
  {"web", "allowed_origins", CHOIR_CONFIG_STRING, "", 0, 0, NULL, "CHOIR_ALLOWED_ORIGINS",                             \
   "further origins whose pages may call this server, comma separated: https://choir.lan"},                            \
  {"web", "trust_loopback", CHOIR_CONFIG_BOOL, "false", 0, 0, NULL, NULL,                                              \
   "when an owner exists: let programs of this machine talk without a login; they never approve"},                     \
  {"web", "response_urls", CHOIR_CONFIG_STRING, "http://127.0.0.1,http://localhost,http://[::1]", 0, 0, NULL,          \
   "CHOIR_RESPONSE_URLS", "where answers of /internal/chat may be sent, comma separated; no port = any port"},         \
  {"web", "chat_timeout_s", CHOIR_CONFIG_INT, "60", 1, 3600, NULL, NULL,                                               \
   "seconds until /internal/chat/sync gives up with 504"},                                                             \
  {"web", "max_pages", CHOIR_CONFIG_INT, "32", 1, 1024, NULL, NULL, "open /ws connections at once"},                   \
  {"web", "audio_seconds", CHOIR_CONFIG_INT, "3600", 1, 86400, NULL, NULL,                                             \
   "longest recording in seconds that /v1/audio/transcriptions takes"},                                                \
  {"web", "api_queue", CHOIR_CONFIG_INT, "16", 0, 256, NULL, NULL,                                                     \
   "API requests that may wait for the model; more are answered with 503"},                                            \
  {"web", "api_max_tokens", CHOIR_CONFIG_INT, "512", 1, 8192, NULL, NULL,                                              \
   "longest answer in tokens when an API request does not say"},                                                       \
  {"web", "api_temperature", CHOIR_CONFIG_DOUBLE, "0.2", 0, 2, NULL, NULL,                                             \
   "sampling temperature when an API request does not say"},
/* clang-format on */
