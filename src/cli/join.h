/* The part of `choir nodes` about machines that want to join; it runs on a controller. */
#pragma once
#include <glib.h>
#include <jansson.h>

/* TRUE for token, pending, requests, approve, refuse, serve. */
gboolean choir_join_word(const char *word);
/* argv[0] "nodes", argv[1] one of the words. Returns the exit code. */
int choir_join_main(int argc, char **argv);
/* Machines on their way in, for the list of all; prints nothing where there is no join service, or for others than
 * root. */
void choir_join_print_open(void);
/* The same from a list of nodes that somebody else was asked for. */
void choir_join_print_list(const json_t *nodes);
/* join_serve.c: the service itself, until a signal. dir: state; ready: what the root half leaves. house_key: the key of
 * the cluster, under which the agent's page is answered at house_port; NULL = systemd's credential, else the usual
 * file.
 */
int choir_join_serve(const char *dir, const char *ready, int port, const char *house_key, int house_port);

#define CHOIR_JOIN_STATE "/var/lib/choir-join"
#define CHOIR_JOIN_READY "/var/lib/choir-join-ready"
