#include "web/fault.h"

void choir_fault_set(ChoirFault *fault, const char *code, const char *param, const char *format, ...) {
  choir_fault_clear(fault);
  va_list args;
  va_start(args, format);
  fault->message = g_strdup_vprintf(format, args);
  va_end(args);
  fault->code = code;
  fault->param = g_strdup(param);
}

void choir_fault_clear(ChoirFault *fault) {
  g_clear_pointer(&fault->param, g_free);
  g_clear_pointer(&fault->message, g_free);
  fault->code = NULL;
}
