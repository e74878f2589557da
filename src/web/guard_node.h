/* By what names and addresses other machines know this one. Any thread. */
#pragma once
#include <glib.h>

/* Lower case, as in a Host header: "atlas", "atlas.local", "192.168.1.30", "[fd00::1]"; without loopback and addresses
 * that need a zone. Caller frees. */
GStrv choir_node_hosts(void);
