/* Why something a client sent was refused. Any thread. */
#pragma once
#include <glib.h>

typedef struct {
  const char *code;      /* static; NULL = no fault */
  char *param, *message; /* owned */
} ChoirFault;

void choir_fault_set(ChoirFault *fault, const char *code, const char *param, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
void choir_fault_clear(ChoirFault *fault);
