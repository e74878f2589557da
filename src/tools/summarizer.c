/* The turns of this conversation that have most to do with a question. Nothing is replaced by it. */
#include <string.h>
#include "base/text.h"
#include "tools/schema.h"
#include "tools/tools.h"

#define TURNS 40
#define SHOWN 3

typedef struct {
  double score;
  gsize index;
} Ranked;

static gint by_score(gconstpointer a, gconstpointer b) {
  double x = ((const Ranked *)a)->score, y = ((const Ranked *)b)->score;
  return x > y ? -1 : x < y;
}

static GHashTable *words_of(const char *text) {
  GHashTable *words = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  g_autofree char *folded = g_utf8_casefold(text, -1);
  g_auto(GStrv) list = g_strsplit_set(folded, " \t\n.,;:!?\"'()", -1);
  for (guint i = 0; list[i]; i++)
    if (strlen(list[i]) > 2)
      g_hash_table_add(words, g_strdup(list[i]));
  return words;
}

static double share(GHashTable *query, const char *text) {
  g_autoptr(GHashTable) words = words_of(text);
  GHashTableIter iter;
  gpointer word;
  double hits = 0;
  g_hash_table_iter_init(&iter, query);
  while (g_hash_table_iter_next(&iter, &word, NULL))
    hits += g_hash_table_contains(words, word) ? 1 : 0;
  return hits / (double)MAX(1, g_hash_table_size(query));
}

static void get_summary(ChoirToolCall *call) {
  const ChoirToolAgent *agent = &choir_tool_call_house(call)->agent;
  json_t *turns = agent->recent(agent->self, TURNS), *turn;
  g_autoptr(GHashTable) query = words_of(choir_tool_call_string(call, "query", ""));
  g_autoptr(GArray) ranked = g_array_new(FALSE, FALSE, sizeof(Ranked));
  gsize i;
  json_array_foreach(turns, i, turn) {
    Ranked one = {share(query, choir_json_string(turn, "text", "")), i};
    if (one.score > 0)
      g_array_append_val(ranked, one);
  }
  g_array_sort(ranked, by_score);
  for (guint k = 0; k < MIN(ranked->len, SHOWN); k++) {
    turn = json_array_get(turns, g_array_index(ranked, Ranked, k).index);
    g_autofree char *line = g_strdup_printf(
        "%s%s: %s", k ? "\n" : "", g_str_equal(choir_json_string(turn, "role", ""), "user") ? "You said" : "I said",
        choir_json_string(turn, "text", ""));
    choir_tool_call_output(call, line, -1);
  }
  if (ranked->len == 0)
    choir_tool_call_output(call, "Nothing in this conversation has to do with that.", -1);
  json_decref(turns);
  choir_tool_call_done(call, FALSE, NULL);
}

static const ChoirToolShot shots[] = {
    {"what did we talk about concerning the roof", "{\"query\": \"the roof\"}"},
    {"look up what we decided on the holiday earlier", "{\"query\": \"the holiday\"}"},

    {"what did we say about the garden", "{\"query\": \"the garden\"}"},
    {"sum up what we said about the trip", "{\"query\": \"the trip\"}"},
    {"what was decided about the printer", "{\"query\": \"the printer\"}"},
    {"what did I tell you earlier about my brother", "{\"query\": \"my brother\"}"},
    {"find in our conversation what was said on the old car", "{\"query\": \"the old car\"}"},
    {"summarize our discussion of the birthday party", "{\"query\": \"the birthday party\"}"},
    {NULL, NULL}};
static const ChoirToolAction actions[] = {
    {.name = "get_summary",
     .help = "Find what was said in this conversation about something.",
     .schema = TOOL_OBJECT(TOOL_COPIED("query", 300, "about what"), "\"query\""),
     .shots = shots,
     .run = get_summary},
};

const ChoirTool choir_tool_summarizer = {.id = "summarizer",
                                         .title = "Summarizer",
                                         .help = "Finds what was said about something.",
                                         .actions = actions,
                                         .n_actions = G_N_ELEMENTS(actions)};
