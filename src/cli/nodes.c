/* `choir nodes`: the machines of the cluster. */
#include <string.h>
#include "cli/cli.h"
#include "cli/expert_private.h"
#include "cli/join.h"
#include "cli/nodes_list.h"

int choir_nodes_main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "plan") == 0)
    return choir_expert_plan(argc - 1, argv + 1);
  for (int i = 1; i < argc; i++)
    if (argv[i][0] != '-')
      return choir_join_word(argv[i]) ? choir_join_main(argc, argv) : choir_nodes_list_main(argc, argv);
  return choir_nodes_list_main(argc, argv);
}
