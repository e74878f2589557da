/* The TLS twin: nginx as a supervised child in front of our own port, with certificates of our own authority. Main
 * thread only. */
#pragma once
#include "base/child.h"

typedef struct ChoirTls ChoirTls;

/* Makes what is missing below STATE/tls: authority, certificate for the names and addresses of this moment, nginx's
 * configuration. upstream: our own port. NULL with a sentence in error. */
ChoirTls *choir_tls_new(const char *state_dir, guint16 port, guint16 upstream, GError **error);
/* The same, and the certificate also stands for `names`: hosts, comma separated, by which others reach it through
 * another node. NULL for none. */
ChoirTls *choir_tls_new_named(const char *state_dir, guint16 port, guint16 upstream, const char *names, GError **error);
void choir_tls_start(ChoirTls *tls);
void choir_tls_stop(ChoirTls *tls, void (*done)(gpointer user), gpointer user);
void choir_tls_free(ChoirTls *tls);
ChoirChild *choir_tls_child(ChoirTls *tls);
const char *choir_tls_ca_file(const ChoirTls *tls);
const char *choir_tls_secret(const ChoirTls *tls); /* only the twin can say it */
