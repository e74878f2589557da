/* The table as a whole: which tools there are, that the original's calls are taken as written, what is said of outputs,
 * and which of what people say gets past it. */
#include <string.h>
#include <unistd.h>
#include "agent/decide.h"
#include "agent/schema.h"
#include "base/text.h"
#include "house.h"
#include "tools/tools.h"

static void test_ids(void) {
  static const char *const ids[] = {"ssh",
                                    "mcp",
                                    "vision",
                                    "desktop_control",
                                    "code_runner",
                                    "smol_agent_computer",
                                    "web_browser",
                                    "ansible",
                                    "power",
                                    "term_everything",
                                    "rag",
                                    "ha",
                                    "git",
                                    "orchestrator",
                                    "llxprt_code",
                                    "claude_clone",
                                    "final_answer",
                                    "shell",
                                    "prompt_improver",
                                    "summarizer",
                                    "clock",
                                    "route_to_expert"};
  g_autoptr(House) house = house_new();
  json_auto_t *list = choir_toolbox_list(house->toolbox);
  g_assert_cmpuint(json_array_size(list), ==, G_N_ELEMENTS(ids));
  for (guint i = 0; i < G_N_ELEMENTS(ids); i++) {
    size_t k;
    json_t *tool, *found = NULL;
    json_array_foreach(list, k, tool) if (g_str_equal(choir_json_string(tool, "id", ""), ids[i])) found = tool;
    g_assert_nonnull(found);
    g_assert_cmpuint(json_array_size(json_object_get(found, "actions")), >, 0);
    if (!choir_json_bool(found, "available", FALSE)) {
      g_assert_cmpstr(choir_json_string(found, "reason", ""), !=, "");
      g_assert_cmpstr(choir_json_string(found, "remedy", ""), !=, "");
    }
  }
  guint n = 0; /* without USE_SUMMARIZER all but one */
  for (const ChoirTool *const *tool = choir_tools(FALSE); *tool; tool++, n++)
    g_assert_cmpstr((*tool)->id, !=, "summarizer");
  g_assert_cmpuint(n, ==, G_N_ELEMENTS(ids) - 1);
}

