/* multipart/form-data (RFC 7578) as HTTP clients send it: parts of a body in memory, nothing copied but names. Any
 * thread. Outside bytes: everything is checked. */
#pragma once
#include <glib.h>

#define CHOIR_FORM_PARTS 64

typedef struct {
  char *name, *filename; /* valid UTF-8; filename NULL for a plain field */
  const char *data;      /* into the body */
  gsize length;
} ChoirFormPart;

typedef struct {
  GArray *parts; /* ChoirFormPart */
} ChoirForm;

/* The boundary of a Content-Type, or NULL when it is no multipart/form-data. Caller frees. */
char *choir_form_boundary(const char *content_type);
/* FALSE with a sentence in why (static). The form points into body. */
gboolean choir_form_parse(const char *boundary, const char *body, gsize length, ChoirForm *ret_form, const char **why);
void choir_form_clear(ChoirForm *form);
/* The last part of that name, or NULL. */
const ChoirFormPart *choir_form_part(const ChoirForm *form, const char *name);
/* A plain field as a string: NULL when absent, or no UTF-8. Caller frees. */
char *choir_form_text(const ChoirForm *form, const char *name);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ChoirForm, choir_form_clear)
