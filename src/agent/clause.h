/* Cuts a streamed reply into clauses fit for speech. One thread; no I/O.
 *
 * A clause ends at . ! ? ; : and newlines (the first one also at a comma or after some words, so that speech starts
 * early), never inside a decimal, an abbreviation, an initial or a URL. Spans join up: each begins where the one before
 * ended. The spoken text has exactly as many bytes as its span: Markdown marks, emoji, code blocks and link targets
 * became spaces, so byte i of the text is byte begin + i of the reply. */
#pragma once
#include <glib.h>

typedef struct ChoirClause ChoirClause;
/* text: NUL-terminated, end - begin bytes of valid UTF-8 with at least one letter or digit. */
typedef void (*ChoirClauseFound)(const char *text, gsize begin, gsize end, gpointer user);

ChoirClause *choir_clause_new(ChoirClauseFound found, gpointer user);
void choir_clause_free(ChoirClause *clause);
/* Any split of the bytes gives the same clauses, inside a character too. */
void choir_clause_feed(ChoirClause *clause, const char *data, gsize length);
/* The reply turned out to be only `length` bytes long: what was fed beyond is forgotten. Returns the length that
 * stands, which is longer when clauses beyond were already given out. */
gsize choir_clause_truncate(ChoirClause *clause, gsize length);
void choir_clause_end(ChoirClause *clause); /* the rest is a clause too; nothing may be fed afterwards */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirClause, choir_clause_free)
