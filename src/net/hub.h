/* One epoll descriptor nested in the main loop as one GSource: GLib polls every fd at every turn, epoll does not.
 * Main thread only. */
#pragma once
#include <glib.h>
#include <stdint.h>

typedef struct ChoirHub ChoirHub;
typedef void (*ChoirHubCallback)(int fd, uint32_t epoll_events, gpointer user);

ChoirHub *choir_hub_new(GMainContext *context); /* NULL = the default one */
void choir_hub_free(ChoirHub *hub);
/* One callback per fd. It may remove itself or other fds. The hub never closes fds. */
gboolean choir_hub_add(ChoirHub *hub, int fd, uint32_t epoll_events, ChoirHubCallback callback, gpointer user,
                       GError **error);
void choir_hub_modify(ChoirHub *hub, int fd, uint32_t epoll_events);
void choir_hub_remove(ChoirHub *hub, int fd);
