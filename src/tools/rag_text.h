/* Documents cut into pieces that can be searched: along headings, then paragraphs, never above a size. Pure. */
#pragma once
#include <glib.h>

#define RAG_CHUNK_BYTES 1000  /* one piece */
#define RAG_OVERLAP_BYTES 200 /* of it that stand at the start of the next one of the same section, too */

typedef struct {
  char *heading; /* "Speaking > Voices": the headings above it; "" = none */
  char *text;
} RagChunk;

void rag_chunk_free(RagChunk *chunk);
/* text: valid UTF-8, Markdown or plain. Returns RagChunk*; caller unrefs. */
GPtrArray *rag_text_chunks(const char *text);
/* HTML as text: no scripts and styles, headings as Markdown's, entities decoded. Any valid UTF-8; caller frees. */
char *rag_text_from_html(const char *html);
