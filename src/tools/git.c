/* Repositories of the agent's own folder. Every git runs in the sandbox: what stands in a repository's configuration
 * (hooks, filters, pagers) may be a stranger's. Only clone, pull and push have a network, and they ask first. */
#include <string.h>
#include "tools/boxed.h"
#include "tools/schema.h"
#include "tools/tools.h"

typedef struct {
  GPtrArray *argv; /* char*, NULL-ended by run() */
  char *folder;
} Git;

static void add(Git *git, const char *word) {
  g_ptr_array_add(git->argv, g_strdup(word));
}

/* FALSE after having ended the call: the folder is not below the agent's. */
static gboolean begin(ChoirToolCall *call, Git *git, const char *folder, gboolean must_exist) {
  const ChoirToolHouse *house = choir_tool_call_house(call);
  g_autofree char *path =
      g_path_is_absolute(folder) ? g_strdup(folder) : g_build_filename(house->work_dir, folder, NULL);
  g_autofree char *whole = g_canonicalize_filename(path, "/"), *below = g_strconcat(house->work_dir, "/", NULL);
  if (!g_str_equal(whole, house->work_dir) && !g_str_has_prefix(whole, below)) {
    tool_fail(call, CHOIR_TOOL_ERROR_DENIED, "%s is not below the agent's own folder %s", folder, house->work_dir);
    return FALSE;
  }
  if (must_exist && !g_file_test(whole, G_FILE_TEST_IS_DIR)) {
    tool_fail(call, CHOIR_TOOL_ERROR_FAILED, "there is no folder %s; clone a repository first", folder);
    return FALSE;
  }
  static const char *const safe[] = {"git",
                                     "-c",
                                     "core.hooksPath=/dev/null",
                                     "-c",
                                     "core.fsmonitor=false",
                                     "-c",
                                     "core.pager=cat",
                                     "-c",
                                     "protocol.ext.allow=never",
                                     "-c",
                                     "safe.directory=*",
                                     "-c",
                                     "user.name=Choir",
                                     "-c",
                                     "user.email=choir@localhost",
                                     "-c",
                                     "advice.detachedHead=false"};
  git->argv = g_ptr_array_new_with_free_func(g_free);
  git->folder = g_steal_pointer(&whole);
  for (gsize i = 0; i < G_N_ELEMENTS(safe); i++)
    add(git, safe[i]);
  return TRUE;
}

static void run_with(ChoirToolCall *call, Git *git, const char *cwd, gboolean network,
                     void (*then)(ChoirToolCall *call, const char *output)) {
  const ChoirConfig *config = choir_tool_call_house(call)->config;
  g_autofree char *allowed =
      g_strconcat("GIT_ALLOW_PROTOCOL=", choir_config_string(config, "tools", "git_protocols"), NULL);
  const char *env[] = {allowed,
                       "GIT_TERMINAL_PROMPT=0",
                       "GIT_CONFIG_NOSYSTEM=1",
                       "GIT_OPTIONAL_LOCKS=0",
                       "GIT_SSH_COMMAND=ssh -oBatchMode=yes -oStrictHostKeyChecking=yes",
                       NULL};
  g_ptr_array_add(git->argv, NULL);
  tool_boxed_run(call, &(ToolBoxed){.argv = (const char *const *)git->argv->pdata,
                                    .env = env,
                                    .cwd = cwd ? cwd : git->folder,
                                    .network = network,
                                    .seconds = network ? 290 : 55,
                                    .memory_mb = 1024,
                                    .then = then});
  g_ptr_array_unref(git->argv);
  g_free(git->folder);
}

static void run(ChoirToolCall *call, Git *git, const char *cwd, gboolean network) {
  run_with(call, git, cwd, network, NULL);
}

/* The host of "https://joe@host:8443/x", "host:x" or "joe@host:x"; NULL for a path. Caller frees. */
static char *host_of(const char *url) {
  const char *scheme = strstr(url, "://"), *slash = strchr(url, '/');
  const char *colon = strchr(url, ':');
  if (!scheme && (!colon || (slash && slash < colon)))
    return NULL;
  const char *begin = scheme ? scheme + 3 : url;
  gsize length = scheme ? strcspn(begin, "/") : (gsize)(colon - url);
  g_autofree char *place = g_strndup(begin, length);
  const char *at = strrchr(place, '@'), *host = at ? at + 1 : place;
  if (*host == '[') /* an address with colons of its own */
    return g_strndup(host + 1, strcspn(host + 1, "]"));
  return *host ? g_strndup(host, strcspn(host, ":")) : NULL;
}

