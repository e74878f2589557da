#include "cli/talk_player.h"
#include <string.h>
#include "base/names.h"

#define BEGIN_SAMPLES (CHOIR_RATE_OUT * 60 / 1000)
#define MOST_SAMPLES (CHOIR_RATE_OUT * 120) /* two minutes: a server that paces never comes near */

typedef struct {
  char *item;
  GArray *samples; /* gint16, not yet played from `at` on */
  gsize at;
  guint64 played;
  gboolean ended;
} Piece;

struct ChoirTalkPlayer {
  GQueue pieces; /* of Piece, in playing order */
  char *item;    /* what position() tells */
  guint64 played;
  GHashTable *dead; /* items that were flushed */
  gsize queued;
  guint underruns;
  gboolean playing, starved;
};

static void piece_free(gpointer data) {
  Piece *piece = data;
  g_array_unref(piece->samples);
  g_free(piece->item);
  g_free(piece);
}

ChoirTalkPlayer *choir_talk_player_new(void) {
  ChoirTalkPlayer *player = g_new0(ChoirTalkPlayer, 1);
  g_queue_init(&player->pieces);
  player->dead = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  return player;
}

void choir_talk_player_free(ChoirTalkPlayer *player) {
  if (!player)
    return;
  g_queue_clear_full(&player->pieces, piece_free);
  g_hash_table_unref(player->dead);
  g_free(player->item);
  g_free(player);
}

static Piece *piece_of(ChoirTalkPlayer *player, const char *item) {
  for (GList *link = player->pieces.tail; link; link = link->prev)
    if (strcmp(((Piece *)link->data)->item, item) == 0)
      return link->data;
  return NULL;
}

void choir_talk_player_add(ChoirTalkPlayer *player, const char *item, const gint16 *samples, gsize n) {
  if (n == 0 || player->queued + n > MOST_SAMPLES || g_hash_table_contains(player->dead, item))
    return;
  Piece *piece = piece_of(player, item);
  if (!piece) {
    piece = g_new0(Piece, 1);
    piece->item = g_strdup(item);
    piece->samples = g_array_new(FALSE, FALSE, sizeof(gint16));
    g_queue_push_tail(&player->pieces, piece);
  }
  if (player->starved) { /* more came after all: that silence was a gap */
    player->underruns++;
    player->starved = FALSE;
  }
  g_array_append_vals(piece->samples, samples, (guint)n);
  player->queued += n;
}

void choir_talk_player_end(ChoirTalkPlayer *player, const char *item) {
  Piece *piece = piece_of(player, item);
  if (player->queued == 0)
    player->starved = FALSE;
  if (!piece)
    return;
  piece->ended = TRUE;
  if (piece->at == piece->samples->len) { /* all of it has been played */
    g_queue_remove(&player->pieces, piece);
    piece_free(piece);
  }
}

void choir_talk_player_flush(ChoirTalkPlayer *player) {
  for (GList *link = player->pieces.head; link; link = link->next)
    g_hash_table_add(player->dead, g_strdup(((Piece *)link->data)->item));
  if (player->item)
    g_hash_table_add(player->dead, g_strdup(player->item));
  g_queue_clear_full(&player->pieces, piece_free);
  player->queued = 0;
  player->playing = player->starved = FALSE;
}

static gsize take(ChoirTalkPlayer *player, Piece *piece, gint16 *out, gsize n) {
  gsize count = MIN(n, piece->samples->len - piece->at);
  memcpy(out, (gint16 *)(gpointer)piece->samples->data + piece->at, count * sizeof(gint16));
  piece->at += count;
  piece->played += count;
  player->queued -= count;
  if (g_strcmp0(player->item, piece->item) != 0) {
    g_free(player->item);
    player->item = g_strdup(piece->item);
  }
  player->played = piece->played;
  return count;
}

void choir_talk_player_pull(ChoirTalkPlayer *player, gint16 *out, gsize n) {
  Piece *head = g_queue_peek_head(&player->pieces);
  if (!player->playing && player->queued > 0 && (player->queued >= BEGIN_SAMPLES || head->ended))
    player->playing = TRUE;
  gsize filled = 0;
  while (player->playing && filled < n && head) {
    filled += take(player, head, out + filled, n - filled);
    if (head->at < head->samples->len)
      continue;
    gboolean last = player->pieces.length == 1;
    if (last && !head->ended) {
      player->starved = TRUE;
      player->playing = FALSE;
      g_array_set_size(head->samples, 0);
      head->at = 0;
      break;
    }
    piece_free(g_queue_pop_head(&player->pieces));
    head = g_queue_peek_head(&player->pieces);
    if (!head)
      player->playing = FALSE;
  }
  memset(out + filled, 0, (n - filled) * sizeof(gint16));
}

gboolean choir_talk_player_empty(const ChoirTalkPlayer *player) {
  return player->queued == 0;
}

guint choir_talk_player_underruns(const ChoirTalkPlayer *player) {
  return player->underruns;
}

const char *choir_talk_player_position(const ChoirTalkPlayer *player, guint64 *ret_played) {
  *ret_played = player->played;
  return player->item;
}
