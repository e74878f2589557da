/* What the routes of web share. Each part is a struct of its own behind a pointer; all live as long as the ChoirWeb. */
#pragma once
#include "web/guard.h"
#include "web/realtime.h"
#include "web/web.h"

typedef struct ChoirPages ChoirPages;
typedef struct ChoirInternal ChoirInternal;
typedef struct ChoirOpenai ChoirOpenai;
typedef struct ChoirModelsApi ChoirModelsApi;
typedef struct ChoirConversations ChoirConversations;
typedef struct ChoirToolsApi ChoirToolsApi;
typedef struct ChoirMemoryApi ChoirMemoryApi;
typedef struct ChoirClusterApi ChoirClusterApi;
typedef struct ChoirJoinsApi ChoirJoinsApi;

/* The model that serves, for APIs that name one. Caller frees. */
char *choir_web_model_name(const ChoirWebOptions *options);

/* control.c: /health, /api/status, /metrics, /internal/chat, /internal/chat/sync */
ChoirInternal *choir_internal_new(const ChoirWebOptions *options, ChoirModelsApi *models_api);
void choir_internal_free(ChoirInternal *internal);

/* pages.c: /ws */
ChoirPages *choir_pages_new(const ChoirWebOptions *options);
void choir_pages_free(ChoirPages *pages);

/* openai.c: /v1/models, /v1/chat/completions */
ChoirOpenai *choir_openai_new(const ChoirWebOptions *options);
void choir_openai_free(ChoirOpenai *openai);

/* conversations.c: /api/conversations */
ChoirConversations *choir_conversations_new(const ChoirWebOptions *options);
void choir_conversations_free(ChoirConversations *api);

/* tools_api.c: /api/tools, /api/approvals, /api/audit */
ChoirToolsApi *choir_tools_api_new(const ChoirWebOptions *options);
void choir_tools_api_free(ChoirToolsApi *api);

/* memory_api.c: /api/memory, /api/state */
ChoirMemoryApi *choir_memory_api_new(const ChoirWebOptions *options);
void choir_memory_api_free(ChoirMemoryApi *api);

/* cluster_api.c: /api/cluster */
ChoirClusterApi *choir_cluster_api_new(const ChoirWebOptions *options);
void choir_cluster_api_free(ChoirClusterApi *api);

/* joins_api.c: /api/cluster/joins */
ChoirJoinsApi *choir_joins_api_new(const ChoirWebOptions *options);
void choir_joins_api_free(ChoirJoinsApi *api);

/* models_api.c: /api/models */
ChoirModelsApi *choir_models_api_new(const ChoirWebOptions *options);
void choir_models_api_free(ChoirModelsApi *api);
json_t *choir_models_api_fetch_json(const ChoirModelsApi *api); /* {"name","done","total","error"} or null */
