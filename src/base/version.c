#include "base/version.h"
#include "base/names.h"

/* Only this file is compiled again when it changes. */
#ifndef CHOIR_BUILD_VERSION
#define CHOIR_BUILD_VERSION CHOIR_VERSION_STRING
#endif

const char *choir_version(void) {
  return CHOIR_BUILD_VERSION;
}
