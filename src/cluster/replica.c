#include "cluster/replica.h"

static double quickest(const ChoirReplicaLook *looks, guint n) {
  double best = 0;
  for (guint i = 0; i < n; i++)
    if (!looks[i].tried && looks[i].first_s > 0 && (best == 0 || looks[i].first_s < best))
      best = looks[i].first_s;
  return best;
}

gboolean choir_replica_overloaded(const ChoirReplicaLook *looks, guint n, guint index) {
  const ChoirReplicaLook *look = &looks[index];
  double best = quickest(looks, n);
  if (look->silent)
    return TRUE;
  if (look->slots > 0 ? look->busy >= look->slots : look->asking > 0)
    return TRUE;
  return best > 0 && look->first_s > CHOIR_REPLICA_SLOW_S && look->first_s > CHOIR_REPLICA_SLOW_TIMES * best;
}

/* Smaller is better; the first difference decides. */
static void rank(const ChoirReplicaLook *looks, guint n, guint i, double ret_rank[5]) {
  const ChoirReplicaLook *look = &looks[i];
  ret_rank[0] = look->resting;
  ret_rank[1] = look->fallback;
  ret_rank[2] = choir_replica_overloaded(looks, n, i);
  ret_rank[3] = !look->home;
  ret_rank[4] = (double)look->asking + (look->slots ? (double)look->busy / look->slots : 0) + look->first_s / 60;
}

gint choir_replica_choose(const ChoirReplicaLook *looks, guint n) {
  gint best = -1;
  double least[5] = {0}, mine[5];
  for (guint i = 0; i < n; i++) {
    if (looks[i].tried)
      continue;
    rank(looks, n, i, mine);
    gint order = 0;
    for (guint k = 0; k < 5 && order == 0 && best >= 0; k++)
      order = mine[k] < least[k] ? -1 : mine[k] > least[k];
    if (best >= 0 && order >= 0)
      continue;
    best = (gint)i;
    for (guint k = 0; k < 5; k++)
      least[k] = mine[k];
  }
  return best;
}
