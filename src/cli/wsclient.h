/* A WebSocket to the daemon's Realtime interface, JSON in and out. Main thread only. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct ChoirWsClient ChoirWsClient;
typedef struct {
  void (*open)(gpointer user);
  void (*event)(const json_t *event, const char *type, gpointer user);
  void (*closed)(const char *why, gpointer user); /* exactly once, also when it could not be opened */
} ChoirWsClientHandlers;

/* url: the daemon's http address; path: "/v1/realtime?choir=1". handlers is copied. */
ChoirWsClient *choir_wsclient_open(const char *url, const char *path, const ChoirWsClientHandlers *handlers,
                                   gpointer user);
/* event is stolen. Dropped when the connection is not open. */
void choir_wsclient_send(ChoirWsClient *client, json_t *event);
void choir_wsclient_free(ChoirWsClient *client); /* closes; no handler runs any more */
