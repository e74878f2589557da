/* Which actions what somebody said may mean, by its likeness to the examples and texts of each action. No model is
 * asked, so it costs nothing where no tool is meant. Main thread only. */
#pragma once
#include "agent/call.h"
#include "agent/toolbox.h"

typedef struct ChoirShortlist ChoirShortlist;

typedef struct {
  const ChoirToolAction *action; /* static */
  const ChoirTool *tool;
  double score; /* likeness, 0 to 1: of words and, where the meaning is known, of that, too */
  double words; /* ... of words alone */
  guint index;  /* in choir_shortlist_tools() */
} ChoirShortlistEntry;

/* Embeddings, where the house has them, are kept in its state folder. */
ChoirShortlist *choir_shortlist_new(const ChoirToolbox *toolbox);
/* What waits in choir_shortlist_prepare() goes on. */
void choir_shortlist_free(ChoirShortlist *shortlist);
/* Embeds the list's own texts so many ms from now, unless they are in the state folder or were needed before: the first
 * order is then understood by its meaning, too. */
void choir_shortlist_learn(ChoirShortlist *shortlist, guint after_ms);
/* Asks for the meaning (the embedding) of text, so that choir_shortlist_find() knows it. done runs once, not inside, at
 * the latest after a moment, with or without it. 0: it is known already, or there are no embeddings (yet): nothing is
 * to be waited for and done does not run. The returned id is for choir_shortlist_forget(). */
guint choir_shortlist_prepare(ChoirShortlist *shortlist, const char *text, void (*done)(gpointer user), gpointer user);
void choir_shortlist_forget(ChoirShortlist *shortlist, guint id); /* done does not run */
/* The meaning of text is known. */
gboolean choir_shortlist_knows(const ChoirShortlist *shortlist, const char *text);
/* The at most `most` available actions that are most like text, best first; those with no word in common are left out.
 */
guint choir_shortlist_find(const ChoirShortlist *shortlist, const char *text, ChoirShortlistEntry *ret_entries,
                           guint most);
/* Every action by name and help, without arguments: to be chosen from. Borrowed; NULL with error. */
ChoirCallTools *choir_shortlist_tools(ChoirShortlist *shortlist, GError **error);
/* The at most `most` examples with arguments of an action that are most like text, best first; static. */
guint choir_shortlist_shots(const ChoirShortlist *shortlist, const ChoirToolAction *action, const char *text,
                            const ChoirToolShot **ret_shots, guint most);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirShortlist, choir_shortlist_free)