/* Every method of the original with every argument it has; what may be left out is left out in a second row. */
static void test_original(void) {
  static const char *const calls[][2] = {
      {"ssh.run_command", "{\"host\":\"a\",\"username\":\"b\",\"command\":\"ls\"}"},
      {"ssh.run_command",
       "{\"host\":\"a\",\"username\":\"b\",\"command\":\"ls\",\"key_filename\":\"/k\",\"password\":\"p\"}"},
      {"mcp.get_status", "{}"},
      {"mcp.get_memory_summary", "{}"},
      {"mcp.clear_short_term_memory", "{}"},
      {"vision.get_observation", "{}"},
      {"desktop_control.get_desktop_screenshot", "{}"},
      {"desktop_control.click_at", "{\"x\":10,\"y\":20}"},
      {"desktop_control.type_text", "{\"text\":\"hello\"}"},
      {"code_runner.run_python_code", "{\"code\":\"print(1)\"}"},
      {"code_runner.run_code_in_sandbox", "{\"code\":\"print(1)\",\"language\":\"python\",\"libraries\":[\"numpy\"]}"},
      {"code_runner.run_code_in_sandbox", "{\"code\":\"print(1)\",\"language\":\"python\"}"},
      {"smol_agent_computer.run", "{\"task_description\":\"count the files\"}"},
      {"web_browser.goto", "{\"url\":\"https://example.org\"}"},
      {"web_browser.get_page_content", "{}"},
      {"web_browser.get_screenshot", "{}"},
      {"web_browser.click", "{\"selector\":\"#a\"}"},
      {"web_browser.type", "{\"selector\":\"#a\",\"text\":\"b\"}"},
      {"web_browser.click_at", "{\"x\":1,\"y\":2}"},
      {"web_browser.type_text_at", "{\"x\":1,\"y\":2,\"text\":\"b\"}"},
      {"web_browser.close", "{}"},
      {"ansible.run_playbook", "{}"},
      {"ansible.run_playbook",
       "{\"playbook\":\"playbook.yaml\",\"limit\":\"workers\",\"tags\":\"a,b\",\"extra_vars\":{\"a\":\"b\",\"n\":3}}"},
      {"power.set_idle_threshold", "{\"service_port\":8000,\"idle_seconds\":300}"},
      {"term_everything.execute", "{\"command\":\"top\"}"},
      {"rag.search_knowledge_base", "{\"query\":\"backup\"}"},
      {"ha.call_ai_task", "{\"instructions\":\"dim the light\"}"},
      {"git.clone", "{\"repo_url\":\"https://example.org/a.git\",\"directory\":\"a\"}"},
      {"git.pull", "{\"working_dir\":\"a\"}"},
      {"git.push", "{\"working_dir\":\"a\"}"},
      {"git.commit", "{\"working_dir\":\"a\",\"message\":\"m\"}"},
      {"git.branch", "{\"working_dir\":\"a\"}"},
      {"git.branch", "{\"working_dir\":\"a\",\"branch_name\":\"b\"}"},
      {"git.checkout", "{\"working_dir\":\"a\",\"branch_name\":\"b\"}"},
      {"git.status", "{\"working_dir\":\"a\"}"},
      {"git.diff", "{\"working_dir\":\"a\"}"},
      {"git.diff", "{\"working_dir\":\"a\",\"commit1\":\"b\",\"commit2\":\"c\"}"},
      {"git.merge", "{\"working_dir\":\"a\",\"branch\":\"b\"}"},
      {"orchestrator.dispatch_job", "{\"model_name\":\"m\",\"prompt\":\"p\"}"},
      {"orchestrator.dispatch_job",
       "{\"model_name\":\"m\",\"prompt\":\"p\",\"cpu\":1000,\"memory\":4096,\"gpu_count\":1}"},
      {"llxprt_code.run", "{\"command\":\"explain\"}"},
      {"claude_clone.explain", "{\"files\":\"a.c\"}"},
      {"claude_clone.report", "{}"},
      {"claude_clone.generate", "{\"type\":\"module\",\"prompt\":\"p\",\"output\":\"a.js\"}"},
      {"claude_clone.test", "{\"file\":\"a.js\",\"symbol\":\"f\",\"framework\":\"jest\",\"output\":\"t.js\"}"},
      {"claude_clone.test", "{\"file\":\"a.js\",\"symbol\":\"f\"}"},
      {"final_answer.submit_task", "{\"summary\":\"done\"}"},
      {"shell.execute_command", "{\"command\":\"ls\"}"},
      {"shell.execute_command", "{\"command\":\"ls\",\"timeout\":30}"},
      {"prompt_improver.create_prompt_plan", "{\"user_input\":\"an app\"}"},
      {"summarizer.get_summary", "{\"query\":\"the printer\"}"}};
  g_autoptr(House) house = house_new();
  for (guint i = 0; i < G_N_ELEMENTS(calls); i++) {
    const ChoirToolAction *action = choir_toolbox_find(house->toolbox, calls[i][0], NULL);
    g_autoptr(GError) error = NULL;
    json_auto_t *args = choir_json_parse(calls[i][1], strlen(calls[i][1]), NULL);
    if (!action)
      g_error("there is no %s", calls[i][0]);
    if (!choir_toolbox_accept(house->toolbox, action, args, &error))
      g_error("%s %s: %s", calls[i][0], calls[i][1], error->message);
    json_object_set_new(args, "nothing_of_the_kind", json_true()); /* and nothing beside them */
    g_assert_false(choir_toolbox_accept(house->toolbox, action, args, NULL));
  }
}

static char *gist(House *house, const char *name, const char *output) {
  return choir_toolbox_find(house->toolbox, name, NULL)->gist(NULL, output);
}

/* Sentences of what is put out, as the tools put it out; what has another form is counted in lines instead. */
static void test_gists(void) {
  g_autoptr(House) house = house_new();
  g_autofree char *rag = gist(house, "rag.search_knowledge_base",
                              "From docs/memory.md, Recall:\nFacts are recalled\nby meaning.\n\nFrom b.md:\nOther.\n"),
                  *nothing = gist(house, "rag.search_knowledge_base", "No document says anything about that.\n"),
                  *page = gist(house, "web_browser.goto",
                               "Example\nhttps://example.org/\n\nThis is\na page.\n\n(servers asked: example.org)\n"),
                  *untitled = gist(house, "web_browser.goto", "\nhttps://example.org/\n\n\n"),
                  *failed = gist(house, "web_browser.goto", "\n(servers asked: example.org)\n"),
                  *recap = gist(house, "ansible.run_playbook",
                                "TASK [x] ***\nok: [a]\n\nPLAY RECAP ****\na     : ok=1    changed=0    failed=0\n"
                                "b : ok=2 changed=1 failed=0\n\n"),
                  *unread = gist(house, "ansible.run_playbook", "ERROR! the playbook could not be found");
  g_assert_cmpstr(rag, ==, "From docs/memory.md, Recall: Facts are recalled by meaning.");
  g_assert_null(nothing);
  g_assert_cmpstr(page, ==, "The page Example begins: This is a page.");
  g_assert_cmpstr(untitled, ==, "The page https://example.org/ has no text.");
  g_assert_null(failed);
  g_assert_cmpstr(recap, ==,
                  "The playbook has run on 2 hosts: a : ok=1 changed=0 failed=0; b : ok=2 changed=1 failed=0.");
  g_assert_null(unread);
}

