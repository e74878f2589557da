#include "base/text.h"
#include "tools/boxed.h"
#include "tools/host_session.h"
#include "tools/schema.h"
#include "tools/tools.h"

static gpointer open_shell(const ChoirToolHouse *house) {
  return host_session_new(house->work_dir);
}

static void close_shell(gpointer state) {
  host_session_free(state);
}

static void execute_command(ChoirToolCall *call) {
  const char *command = choir_tool_call_string(call, "command", "");
  if (choir_tool_call_on_host(call)) {
    host_session_run(choir_tool_call_state(call), call, command);
    return;
  }
  const char *argv[] = {"bash", "-c", command, NULL};
  tool_boxed_run(call, &(ToolBoxed){.argv = argv, .seconds = (guint)choir_tool_call_integer(call, "timeout", 30)});
}

/* Where a sandboxed command finds programs or leaves things of its own; whatever else it names is the person's. */
static gboolean is_own(const char *path, const char *work_dir) {
  const char *const folders[] = {work_dir, "/tmp", "/usr", "/bin", "/dev/null", "/dev/stdout", "/dev/stderr"};
  for (guint i = 0; i < G_N_ELEMENTS(folders); i++) {
    gsize length = folders[i] ? strlen(folders[i]) : 0;
    if (length && strncmp(path, folders[i], length) == 0 && (!path[length] || path[length] == '/'))
      return !strstr(path, "/..");
  }
  return FALSE;
}

/* The sandbox keeps a command from changing the machine, not from reading it: what lies outside its folder is asked
 * for. A courtesy to the person, no wall: a command may well hide what it opens. */
static ChoirToolClass classify_command(const ChoirToolHouse *house, const json_t *args, char **ret_why) {
  g_auto(GStrv) words = g_strsplit_set(choir_json_string(args, "command", ""), " \t\n;|&<>()=\"'`", -1);
  for (guint i = 0; words[i]; i++) {
    const char *word = words[i];
    gboolean outside = (word[0] == '/' && !is_own(word, house->work_dir)) || word[0] == '~' ||
                       g_str_has_prefix(word, "..") || g_str_has_prefix(word, "$HOME") ||
                       g_str_has_prefix(word, "${HOME");
    if (outside) {
      *ret_why = g_strdup_printf("it looks at %.200s, which is not in its own folder", word);
      return CHOIR_CLASS_CHANGE;
    }
  }
  return CHOIR_CLASS_LOCAL;
}

static const ChoirToolSink sinks[] = {{"command", CHOIR_SINK_SHELL}, {NULL, 0}};
static const ChoirToolShot shots[] = {
    {"show me what is in /boot", "{\"command\": \"ls /boot\"}"},
    {"make a folder called music", "{\"command\": \"mkdir music\"}"},
    {"show the network routes", "{\"command\": \"ip route\"}"},

    {"list the files in etc", "{\"command\": \"ls /etc\"}"},
    {"how much disk space is free", "{\"command\": \"df -h\"}"},
    {"show the running processes", "{\"command\": \"ps aux\"}"},
    {"run uname", "{\"command\": \"uname\"}"},
    {"count the lines of /etc/group", "{\"command\": \"wc -l /etc/group\"}"},
    {"which kernel is this", "{\"command\": \"uname -r\"}"},
    {"run the command date", "{\"command\": \"date\"}"},
    {"what is in the folder /opt", "{\"command\": \"ls /opt\"}"},
    {"show the file /etc/os-release", "{\"command\": \"cat /etc/os-release\"}"},
    {"how much ram does this machine have", "{\"command\": \"free -h\"}"},
    {"since when is this machine running", "{\"command\": \"uptime\"}"},
    {"which users are logged in", "{\"command\": \"who\"}"},
    {"who is on this machine", "{\"command\": \"who\"}"},
    {"how large is the directory /home", "{\"command\": \"du -sh /home\"}"},
    {"find all text files in /srv", "{\"command\": \"find /srv -name '*.txt'\"}"},
    {"search for the word root in /etc/passwd", "{\"command\": \"grep root /etc/passwd\"}"},
    {"create a directory named backup", "{\"command\": \"mkdir backup\"}"},
    {"show the first lines of /etc/hosts", "{\"command\": \"head /etc/hosts\"}"},
    {"what is my ip address", "{\"command\": \"ip address\"}"},
    {"execute the shell command id -u", "{\"command\": \"id -u\"}"},
    {"please run lsblk -f", "{\"command\": \"lsblk -f\"}"},
    {"print all environment variables", "{\"command\": \"env\"}"},
    {"which program uses the most memory", "{\"command\": \"ps aux --sort=-%mem\"}"},
    {"read the end of /var/log/dpkg.log", "{\"command\": \"tail /var/log/dpkg.log\"}"},
    {NULL, NULL}};
static const ChoirToolAction actions[] = {
    {.name = "execute_command",
     .help = "Run a shell command on this machine.",
     .class = CHOIR_CLASS_LOCAL,
     .schema = TOOL_OBJECT(
         TOOL_TEXT("command", 2000, "the command line") "," TOOL_INTEGER(
             "timeout", 1, 600,
             "seconds it may take") "," TOOL_FLAG("host", "outside the sandbox, where it really changes files"),
         "\"command\""),
     .sinks = sinks,
     .about = "command",
     .timeout_s = 605,
     .shots = shots,
     .classify = classify_command,
     .run = execute_command},
};

const ChoirTool choir_tool_shell = {.id = "shell",
                                    .title = "Shell",
                                    .help = "Runs commands in the sandbox, or on the machine when a person says yes.",
                                    .actions = actions,
                                    .n_actions = G_N_ELEMENTS(actions),
                                    .available = tool_boxed_available,
                                    .open = open_shell,
                                    .close = close_shell};
