/* The Mission Control page: the files of ui/, embedded at build time by tools/embed-ui. Main thread only. */
#pragma once
#include <glib.h>
#include "net/http_server.h"

typedef struct {
  const char *path; /* "/app.js" */
  const char *content_type;
  const char *etag; /* quoted */
  const unsigned char *data;
  gsize length;
  const unsigned char *gzip; /* NULL when packing does not pay */
  gsize gzip_length;
} ChoirAsset;

extern const ChoirAsset choir_page_assets[]; /* ended by path NULL */

/* ChoirHttpHandler; user is the ChoirAsset to send. */
void choir_page_answer(ChoirHttpRequest *request, gpointer user);
/* Registers every file; "/" is index.html. */
void choir_page_routes(ChoirHttpServer *server, const ChoirAsset *assets);
/* RFC 9110 12.5.3: gzip is named (or *) with a weight above 0. */
gboolean choir_page_accepts_gzip(const char *accept_encoding);
/* If-None-Match: a list of tags or *; weak ones count (RFC 9110 13.1.2). */
gboolean choir_page_etag_matches(const char *if_none_match, const char *etag);
