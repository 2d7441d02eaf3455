/* What the kernels use of AVX-512, in portable C with the vectors of gcc and clang: the same arithmetic on any processor.
   `HUBEL_KERNELS=portable` compiles with it; it is there to test the kernels where the instructions are missing, not to be quick. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef float __m512 __attribute__((vector_size(64), aligned(4)));
typedef int32_t __m512i __attribute__((vector_size(64), aligned(4)));
typedef int32_t __m256i __attribute__((vector_size(32), aligned(4)));
typedef uint16_t __m512bh __attribute__((vector_size(64), aligned(4)));
typedef uint16_t __m256bh __attribute__((vector_size(32), aligned(4)));
typedef uint16_t __mmask16;
typedef uint32_t __mmask32;

enum { _CMP_LE_OQ, _CMP_GE_OQ, _MM_HINT_T1 };

#define EACH(count) for (int i = 0; i < count; i++)
#define CALLED static __attribute__((noinline, unused)) /* copies at every use would keep the compiler busy for minutes */

/* Bits of one type as another; lanes of 16 bits by their address. */
#define AS(type, value) ((union { __typeof__(value) from; type to; }){.from = (value)}.to)
#define SHORTS(vector) ((uint16_t *)&(vector))

static inline void _mm_pause(void) {}
#define _mm_prefetch(address, hint) ((void)(address))

/* Filling, reading, writing. */
static inline __m512 _mm512_set1_ps(float x) { return x - (__m512){0}; }
static inline __m512 _mm512_setzero_ps(void) { return (__m512){0}; }
static inline __m512i _mm512_set1_epi32(int x) { return x - (__m512i){0}; }
static inline __m512i _mm512_set1_epi16(short x) { return _mm512_set1_epi32((int)((uint32_t)(uint16_t)x * 0x10001u)); }
static inline __m512i _mm512_setzero_si512(void) { return (__m512i){0}; }
static inline __m512 _mm512_loadu_ps(const void *from) { return *(const __m512 *)from; }
static inline void _mm512_storeu_ps(void *to, __m512 x) { memcpy(to, &x, sizeof x); }
static inline __m512i _mm512_loadu_si512(const void *from) { __m512i x; memcpy(&x, from, sizeof x); return x; }
static inline void _mm512_storeu_si512(void *to, __m512i x) { memcpy(to, &x, sizeof x); }
static inline __m256i _mm256_loadu_si256(const __m256i *from) { __m256i x; memcpy(&x, from, sizeof x); return x; }

CALLED __m512 _mm512_maskz_loadu_ps(__mmask16 own, const float *from) {
    __m512 x = {0};
    EACH(16) if (own >> i & 1) x[i] = from[i];
    return x;
}
CALLED void _mm512_mask_storeu_ps(float *to, __mmask16 own, __m512 x) { EACH(16) if (own >> i & 1) to[i] = x[i]; }
CALLED __m512 _mm512_maskz_mov_ps(__mmask16 own, __m512 x) {
    EACH(16) if (!(own >> i & 1)) x[i] = 0;
    return x;
}
CALLED __m512i _mm512_maskz_loadu_epi16(__mmask32 own, const void *from) {
    __m512i x = {0};
    EACH(32) if (own >> i & 1) memcpy(SHORTS(x) + i, (const uint16_t *)from + i, 2);
    return x;
}
CALLED __m256i _mm256_maskz_loadu_epi16(__mmask16 own, const void *from) {
    __m256i x = {0};
    EACH(16) if (own >> i & 1) memcpy(SHORTS(x) + i, (const uint16_t *)from + i, 2);
    return x;
}
CALLED void _mm512_mask_storeu_epi16(void *to, __mmask32 own, __m512i x) {
    EACH(32) if (own >> i & 1) memcpy((uint16_t *)to + i, SHORTS(x) + i, 2);
}
CALLED void _mm256_mask_storeu_epi16(void *to, __mmask16 own, __m256i x) {
    EACH(16) if (own >> i & 1) memcpy((uint16_t *)to + i, SHORTS(x) + i, 2);
}

/* Numbers. */
static inline __m512 _mm512_add_ps(__m512 a, __m512 b) { return a + b; }
static inline __m512 _mm512_sub_ps(__m512 a, __m512 b) { return a - b; }
static inline __m512 _mm512_mul_ps(__m512 a, __m512 b) { return a * b; }
static inline __m512 _mm512_div_ps(__m512 a, __m512 b) { return a / b; }
static inline __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) { return a * b + c; }
static inline __m512 _mm512_fnmadd_ps(__m512 a, __m512 b, __m512 c) { return c - a * b; }
static inline __m512 _mm512_rcp14_ps(__m512 x) { return 1 / x; }
CALLED __m512 _mm512_max_ps(__m512 a, __m512 b) { /* the second where one is not a number, as the instruction has it */
    EACH(16) a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}
CALLED __m512 _mm512_min_ps(__m512 a, __m512 b) {
    EACH(16) a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}
CALLED __m512 _mm512_roundscale_ps(__m512 x, int scale) {
    (void)scale; /* 0: to whole numbers */
    EACH(16) x[i] = nearbyintf(x[i]);
    return x;
}
CALLED __m512 _mm512_scalef_ps(__m512 x, __m512 power) {
    EACH(16) x[i] *= exp2f(floorf(power[i]));
    return x;
}
CALLED __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int how) {
    __mmask16 found = 0;
    EACH(16) found |= (__mmask16)((how == _CMP_LE_OQ ? a[i] <= b[i] : a[i] >= b[i]) << i);
    return found;
}

/* Whole numbers. */
static inline __m512i _mm512_or_si512(__m512i a, __m512i b) { return a | b; }
static inline __m512i _mm512_slli_epi32(__m512i x, int bits) { return x << bits; }
static inline __m512 _mm512_castsi512_ps(__m512i x) { return AS(__m512, x); }
CALLED __m512i _mm512_cvtepu16_epi32(__m256i x) {
    __m512i y;
    EACH(16) y[i] = SHORTS(x)[i];
    return y;
}
CALLED __m512i _mm512_add_epi16(__m512i a, __m512i b) {
    EACH(32) SHORTS(a)[i] += SHORTS(b)[i];
    return a;
}
CALLED __m512i _mm512_permutex2var_epi16(__m512i a, __m512i order, __m512i b) {
    __m512i x;
    EACH(32) SHORTS(x)[i] = SHORTS(order)[i] & 32 ? SHORTS(b)[SHORTS(order)[i] & 31] : SHORTS(a)[SHORTS(order)[i] & 31];
    return x;
}

/* bfloat16: rounding to nearest, ties to even; what is not a number stays none. */
static inline uint16_t narrowed(float x) {
    const uint32_t bits = AS(uint32_t, x);
    return (uint16_t)(x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline float widened(uint16_t x) { return AS(float, (uint32_t)x << 16); }
CALLED __m256bh _mm512_cvtneps_pbh(__m512 x) {
    __m256bh y;
    EACH(16) y[i] = narrowed(x[i]);
    return y;
}
CALLED __m512bh _mm512_cvtne2ps_pbh(__m512 upper, __m512 lower) {
    __m512bh y;
    EACH(16) y[i] = narrowed(lower[i]), y[i + 16] = narrowed(upper[i]);
    return y;
}
CALLED __m512 _mm512_dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
    EACH(16) {
        sum[i] += widened(a[2 * i + 1]) * widened(b[2 * i + 1]);
        sum[i] += widened(a[2 * i]) * widened(b[2 * i]);
    }
    return sum;
}
