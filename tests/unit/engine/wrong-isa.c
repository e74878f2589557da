// Two functions with an SSE4.1 instruction each, linked into a copy of our file: the gate must find the first one and
// let the second pass, whose name says that it is dispatched.
#include <smmintrin.h>

__m128i wrong_on_a_merom(__m128i a, __m128i b);
__m128i right_on_a_penryn_sse41(__m128i a, __m128i b);

__attribute__((target("sse4.1"), visibility("default"))) __m128i wrong_on_a_merom(__m128i a, __m128i b) {
  return _mm_mullo_epi32(a, b);
}

__attribute__((target("sse4.1"), visibility("default"))) __m128i right_on_a_penryn_sse41(__m128i a, __m128i b) {
  return _mm_mullo_epi32(a, b);
}
