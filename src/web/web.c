#include "web/web.h"
#include "base/metrics.h"
#include "base/text.h"
#include "web/audio_api.h"
#include "web/guard_roles.h"
#include "web/login_api.h"
#include "web/page.h"
#include "web/principal.h"
#include "web/rtvi.h"
#include "web/web_private.h"

struct ChoirWeb {
  ChoirWebOptions options;
  ChoirGuard *guard;
  ChoirRoles roles;
  ChoirLoginApi *login;
  ChoirRealtime *realtime;
  ChoirRtvi *rtvi;
  ChoirPages *pages;
  ChoirInternal *internal;
  ChoirConversations *conversations;
  ChoirModelsApi *models_api;
  ChoirOpenai *openai;
  ChoirAudioApi *audio;
  ChoirToolsApi *tools;
  ChoirMemoryApi *memory;
  ChoirClusterApi *cluster;
  ChoirJoinsApi *joins;
};

char *choir_web_model_name(const ChoirWebOptions *options) {
  json_auto_t *status = choir_llm_server_status(choir_twin_llm(options->twin));
  const char *name = choir_json_string(status, "model", "");
  return g_strdup(*name ? name : "choir");
}

static char *realtime_model(gpointer user) {
  return choir_web_model_name(user);
}

ChoirWeb *choir_web_new(const ChoirWebOptions *options) {
  ChoirWeb *web = g_new0(ChoirWeb, 1);
  web->options = *options;
  const ChoirWebOptions *own = &web->options;
  web->guard = choir_guard_new(choir_http_server_port(options->server),
                               choir_config_string(options->config, "web", "allowed_hosts"),
                               choir_config_string(options->config, "web", "allowed_origins"));
  if (own->tls_port)
    choir_guard_allow_node(web->guard, own->tls_port);
  web->roles = (ChoirRoles){.guard = web->guard, .owners = own->owners, .tls_port = own->tls_port};
  choir_principal_use(&(ChoirDoor){.owners = own->owners,
                                   .machine_keys = own->machine_keys,
                                   .twin_secret = own->twin_secret,
                                   .trust_loopback = choir_config_bool(own->config, "web", "trust_loopback")});
  choir_http_server_set_guard(options->server, choir_roles_http, &web->roles);
  web->login = own->owners ? choir_login_api_new(own) : NULL;
  choir_page_routes(options->server, choir_page_assets);
  web->models_api = choir_models_api_new(own);
  web->internal = choir_internal_new(own, web->models_api);
  web->pages = choir_pages_new(own);
  web->conversations = choir_conversations_new(own);
  web->openai = choir_openai_new(own);
  web->memory = choir_memory_api_new(own);
  web->cluster = own->view ? choir_cluster_api_new(own) : NULL;
  web->joins = own->view ? choir_joins_api_new(own) : NULL;
  web->tools = own->toolbox ? choir_tools_api_new(own) : NULL;
  web->audio = own->desk ? choir_audio_api_new(own) : NULL;
  web->realtime =
      choir_realtime_new(options->server, options->voice, choir_twin_llm(options->twin), realtime_model, &web->options);
  web->rtvi = choir_rtvi_new(options->server, options->voice, realtime_model, &web->options);
  return web;
}

void choir_web_free(ChoirWeb *web) {
  if (!web)
    return;
  choir_rtvi_free(web->rtvi);
  choir_realtime_free(web->realtime);
  choir_tools_api_free(web->tools);
  choir_memory_api_free(web->memory);
  choir_cluster_api_free(web->cluster);
  choir_joins_api_free(web->joins);
  choir_audio_api_free(web->audio);
  choir_openai_free(web->openai);
  choir_conversations_free(web->conversations);
  choir_pages_free(web->pages);
  choir_internal_free(web->internal);
  choir_models_api_free(web->models_api);
  choir_http_server_set_guard(web->options.server, NULL, NULL);
  choir_principal_use(NULL);
  choir_login_api_free(web->login);
  choir_guard_free(web->guard);
  g_free(web);
}
