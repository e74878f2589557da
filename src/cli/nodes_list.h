/* The reading part of `choir nodes`. */
#pragma once

/* argv[0] "nodes", argv[1] "list" or nothing. Returns the exit code. */
int choir_nodes_list_main(int argc, char **argv);
