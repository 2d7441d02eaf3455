/* Convolutions of 1 x 1 in bfloat16 as products of matrices, pixels x channels. What surrounds the product is done while a block
   of pixels is in the cache, so that no tensor passes memory more often than it must.

   Forward, y = x w^T; the moments of y, which a batch norm asks for next, are taken from a block as soon as it is written.
   Backward, dx = g w and dw = g^T x in one reading of g. Where a batch norm follows, g itself is made here, block by block,
   from the gradient behind the norm (`bn_grad_input` in kernels.c does the same for a tensor), and never reaches memory.

   AVX512-BF16 multiplies pairs: lane i of a sum grows by a[2i] b[2i] + a[2i+1] b[2i+1]. So the right matrix is laid in panels
   of 64 columns (the last one as many as are left) whose rows are pairs, 64 dwords each; of the left matrix a pair at a time is
   spread over the lanes; and a tile of 6 x 64 sums stays in registers. Sums are in float; blocks and groups of pixels are given,
   so the bits do not depend on the number of threads. Channels are even. Every function returns 0, or 1 where there is no memory.

   Compiled by pointwise.py; without these instructions the file is empty, and torch's operators do the work. */

#if defined(PORTABLE) || (defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__))

#ifdef PORTABLE
#include "avx512.h"
#else
#include <immintrin.h>
#endif
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bfloat16;

enum { ROWS = 6, PANEL = 64, LANES = 16, VECTORS = PANEL / LANES }; /* a tile takes 24 of the 32 registers */

typedef __m512 Tile[ROWS][VECTORS];

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t panels(int64_t channels) { return (channels + PANEL - 1) / PANEL; }

static int vectors(int64_t left) { return left >= PANEL ? VECTORS : (int)((left + LANES - 1) / LANES); } /* of a panel */

static void *memory(int64_t bytes) { return aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64)); }

/* The first of 32 lanes, or of 16, as far as there are channels left. */
static inline __mmask32 lanes(int64_t left) { return left >= 32 ? ~0u : left > 0 ? (1u << left) - 1 : 0; }

static inline __m512 wide(__mmask32 own, const bfloat16 *from) {
    const __m256i narrow = _mm256_maskz_loadu_epi16((__mmask16)own, from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
}

/* Rows of channels as panels whose rows are pairs of them, an odd last one paired with zeros. Panels have `stride` dwords. */
static void interleave(const bfloat16 *from, int64_t rows, int64_t channels, int32_t *into, int64_t stride) {
    static const uint16_t order[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i lower = _mm512_loadu_si512(order), upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
    for (int64_t row = 0; row < rows; row += 2)
        for (int64_t c = 0; c < channels; c += 32) {
            const bfloat16 *first = from + row * channels + c;
            const __mmask32 own = lanes(channels - c);
            const __m512i a = _mm512_maskz_loadu_epi16(own, first);
            const __m512i b = _mm512_maskz_loadu_epi16(row + 1 < rows ? own : 0, first + channels);
            int32_t *to = into + c / PANEL * stride + row / 2 * PANEL + c % PANEL;
            _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, lower, b));
            _mm512_storeu_si512(to + LANES, _mm512_permutex2var_epi16(a, upper, b));
        }
}

/* Rows of channels as the columns of one panel. */
static void transpose(const bfloat16 *from, int64_t rows, int64_t channels, int32_t *into) {
    for (int64_t pair = 0; pair < channels / 2; pair++)
        for (int64_t row = 0; row < PANEL; row++) {
            into[pair * PANEL + row] = 0;
            if (row < rows) memcpy(into + pair * PANEL + row, from + row * channels + 2 * pair, 4);
        }
}

#define SHORT _Pragma("GCC unroll 8")
#define INLINE static inline __attribute__((always_inline)) void

/* A tile of a product: `rows` rows of pairs, between which lie `down` dwords and between their pairs `along`, times the first
   vectors of a panel. */
INLINE product(const int rows, const int vectors, const int32_t *left, int64_t down, int64_t along, const int32_t *panel,
               int64_t pairs, Tile sum) {
    SHORT for (int row = 0; row < rows; row++) SHORT for (int v = 0; v < vectors; v++) sum[row][v] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; pair++) {
        __m512bh b[VECTORS];
        SHORT for (int v = 0; v < vectors; v++) b[v] = (__m512bh)_mm512_loadu_si512(panel + pair * PANEL + LANES * v);
        SHORT for (int row = 0; row < rows; row++) {
            const __m512bh a = (__m512bh)_mm512_set1_epi32(left[row * down + pair * along]);
            SHORT for (int v = 0; v < vectors; v++) sum[row][v] = _mm512_dpbf16_ps(sum[row][v], a, b[v]);
        }
    }
}

