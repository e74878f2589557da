#include <glib/gstdio.h>
#include <string.h>
#include "base/text.h"
#include "tools/boxed.h"
#include "tools/schema.h"
#include "tools/tools.h"

static const struct {
  const char *language, *program, *file, *script; /* script: run in the program's own folder */
  guint memory_mb;
} languages[] = {
    {"python", "python3", "main.py", "exec python3 -I -B main.py", 512},
    {"javascript", "node", "main.js", "exec node main.js", 1024},
    {"c", "gcc", "main.c", "gcc -O1 -Wall -o main main.c -lm && exec ./main", 512},
    {"cpp", "g++", "main.cpp", "g++ -O1 -Wall -o main main.cpp && exec ./main", 512},
    {"go", "go", "main.go", "GOCACHE=$PWD/.cache GOFLAGS=-mod=mod GOPROXY=off exec go run main.go", 1024},
    {"java", "java", "Main.java", "exec java Main.java", 1024},
    {"r", "Rscript", "main.R", "exec Rscript --vanilla main.R", 512},
};

/* Where the sandbox looks, whatever the daemon's own PATH is. */
static gboolean installed(const char *program) {
  static const char *const folders[] = {"/usr/local/bin", "/usr/bin", "/bin"};
  for (gsize i = 0; i < G_N_ELEMENTS(folders); i++) {
    g_autofree char *path = g_build_filename(folders[i], program, NULL);
    if (g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
      return TRUE;
  }
  return FALSE;
}

/* Only languages that run here are offered. */
static json_t *language_choices(const ChoirToolHouse *house, const char *argument) {
  if (!g_str_equal(argument, "language"))
    return NULL;
  json_t *list = json_array();
  for (gsize i = 0; i < G_N_ELEMENTS(languages); i++)
    if (installed(languages[i].program))
      json_array_append_new(list, json_string(languages[i].language));
  return list;
}

static void run_language(ChoirToolCall *call, const char *language, const char *code) {
  const ChoirToolHouse *house = choir_tool_call_house(call);
  g_autofree char *name = choir_id("run_"), *folder = g_build_filename(house->work_dir, name, NULL);
  g_autoptr(GError) error = NULL;
  for (gsize i = 0; i < G_N_ELEMENTS(languages); i++) {
    if (!g_str_equal(languages[i].language, language))
      continue;
    g_autofree char *file = g_build_filename(folder, languages[i].file, NULL);
    if (g_mkdir(folder, 0700) != 0 || !g_file_set_contents(file, code, -1, &error)) {
      tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "the program cannot be written: %s", error ? error->message : folder);
      return;
    }
    const char *argv[] = {"bash", "-c", languages[i].script, NULL};
    tool_boxed_run(call, &(ToolBoxed){.argv = argv,
                                      .cwd = folder,
                                      .seconds = 60,
                                      .memory_mb = languages[i].memory_mb,
                                      .remove = g_steal_pointer(&folder)});
    return;
  }
  tool_fail(call, CHOIR_TOOL_ERROR_UNAVAILABLE, "%s is not installed here", language);
}

static void run_python_code(ChoirToolCall *call) {
  run_language(call, "python", choir_tool_call_string(call, "code", ""));
}

static void run_code_in_sandbox(ChoirToolCall *call) {
  const json_t *libraries = json_object_get(choir_tool_call_args(call), "libraries");
  if (json_array_size(libraries) > 0) {
    tool_fail(call, CHOIR_TOOL_ERROR_UNAVAILABLE,
              "the sandbox has no network, so libraries cannot be fetched; use what is installed");
    return;
  }
  run_language(call, choir_tool_call_string(call, "language", "python"), choir_tool_call_string(call, "code", ""));
}

static gboolean available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {
  if (!tool_boxed_available(house, ret_reason, ret_remedy))
    return FALSE;
  if (installed("python3"))
    return TRUE;
  *ret_reason = g_strdup("there is no python3");
  *ret_remedy = g_strdup("apt-get install python3");
  return FALSE;
}

static const ChoirToolSink sinks[] = {{"code", CHOIR_SINK_CODE}, {NULL, 0}};
static const ChoirToolShot python_shots[] = {
    {"run this python code: print(1 + 1)", "{\"code\": \"print(1 + 1)\"}"},
    {"calculate 12 times 9 with python", "{\"code\": \"print(12 * 9)\"}"},
    {"use python to print the numbers from 1 to 10", "{\"code\": \"for i in range(1, 11): print(i)\"}"},
    {"execute the python program print(max(3, 8))", "{\"code\": \"print(max(3, 8))\"}"},
    {"compute the square root of 50 in python", "{\"code\": \"import math; print(math.sqrt(50))\"}"},
    {"write a python script that prints good morning", "{\"code\": \"print('good morning')\"}"},
    {"what is 3 to the power of 20 in python", "{\"code\": \"print(3 ** 20)\"}"},
    {"let python add up all numbers from 1 to 50", "{\"code\": \"print(sum(range(1, 51)))\"}"},
    {"divide 22 by 7 with python", "{\"code\": \"print(22 / 7)\"}"},
    {NULL, NULL}};
static const ChoirToolShot other_shots[] = {
    {"compile and run a c program that prints ok",
     "{\"code\": \"#include <stdio.h>\\nint main() { puts(\\\"ok\\\"); }\", \"language\": \"c\"}"},
    {"run this javascript: console.log(1 + 2)", "{\"code\": \"console.log(1 + 2)\", \"language\": \"javascript\"}"},
    {"execute console.log(Math.PI) as javascript",
     "{\"code\": \"console.log(Math.PI)\", \"language\": \"javascript\"}"},
    {"write a small javascript program that prints its platform",
     "{\"code\": \"console.log(process.platform)\", \"language\": \"javascript\"}"},
    {NULL, NULL}};
static const ChoirToolAction actions[] = {
    {.name = "run_python_code",
     .help = "Run a Python program and show what it prints.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(TOOL_TEXT("code", 20000, "the program"), "\"code\""),
     .sinks = sinks,
     .timeout_s = 65,
     .shots = python_shots,
     .run = run_python_code},
    {.name = "run_code_in_sandbox",
     .help = "Run a program in another language and show what it prints.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(TOOL_TEXT("code", 20000, "the program") "," TOOL_TEXT(
                               "language", 16, "its language") ","
                                                               "\"libraries\":{\"type\":\"array\",\"maxItems\":20,"
                                                               "\"items\":{\"type\":\"string\",\"maxLength\":100},"
                                                               "\"description\":\"libraries it needs\"}",
                           "\"code\",\"language\""),
     .sinks = sinks,
     .timeout_s = 65,
     .choices = language_choices,
     .shots = other_shots,
     .run = run_code_in_sandbox},
};

const ChoirTool choir_tool_code_runner = {.id = "code_runner",
                                          .title = "Code runner",
                                          .help = "Runs programs in the sandbox.",
                                          .actions = actions,
                                          .n_actions = G_N_ELEMENTS(actions),
                                          .available = available};
