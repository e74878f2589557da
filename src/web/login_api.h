/* Log-in, set-up, people and tokens: /login, /setup, /trust and /api/{me,login,logout,setup,people,tokens}. */
#pragma once
#include "web/web.h"

typedef struct ChoirLoginApi ChoirLoginApi;
ChoirLoginApi *choir_login_api_new(const ChoirWebOptions *options);
void choir_login_api_free(ChoirLoginApi *api);
