/* The daemon: `choir serve`. */
#pragma once

int choir_serve_main(int argc, char **argv); /* argv[0] = "serve"; returns the exit code */
