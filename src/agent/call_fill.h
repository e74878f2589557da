/* The arguments of a call, one value after the other: names, colons and brackets are written by this, and the model is
 * asked for nothing but a value, whether another one follows, and which one where there is a choice. Words and numbers
 * that were said are used once: what one argument has copied, the next one does not copy. Pure; any thread. */
#pragma once
#include <glib.h>
#include <jansson.h>
#include "agent/call_grammar.h"

typedef struct CallFill CallFill;

/* schema: of an object, of which a grammar can be made. said: what was said. width: as for choir_call_grammar(). NULL
 * with CHOIR_CALL_ERROR_SCHEMA. */
CallFill *call_fill_new(const json_t *schema, const char *said, ChoirCallWidth width, GError **error);
void call_fill_free(CallFill *fill);
/* What stands behind the prompt so far (" {\"city\":"). Borrowed until the next call. */
const char *call_fill_text(const CallFill *fill);
/* The grammar of what the model has to write behind it; NULL: the text is whole. Borrowed. */
const char *call_fill_grammar(const CallFill *fill);
/* FALSE with CHOIR_CALL_ERROR_BROKEN: it is not what the grammar says, or half of it; nothing was taken. */
gboolean call_fill_take(CallFill *fill, const char *written, GError **error);
/* What was written could not be taken: the same is asked for once more, in CHOIR_CALL_PLAIN, which leaves nothing that
 * could go wrong. FALSE: it was that already. */
gboolean call_fill_plain(CallFill *fill);
/* It is. */
gboolean call_fill_is_plain(const CallFill *fill);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CallFill, call_fill_free)
