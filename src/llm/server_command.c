#include "llm/server_private.h"
#include <arpa/inet.h>
#include <cpuid.h>
#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/cpu.h"
#include "base/text.h"
#include "llm/gguf_head.h"

G_DEFINE_QUARK(choir - llm - error - quark, choir_llm_error)

#define VARIANT_PREFIX "libggml-cpu-"

void choir_llm_command_clear(ChoirLlmCommand *command) {
  g_free(command->engine_dir);
  g_free(command->model_path);
  g_free(command->model_name);
  g_free(command->state_dir);
  g_free(command->slots_dir);
  g_free(command->cpu_variant);
  g_free(command->api_key);
  memset(command, 0, sizeof *command);
}

/* The loader takes the best file that the processor can run; only these do without F16C, where every f16 value of the
 * KV cache is converted in software. */
static gboolean variant_has_f16c(const char *name) {
  return !g_str_equal(name, "x64") && !g_str_equal(name, "sse42") && !g_str_equal(name, "sandybridge") &&
         !g_str_has_prefix(name, "core2");
}

static gboolean processor_has_f16c(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) && (c & bit_AVX);
}

static gint compare_names(gconstpointer a, gconstpointer b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of the variants in a folder, sorted, joined by commas; caller frees. */
static char *variants_in(const char *dir) {
  g_autoptr(GDir) handle = g_dir_open(dir, 0, NULL);
  g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
  const char *name;
  while (handle && (name = g_dir_read_name(handle)))
    if (g_str_has_prefix(name, VARIANT_PREFIX) && g_str_has_suffix(name, ".so"))
      g_ptr_array_add(names, g_strndup(name + strlen(VARIANT_PREFIX), strlen(name) - strlen(VARIANT_PREFIX) - 3));
  g_ptr_array_sort(names, compare_names);
  g_ptr_array_add(names, NULL);
  return g_strjoinv(",", (char **)names->pdata);
}

static gboolean check_variant(const ChoirLlmCommand *command, GError **error) {
  if (!command->cpu_variant)
    return TRUE;
  g_autofree char *bin = g_build_filename(command->engine_dir, "bin", NULL);
  g_autofree char *file = g_strdup_printf("%s/" VARIANT_PREFIX "%s.so", bin, command->cpu_variant);
  if (strchr(command->cpu_variant, '/') == NULL && g_file_test(file, G_FILE_TEST_IS_REGULAR))
    return TRUE;
  g_autofree char *have = variants_in(bin);
  g_set_error(error, CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_VARIANT,
              "the CPU variant '%s' is not built; there are: %s (tools/build-engine --variant %s builds it)",
              command->cpu_variant, *have ? have : "none", command->cpu_variant);
  return FALSE;
}

void choir_llm_command_init(ChoirLlmCommand *command, const ChoirLlmServerOptions *options) {
  guint cores = g_get_num_processors();
  command->engine_dir = g_strdup(options->engine_dir);
  command->model_path = g_strdup(options->model_path);
  command->model_name = g_strdup(options->model_name);
  command->state_dir = g_strdup(options->state_dir);
  command->slots_dir = g_build_filename(options->state_dir, "slots", NULL);
  command->cpu_variant = g_strdup(options->cpu_variant && *options->cpu_variant ? options->cpu_variant : NULL);
  command->fixed_port = options->port;
  command->context = options->context ? options->context : 4096;
  command->cache_ram_mb = options->cache_ram_mb;
  /* Decoding runs beside speech synthesis and voice detection and leaves them a core; while a prompt is read nobody
   * else computes for long, so that may use all of them. */
  command->threads = options->threads ? options->threads : MAX(1, cores - 1);
  command->threads_batch = options->threads ? options->threads : cores;
  command->ubatch = CHOIR_UBATCH_START;
}

/* The loader takes the newest variant, whatever the model. For Q4_1 the stock AVX2 file has dot products only, and
 * ours, with vectors half as wide, a matrix kernel: `choir bench engine` says 1.5 times the speed of a prompt and 1.1
 * times in writing. Not compared with AVX-512. */
static gboolean prefers_ours(const ChoirLlmCommand *command) {
  g_autofree char *ours = g_build_filename(command->engine_dir, "bin", VARIANT_PREFIX "core2.so", NULL);
  return !command->cpu_variant && command->model_path && g_str_equal(choir_cpu_class(), "avx2") &&
         g_file_test(ours, G_FILE_TEST_EXISTS) && choir_gguf_file_type(command->model_path) == CHOIR_GGUF_MOSTLY_Q4_1;
}

/* Names of the variants that may serve: the one that is forced or preferred, else all of the folder, of which the
 * loader takes one. Caller frees. */
static char *candidates(const ChoirLlmCommand *command) {
  g_autofree char *bin = g_build_filename(command->engine_dir, "bin", NULL);
  if (command->cpu_variant)
    return g_strdup(command->cpu_variant);
  return prefers_ours(command) ? g_strdup("core2") : variants_in(bin);
}

/* At every start, not once: files come and go while the daemon runs. */
static gboolean check(ChoirLlmCommand *command, GError **error) {
  g_autofree char *bin = g_build_filename(command->engine_dir, "bin", NULL);
  g_autofree char *program = g_build_filename(bin, "llama-server", NULL);
  if (!g_file_test(program, G_FILE_TEST_IS_EXECUTABLE)) {
    g_set_error(error, CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_ENGINE, "%s is missing; run ./run --setup-only to build it",
                program);
    return FALSE;
  }
  if (!command->model_path || !g_file_test(command->model_path, G_FILE_TEST_IS_REGULAR)) {
    g_set_error(error, CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_MODEL,
                "the language model %s is missing; see choir models list",
                command->model_path ? command->model_path : "file");
    return FALSE;
  }
  if (!check_variant(command, error))
    return FALSE;
  if (g_mkdir_with_parents(command->slots_dir, 0700) < 0) {
    g_set_error(error, CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_ENGINE, "%s cannot be created: %s", command->slots_dir,
                g_strerror(errno));
    return FALSE;
  }
  g_autofree char *have = candidates(command);
  g_auto(GStrv) names = g_strsplit(have, ",", -1);
  command->half_floats = FALSE;
  for (char **name = names; *name; name++)
    command->half_floats |= variant_has_f16c(*name);
  command->half_floats &= processor_has_f16c();
  return TRUE;
}

/* A free loopback port. Somebody may take it before the server binds it: then it exits, and the next start gets
 * another. */
static guint16 free_port(void) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  guint16 port = 0;
  if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
      getsockname(fd, (struct sockaddr *)&address, &length) == 0)
    port = ntohs(address.sin_port);
  if (fd >= 0)
    close(fd);
  return port;
}

