/* Shared by the files of facts; nobody else includes it (tests may). */
#pragma once
#include <sqlite3.h>
#include "memory/facts.h"
#include "memory/history_private.h" /* ChoirStatement, choir_history_connect() */
#include "memory/index.h"

struct ChoirFacts {
  sqlite3 *db;
  char *module, *index_path;
  ChoirIndex *index;   /* NULL until it is needed */
  gboolean index_lost; /* there is none in this process: problem says why */
  char *problem;
  gboolean dirty; /* the file is older than the index */
};

/* Prepares, NULL with error. */
ChoirStatement *choir_facts_prepare(ChoirFacts *facts, const char *sql, GError **error);
gboolean choir_facts_run(ChoirFacts *facts, const char *sql, GError **error);
/* Steps a statement that returns nothing. */
gboolean choir_facts_step(ChoirFacts *facts, ChoirStatement *statement, GError **error);
gint64 choir_facts_int(ChoirFacts *facts, const char *sql); /* 0 when there is nothing */
/* A row of id, text, source, created_us, tainted, uses, turn, superseded_by. */
#define CHOIR_FACTS_COLUMNS "id, text, source, created_us, tainted, uses, turn, superseded_by"
json_t *choir_facts_row(ChoirStatement *statement);

/* facts_index.c */
/* The index with everything in it, loaded or made anew; NULL when there is none (problem says why). */
ChoirIndex *choir_facts_index(ChoirFacts *facts);
/* After the commit of what they follow. */
void choir_facts_index_put(ChoirFacts *facts, gint64 id, const float *embedding);
void choir_facts_index_drop(ChoirFacts *facts, gint64 id);
void choir_facts_index_forget(ChoirFacts *facts); /* made anew at the next use */
/* Content words of a text, lower case, without those that every sentence has. */
GPtrArray *choir_facts_words(const char *text);
