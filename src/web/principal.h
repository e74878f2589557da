/* Who sends a request. Main thread only. */
#pragma once
#include "base/principal.h"
#include "net/http_server.h"

/* The name belongs to the request, which must be alive. */
ChoirPrincipal choir_web_principal(ChoirHttpRequest *request);
