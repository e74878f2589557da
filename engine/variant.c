// Chosen by ggml's loader like any other CPU variant, this file makes itself global, opens the plain stock variant
// beside it and returns that one's registration. Because the stock file binds its own exported functions through
// symbolic relocations, it then finds ours first: the kernels change, everything else stays stock.
#include <cpuid.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "dot.h"
#include "variant.h"

#define SCORE 22 // above sse42 (5) and sandybridge (21), which measure slower; below ivybridge (23) and haswell (64)
#define SCORE_FORCED (1 << 20)

// Versions of ggml whose kernels' meaning and signatures were compared with ours: 0.25 to 0.26.
enum { MAJOR = 0, OLDEST_MINOR = 25, NEWEST_MINOR = 26 };

static char status[PATH_MAX + 512] = "not loaded";
static void *stock;
struct core2_stock core2_stock;

const char *choir_core2_status(void) {
  return status;
}

static void say(const char *text, const char *detail) {
  snprintf(status, sizeof status, "%s%s", text, detail);
  fprintf(stderr, "ggml-cpu-core2: %s\n", status);
}

// By cpuid itself: the compiler's helper also asks for AVX with an instruction that a Core 2 lacks.
static int processor_has(unsigned bit_of_ecx) {
  unsigned a, b, c = 0, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_of_ecx);
}

// The path of a file that lies beside this one.
static int beside(char *ret_path, size_t size, const char *name) {
  Dl_info self;
  if (!dladdr((void *)ggml_backend_score, &self) || !self.dli_fname)
    return 0;
  const char *slash = strrchr(self.dli_fname, '/');
  const int dir = slash ? (int)(slash + 1 - self.dli_fname) : 0;
  return (size_t)snprintf(ret_path, size, "%.*s%s", dir, self.dli_fname, name) < size;
}

// The best stock file to stand on. With AVX its remaining float code is better; the kernels are ours in any case.
static int find_stock(char *ret_path, size_t size) {
  if (processor_has(bit_AVX) && processor_has(bit_OSXSAVE) && beside(ret_path, size, "libggml-cpu-sandybridge.so") &&
      access(ret_path, R_OK) == 0)
    return 1;
  if (processor_has(bit_SSE4_2) && beside(ret_path, size, "libggml-cpu-sse42.so") && access(ret_path, R_OK) == 0)
    return 1;
  return beside(ret_path, size, "libggml-cpu-x64.so") && access(ret_path, R_OK) == 0;
}

int ggml_backend_score(void) {
  char path[PATH_MAX];
  const char *wanted = getenv("CHOIR_CPU_VARIANT");
  if (!processor_has(bit_SSSE3) || !find_stock(path, sizeof path))
    return 0;
  if (!wanted || !*wanted)
    return SCORE;
  return strcmp(wanted, "core2") == 0 ? SCORE_FORCED : 0;
}

// The base library is already in the process, but perhaps not in the global scope; its soname finds it.
static const char *ggml_version_text(void) {
  void *base = dlopen("libggml-base.so.0", RTLD_NOW | RTLD_NOLOAD);
  if (!base)
    base = dlopen("libggml-base.so", RTLD_NOW | RTLD_NOLOAD);
  if (!base)
    return NULL;
  const char *(*version)(void) = NULL;
  *(void **)&version = dlsym(base, "ggml_version");
  const char *text = version ? version() : NULL;
  dlclose(base); // only drops our count; the process holds its own
  return text;
}

// Below, within or above the known versions: -1, 0, 1; 2 when it cannot be read.
static int compare_version(const char *text) {
  int major, minor;
  if (!text || sscanf(text, "%d.%d", &major, &minor) != 2)
    return 2;
  if (major != MAJOR)
    return major < MAJOR ? -1 : 1;
  return minor < OLDEST_MINOR ? -1 : minor > NEWEST_MINOR ? 1 : 0;
}

