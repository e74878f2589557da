/* The join service as the agent's page uses it: who waits, and a yes or no, in sealed frames (cluster/sealed_door.h)
 * under the key that the cluster's nodes share. The agent checks who the person is; this side only that it is the
 * agent. Questions: {"op":"joins"}; {"op":"approve"|"refuse","id","by","at"}. Main thread only. */
#pragma once
#include "cluster/sealed_door.h"
#include "web/join.h"

typedef struct ChoirJoinHouse ChoirJoinHouse;

ChoirJoinHouse *choir_join_house_new(ChoirHttpServer *server, ChoirJoin *join, const ChoirSealKey *key);
void choir_join_house_free(ChoirJoinHouse *house);
/* "SHA256:..." as ssh-keygen -l prints it for "ssh-ed25519 AAAA...", NULL when that is none. Caller frees. */
char *choir_join_fingerprint(const char *ssh_host_key);
