/* Takes secrets out of text that is about to be shown: registered ones, and what looks like one (bearer tokens, sk-...
 * keys, api_key=..., token=..., passwords in URLs). Any thread. */
#pragma once
#include <glib.h>

void choir_scrub_add_secret(const char *secret); /* copied; shorter than 6 bytes is ignored; 256 at most */
char *choir_scrub(const char *text);             /* valid UTF-8 in; caller frees */
