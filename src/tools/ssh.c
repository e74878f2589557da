/* Commands on other machines by the system's own ssh: keys only, known hosts only, connections are shared. */
#include <glib/gstdio.h>
#include <string.h>
#include "base/text.h"
#include "tools/boxed.h"
#include "tools/plain.h"
#include "tools/schema.h"
#include "tools/tools.h"

static char *hint(const char *output) {
  if (strstr(output, "Host key verification failed") || strstr(output, "No ED25519 host key is known") ||
      strstr(output, "host key is known for"))
    return g_strdup("this machine is not known yet; log in once with ssh yourself and check its fingerprint");
  if (strstr(output, "Permission denied"))
    return g_strdup("it does not accept our key; install it there with ssh-copy-id");
  if (strstr(output, "Connection refused") || strstr(output, "timed out") || strstr(output, "Could not resolve"))
    return g_strdup("the machine cannot be reached; is its name right, and is it on?");
  return NULL;
}

static gboolean name_ok(const char *text, const char *more) {
  if (!g_ascii_isalnum(*text))
    return FALSE;
  for (const char *c = text; *c; c++)
    if (!g_ascii_isalnum(*c) && !strchr(more, *c))
      return FALSE;
  return TRUE;
}

static void run_command(ChoirToolCall *call) {
  const ChoirToolHouse *house = choir_tool_call_house(call);
  const char *host = choir_tool_call_string(call, "host", ""), *user = choir_tool_call_string(call, "username", "");
  const char *key = choir_tool_call_string(call, "key_filename", NULL);
  gint64 port = choir_tool_call_integer(call, "port", 22);
  if (choir_tool_call_string(call, "password", NULL)) {
    tool_fail(call, CHOIR_TOOL_ERROR_ARGUMENTS, "passwords are not used; install a key there with ssh-copy-id");
    return;
  }
  if (!name_ok(host, "-.:") || !name_ok(user, "-._")) {
    tool_fail(call, CHOIR_TOOL_ERROR_ARGUMENTS, "\"%s@%s\" is no user and machine", user, host);
    return;
  }
  g_autofree char *control = g_build_filename(house->state_dir, "ssh", NULL);
  g_mkdir_with_parents(control, 0700);
  g_autofree char *path = g_strdup_printf("ControlPath=%s/%%C", control), *number = g_strdup_printf("%d", (int)port);
  const char *known = choir_config_string(house->config, "tools", "known_hosts");
  g_autofree char *known_hosts = *known ? g_strconcat("UserKnownHostsFile=", known, NULL) : NULL;
  g_autoptr(GPtrArray) argv = g_ptr_array_new();
  static const char *const fixed[] = {"ssh",
                                      "-T",
                                      "-oBatchMode=yes",
                                      "-oStrictHostKeyChecking=yes",
                                      "-oConnectTimeout=10",
                                      "-oServerAliveInterval=15",
                                      "-oForwardAgent=no",
                                      "-oForwardX11=no",
                                      "-oPermitLocalCommand=no",
                                      "-oClearAllForwardings=yes",
                                      "-oControlMaster=auto",
                                      "-oControlPersist=60"};
  for (gsize i = 0; i < G_N_ELEMENTS(fixed); i++)
    g_ptr_array_add(argv, (gpointer)fixed[i]);
  g_ptr_array_add(argv, (gpointer) "-o");
  g_ptr_array_add(argv, path);
  if (known_hosts) {
    g_ptr_array_add(argv, (gpointer) "-o");
    g_ptr_array_add(argv, known_hosts);
  }
  if (key) {
    g_ptr_array_add(argv, (gpointer) "-oIdentitiesOnly=yes");
    g_ptr_array_add(argv, (gpointer) "-i");
    g_ptr_array_add(argv, (gpointer)key);
  }
  g_ptr_array_add(argv, (gpointer) "-p");
  g_ptr_array_add(argv, number);
  g_ptr_array_add(argv, (gpointer) "-l");
  g_ptr_array_add(argv, (gpointer)user);
  g_ptr_array_add(argv, (gpointer) "--");
  g_ptr_array_add(argv, (gpointer)host);
  g_ptr_array_add(argv, (gpointer)choir_tool_call_string(call, "command", ""));
  g_ptr_array_add(argv, NULL);
  g_autofree char *origin = g_strdup_printf("ssh %s", host);
  choir_tool_call_origin(call, origin);
  choir_tool_call_talked_to(call, host);
  tool_plain_run(call, &(ToolPlain){.argv = (const char *const *)argv->pdata, .hint = hint});
}

