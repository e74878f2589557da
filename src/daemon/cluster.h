/* What the daemon knows of its cluster: Consul, Nomad and the experts, as the settings name them. Every part may be
 * missing. Main thread only. */
#pragma once
#include "base/config.h"
#include "cluster/consul.h"
#include "cluster/experts.h"
#include "cluster/main_model.h"
#include "cluster/nomad.h"
#include "cluster/ship.h"

/* Borrowed by whoever gets it; NULL where nothing is configured. */
ChoirConsul *choir_cluster_consul(const ChoirConfig *config);
/* LLAMA_API_SERVICE_NAME and its like; without Consul it is only warned of. */
ChoirMainModel *choir_cluster_main_model(const ChoirConfig *config, ChoirConsul *consul, ChoirLlmServer *llm);
ChoirNomad *choir_cluster_nomad(const ChoirConfig *config);
/* NULL without error: [standby] key_file is not set. */
ChoirShip *choir_cluster_ship(const ChoirConfig *config, ChoirConsul *consul, const char *state, GError **error);
ChoirExperts *choir_cluster_experts(const ChoirConfig *config, ChoirHttpClient *http, ChoirConsul *consul,
                                    ChoirLlmServer *llm, const char *prompts_dir);