static void talks_to(ChoirToolCall *call, const char *url) {
  g_autofree char *host = host_of(url);
  if (host)
    choir_tool_call_talked_to(call, host);
}

/* A word that git must not take for an option. */
static gboolean plain(ChoirToolCall *call, Git *git, const char *word) {
  if (*word != '-')
    return TRUE;
  tool_fail(call, CHOIR_TOOL_ERROR_ARGUMENTS, "\"%s\" begins with a dash, which git takes for an option", word);
  g_ptr_array_unref(git->argv);
  g_free(git->folder);
  return FALSE;
}

static void clone_repository(ChoirToolCall *call) {
  const char *url = choir_tool_call_string(call, "repo_url", "");
  Git git;
  if (!begin(call, &git, choir_tool_call_string(call, "directory", ""), FALSE) || !plain(call, &git, url))
    return;
  add(&git, "clone");
  add(&git, "--no-recurse-submodules");
  add(&git, "--");
  add(&git, url);
  add(&git, git.folder);
  talks_to(call, url);
  run(call, &git, choir_tool_call_house(call)->work_dir, TRUE);
}

/* The actions without anything but a few fixed words and at most one name. */
static void simple(ChoirToolCall *call, const char *const *words, const char *name, gboolean network) {
  Git git;
  if (!begin(call, &git, choir_tool_call_string(call, "working_dir", ""), TRUE) || (name && !plain(call, &git, name)))
    return;
  for (; *words; words++)
    add(&git, *words);
  if (name)
    add(&git, name);
  run(call, &git, NULL, network);
}

#define SIMPLE(call, name, network, ...) simple(call, (const char *const[]){__VA_ARGS__, NULL}, name, network)

/* Asks git itself where this branch is pulled from or pushed to, and what a push would send; "$@" is git with its
 * options. The addresses come first, a line each, then an empty line. */
static const char PULLED_FROM[] =
    "here=$(\"$@\" symbolic-ref -q HEAD); name=$(\"$@\" for-each-ref --format='%(upstream:remotename)' \"$here\"); "
    "\"$@\" remote get-url --all \"${name:-$(\"$@\" remote | head -n 1)}\" 2>/dev/null";
static const char PUSHED_TO[] =
    "here=$(\"$@\" symbolic-ref -q HEAD); name=$(\"$@\" for-each-ref --format='%(push:remotename)' \"$here\"); "
    "\"$@\" remote get-url --push --all \"${name:-$(\"$@\" remote | head -n 1)}\" 2>/dev/null; echo; "
    "\"$@\" log --oneline --no-decorate -n 20 '@{push}..HEAD' 2>/dev/null";

static void ask_remote(ChoirToolCall *call, const char *script, void (*then)(ChoirToolCall *call, const char *output)) {
  Git git;
  if (!begin(call, &git, choir_tool_call_string(call, "working_dir", ""), TRUE))
    return;
  static const char *const shell[] = {"sh", "-c", NULL, "sh"};
  for (gint i = G_N_ELEMENTS(shell) - 1; i >= 0; i--)
    g_ptr_array_insert(git.argv, 0, g_strdup(shell[i] ? shell[i] : script));
  run_with(call, &git, NULL, FALSE, then);
}

static void note_hosts(ChoirToolCall *call, const char *output) {
  g_auto(GStrv) lines = g_strsplit(output, "\n", -1);
  for (char **line = lines; *line && **line; line++)
    talks_to(call, *line);
}

static void pull_now(ChoirToolCall *call, const char *output) {
  note_hosts(call, output);
  SIMPLE(call, NULL, TRUE, "pull", "--ff-only", "--no-recurse-submodules");
}

static void pull(ChoirToolCall *call) {
  ask_remote(call, PULLED_FROM, pull_now);
}

static void push_now(ChoirToolCall *call, const char *output) {
  note_hosts(call, output);
  SIMPLE(call, NULL, TRUE, "push");
}

