/* wyoming.c: sockets, limits, bytes. wyoming_client.c: what one client asks for and gets; no I/O of its own.
 * wyoming_info.c: what "describe" is answered with. */
#pragma once
#include "net/wyoming.h"
#include "speech/desk.h"

typedef enum { CHOIR_WYOMING_STT = 1, CHOIR_WYOMING_TTS = 2 } ChoirWyomingServices;

typedef struct ChoirWyomingClient ChoirWyomingClient;

/* What a client does to its connection. */
typedef struct {
  void (*send)(GByteArray *event /* taken */, gpointer user);
  void (*resume)(gpointer user); /* after busy: events may come again; called from the loop only */
} ChoirWyomingOut;

ChoirWyomingClient *choir_wyoming_client_new(ChoirDesk *desk, ChoirWyomingServices services, const char *language,
                                             const ChoirWyomingOut *out, gpointer user);
void choir_wyoming_client_free(ChoirWyomingClient *client); /* cancels what runs */
void choir_wyoming_client_event(ChoirWyomingClient *client, const ChoirWyomingEvent *event);
/* An answer is being made: further events wait, as with the servers of the Python library. */
gboolean choir_wyoming_client_busy(const ChoirWyomingClient *client);
/* Bytes that the connection could not send yet: holds the voice back. */
void choir_wyoming_client_queued(ChoirWyomingClient *client, gsize bytes);

json_t *choir_wyoming_info(const ChoirDesk *desk, ChoirWyomingServices services, const char *language);
