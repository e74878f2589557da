// Every dot product against ggml's portable one: integer parts bit-equal, float sums within a bound.
#include <math.h>
#include <string.h>
#include "rig.h"

typedef struct {
  const RigFormat *format;
  RigKind kind;
} Case;

static void compare(const Case *c, int blocks, size_t shift) {
  const RigFormat *f = c->format;
  const int n = blocks * f->block;
  const size_t xs = (size_t)blocks * f->size, ys = (size_t)(n / f->act_block) * f->act_size;
  g_autofree char *generic_name = g_strconcat(f->dot, "_generic", NULL);
  core2_dot_fn *ours = rig_ours(f->dot), *generic = rig_stock(generic_name);
  void *x = rig_row(xs, shift), *y = rig_row(ys, f->act == CORE2_Q8_K ? shift * 2 : shift);
  rig_fill_weights(f, c->kind, x, n);
  rig_fill_activations(f, c->kind, y, n);
  float got = NAN, want = NAN;
  ours(n, &got, 0, x, 0, y, 0, 1);
  generic(n, &want, 0, x, 0, y, 0, 1);
  if (c->kind == RIG_EXACT || c->kind == RIG_EXTREME) {
    if (got != want)
      g_error("%s: %d blocks, shift %zu: got %.9g, the portable kernel says %.9g", f->dot, blocks, shift, got, want);
  } else {
    const double allowed = 0x1.0p-126 + rig_magnitude(f, x, y, n) * 0x1.0p-18;
    if (!(fabs((double)got - (double)want) <= allowed))
      g_error("%s: %d blocks: got %.9g, want %.9g within %.3g", f->dot, blocks, got, want, allowed);
  }
  rig_free_row(x, xs, shift);
  rig_free_row(y, ys, f->act == CORE2_Q8_K ? shift * 2 : shift);
}

static void test_dot(gconstpointer data) {
  const Case *c = data;
  const int rounds = g_test_quick() ? 6 : 60;
  const int most = rig_most_blocks(c->format, c->kind, 21);
  for (int r = 0; r < rounds; r++)
    for (int blocks = 0; blocks <= most; blocks++)
      compare(c, blocks, (size_t)g_test_rand_int_range(0, 16) * 2);
}

int main(int argc, char **argv) {
  static const char *const kinds[] = {"exact", "extreme", "random", "subnormal"};
  rig_open(&argc, &argv);
  for (int i = 0; i < rig_n_formats; i++)
    for (int k = RIG_EXACT; k <= RIG_SUBNORMAL; k++) {
      Case *c = g_new(Case, 1);
      *c = (Case){&rig_formats[i], (RigKind)k};
      g_autofree char *path = g_strdup_printf("/engine/dot/%s/%s", rig_formats[i].name, kinds[k]);
      g_test_add_data_func_full(path, c, test_dot, g_free);
    }
  return g_test_run();
}