/* `rows` pixels of x times a panel that has `left` channels, rounded. */
INLINE tile(const int rows, const int vectors, const bfloat16 *x, int64_t c_in, const int32_t *panel, bfloat16 *y,
            int64_t c_out, int64_t left) {
    Tile sum;
    product(rows, vectors, (const int32_t *)x, c_in / 2, 1, panel, c_in / 2, sum);
    SHORT for (int row = 0; row < rows; row++) SHORT for (int v = 0; v < vectors; v += 2) {
        const __m512 upper = v + 1 < vectors ? sum[row][v + 1] : _mm512_setzero_ps();
        const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(upper, sum[row][v]);
        _mm512_mask_storeu_epi16(y + row * c_out + LANES * v, lanes(left - LANES * v), rounded);
    }
}

/* `rows` rows of dw in the columns of a panel that has `left` channels, added to what `into` holds unless its memory is `fresh`. */
INLINE tile_of_weight(const int rows, const int vectors, const int32_t *g, const int32_t *x, int64_t pairs, float *into,
                      int64_t c_in, int64_t left, int fresh) {
    Tile sum;
    product(rows, vectors, g, 1, PANEL, x, pairs, sum);
    SHORT for (int row = 0; row < rows; row++) SHORT for (int v = 0; v < vectors; v++) {
        const __mmask16 own = (__mmask16)lanes(left - LANES * v);
        float *to = into + row * c_in + LANES * v;
        _mm512_mask_storeu_ps(to, own, _mm512_add_ps(_mm512_maskz_loadu_ps(fresh ? 0 : own, to), sum[row][v]));
    }
}

/* Calls a tile with its size as constants, which the compiler needs to keep it in registers. */
#define BY_VECTORS(rows, vectors, call, ...)       \
    switch (vectors) {                             \
        case 1: call(rows, 1, __VA_ARGS__); break; \
        case 2: call(rows, 2, __VA_ARGS__); break; \
        case 3: call(rows, 3, __VA_ARGS__); break; \
        default: call(rows, 4, __VA_ARGS__);       \
    }
#define BY_SIZE(rows, vectors, call, ...)                         \
    switch (rows) {                                               \
        case 1: BY_VECTORS(1, vectors, call, __VA_ARGS__); break; \
        case 2: BY_VECTORS(2, vectors, call, __VA_ARGS__); break; \
        case 3: BY_VECTORS(3, vectors, call, __VA_ARGS__); break; \
        case 4: BY_VECTORS(4, vectors, call, __VA_ARGS__); break; \
        case 5: BY_VECTORS(5, vectors, call, __VA_ARGS__); break; \
        default: BY_VECTORS(6, vectors, call, __VA_ARGS__);       \
    }

/* What is read next, one or two tensors: every tile asks for its share, so that memory works while the core multiplies. */
typedef struct {
    const char *first, *second;
    int64_t lines, share;
} Ahead;

static Ahead ahead(const bfloat16 *first, const bfloat16 *second, int64_t count, int64_t tiles) {
    const int64_t lines = 2 * count / 64;
    return (Ahead){(const char *)first, (const char *)second, lines, (lines + tiles - 1) / tiles};
}

static int64_t tiles(int64_t rows, int64_t columns) { return (rows + ROWS - 1) / ROWS * panels(columns); }

static inline void fetch(Ahead *next) {
    for (int64_t i = least(next->share, next->lines); i > 0; i--) {
        _mm_prefetch(next->first, _MM_HINT_T1);
        next->first += 64;
        if (!next->second) continue;
        _mm_prefetch(next->second, _MM_HINT_T1);
        next->second += 64;
    }
    next->lines -= next->share;
}

/* y = x times a matrix in panels, for the pixels of a block. */
static void multiply(const bfloat16 *x, const int32_t *packed, bfloat16 *y, int64_t pixels, int64_t c_in, int64_t c_out,
                     Ahead next) {
    for (int64_t column = 0; column < c_out; column += PANEL, packed += c_in / 2 * PANEL)
        for (int64_t pixel = 0; pixel < pixels; pixel += ROWS) {
            const int64_t left = c_out - column;
            fetch(&next);
            BY_SIZE(pixels - pixel, vectors(left), tile, x + pixel * c_in, c_in, packed, y + pixel * c_out + column, c_out, left)
        }
}

