/* Inside the sandbox's own network: programs that know TCP only (a web browser) reach a unix socket, and the daemon
 * reaches a program's loopback port by a unix socket. */
#pragma once
#include <glib.h>

/* choir-sandbox --forward LISTEN=CONNECT ... -- PROGRAM ARGUMENT ...; an end is a port of 127.0.0.1 or a path that
 * holds a slash. Forwards until the program ends; returns its exit code, or 126 with one sentence on stderr. */
int choir_forward_main(int argc, char **argv);