static gboolean link_or_copy(const char *from, const char *to, GError **error) {
  g_unlink(to);
  if (link(from, to) == 0)
    return TRUE;
  g_autoptr(GFile) source = g_file_new_for_path(from);
  g_autoptr(GFile) target = g_file_new_for_path(to);
  return g_file_copy(source, target, G_FILE_COPY_OVERWRITE, NULL, NULL, NULL, error);
}

/* The loader of CPU back ends searches the folder of the real program file (/proc/self/exe) and takes the best it
 * finds. So a forced variant needs a folder with only that one: the program as a hard link or copy, the rest as
 * symlinks. Returns the folder; caller frees. */
static char *variant_dir(const ChoirLlmCommand *command, GError **error) {
  g_autofree char *bin = g_build_filename(command->engine_dir, "bin", NULL);
  g_autofree char *dir = g_strdup_printf("%s/backends-%s", command->state_dir, command->cpu_variant);
  g_autofree char *variant = g_strdup_printf(VARIANT_PREFIX "%s.so", command->cpu_variant);
  g_autoptr(GDir) handle = g_dir_open(bin, 0, error);
  const char *name;
  if (!handle)
    return NULL;
  if (g_mkdir_with_parents(dir, 0700) < 0) {
    g_set_error(error, CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_VARIANT, "%s cannot be created: %s", dir, g_strerror(errno));
    return NULL;
  }
  while ((name = g_dir_read_name(handle))) {
    g_autofree char *from = g_build_filename(bin, name, NULL);
    g_autofree char *to = g_build_filename(dir, name, NULL);
    gboolean library = strstr(name, ".so") != NULL;
    if (g_str_equal(name, "llama-server")) {
      if (!link_or_copy(from, to, error))
        return NULL;
    } else if (library && (!g_str_has_prefix(name, VARIANT_PREFIX) || g_str_equal(name, variant))) {
      g_unlink(to);
      if (symlink(from, to) < 0) {
        g_set_error(error, CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_VARIANT, "%s cannot be linked: %s", to, g_strerror(errno));
        return NULL;
      }
    }
  }
  return g_steal_pointer(&dir);
}

#define ADD(argv, ...) add(argv, (const char *const[]){__VA_ARGS__, NULL})

static void add(GPtrArray *argv, const char *const *words) {
  for (; *words; words++)
    g_ptr_array_add(argv, g_strdup(*words));
}

static void add_number(GPtrArray *argv, const char *option, guint value) {
  g_ptr_array_add(argv, g_strdup(option));
  g_ptr_array_add(argv, g_strdup_printf("%u", value));
}

