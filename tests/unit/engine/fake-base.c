// A base library of some other ggml.
const char *ggml_version(void);
const char *ggml_version(void) {
  return FAKE_VERSION;
}
