/* A service of Consul as the agent's main language model, while one of its servers is healthy. Main thread only. */
#pragma once
#include "cluster/consul.h"
#include "llm/server.h"

typedef struct ChoirMainModel ChoirMainModel;

/* service: "llama-api-main". key_file: of the servers' key; may be NULL or empty. All borrowed. */
ChoirMainModel *choir_main_model_new(ChoirConsul *consul, ChoirLlmServer *llm, const char *service,
                                     const char *key_file);
void choir_main_model_free(ChoirMainModel *model); /* before consul and llm */
/* Pure: the address of a healthy server in Consul's answer: that of `stay` if it is one, else the first. Caller frees.
 */
char *choir_main_model_pick(const json_t *answer, const char *stay);
