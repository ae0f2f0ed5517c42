// Vectors as wide as one register of the machine that is compiled for: a wider one would be kept in
// memory, and each of its operations would load and store it.
//
// Every sum in this folder runs over its terms in one fixed order, however many rows share a call,
// so a token's result does not depend on its neighbours.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

constexpr int WIDTH = BURNISH_WIDTH;  // floats, see target.py
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif
typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * WIDTH), aligned(2), may_alias));

static inline vec load(const float* from) { return *reinterpret_cast<const vec*>(from); }
static inline ints load_ints(const int32_t* from) { return *reinterpret_cast<const ints*>(from); }
static inline void store(float* to, vec value) { *reinterpret_cast<vec*>(to) = value; }
// The two vectors of one block of a product.
static inline void store_block(float* to, vec a, vec b) { store(to, a), store(to + WIDTH, b); }
static inline void add_block(float* to, vec a, vec b) {
    store_block(to, load(to) + a, load(to + WIDTH) + b);
}

// bfloat16 is the upper half of a float.
static inline vec load(const uint16_t* from) {
#if defined(__AVX512F__)  // compilers would split the conversion below into halves
    const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
#elif defined(__AVX2__)
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16);
#else
    const halves narrow = *reinterpret_cast<const halves*>(from);
    typedef uint32_t words __attribute__((vector_size(4 * WIDTH)));
    return reinterpret_cast<vec>(__builtin_convertvector(narrow, words) << 16);
#endif
}

static inline vec load(const int8_t* from) {
#if defined(__AVX512F__)
    return (vec)_mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
    return (vec)_mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
    typedef int8_t bytes __attribute__((vector_size(WIDTH), aligned(1), may_alias));
    return __builtin_convertvector(*reinterpret_cast<const bytes*>(from), vec);
#endif
}

// A number in every lane; compilers may drop the subtraction of 0, but not an addition.
static inline vec in_lanes(float value) { return value - vec{}; }

// sum + a * b, rounded once where the machine can. Written as an operator, compilers fuse it in one loop
// and not in another (GCC's avoid-fma-max-bits), and the same sum would differ between two tiles.
static inline vec add_product(vec sum, vec a, vec b) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__AVX2__) && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#elif defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)sum, (float32x4_t)a, (float32x4_t)b);
#else
    return sum + a * b;
#endif
}

static inline uint16_t to_bf16(float value) {  // to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
}
static inline void put(float* to, float value) { *to = value; }
static inline void put(uint16_t* to, float value) { *to = to_bf16(value); }

static inline float total(vec v) {
    float sum = 0;
    for (int i = 0; i < WIDTH; ++i) sum += v[i];
    return sum;
}
static inline float largest(vec v) {
    float best = v[0];
    for (int i = 1; i < WIDTH; ++i) best = std::max(best, v[i]);
    return best;
}
static inline vec most(vec a, vec b) { return a > b ? a : b; }

// a[0] b[0] a[1] b[1] ... of the lower or (`UPPER`) the upper halves of two vectors.
template <bool UPPER, int... I>
static inline vec interleave(vec a, vec b, std::integer_sequence<int, I...>) {
    constexpr int half = UPPER * WIDTH / 2;
#ifdef __clang__
    return __builtin_shufflevector(a, b, (half + I / 2 + I % 2 * WIDTH)...);
#else
    return __builtin_shuffle(a, b, ints{(half + I / 2 + I % 2 * WIDTH)...});
#endif
}

// Transposes WIDTH vectors. Each round, a perfect shuffle, rotates the bits of a number's place by one.
static inline void transpose(vec (&lines)[WIDTH]) {
    constexpr auto lanes = std::make_integer_sequence<int, WIDTH>();
    for (int round = 1; round < WIDTH; round *= 2) {
        vec next[WIDTH];
        for (int i = 0; i < WIDTH / 2; ++i) {
            next[2 * i] = interleave<false>(lines[i], lines[i + WIDTH / 2], lanes);
            next[2 * i + 1] = interleave<true>(lines[i], lines[i + WIDTH / 2], lanes);
        }
        std::copy(next, next + WIDTH, lines);
    }
}

// Two signed bytes per lane as two 16-bit integers.
static inline ints widen(const int8_t* from) {
#if BURNISH_WIDTH == 16 && defined(__AVX512BW__)
    return (ints)_mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif BURNISH_WIDTH == 8 && defined(__AVX2__)
    return (ints)_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
    typedef int8_t bytes __attribute__((vector_size(2 * WIDTH), aligned(1), may_alias));
    typedef int16_t shorts __attribute__((vector_size(4 * WIDTH)));
    return (ints)__builtin_convertvector(*reinterpret_cast<const bytes*>(from), shorts);
#endif
}

// sum + a * b, where each lane of a and b holds two 16-bit integers and gets the sum of both products.
static inline ints add_products(ints sum, ints a, ints b) {
#if BURNISH_WIDTH == 16 && defined(__AVX512VNNI__)
    return (ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#elif BURNISH_WIDTH == 16 && defined(__AVX512BW__)
    return (ints)_mm512_add_epi32((__m512i)sum, _mm512_madd_epi16((__m512i)a, (__m512i)b));
#elif BURNISH_WIDTH == 8 && defined(__AVXVNNI__)
    return (ints)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#elif BURNISH_WIDTH == 8 && defined(__AVX2__)
    return (ints)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16((__m256i)a, (__m256i)b));
#else
    const ints lower = (a << 16 >> 16) * (b << 16 >> 16), upper = (a >> 16) * (b >> 16);
    return sum + lower + upper;
#endif
}

// e^x within 2 ulp (Cephes' polynomial), without branches; 0 below -87.
static inline __attribute__((always_inline)) vec exp_vec(vec x) {
    const ints nothing = x < -87.0f;
    x = x > 88.0f ? vec{} + 88.0f : x;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const vec power = reinterpret_cast<vec>((__builtin_convertvector(n, ints) + 127) << 23);
    return nothing ? vec{} : p * power;
}

static inline vec silu(vec x) { return x / (exp_vec(-x) + 1.0f); }