static char *target(const ChoirToolHouse *house, const json_t *args) {
  return g_strdup_printf("host %s", choir_json_string(args, "host", ""));
}

static gboolean available(const ChoirToolHouse *house, char **ret_reason, char **ret_remedy) {
  return tool_program_there("ssh", "openssh-client", ret_reason, ret_remedy);
}

static const ChoirToolSink sinks[] = {{"host", CHOIR_SINK_HOST},
                                      {"command", CHOIR_SINK_SHELL},
                                      {"username", CHOIR_SINK_HOST},
                                      {"key_filename", CHOIR_SINK_FILE},
                                      {NULL, 0}};
static const ChoirToolShot shots[] = {
    {"execute id on 10.1.1.4 as tom", "{\"host\": \"10.1.1.4\", \"username\": \"tom\", \"command\": \"id\"}"},
    {"use ssh to run lscpu on the server juno as user root",
     "{\"host\": \"juno\", \"username\": \"root\", \"command\": \"lscpu\"}"},

    {"run uptime on the machine apollo as user eve",
     "{\"host\": \"apollo\", \"username\": \"eve\", \"command\": \"uptime\"}"},
    {"as root restart nginx on the server juno with systemctl restart nginx",
     "{\"host\": \"juno\", \"username\": \"root\", \"command\": \"systemctl restart nginx\"}"},
    {"how full is the disk on the host 10.0.0.7, user eve, run mount",
     "{\"host\": \"10.0.0.7\", \"username\": \"eve\", \"command\": \"mount\"}"},
    {"log in to the server juno by ssh as eve and run ls -l",
     "{\"host\": \"juno\", \"username\": \"eve\", \"command\": \"ls -l\"}"},
    {"ssh to apollo as root and execute journalctl -b",
     "{\"host\": \"apollo\", \"username\": \"root\", \"command\": \"journalctl -b\"}"},
    {"on the remote machine box.lan run id as user tom",
     "{\"host\": \"box.lan\", \"username\": \"tom\", \"command\": \"id\"}"},
    {NULL, NULL}};
static const ChoirToolAction actions[] = {
    {.name = "run_command",
     .help = "Run a command on another machine by ssh.",
     .class = CHOIR_CLASS_CHANGE,
     .schema = TOOL_OBJECT(
         TOOL_COPIED("host", 253, "the machine") "," TOOL_COPIED("username", 32, "user there") "," TOOL_TEXT(
             "command", 2000,
             "what to run") "," TOOL_TEXT("key_filename", 500,
                                          "file of the private key") "," TOOL_TEXT("password", 200,
                                                                                   "not used") "," TOOL_INTEGER("port",
                                                                                                                1,
                                                                                                                65535,
                                                                                                                "if "
                                                                                                                "not "
                                                                                                                "22"),
         "\"host\",\"username\",\"command\""),
     .sinks = sinks,
     .about = "command",
     .timeout_s = 120,
     .target = target,
     .shots = shots,
     .run = run_command},
};

const ChoirTool choir_tool_ssh = {.id = "ssh",
                                  .title = "SSH",
                                  .help = "Runs commands on other machines.",
                                  .actions = actions,
                                  .n_actions = G_N_ELEMENTS(actions),
                                  .available = available};
