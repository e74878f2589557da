/* Approvals in `choir chat`: cards from the daemon's /ws, answered with y or n. Main thread only. */
#pragma once
#include <glib.h>

typedef struct ChoirChatCards ChoirChatCards;
/* url: of the daemon; over a unix socket, or with a token of an approver, answers count. quiet: no cards are shown.
 * idle: the last card was answered or withdrawn. */
ChoirChatCards *choir_chat_cards_new(const char *url, gboolean quiet, void (*idle)(gpointer user), gpointer user);
void choir_chat_cards_free(ChoirChatCards *cards);
/* Runs `synced` once, when all that the daemon had sent on /ws by now has been shown; at once where /ws is closed.
 * The answer comes on a connection of its own, and would overtake what a tool put out. One at a time. */
void choir_chat_cards_sync(ChoirChatCards *cards, void (*synced)(gpointer user));
/* An answer begins: what a tool put out last is ended. */
void choir_chat_cards_end_line(ChoirChatCards *cards);
/* TRUE: a card waits, and what is typed from now on answers it. */
gboolean choir_chat_cards_waiting(const ChoirChatCards *cards);
void choir_chat_cards_typed(ChoirChatCards *cards, const char *text, gsize length);
