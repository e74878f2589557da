/* The listener's side of a talk: a player of 24 kHz audio as the page has one. It begins after 60 ms are there, plays
 * one sample per sample time, fills gaps with silence and counts them. Main thread only. */
#pragma once
#include <glib.h>

typedef struct ChoirTalkPlayer ChoirTalkPlayer;

ChoirTalkPlayer *choir_talk_player_new(void);
void choir_talk_player_free(ChoirTalkPlayer *player);
void choir_talk_player_add(ChoirTalkPlayer *player, const char *item, const gint16 *samples, gsize n);
void choir_talk_player_end(ChoirTalkPlayer *player, const char *item); /* nothing more comes for it */
void choir_talk_player_flush(
    ChoirTalkPlayer *player); /* what is queued is dropped, and what still comes for its item */
void choir_talk_player_pull(ChoirTalkPlayer *player, gint16 *out, gsize n);
gboolean choir_talk_player_empty(const ChoirTalkPlayer *player);
guint choir_talk_player_underruns(const ChoirTalkPlayer *player); /* so far */
/* The item that plays or played last and how many of its samples were played; NULL before the first. */
const char *choir_talk_player_position(const ChoirTalkPlayer *player, guint64 *ret_played);
