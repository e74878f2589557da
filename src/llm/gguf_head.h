/* What the head of a GGUF model file says, without loading it. Any thread. */
#pragma once
#include <glib.h>

#define CHOIR_GGUF_MOSTLY_Q4_1 3 /* llama.h's LLAMA_FTYPE_MOSTLY_Q4_1 */

/* The key general.file_type, a number of llama.h's llama_ftype. -1 when the file cannot be read, is no GGUF of version
 * 2 or 3, or does not say. Source: ggml's docs/gguf.md. */
int choir_gguf_file_type(const char *path);