static void push(ChoirToolCall *call) {
  ask_remote(call, PUSHED_TO, push_now);
}

/* For the card: the address, and the commits that would go there. */
static void show(ChoirToolCall *call, const char *output) {
  g_autofree char *text = g_strstrip(g_strdup(output));
  choir_tool_call_output(call, *text ? text : "this repository has no remote", -1);
  choir_tool_call_done(call, FALSE, NULL);
}

static void preview_pull(ChoirToolCall *call) {
  ask_remote(call, PULLED_FROM, show);
}

static void preview_push(ChoirToolCall *call) {
  ask_remote(call, PUSHED_TO, show);
}

static void status(ChoirToolCall *call) {
  SIMPLE(call, NULL, FALSE, "status", "--short", "--branch");
}

static void add_files(ChoirToolCall *call) {
  SIMPLE(call, choir_tool_call_string(call, "path", "."), FALSE, "add", "--verbose", "--");
}

static void commit(ChoirToolCall *call) {
  g_autofree char *message = g_strconcat("--message=", choir_tool_call_string(call, "message", ""), NULL);
  SIMPLE(call, NULL, FALSE, "commit", "--all", "--no-verify", message);
}

static void branch(ChoirToolCall *call) {
  const char *name = choir_tool_call_string(call, "branch_name", NULL);
  if (name)
    SIMPLE(call, name, FALSE, "branch", "--verbose");
  else
    SIMPLE(call, NULL, FALSE, "branch", "--list", "--all", "--verbose");
}

static void checkout(ChoirToolCall *call) {
  SIMPLE(call, choir_tool_call_string(call, "branch_name", ""), FALSE, "checkout");
}

static void merge(ChoirToolCall *call) {
  SIMPLE(call, choir_tool_call_string(call, "branch", ""), FALSE, "merge", "--no-edit");
}

static void diff(ChoirToolCall *call) {
  const char *first = choir_tool_call_string(call, "commit1", NULL),
             *second = choir_tool_call_string(call, "commit2", NULL);
  Git git;
  if (!begin(call, &git, choir_tool_call_string(call, "working_dir", ""), TRUE))
    return;
  add(&git, "diff");
  add(&git, "--no-ext-diff");
  add(&git, "--no-textconv");
  if (first && !plain(call, &git, first))
    return;
  if (second && !plain(call, &git, second))
    return;
  if (first)
    add(&git, first);
  if (second)
    add(&git, second);
  run(call, &git, NULL, FALSE);
}

static char *clone_target(const ChoirToolHouse *house, const json_t *args) {
  return g_strdup_printf("repository %s", json_string_value(json_object_get(args, "repo_url")));
}

static char *remote_target(const ChoirToolHouse *house, const json_t *args) {
  return g_strdup_printf("the remote of %s", json_string_value(json_object_get(args, "working_dir")));
}

static gboolean available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {
  if (!tool_boxed_available(house, ret_reason, ret_remedy))
    return FALSE;
  if (g_file_test("/usr/bin/git", G_FILE_TEST_IS_EXECUTABLE))
    return TRUE;
  *ret_reason = g_strdup("git is not installed");
  *ret_remedy = g_strdup("apt-get install git");
  return FALSE;
}

#define FOLDER TOOL_COPIED("working_dir", 500, "folder of the repository")
static const ChoirToolSink url_sink[] = {{"repo_url", CHOIR_SINK_REMOTE}, {"directory", CHOIR_SINK_FILE}, {NULL, 0}};
static const ChoirToolSink message_sink[] = {{"working_dir", CHOIR_SINK_FILE}, {NULL, 0}};
static const ChoirToolShot clone_shots[] = {
    {"check out a copy of https://host.example/lamp to the folder lamp",
     "{\"repo_url\": \"https://host.example/lamp\", \"directory\": \"lamp\"}"},
    {"fetch the repository https://git.example/song.git and put it into song",
     "{\"repo_url\": \"https://git.example/song.git\", \"directory\": \"song\"}"},

    {"clone the repository https://git.example/song.git into song",
     "{\"repo_url\": \"https://git.example/song.git\", \"directory\": \"song\"}"},
    {"get the source from https://host.example/lamp and put it in lamp",
     "{\"repo_url\": \"https://host.example/lamp\", \"directory\": \"lamp\"}"},
    {"download git@git.example:joe/garden.git to the folder garden",
     "{\"repo_url\": \"git@git.example:joe/garden.git\", \"directory\": \"garden\"}"},
    {NULL, NULL}};
