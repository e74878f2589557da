/* What is said of a tool's output that is shown as a whole: one sentence made of the output itself. No model has a part
 * in it, so nothing in it can be made up. Pure; any thread. */
#pragma once
#include <glib.h>

/* about: what was run, or NULL: "ls /etc put out 153 lines; the first are adduser.conf, alternatives and apparmor.d."
 * Little text is said as it is. Last lines in parentheses are a tool's own notes: not counted, said behind it. cut: the
 * output had an end that is not here. Caller frees. */
char *choir_gist(const char *about, const char *text, gboolean cut);