/* dw += g^T x for the pixels of a block, both as panels of pairs of pixels; dw = g^T x in `fresh` memory. */
static void multiply_weight(const int32_t *g, const int32_t *x, float *dw, int fresh, int64_t pairs, int64_t stride,
                            int64_t c_in, int64_t c_out, Ahead next) {
    for (int64_t top = 0; top < c_out; top += PANEL)
        for (int64_t column = 0; column < c_in; column += PANEL)
            for (int64_t row = 0, rows = least(PANEL, c_out - top); row < rows; row += ROWS) {
                const int32_t *across = g + top / PANEL * stride + row, *panel = x + column / PANEL * stride;
                const int64_t left = c_in - column;
                fetch(&next);
                float *to = dw + (top + row) * c_in + column;
                BY_SIZE(rows - row, vectors(left), tile_of_weight, across, panel, pairs, to, c_in, left, fresh)
            }
}

/* Mean and sum of squared distances from it, per channel of a block, from the distances to its first pixel. Pixels alternate
   between two sums, for one would wait for itself. */
static void measure(const bfloat16 *y, int64_t pixels, int64_t channels, float *mean, float *squares) {
    const __m512 share = _mm512_set1_ps(1.0f / (float)pixels);
    for (int64_t c = 0; c < channels; c += LANES) {
        const __mmask32 own = lanes(channels - c);
        const __m512 origin = wide(own, y + c);
        __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, square[2] = {sum[0], sum[0]};
        for (int64_t pixel = 0; pixel < pixels; pixel += 2) SHORT for (int i = 0; i < 2; i++) {
            if (pixel + i == pixels) break;
            const __m512 apart = _mm512_sub_ps(wide(own, y + (pixel + i) * channels + c), origin);
            sum[i] = _mm512_add_ps(sum[i], apart);
            square[i] = _mm512_fmadd_ps(apart, apart, square[i]);
        }
        const __m512 total = _mm512_add_ps(sum[0], sum[1]), apart = _mm512_mul_ps(total, share);
        const __m512 rest = _mm512_fnmadd_ps(total, apart, _mm512_add_ps(square[0], square[1]));
        _mm512_mask_storeu_ps(mean + c, (__mmask16)own, _mm512_add_ps(origin, apart));
        _mm512_mask_storeu_ps(squares + c, (__mmask16)own, _mm512_max_ps(rest, _mm512_setzero_ps()));
    }
}

/* A batch norm with its clamp, behind the convolution: its input, and what `bn_grad_affine` in kernels.c has made of its gradient. */
typedef struct {
    const bfloat16 *x;
    const float *table, *line;
    float low, high;
} Norm;

/* The gradient by its input for the pixels of a block: scale (what passes the clamp) + slope x + offset. */
static void bn_grad_input(const bfloat16 *gradient, Norm norm, bfloat16 *into, int64_t pixels, int64_t channels) {
    const __m512 low = _mm512_set1_ps(norm.low), high = _mm512_set1_ps(norm.high);
    for (int64_t c = 0; c < channels; c += LANES) {
        const __mmask32 own = lanes(channels - c);
        const float *affine = norm.table + 2 * channels + c, *line = norm.line + c;
        const __m512 scale = _mm512_maskz_loadu_ps((__mmask16)own, affine), slope = _mm512_maskz_loadu_ps((__mmask16)own, line);
        const __m512 shift = _mm512_maskz_loadu_ps((__mmask16)own, affine + channels);
        const __m512 offset = _mm512_maskz_loadu_ps((__mmask16)own, line + channels);
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            const int64_t at = pixel * channels + c;
            const __m512 x = wide(own, norm.x + at), y = _mm512_fmadd_ps(scale, x, shift);
            const __mmask16 stopped = _mm512_cmp_ps_mask(y, low, _CMP_LE_OQ) | _mm512_cmp_ps_mask(y, high, _CMP_GE_OQ);
            const __m512 passed = _mm512_maskz_mov_ps((__mmask16)~stopped, wide(own, gradient + at));
            const __m512 dx = _mm512_fmadd_ps(scale, passed, _mm512_fmadd_ps(slope, x, offset));
            _mm256_mask_storeu_epi16(into + at, (__mmask16)own, (__m256i)_mm512_cvtneps_pbh(dx));
        }
    }
}

