// A stock variant whose symbols cannot be replaced: its table holds a function of its own.
struct traits {
  void *from_float, *vec_dot;
  int vec_dot_type;
  long long nrows;
};
const struct traits *ggml_get_type_traits_cpu(int type);
void *ggml_backend_init(void);

static void own_dot(void) {
}

const struct traits *ggml_get_type_traits_cpu(int type) {
  static struct traits t;
  (void)type;
  t.vec_dot = (void *)own_dot;
  return &t;
}

void *ggml_backend_init(void) {
  static int registration;
  return &registration;
}