static void say_version(const char *version, int compared, const char *plain) {
  static const char *const what[] = {"is older than this file knows (0.25 and 0.26): use a newer llama.cpp, or",
                                     "is newer than this file knows (0.25 and 0.26): get a newer file, or",
                                     "has no version that this file can read (it knows 0.25 and 0.26):"};
  char text[PATH_MAX + 256];
  snprintf(text, sizeof text, "%s %s go on without it; running plain %s", version ? version : "(unknown)",
           what[compared < 0 ? 0 : compared], plain);
  say("standing aside: ggml ", text);
}

// The type table is the proof: it must hold our function, not the stock one.
static int interposed(void) {
  struct traits {
    void *from_float, *vec_dot;
    int vec_dot_type;
    int64_t nrows;
  };
  const struct traits *(*traits_of)(int) = NULL;
  *(void **)&traits_of = dlsym(stock, "ggml_get_type_traits_cpu");
  return traits_of && traits_of(CORE2_Q4_1)->vec_dot == (void *)ggml_vec_dot_q4_1_q8_1;
}

static void *init_of(void *file) {
  void *(*init)(void) = NULL;
  *(void **)&init = dlsym(file, "ggml_backend_init");
  return init ? init() : NULL;
}

// What a kernel hands back goes to the stock function that ours hides.
static void find_stock_functions(void *in) {
  core2_stock.sgemm = dlsym(in, "llamafile_sgemm");
  core2_stock.tiled = dlsym(in, "ggml_compute_forward_mul_mat_tiled");
  core2_stock.attention = dlsym(in, "ggml_compute_forward_flash_attn_ext");
}

// Plan B: the whole variant built from sources with our kernels inside (tools/build-engine --core2-full), for stock
// files that bind to themselves. It declines any ggml but its own.
static void *full_variant(void) {
  char path[PATH_MAX];
  if (!beside(path, sizeof path, "libggml-cpu-core2-full.so") || access(path, R_OK) != 0)
    return NULL;
  void *file = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void *registration = file ? init_of(file) : NULL;
  if (registration)
    say("its functions cannot be replaced (hidden symbols or -Bsymbolic), so the whole variant serves: ", path);
  return registration;
}

// With LD_PRELOAD our functions come first in any program on a shared ggml; nobody calls ggml_backend_init then, and
// the functions that ours hide are next in line. After a dlopen there are none.
__attribute__((constructor)) static void preloaded(void) {
  const char *list = getenv("LD_PRELOAD");
  if (!list || !strstr(list, "ggml-cpu-core2") || !dlsym(RTLD_NEXT, "ggml_compute_forward_flash_attn_ext"))
    return;
  find_stock_functions(RTLD_NEXT);
  const char *version = ggml_version_text();
  if (compare_version(version) != 0)
    say("preloaded, but made for ggml 0.25 and 0.26; take it out of LD_PRELOAD, this is ggml ",
        version ? version : "(unknown)");
  else
    say("SSSE3 kernels, preloaded into ggml ", version);
}

void *ggml_backend_init(void) {
  char path[PATH_MAX];
  if (!find_stock(path, sizeof path)) {
    say("no libggml-cpu-x64.so lies beside this file, and it cannot work alone", "");
    return NULL;
  }
  const char *version = ggml_version_text();
  const int compared = compare_version(version);
  Dl_info self;
  const int promoted = compared == 0 && dladdr((void *)ggml_backend_score, &self) &&
                       dlopen(self.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD) != NULL;
  stock = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!stock) {
    say("cannot open the stock variant: ", dlerror());
    return NULL;
  }
  find_stock_functions(stock);
  if (compared != 0) {
    say_version(version, compared, path);
  } else if (!promoted || !interposed()) {
    void *full = full_variant();
    if (full)
      return full;
    say("its functions cannot be replaced (hidden symbols or -Bsymbolic), running it plain: ", path);
  } else {
    char text[PATH_MAX + 64];
    snprintf(text, sizeof text, "%s (ggml %s)", path, version);
    say("SSSE3 kernels over ", text);
  }
  return init_of(stock);
}