gboolean choir_llm_command_build(ChoirLlmCommand *command, GStrv *ret_argv, GStrv *ret_env, GError **error) {
  if (!check(command, error))
    return FALSE;
  /* Our own variant reads CHOIR_CPU_VARIANT itself and then wins; it needs the stock files beside it. */
  gboolean own_folder = command->cpu_variant && !g_str_equal(command->cpu_variant, "core2");
  g_autofree char *bin = own_folder ? variant_dir(command, error) : g_build_filename(command->engine_dir, "bin", NULL);
  if (!bin)
    return FALSE;
  command->port = command->fixed_port ? command->fixed_port : free_port();
  if (command->port == 0) {
    g_set_error(error, CHOIR_LLM_ERROR, CHOIR_LLM_ERROR_PORT, "there is no free port for the language model server");
    return FALSE;
  }
  g_free(command->api_key);
  command->api_key = choir_id("llm_");
  g_autofree char *program = g_build_filename(bin, "llama-server", NULL);
  /* Measured at 384 tokens of context, one thread: x64 with q8_0 and flash attention 12.3 read and 11.5 written tokens
   * a second, f16 8.3 and 7.5, f16 without flash attention 10.7 and 10.0; haswell f16 99.8 and 49.8, q8_0 43 and 42. */
  const char *kv = command->half_floats ? "f16" : "q8_0";
  GPtrArray *argv = g_ptr_array_new();
  /* env -C: the loader also searches the working directory, which must not be one that others can write. */
  ADD(argv, "env", "-C", bin, program, "-m", command->model_path, "--alias", command->model_name, "--host",
      "127.0.0.1");
  add_number(argv, "--port", command->port);
  /* Two slots, each with a context of its own: an API call can never push the conversation out. */
  ADD(argv, "-np", "2", "--no-kv-unified");
  add_number(argv, "-c", 2 * command->context);
  add_number(argv, "-b", command->ubatch);
  add_number(argv, "-ub", command->ubatch);
  add_number(argv, "-t", command->threads);
  add_number(argv, "-tb", command->threads_batch);
  add_number(argv, "-cram", command->cache_ram_mb);
  ADD(argv, "-fa", "on", "-ctk", kv, "-ctv", kv, "--no-cache-idle-slots", "--no-context-shift", "-fit", "off");
  ADD(argv, "--slot-save-path", command->slots_dir, "--metrics", "--jinja", "--no-ui", "--offline");
  ADD(argv, "--reasoning", "off", "--cors-origins", "localhost", "--sse-ping-interval", "10");
  ADD(argv, "--threads-http", "4", "-lv", "2", "--log-colors", "off");
  g_ptr_array_add(argv, NULL);
  *ret_argv = (GStrv)g_ptr_array_free(argv, FALSE);
  /* Waiting threads spin for some microseconds, then sleep. Measured here, 2 threads, one busy neighbour: 30 tokens a
   * second against 1.6 with OpenMP's own spinning, which also starves audio; alone 102 against 99 (24 without any). */
  char *env[] = {g_strdup("GOMP_SPINCOUNT=1000"), g_strconcat("LLAMA_API_KEY=", command->api_key, NULL),
                 prefers_ours(command) ? g_strdup("CHOIR_CPU_VARIANT=core2") : NULL, NULL};
  *ret_env = g_memdup2(env, sizeof env);
  return TRUE;
}

char *choir_llm_loaded_variant(GPid pid) {
  g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)pid);
  g_autofree char *maps = NULL;
  if (!g_file_get_contents(path, &maps, NULL, NULL))
    return NULL;
  /* The core2 file stands on a stock one, so both are mapped then. */
  if (strstr(maps, VARIANT_PREFIX "core2.so"))
    return g_strdup("core2");
  const char *name = strstr(maps, VARIANT_PREFIX);
  if (!name)
    return NULL;
  name += strlen(VARIANT_PREFIX);
  return g_strndup(name, strcspn(name, ".\n"));
}

char *choir_llm_variant_why(const ChoirLlmCommand *command, const char *variant, const char *said) {
  g_autofree char *bin = g_build_filename(command->engine_dir, "bin", NULL);
  g_autofree char *have = variants_in(bin);
  g_autofree char *choice =
      command->cpu_variant ? g_strdup("forced by [llm] variant")
      : prefers_ours(command)
          ? g_strdup_printf("faster than the others of %s for a model in Q4_1 on this processor (%s)", have,
                            choir_cpu_class())
          : g_strdup_printf("the highest score among %s on this processor (%s)", have, choir_cpu_class());
  /* The file knows whether it really serves: it stands aside for a ggml that it does not know. */
  return said && g_str_equal(variant, "core2") ? g_strdup_printf("%s; %s", choice, said) : g_steal_pointer(&choice);
}

/* Everything that changes how long a batch takes. */
char *choir_llm_probe_key(const ChoirLlmCommand *command) {
  g_autofree char *have = candidates(command);
  g_autofree char *model = g_path_get_basename(command->model_path);
  g_autofree char *info = NULL;
  g_autofree char *processor = NULL;
  GStatBuf status = {0};
  g_stat(command->model_path, &status);
  if (g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL)) {
    const char *line = strstr(info, "model name");
    const char *colon = line ? strchr(line, ':') : NULL;
    if (colon)
      processor = g_strstrip(g_strndup(colon + 1, strcspn(colon + 1, "\n")));
  }
  return g_strdup_printf("%s/%" G_GINT64_FORMAT "/%s/%s/t%u", model, (gint64)status.st_size,
                         processor ? processor : "?", have, command->threads_batch);
}
