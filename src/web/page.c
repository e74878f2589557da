#include "web/page.h"
#include <string.h>
#include "web/guard.h"

gboolean choir_page_accepts_gzip(const char *accept_encoding) {
  if (!accept_encoding)
    return FALSE;
  gboolean any = FALSE;
  g_auto(GStrv) items = g_strsplit(accept_encoding, ",", 32);
  for (char **item = items; *item; item++) {
    char *weight = strchr(*item, ';');
    gboolean refused = FALSE;
    if (weight) {
      *weight++ = '\0';
      g_strstrip(weight);
      refused = g_ascii_strncasecmp(weight, "q=", 2) == 0 && g_ascii_strtod(weight + 2, NULL) <= 0;
    }
    g_strstrip(*item);
    if (g_ascii_strcasecmp(*item, "gzip") == 0)
      return !refused;
    if (strcmp(*item, "*") == 0)
      any = !refused;
  }
  return any;
}

gboolean choir_page_etag_matches(const char *if_none_match, const char *etag) {
  if (!if_none_match)
    return FALSE;
  g_auto(GStrv) tags = g_strsplit(if_none_match, ",", 32);
  for (char **tag = tags; *tag; tag++) {
    const char *value = g_strstrip(*tag);
    if (strcmp(value, "*") == 0 || strcmp(g_str_has_prefix(value, "W/") ? value + 2 : value, etag) == 0)
      return TRUE;
  }
  return FALSE;
}

void choir_page_answer(ChoirHttpRequest *request, gpointer user) {
  const ChoirAsset *asset = user;
  gboolean packed = asset->gzip && choir_page_accepts_gzip(choir_http_request_header(request, "Accept-Encoding"));
  g_autofree char *page = choir_guard_page_headers(choir_http_request_header(request, "Host"));
  /* no-cache = ask every time: the tag answers in one round trip, and an updated program never meets an old page. */
  g_autofree char *headers = g_strdup_printf("%s\nETag: %s\nCache-Control: no-cache\nVary: Accept-Encoding%s", page,
                                             asset->etag, packed ? "\nContent-Encoding: gzip" : "");
  if (choir_page_etag_matches(choir_http_request_header(request, "If-None-Match"), asset->etag))
    choir_http_respond_static(request, 304, asset->content_type, "", 0, headers);
  else if (packed)
    choir_http_respond_static(request, 200, asset->content_type, asset->gzip, asset->gzip_length, headers);
  else
    choir_http_respond_static(request, 200, asset->content_type, asset->data, asset->length, headers);
}

void choir_page_routes(ChoirHttpServer *server, const ChoirAsset *assets) {
  for (const ChoirAsset *asset = assets; asset->path; asset++) {
    choir_http_server_route(server, "GET", asset->path, choir_page_answer, (gpointer)asset);
    if (strcmp(asset->path, "/index.html") == 0)
      choir_http_server_route(server, "GET", "/", choir_page_answer, (gpointer)asset);
  }
}
