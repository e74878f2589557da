#include "daemon/cluster.h"
#include "base/log.h"
#include "base/names.h"

#define CONSUL_PORT "8500"

ChoirConsul *choir_cluster_consul(const ChoirConfig *config) {
  const char *url = choir_config_string(config, "cluster", "consul_url");
  const char *host = g_getenv("CONSUL_HOST"), *port = g_getenv("CONSUL_PORT"), *token = g_getenv("CONSUL_HTTP_TOKEN");
  g_autofree char *from_host = NULL;
  if (!*url && host && *host) {
    from_host = g_strdup_printf("http://%s:%s", host, port && *port ? port : CONSUL_PORT);
    url = from_host;
  }
  if (!*url)
    return NULL;
  if (token && *token)
    choir_warning(CHOIR_TOPIC_CLUSTER,
                  "the Consul token comes from the variable CONSUL_HTTP_TOKEN, which every program "
                  "of this user can read; put it into a file and name that in [cluster] "
                  "consul_token_file");
  ChoirConsulOptions options = {
      .url = url, .token_file = choir_config_string(config, "cluster", "consul_token_file"), .token = token};
  ChoirConsul *consul = choir_consul_new(&options);
  g_unsetenv("CONSUL_HTTP_TOKEN"); /* no child of ours needs it */
  return consul;
}

ChoirMainModel *choir_cluster_main_model(const ChoirConfig *config, ChoirConsul *consul, ChoirLlmServer *llm) {
  const char *service = choir_config_string(config, "llm", "service");
  if (!*service)
    return NULL;
  if (!consul || *choir_config_string(config, "llm", "base_url")) {
    choir_warning(CHOIR_TOPIC_CLUSTER, "the language model is not taken from the service %s: %s", service,
                  consul ? "[llm] base_url is set" : "[cluster] consul_url is not");
    return NULL;
  }
  return choir_main_model_new(consul, llm, service, choir_config_string(config, "experts", "key_file"));
}

ChoirNomad *choir_cluster_nomad(const ChoirConfig *config) {
  const char *url = choir_config_string(config, "cluster", "nomad_url");
  return *url ? choir_nomad_new(url, choir_config_string(config, "cluster", "nomad_token_file")) : NULL;
}

ChoirShip *choir_cluster_ship(const ChoirConfig *config, ChoirConsul *consul, const char *state, GError **error) {
  ChoirShipOptions options = {.state = state,
                              .key_file = choir_config_string(config, "standby", "key_file"),
                              .peers = choir_config_string(config, "standby", "peers"),
                              .consul = consul,
                              .service = CHOIR_SERVICE_STANDBY,
                              .copies = (guint)choir_config_int(config, "standby", "copies")};
  return *options.key_file ? choir_ship_new(&options, error) : NULL;
}

ChoirExperts *choir_cluster_experts(const ChoirConfig *config, ChoirHttpClient *http, ChoirConsul *consul,
                                    ChoirLlmServer *llm, const char *prompts_dir) {
  ChoirExpertsOptions options = {.http = http,
                                 .consul = consul,
                                 .llm = llm,
                                 .prompts_dir = prompts_dir,
                                 .list = choir_config_string(config, "experts", "list"),
                                 .external = choir_config_string(config, "experts", "external"),
                                 .key_file = choir_config_string(config, "experts", "key_file")};
  return choir_experts_new(&options);
}