static const ChoirToolShot pull_shots[] = {
    {"pull the newest changes in garden", "{\"working_dir\": \"garden\"}"},
    {"update the repository song from its remote", "{\"working_dir\": \"song\"}"},
    {"get what is new in the git folder lamp", "{\"working_dir\": \"lamp\"}"},
    {"git pull song", "{\"working_dir\": \"song\"}"},
    {NULL, NULL}};
static const ChoirToolShot push_shots[] = {
    {"push my commits in song", "{\"working_dir\": \"song\"}"},
    {"upload the commits of the repository lamp to the remote", "{\"working_dir\": \"lamp\"}"},
    {"do a git push of garden", "{\"working_dir\": \"garden\"}"},
    {NULL, NULL}};
static const ChoirToolShot status_shots[] = {
    {"show the state of the repository song", "{\"working_dir\": \"song\"}"},
    {"is lamp clean or are there changes", "{\"working_dir\": \"lamp\"}"},

    {"what changed in the repository song", "{\"working_dir\": \"song\"}"},
    {"show the git status of lamp", "{\"working_dir\": \"lamp\"}"},
    {"are there uncommitted changes in garden", "{\"working_dir\": \"garden\"}"},
    {"is there anything to commit in the repository song", "{\"working_dir\": \"song\"}"},
    {"which files are modified in lamp", "{\"working_dir\": \"lamp\"}"},
    {NULL, NULL}};
static const ChoirToolShot add_shots[] = {
    {"add the file tune.txt to git in song", "{\"working_dir\": \"song\", \"path\": \"tune.txt\"}"},
    {"stage all changes in lamp", "{\"working_dir\": \"lamp\"}"},
    {"put bulb.c into the next commit of the repository lamp", "{\"working_dir\": \"lamp\", \"path\": \"bulb.c\"}"},
    {"git add everything in garden", "{\"working_dir\": \"garden\"}"},
    {NULL, NULL}};
static const ChoirToolShot commit_shots[] = {
    {"commit the changes in garden with the message fix typo",
     "{\"working_dir\": \"garden\", \"message\": \"fix typo\"}"},
    {"commit song saying second verse", "{\"working_dir\": \"song\", \"message\": \"second verse\"}"},
    {"record my changes in the repository lamp as brighter light",
     "{\"working_dir\": \"lamp\", \"message\": \"brighter light\"}"},
    {"make a git commit in garden, message plant roses", "{\"working_dir\": \"garden\", \"message\": \"plant roses\"}"},
    {NULL, NULL}};
static const ChoirToolShot branch_shots[] = {
    {"create a branch named roses in garden", "{\"working_dir\": \"garden\", \"branch_name\": \"roses\"}"},

    {"make a new branch called test in lamp", "{\"working_dir\": \"lamp\", \"branch_name\": \"test\"}"},
    {"list the branches of song", "{\"working_dir\": \"song\"}"},
    {"create the branch chorus in the repository song", "{\"working_dir\": \"song\", \"branch_name\": \"chorus\"}"},
    {"what branches are there in garden", "{\"working_dir\": \"garden\"}"},
    {NULL, NULL}};
static const ChoirToolShot checkout_shots[] = {
    {"go to the branch winter of the repository garden", "{\"working_dir\": \"garden\", \"branch_name\": \"winter\"}"},
    {"switch song to chorus", "{\"working_dir\": \"song\", \"branch_name\": \"chorus\"}"},

    {"switch to the branch main in garden", "{\"working_dir\": \"garden\", \"branch_name\": \"main\"}"},
    {"check out the develop branch of lamp", "{\"working_dir\": \"lamp\", \"branch_name\": \"develop\"}"},
    {"change to the branch chorus in song", "{\"working_dir\": \"song\", \"branch_name\": \"chorus\"}"},
    {NULL, NULL}};
