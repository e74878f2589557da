#include "cli/wsclient.h"
#include <gio/gunixsocketaddress.h>
#include <libsoup/soup.h>
#include <string.h>
#include "base/text.h"
#include "cli/cli.h"

#define MAX_MESSAGE (4 << 20)

struct ChoirWsClient {
  SoupSession *session;
  SoupWebsocketConnection *connection; /* NULL until open and after the close */
  GCancellable *cancellable;
  ChoirWsClientHandlers handlers;
  gpointer user;
  gboolean over; /* closed() was called */
  char *url;
};

static void over(ChoirWsClient *client, const char *why) {
  if (client->over)
    return;
  client->over = TRUE;
  client->handlers.closed(why, client->user);
}

static void on_message(SoupWebsocketConnection *connection, SoupWebsocketDataType type, GBytes *bytes, gpointer user) {
  ChoirWsClient *client = user;
  gsize length;
  const char *data = g_bytes_get_data(bytes, &length);
  json_auto_t *event = type == SOUP_WEBSOCKET_DATA_TEXT ? choir_json_parse(data, (gssize)length, NULL) : NULL;
  if (event)
    client->handlers.event(event, choir_json_string(event, "type", ""), client->user);
}

static void on_closed(SoupWebsocketConnection *connection, gpointer user) {
  ChoirWsClient *client = user;
  const char *data = soup_websocket_connection_get_close_data(connection);
  over(client, data && *data ? data : "the daemon closed the connection");
}

static void on_open(GObject *source, GAsyncResult *result, gpointer user) {
  g_autoptr(GError) error = NULL;
  SoupWebsocketConnection *connection = soup_session_websocket_connect_finish(SOUP_SESSION(source), result, &error);
  if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
    return; /* freed meanwhile */
  ChoirWsClient *client = user;
  if (!connection) {
    g_autofree char *why =
        g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CONNECTION_REFUSED)
            ? g_strdup_printf("no Choir answers at %s; start it with ./run or choir serve", client->url)
            : g_strdup_printf("%s: %s", client->url, error->message);
    over(client, why);
    return;
  }
  client->connection = connection;
  soup_websocket_connection_set_max_incoming_payload_size(connection, MAX_MESSAGE);
  g_signal_connect(connection, "message", G_CALLBACK(on_message), client);
  g_signal_connect(connection, "closed", G_CALLBACK(on_closed), client);
  client->handlers.open(client->user);
}

ChoirWsClient *choir_wsclient_open(const char *url, const char *path, const ChoirWsClientHandlers *handlers,
                                   gpointer user) {
  ChoirWsClient *client = g_new0(ChoirWsClient, 1);
  client->handlers = *handlers;
  client->user = user;
  client->url = g_strdup(url);
  gboolean local = g_str_has_prefix(url, "unix:");
  g_autoptr(GSocketConnectable) socket = local ? G_SOCKET_CONNECTABLE(g_unix_socket_address_new(url + 5)) : NULL;
  client->session = soup_session_new_with_options("remote-connectable", socket, NULL);
  client->cancellable = g_cancellable_new();
  g_autofree char *address = g_strconcat(local ? "http://localhost" : url, path, NULL);
  g_autoptr(SoupMessage) message = soup_message_new("GET", address);
  if (!message) {
    g_autofree char *why = g_strdup_printf("'%s' is not an address", url);
    over(client, why);
    return client;
  }
  g_autofree char *authorization = choir_cli_authorization(url);
  if (authorization)
    soup_message_headers_append(soup_message_get_request_headers(message), "Authorization",
                                strchr(authorization, ' ') + 1);
  char *protocols[] = {"realtime", NULL};
  soup_session_websocket_connect_async(client->session, message, NULL, protocols, G_PRIORITY_DEFAULT,
                                       client->cancellable, on_open, client);
  return client;
}

void choir_wsclient_send(ChoirWsClient *client, json_t *event) {
  g_autofree char *text = choir_json_dump(event);
  json_decref(event);
  if (client->connection && soup_websocket_connection_get_state(client->connection) == SOUP_WEBSOCKET_STATE_OPEN)
    soup_websocket_connection_send_text(client->connection, text);
}

void choir_wsclient_free(ChoirWsClient *client) {
  if (!client)
    return;
  client->over = TRUE;
  g_cancellable_cancel(client->cancellable);
  if (client->connection) {
    g_signal_handlers_disconnect_by_data(client->connection, client);
    if (soup_websocket_connection_get_state(client->connection) == SOUP_WEBSOCKET_STATE_OPEN)
      soup_websocket_connection_close(client->connection, SOUP_WEBSOCKET_CLOSE_GOING_AWAY, NULL);
    g_object_unref(client->connection);
  }
  g_object_unref(client->cancellable);
  g_object_unref(client->session);
  g_free(client->url);
  g_free(client);
}
