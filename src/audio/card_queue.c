#include "audio/card_queue.h"
#include <string.h>

#define MASK (CARD_QUEUE_SAMPLES - 1)

void card_queue_init(CardQueue *queue) {
  memset(queue, 0, sizeof *queue);
}

static CardItem *find(CardQueue *queue, guint32 item) {
  for (guint i = 0; i < queue->items; i++)
    if (queue->item[i].item == item)
      return &queue->item[i];
  return NULL;
}

static void drop_first(CardQueue *queue) {
  queue->items--;
  memmove(queue->item, queue->item + 1, queue->items * sizeof queue->item[0]);
}

/* Items that are done make room for the next one. */
static void tidy(CardQueue *queue) {
  while (queue->items > 0 && queue->item[0].left == 0 && (queue->item[0].ended || queue->items > 1))
    drop_first(queue);
}

gsize card_queue_push(CardQueue *queue, guint32 item, const gint16 *pcm, gsize n) {
  CardItem *last = queue->items > 0 ? &queue->item[queue->items - 1] : NULL;
  gsize take = MIN(n, CARD_QUEUE_SAMPLES - queue->fill);
  if (!last || last->item != item) {
    if (queue->items == CARD_QUEUE_ITEMS)
      take = 0;
    else {
      last = &queue->item[queue->items++];
      *last = (CardItem){.item = item};
    }
  }
  queue->dropped += n - take;
  if (take == 0)
    return 0;
  for (gsize i = 0; i < take; i++)
    queue->ring[(queue->read + queue->fill + i) & MASK] = pcm[i];
  queue->fill += (guint)take;
  last->left += take;
  last->ended = FALSE;
  return take;
}

void card_queue_end(CardQueue *queue, guint32 item) {
  CardItem *found = find(queue, item);
  if (found)
    found->ended = TRUE;
  tidy(queue);
}

static void note_run(CardQueue *queue, const CardItem *item, guint64 samples, guint64 at) {
  CardRun *last = queue->runs > 0 ? &queue->trail[queue->runs - 1] : NULL;
  if (last && last->item == item->item && last->at + last->samples == at &&
      last->first + last->samples == item->taken) {
    last->samples += samples;
    return;
  }
  if (queue->runs == CARD_QUEUE_TRAIL) {
    queue->runs--;
    memmove(queue->trail, queue->trail + 1, queue->runs * sizeof queue->trail[0]);
  }
  queue->trail[queue->runs++] = (CardRun){.at = at, .samples = samples, .first = item->taken, .item = item->item};
}

/* Takes up to n samples of the front item. */
static gsize take(CardQueue *queue, gint16 *out, gsize n, guint64 at) {
  tidy(queue);
  CardItem *item = queue->items > 0 ? &queue->item[0] : NULL;
  gsize count = item ? MIN(n, item->left) : 0;
  if (count == 0)
    return 0;
  for (gsize i = 0; i < count; i++)
    out[i] = queue->ring[(queue->read + i) & MASK];
  queue->read = (queue->read + (guint)count) & MASK;
  queue->fill -= (guint)count;
  note_run(queue, item, count, at);
  item->taken += count;
  item->left -= count;
  return count;
}

/* The fade is played and not taken: it is heard again, at full strength, after the pause. */
static gsize fade_away(CardQueue *queue, gint16 *out, gsize n) {
  const CardItem *item = queue->items > 0 ? &queue->item[0] : NULL;
  gsize count = item ? MIN(MIN(n, CARD_QUEUE_FADE_OUT), item->left) : 0;
  for (gsize i = 0; i < count; i++)
    out[i] = (gint16)(queue->ring[(queue->read + i) & MASK] * (double)(count - i) / (double)(count + 1));
  queue->hold = CARD_HELD;
  return count;
}

gsize card_queue_pull(CardQueue *queue, gint16 *out, gsize n) {
  gsize done = 0;
  if (queue->hold == CARD_FADES)
    done = fade_away(queue, out, n);
  else if (queue->hold == CARD_PLAYS) {
    gsize got;
    while (done < n && (got = take(queue, out + done, n - done, queue->pulled + done)) > 0)
      done += got;
    for (gsize i = 0; i < done && queue->fade_in > 0; i++, queue->fade_in--)
      out[i] = (gint16)(out[i] * (double)(CARD_QUEUE_FADE_IN - queue->fade_in) / CARD_QUEUE_FADE_IN);
    if (done > 0 && done < n && queue->items > 0 && !queue->item[0].ended)
      queue->underruns++;
  }
  memset(out + done, 0, (n - done) * sizeof *out);
  queue->pulled += n;
  tidy(queue);
  return done;
}

void card_queue_pause(CardQueue *queue) {
  if (queue->hold == CARD_PLAYS && queue->items > 0)
    queue->hold = CARD_FADES;
}

void card_queue_resume(CardQueue *queue, guint32 item, guint64 sample) {
  if (queue->hold == CARD_PLAYS)
    return;
  queue->hold = CARD_PLAYS;
  queue->fade_in = CARD_QUEUE_FADE_IN;
  CardItem *front = queue->items > 0 ? &queue->item[0] : NULL;
  if (!front || front->item != item || sample >= front->taken)
    return;
  guint64 back = MIN(front->taken - sample, MIN(CARD_QUEUE_SAMPLES - queue->fill, CARD_QUEUE_MOST_BACK));
  queue->read = (queue->read - (guint)back) & MASK;
  queue->fill += (guint)back;
  front->taken -= back;
  front->left += back;
}

void card_queue_flush(CardQueue *queue) {
  queue->read = queue->fill = queue->items = 0;
  queue->hold = CARD_PLAYS;
  queue->fade_in = 0;
}

gboolean card_queue_idle(const CardQueue *queue) {
  return queue->fill == 0 && (queue->items == 0 || queue->item[queue->items - 1].ended);
}

gboolean card_queue_heard(const CardQueue *queue, guint64 delay, guint32 *ret_item, guint64 *ret_samples) {
  guint64 at = queue->pulled - MIN(delay, queue->pulled);
  for (guint i = queue->runs; i > 0; i--) {
    const CardRun *run = &queue->trail[i - 1];
    if (run->at >= at)
      continue;
    *ret_item = run->item;
    *ret_samples = run->first + MIN(run->samples, at - run->at);
    return TRUE;
  }
  return FALSE;
}
