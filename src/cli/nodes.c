/* `choir nodes`: the machines of the cluster. */
#include <string.h>
#include "cli/cli.h"
#include "cli/join.h"
#include "cli/nodes_list.h"

int choir_nodes_main(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (argv[i][0] != '-')
      return choir_join_word(argv[i]) ? choir_join_main(argc, argv) : choir_nodes_list_main(argc, argv);
  return choir_nodes_list_main(argc, argv);
}
