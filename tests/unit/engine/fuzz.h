// Parts of the engine's fuzz target: each takes any bytes (at least eight) and aborts on a wrong result.
#pragma once
#include <stddef.h>
#include <stdint.h>

void fuzz_quantisers(const uint8_t *data, size_t size);
void fuzz_float_products(const uint8_t *data, size_t size);
void fuzz_attention(const uint8_t *data, size_t size);