/* By words alone, as before the embeddings are there: little talk gets past, and most orders do. */
static void past(ChoirShortlist *shortlist, const char *file, gboolean tools, guint *ret_past, guint *ret_all) {
  g_autofree char *path = g_build_filename(SOURCE_DIR, "tests/data/utterances", file, NULL), *text = NULL;
  g_autoptr(GError) error = NULL;
  g_file_get_contents(path, &text, NULL, &error);
  g_assert_no_error(error);
  g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
  *ret_past = *ret_all = 0;
  for (char **line = lines; *line; line++) {
    g_auto(GStrv) fields = g_strsplit(*line, "\t", 3);
    if (!**line || **line == '#' || (tools && g_str_equal(fields[0], "none")))
      continue;
    (*ret_all)++;
    *ret_past += choir_decide_wanted(shortlist, tools ? fields[1] : *line);
  }
}

static void test_words_alone(void) {
  g_autoptr(House) house = house_new();
  g_autoptr(ChoirShortlist) shortlist = choir_shortlist_new(house->toolbox);
  guint talk, all_talk, orders, all_orders;
  past(shortlist, "talk.txt", FALSE, &talk, &all_talk);
  past(shortlist, "tuning.tsv", TRUE, &orders, &all_orders);
  printf("# by words alone %u of %u sentences of talk and %u of %u orders get past the list\n", talk, all_talk, orders,
         all_orders);
  g_assert_cmpuint(all_talk, >=, 100);
  g_assert_cmpuint(talk * 16, <=, all_talk);
  g_assert_cmpuint(orders * 10, >=, all_orders * 9);
  /* Once taken for a web page, by "go". */
  g_assert_false(choir_decide_wanted(shortlist, "Go forward 10 meters."));
  g_assert_true(choir_decide_wanted(shortlist, "list the files in /etc"));
}

/* What only the memory could know is not for the tools, though its words are much like theirs; and what is theirs is.
 */
static void test_personal(void) {
  static const char *const personal[] = {"what is my server called?",
                                         "what is the name of my dentist",
                                         "where do I park my bike",
                                         "when is Anna's party",
                                         "who painted our house",
                                         "what size are my shoes",
                                         "which wine does my father like",
                                         "what is my locker combination",
                                         "what did my sister give me",
                                         "when is the rent due",
                                         "what is the router called",
                                         "which floor do I live on",
                                         "who fixes the lift"};
  static const char *const tools[] = {
      "what is my ip address",         "when is my next timer",     "who is logged in",
      "what is my kernel version",     "how many timers do I have", "what do my documents say about the loan",
      "how much memory do I have left"};
  g_autoptr(House) house = house_new();
  g_autoptr(ChoirShortlist) shortlist = choir_shortlist_new(house->toolbox);
  guint past = 0;
  for (guint i = 0; i < G_N_ELEMENTS(personal); i++)
    if (choir_decide_wanted(shortlist, personal[i])) {
      printf("# \"%s\" would be given to a tool\n", personal[i]);
      past++;
    }
  g_assert_cmpuint(past, <=, 1);
  g_assert_false(choir_decide_wanted(shortlist, personal[0]));
  for (guint i = 0; i < G_N_ELEMENTS(tools); i++)
    if (!choir_decide_wanted(shortlist, tools[i]))
      g_error("\"%s\" would be given to no tool", tools[i]);
}

int main(int argc, char **argv) {
  alarm(120);
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/tools/table/ids", test_ids);
  g_test_add_func("/tools/table/original", test_original);
  g_test_add_func("/tools/table/gists", test_gists);
  g_test_add_func("/tools/table/words-alone", test_words_alone);
  g_test_add_func("/tools/table/personal", test_personal);
  return g_test_run();
}
