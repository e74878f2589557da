#include "net/hub.h"
#include <errno.h>
#include <gio/gio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_PER_TURN 64

typedef struct {
  int fd;
  ChoirHubCallback callback;
  gpointer user;
  gboolean removed; /* an event of the same batch may still point here */
} Entry;

typedef struct {
  GSource source;
  ChoirHub *hub;
  gpointer tag;
} HubSource;

struct ChoirHub {
  int epoll_fd;
  GHashTable *entries;  /* fd -> Entry */
  GPtrArray *graveyard; /* removed while dispatching; freed after it */
  gboolean dispatching, freed;
  GSource *source;
};

static void hub_destroy(ChoirHub *hub) {
  g_hash_table_unref(hub->entries);
  g_ptr_array_unref(hub->graveyard);
  close(hub->epoll_fd);
  g_free(hub);
}

static gboolean hub_dispatch(GSource *source, GSourceFunc callback, gpointer user) {
  ChoirHub *hub = ((HubSource *)source)->hub;
  struct epoll_event events[EVENTS_PER_TURN];
  int count = epoll_wait(hub->epoll_fd, events, EVENTS_PER_TURN, 0);
  hub->dispatching = TRUE;
  for (int i = 0; i < count && !hub->freed; i++) {
    Entry *entry = events[i].data.ptr;
    if (!entry->removed)
      entry->callback(entry->fd, events[i].events, entry->user);
  }
  hub->dispatching = FALSE;
  if (hub->freed) {
    hub_destroy(hub);
    return G_SOURCE_REMOVE;
  }
  g_ptr_array_set_size(hub->graveyard, 0);
  return G_SOURCE_CONTINUE;
}

static gboolean hub_check(GSource *source) {
  return g_source_query_unix_fd(source, ((HubSource *)source)->tag) != 0;
}

static gboolean hub_prepare(GSource *source, gint *timeout) {
  *timeout = -1;
  return FALSE;
}

static GSourceFuncs hub_funcs = {.prepare = hub_prepare, .check = hub_check, .dispatch = hub_dispatch};

ChoirHub *choir_hub_new(GMainContext *context) {
  int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0)
    g_error("cannot create an epoll descriptor: %s", g_strerror(errno));
  ChoirHub *hub = g_new0(ChoirHub, 1);
  hub->epoll_fd = epoll_fd;
  hub->entries = g_hash_table_new_full(NULL, NULL, NULL, NULL);
  hub->graveyard = g_ptr_array_new_with_free_func(g_free);
  hub->source = g_source_new(&hub_funcs, sizeof(HubSource));
  g_source_set_static_name(hub->source, "choir-hub");
  ((HubSource *)hub->source)->hub = hub;
  ((HubSource *)hub->source)->tag = g_source_add_unix_fd(hub->source, epoll_fd, G_IO_IN);
  g_source_attach(hub->source, context);
  return hub;
}

void choir_hub_free(ChoirHub *hub) {
  if (hub == NULL)
    return;
  GHashTableIter iter;
  gpointer fd, entry;
  g_hash_table_iter_init(&iter, hub->entries);
  while (g_hash_table_iter_next(&iter, &fd, &entry)) {
    epoll_ctl(hub->epoll_fd, EPOLL_CTL_DEL, GPOINTER_TO_INT(fd), NULL);
    ((Entry *)entry)->removed = TRUE;
    g_ptr_array_add(hub->graveyard, entry);
    g_hash_table_iter_remove(&iter);
  }
  GSource *source = hub->source;
  if (hub->dispatching)
    hub->freed = TRUE;
  else
    hub_destroy(hub);
  g_source_destroy(source);
  g_source_unref(source);
}

gboolean choir_hub_add(ChoirHub *hub, int fd, uint32_t epoll_events, ChoirHubCallback callback, gpointer user,
                       GError **error) {
  Entry *entry = g_new0(Entry, 1);
  *entry = (Entry){.fd = fd, .callback = callback, .user = user};
  struct epoll_event event = {.events = epoll_events, .data.ptr = entry};
  if (epoll_ctl(hub->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
    int saved = errno;
    g_set_error(error, G_IO_ERROR, (gint)g_io_error_from_errno(saved), "cannot watch descriptor %d: %s", fd,
                g_strerror(saved));
    g_free(entry);
    return FALSE;
  }
  /* An owner that closed its descriptor without removing it leaves a dead entry under a number now used again. */
  Entry *stale = g_hash_table_lookup(hub->entries, GINT_TO_POINTER(fd));
  if (stale != NULL) {
    stale->removed = TRUE;
    g_ptr_array_add(hub->graveyard, stale);
  }
  g_hash_table_insert(hub->entries, GINT_TO_POINTER(fd), entry);
  return TRUE;
}

void choir_hub_modify(ChoirHub *hub, int fd, uint32_t epoll_events) {
  Entry *entry = g_hash_table_lookup(hub->entries, GINT_TO_POINTER(fd));
  g_return_if_fail(entry != NULL);
  struct epoll_event event = {.events = epoll_events, .data.ptr = entry};
  if (epoll_ctl(hub->epoll_fd, EPOLL_CTL_MOD, fd, &event) != 0)
    g_warning("cannot change the watch on descriptor %d: %s", fd, g_strerror(errno));
}

void choir_hub_remove(ChoirHub *hub, int fd) {
  Entry *entry = g_hash_table_lookup(hub->entries, GINT_TO_POINTER(fd));
  if (entry == NULL)
    return;
  epoll_ctl(hub->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
  g_hash_table_remove(hub->entries, GINT_TO_POINTER(fd));
  entry->removed = TRUE;
  if (hub->dispatching)
    g_ptr_array_add(hub->graveyard, entry);
  else
    g_free(entry);
}