static const ChoirToolShot diff_shots[] = {
    {"show the diff of lamp", "{\"working_dir\": \"lamp\"}"},
    {"what is different between main and test in song",
     "{\"working_dir\": \"song\", \"commit1\": \"main\", \"commit2\": \"test\"}"},
    {"show the changed lines in the repository garden", "{\"working_dir\": \"garden\"}"},
    {"git diff in song", "{\"working_dir\": \"song\"}"},
    {NULL, NULL}};
static const ChoirToolShot merge_shots[] = {
    {"git merge feature in the folder lamp", "{\"working_dir\": \"lamp\", \"branch\": \"feature\"}"},

    {"merge the branch feature in lamp", "{\"working_dir\": \"lamp\", \"branch\": \"feature\"}"},
    {"merge chorus into the current branch of song", "{\"working_dir\": \"song\", \"branch\": \"chorus\"}"},
    {"bring winter into the repository garden with git merge", "{\"working_dir\": \"garden\", \"branch\": \"winter\"}"},
    {NULL, NULL}};

static const ChoirToolAction actions[] = {
    {.name = "clone",
     .help = "Copy a repository from an address.",
     .class = CHOIR_CLASS_CHANGE,
     .schema =
         TOOL_OBJECT(TOOL_COPIED("repo_url", 500, "its address") "," TOOL_COPIED("directory", 500, "folder to make"),
                     "\"repo_url\",\"directory\""),
     .sinks = url_sink,
     .timeout_s = 300,
     .target = clone_target,
     .shots = clone_shots,
     .run = clone_repository},
    {.name = "pull",
     .help = "Get the newest commits of a repository.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(FOLDER, "\"working_dir\""),
     .timeout_s = 300,
     .target = remote_target,
     .shots = pull_shots,
     .preview = preview_pull,
     .run = pull},
    {.name = "push",
     .help = "Send commits to the remote repository.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(FOLDER, "\"working_dir\""),
     .timeout_s = 300,
     .target = remote_target,
     .shots = push_shots,
     .preview = preview_push,
     .run = push},
    {.name = "status",
     .help = "Show what changed in a repository.",
     .schema = TOOL_OBJECT(FOLDER, "\"working_dir\""),
     .timeout_s = 60,
     .shots = status_shots,
     .run = status},
    {.name = "diff",
     .help = "Show the changes line by line.",
     .schema = TOOL_OBJECT(FOLDER "," TOOL_COPIED("commit1", 100, "older commit or branch") "," TOOL_TEXT(
                               "commit2", 100, "newer commit or branch"),
                           "\"working_dir\""),
     .timeout_s = 60,
     .shots = diff_shots,
     .run = diff},
    {.name = "add",
     .help = "Put files into the next commit.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(FOLDER "," TOOL_COPIED("path", 500, "file, or . for all"), "\"working_dir\""),
     .timeout_s = 60,
     .shots = add_shots,
     .run = add_files},
    {.name = "commit",
     .help = "Commit the changes.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(FOLDER "," TOOL_COPIED("message", 1000, "what was changed and why"),
                           "\"working_dir\",\"message\""),
     .sinks = message_sink,
     .timeout_s = 60,
     .shots = commit_shots,
     .run = commit},
    {.name = "branch",
     .help = "List the branches or make one.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(FOLDER "," TOOL_COPIED("branch_name", 100, "name of the new one"), "\"working_dir\""),
     .timeout_s = 60,
     .shots = branch_shots,
     .run = branch},
    {.name = "checkout",
     .help = "Switch to a branch.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(FOLDER "," TOOL_COPIED("branch_name", 100, "the branch"), "\"working_dir\",\"branch_name\""),
     .timeout_s = 60,
     .shots = checkout_shots,
     .run = checkout},
    {.name = "merge",
     .help = "Merge a branch into the current one.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(FOLDER "," TOOL_COPIED("branch", 100, "the branch"), "\"working_dir\",\"branch\""),
     .timeout_s = 60,
     .shots = merge_shots,
     .run = merge},
};

const ChoirTool choir_tool_git = {.id = "git",
                                  .title = "Git",
                                  .help = "Works with repositories in the agent's own folder.",
                                  .actions = actions,
                                  .n_actions = G_N_ELEMENTS(actions),
                                  .available = available};
