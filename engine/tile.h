// The inner kernels: eight packed rows times `width` (1 .. CORE2_TILE) packed columns of n elements.
#pragma once
#include "gemm.h"

enum { CORE2_TILE = 2 };

void core2_tile(enum core2_type type, const core2_panel *panel, const core2_column *columns, int n, int width,
                float ret[CORE2_TILE][CORE2_ROWS]);
