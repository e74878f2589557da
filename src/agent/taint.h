/* Where the texts of a turn came from. An argument that repeats a stranger's text (a web page, a tool's output, a
 * remembered text) is tainted, however the model came by it. Pure; bounded: 256 KiB of strangers' text a turn, beyond
 * which everything counts as tainted. */
#pragma once
#include <glib.h>
#include <jansson.h>

typedef struct ChoirTaint ChoirTaint;

ChoirTaint *choir_taint_new(void);
void choir_taint_free(ChoirTaint *taint);
void choir_taint_person(ChoirTaint *taint, const char *text);
#define CHOIR_TAINT_MEMORY "the long-term memory"
/* origin: "web example.org", "ssh atlas", "tool rag.search_knowledge_base", CHOIR_TAINT_MEMORY. */
void choir_taint_stranger(ChoirTaint *taint, const char *origin, const char *text);
gboolean choir_taint_any(const ChoirTaint *taint);
/* The origin of a value, or NULL: it is the person's own words, or of this house. A value is a stranger's when a run of
 * its words (at least 4 characters, case and punctuation aside) stands in a stranger's text and not in the person's. */
const char *choir_taint_origin(const ChoirTaint *taint, const char *value);
/* A stranger whose text this turn has read, or NULL. */
const char *choir_taint_read(const ChoirTaint *taint);
/* The same, while value is not what the person said; or NULL. A model that was talked
 * into something need not repeat it word by word. What the memory recalled is read in many turns and does not count. */
const char *choir_taint_reader(const ChoirTaint *taint, const char *value);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChoirTaint, choir_taint_free)
