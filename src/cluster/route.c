#include "cluster/route.h"
#include <string.h>
#include "base/clock.h"
#include "cluster/experts_private.h"
#include "cluster/likeness.h"
#include "cluster/persona.h"

#define MOST 0.6  /* likeness of a sentence that is surely for an expert: beside examples of tools, near is 0.4 */
#define KNOWN 0.6 /* share of a sentence's words that must be known for that */
#define SAME_US G_USEC_PER_SEC
#define OWN "router" /* prompts/router.txt: what the assistant answers itself */

/* "ask the coding expert how to sort" -> "how to sort". NULL: it is not named. caller frees. */
static char *named(const char *text, const char *expert) {
  g_autofree char *escaped = g_regex_escape_string(expert, -1);
  g_autofree char *spoken = g_strdelimit(g_strdup(escaped), "-_", ' ');
  g_autofree char *pattern = g_strdup_printf(
      "^\\W*(?:(?:please|can you|could you|would you|hey choir)\\W+)*(?:ask|let|have|use|call|tell|route (?:this "
      ")?to)\\W+"
      "(?:the\\W+|my\\W+|our\\W+)?(?:%s|%s)(?:\\W+(?:expert|model))?\\b\\W*(?:(?:to|about|for|that|this)\\W+)?",
      escaped, spoken);
  g_autoptr(GRegex) regex = g_regex_new(pattern, G_REGEX_CASELESS | G_REGEX_OPTIMIZE, 0, NULL);
  g_autoptr(GMatchInfo) match = NULL;
  gint end = 0;
  if (!regex || !g_regex_match(regex, text, 0, &match) || !g_match_info_fetch_pos(match, 0, NULL, &end))
    return NULL;
  return g_strdup(text[end] ? text + end : text);
}

static void learn(ChoirLikeness *likeness, guint class, const ChoirExpertPersona *persona) {
  for (guint i = 0; i < persona->examples->len; i++)
    choir_likeness_add(likeness, class, persona->examples->pdata[i]);
}

/* Each part of the house is a class of its own. */
static void learn_others(ChoirLikeness *likeness, guint class, const GPtrArray *others) {
  g_autoptr(GHashTable) classes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  for (guint i = 0; i < others->len; i++) {
    const char *line = others->pdata[i], *tab = strchr(line, '\t');
    g_autofree char *who = g_strndup(line, (gsize)(tab - line));
    gpointer number = g_hash_table_lookup(classes, who);
    if (!number && class < CHOIR_LIKENESS_CLASSES) {
      number = GUINT_TO_POINTER(class ++);
      g_hash_table_insert(classes, g_steal_pointer(&who), number);
    }
    if (number)
      choir_likeness_add(likeness, GPOINTER_TO_UINT(number), tab + 1);
  }
}

void choir_experts_add_other(ChoirExperts *experts, const char *who, const char *example) {
  g_ptr_array_add(experts->others, g_strdup_printf("%s\t%s", who, example));
  experts->route_us = 0;
}

static void find_route(const ChoirExperts *experts, const char *text, ChoirRoute *ret_route) {
  const char *names[CHOIR_LIKENESS_CLASSES];
  double shares[CHOIR_LIKENESS_CLASSES];
  guint classes = 0, best = 0;
  *ret_route = (ChoirRoute){0};
  for (guint i = 0; i < choir_experts_count(experts); i++) {
    const ChoirExpert *expert = choir_experts_get(experts, i);
    char *query = named(text, expert->name);
    if (query) {
      *ret_route = (ChoirRoute){.expert = expert->name, .likeness = 1, .query = query};
      return;
    }
  }
  const char *dir = choir_experts_options(experts)->prompts_dir;
  g_autoptr(ChoirLikeness) likeness = choir_likeness_new();
  for (guint i = 0; i < choir_experts_count(experts) && classes < CHOIR_LIKENESS_CLASSES / 2; i++) {
    const ChoirExpert *expert = choir_experts_get(experts, i);
    g_autoptr(ChoirExpertPersona) persona = choir_expert_persona_read(dir, expert->name, 0);
    if (persona->examples->len == 0)
      continue;
    names[classes] = expert->name;
    learn(likeness, classes++, persona);
  }
  if (classes == 0)
    return;
  g_autoptr(ChoirExpertPersona) own = choir_expert_persona_read_file(dir, OWN);
  learn(likeness, classes, own);
  learn_others(likeness, classes + 1, experts->others);
  double known = choir_likeness_ask(likeness, text, shares);
  for (guint i = 1; i < classes; i++)
    if (shares[i] > shares[best])
      best = i;
  if (shares[best] <= 0.5 || known <= 0)
    return;
  *ret_route = (ChoirRoute){.expert = names[best],
                            .likeness = MOST * (2 * shares[best] - 1) * MIN(1, known / KNOWN),
                            .query = g_strdup(text)};
}

void choir_experts_route(ChoirExperts *experts, const char *text, ChoirRoute *ret_route) {
  gint64 now = choir_clock_us();
  if (!experts->route_us || now - experts->route_us > SAME_US || !g_str_equal(experts->route_text, text)) {
    ChoirRoute route;
    find_route(experts, text, &route);
    g_free(experts->route_text);
    g_free(experts->route_query);
    experts->route_text = g_strdup(text);
    experts->route_query = route.query;
    experts->route_expert = route.expert;
    experts->route_likeness = route.likeness;
    experts->route_us = now;
  }
  *ret_route = (ChoirRoute){
      .expert = experts->route_expert, .likeness = experts->route_likeness, .query = g_strdup(experts->route_query)};
}

void choir_route_clear(ChoirRoute *route) {
  g_clear_pointer(&route->query, g_free);
}
