/* Routes questions as the agent does. usage: expert-probe PROMPTS EXPERT...; one question a line on standard input, one
 * JSON object a line: {"expert","likeness","query"}. */
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "cluster/route.h"
#include "tools/tools.h"

static void add_other(const char *id, const char *example, gpointer user) {
  choir_experts_add_other(user, id, example);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: expert-probe PROMPTS EXPERT...\n");
    return 2;
  }
  GString *list = g_string_new(NULL);
  for (int i = 2; i < argc; i++)
    g_string_append_printf(list, "%s%s=http://127.0.0.1:9", i > 2 ? "," : "", argv[i]);
  ChoirHttpClient *http = choir_http_client_new();
  ChoirExpertsOptions options = {.http = http, .prompts_dir = argv[1], .list = list->str};
  ChoirExperts *experts = choir_experts_new(&options);
  choir_tools_each_example(add_other, experts);
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    ChoirRoute route;
    choir_experts_route(experts, g_strchomp(line), &route);
    json_auto_t *json =
        json_pack("{s:s?,s:f,s:s?}", "expert", route.expert, "likeness", route.likeness, "query", route.query);
    g_autofree char *text = choir_json_dump(json);
    puts(text);
    fflush(stdout);
    choir_route_clear(&route);
  }
  choir_experts_free(experts);
  choir_http_client_free(http);
  g_string_free(list, TRUE);
  return 0;
}