/* y = x w^T: x is pixels x c_in, w c_out x c_in, y pixels x c_out. `moments` gets, for every block of `longest` pixels, the mean
   and the sum of squared distances from it, c_out numbers each. */
int forward(const bfloat16 *x, const bfloat16 *w, bfloat16 *y, float *moments, int64_t longest, int64_t pixels, int64_t c_in,
            int64_t c_out, int threads) {
    const int64_t stride = c_in / 2 * PANEL; /* dwords of a panel */
    int32_t *packed = memory(4 * panels(c_out) * stride);
    if (!packed) return 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < c_out; row += PANEL)
            transpose(w + row * c_in, least(PANEL, c_out - row), c_in, packed + row / PANEL * stride);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < pixels; first += longest) {
            const int64_t own = least(longest, pixels - first), next = first + own, more = least(longest, pixels - next);
            float *mean = moments + first / longest * 2 * c_out;
            multiply(x + first * c_in, packed, y + first * c_out, own, c_in, c_out,
                     ahead(x + next * c_in, NULL, more * c_in, tiles(own, c_out)));
            measure(y + first * c_out, own, c_out, mean, mean + c_out);
        }
    }
    free(packed);
    return 0;
}

/* dx = g w and dw = g^T x, either of them optional, in blocks of `longest` pixels, an even number; dw is summed in groups of
   `share` blocks first. `gradient` is g, or, where `z` is given, that behind a batch norm whose input z is. */
int backward(const bfloat16 *gradient, const bfloat16 *z, const float *table, const float *line, const bfloat16 *x,
             const bfloat16 *w, bfloat16 *dx, float *dw, double low, double high, int64_t longest, int64_t share, int64_t pixels,
             int64_t c_in, int64_t c_out, int threads) {
    const int64_t weights = c_in * c_out, blocks = (pixels + longest - 1) / longest, groups = (blocks + share - 1) / share;
    const int64_t stride = (longest + 1) / 2 * PANEL; /* dwords of a panel of a block */
    int32_t *packed = memory(4 * panels(c_in) * (c_out / 2 * PANEL));
    float *partial = memory(4 * groups * weights);
    int failed = !packed || !partial;
    if (!failed) interleave(w, c_out, c_in, packed, c_out / 2 * PANEL);
#pragma omp parallel num_threads(threads)
    {
        bfloat16 *made = memory(2 * longest * c_out);
        int32_t *g_pairs = memory(4 * panels(c_out) * stride), *x_pairs = memory(4 * panels(c_in) * stride);
        const int able = packed && partial && made && g_pairs && x_pairs;
        if (!able) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t group = 0; group < groups; group++)
            for (int64_t block = group * share; able && block < least(blocks, (group + 1) * share); block++) {
                const int64_t first = block * longest, own = least(longest, pixels - first), next = first + own;
                const bfloat16 *g = gradient + first * c_out, *from = x + first * c_in;
                const int64_t more = least(longest, pixels - next) * c_out, turns = tiles(dw ? c_out : own, c_in);
                const Ahead then = ahead(gradient + next * c_out, z ? z + next * c_out : NULL, more, turns);
                if (z) {
                    bn_grad_input(g, (Norm){z + first * c_out, table, line, (float)low, (float)high}, made, own, c_out);
                    g = made;
                }
                const Ahead now = dw ? ahead(from, NULL, own * c_in, tiles(own, c_in)) : then;
                if (dx) multiply(g, packed, dx + first * c_in, own, c_out, c_in, now);
                if (!dw) continue;
                interleave(g, own, c_out, g_pairs, stride);
                interleave(from, own, c_in, x_pairs, stride);
                multiply_weight(g_pairs, x_pairs, partial + group * weights, block == group * share, (own + 1) / 2, stride, c_in,
                                c_out, then);
            }
#pragma omp for schedule(static)
        for (int64_t row = 0; row < c_out; row++)
            if (dw && able) {
                float *restrict to = dw + row * c_in;
                memcpy(to, partial + row * c_in, sizeof(float) * (size_t)c_in);
                for (int64_t group = 1; group < groups; group++)
                    for (int64_t i = 0; i < c_in; i++) to[i] += partial[group * weights + row * c_in + i];
            }
        free(made);
        free(g_pairs);
        free(x_pairs);
    }
    free(packed);
    free(partial);
    return failed;
}

#endif
