/* Convolutions of 1 x 1 in bfloat16 as products of matrices, pixels x channels. What surrounds the product is done while a block
   of pixels is in the cache, so that no tensor passes memory more often than it must.

   Forward, y = x w^T; the moments of y, which a batch norm asks for next, are taken from a block as soon as it is written.
   Backward, dx = g w and dw = g^T x in one reading of g. Where a batch norm follows, g itself is made here, block by block,
   from the gradient behind the norm (`propagate` in kernels.c does the same for a tensor), and never reaches memory.

   AVX512-BF16 multiplies pairs: lane i of a sum grows by a[2i] b[2i] + a[2i+1] b[2i+1]. So the right matrix is laid in panels
   of 64 columns whose rows are pairs, 64 dwords each; of the left matrix a pair at a time is spread over the lanes; and a tile of
   6 x 64 sums stays in registers. Sums are in float; blocks and groups of pixels are given, so the bits do not depend on the
   number of threads. Channels are multiples of 64. Every function returns 0, or 1 where there is no memory.

   Compiled by pointwise.py; without these instructions the file is empty, and torch's operators do the work. */

#ifdef __AVX512BF16__

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bfloat16;

enum { ROWS = 6, PANEL = 64, LANES = 16, VECTORS = PANEL / LANES }; /* a tile takes 24 of the 32 registers */

typedef __m512 Tile[ROWS][VECTORS];

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static void *memory(int64_t bytes) { return aligned_alloc(64, (size_t)bytes); } /* bytes: whole lines of 64 */

static inline __m512 wide(const bfloat16 *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}

/* Rows of channels as panels whose rows are pairs of them, an odd last one paired with zeros; `stride` dwords lie between panels. */
static void interleave(const bfloat16 *from, int64_t rows, int64_t channels, int32_t *into, int64_t stride) {
    static const uint16_t order[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i lower = _mm512_loadu_si512(order), upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
    for (int64_t row = 0; row < rows; row += 2)
        for (int64_t c = 0; c < channels; c += 32) {
            const bfloat16 *first = from + row * channels + c;
            const __m512i a = _mm512_loadu_si512(first);
            const __m512i b = row + 1 < rows ? _mm512_loadu_si512(first + channels) : _mm512_setzero_si512();
            int32_t *to = into + c / PANEL * stride + row / 2 * PANEL + c % PANEL;
            _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, lower, b));
            _mm512_storeu_si512(to + LANES, _mm512_permutex2var_epi16(a, upper, b));
        }
}

/* Rows of channels as the columns of one panel. */
static void transpose(const bfloat16 *from, int64_t channels, int32_t *into) {
    for (int64_t pair = 0; pair < channels / 2; pair++)
        for (int64_t row = 0; row < PANEL; row++) memcpy(into + pair * PANEL + row, from + row * channels + 2 * pair, 4);
}

/* A tile of a product: `rows` rows of pairs, between which lie `down` dwords and between their pairs `along`, times a panel. */
static inline __attribute__((always_inline)) void product(const int rows, const int32_t *left, int64_t down, int64_t along,
                                                          const int32_t *panel, int64_t pairs, Tile sum) {
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) sum[row][v] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; pair++) {
        __m512bh b[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) b[v] = (__m512bh)_mm512_loadu_si512(panel + pair * PANEL + LANES * v);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            const __m512bh a = (__m512bh)_mm512_set1_epi32(left[row * down + pair * along]);
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) sum[row][v] = _mm512_dpbf16_ps(sum[row][v], a, b[v]);
        }
    }
}

/* `rows` pixels of x times a panel, rounded. */
static inline __attribute__((always_inline)) void tile(const int rows, const bfloat16 *x, int64_t c_in, const int32_t *panel,
                                                       bfloat16 *y, int64_t c_out) {
    Tile sum;
    product(rows, (const int32_t *)x, c_in / 2, 1, panel, c_in / 2, sum);
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v += 2)
            _mm512_storeu_si512(y + row * c_out + LANES * v, (__m512i)_mm512_cvtne2ps_pbh(sum[row][v + 1], sum[row][v]));
}

/* `rows` rows of dw in the columns of a panel, added to what `into` holds unless that is `fresh` memory. */
static inline __attribute__((always_inline)) void tile_of_weight(const int rows, const int32_t *g, const int32_t *x,
                                                                 int64_t pairs, float *into, int64_t c_in, int fresh) {
    Tile sum;
    product(rows, g, 1, PANEL, x, pairs, sum);
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) {
            float *to = into + row * c_in + LANES * v;
            _mm512_storeu_ps(to, fresh ? sum[row][v] : _mm512_add_ps(_mm512_loadu_ps(to), sum[row][v]));
        }
}

#define BY_ROWS(rows, call, ...)             \
    switch (rows) {                          \
        case 1: call(1, __VA_ARGS__); break; \
        case 2: call(2, __VA_ARGS__); break; \
        case 3: call(3, __VA_ARGS__); break; \
        case 4: call(4, __VA_ARGS__); break; \
        case 5: call(5, __VA_ARGS__); break; \
        default: call(6, __VA_ARGS__);       \
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

static int64_t tiles(int64_t rows, int64_t columns) { return (rows + ROWS - 1) / ROWS * (columns / PANEL); }

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
static void multiply(const bfloat16 *x, const int32_t *panels, bfloat16 *y, int64_t pixels, int64_t c_in, int64_t c_out,
                     Ahead next) {
    for (int64_t column = 0; column < c_out; column += PANEL)
        for (int64_t pixel = 0; pixel < pixels; pixel += ROWS) {
            const int32_t *panel = panels + column * c_in / 2;
            fetch(&next);
            BY_ROWS(pixels - pixel, tile, x + pixel * c_in, c_in, panel, y + pixel * c_out + column, c_out)
        }
}

/* dw += g^T x for the pixels of a block, both as panels of pairs of pixels; dw = g^T x in `fresh` memory. */
static void multiply_weight(const int32_t *g, const int32_t *x, float *dw, int fresh, int64_t pairs, int64_t stride,
                            int64_t c_in, int64_t c_out, Ahead next) {
    for (int64_t top = 0; top < c_out; top += PANEL)
        for (int64_t column = 0; column < c_in; column += PANEL)
            for (int64_t row = 0; row < PANEL; row += ROWS) {
                const int32_t *left = g + top / PANEL * stride + row, *panel = x + column / PANEL * stride;
                fetch(&next);
                BY_ROWS(PANEL - row, tile_of_weight, left, panel, pairs, dw + (top + row) * c_in + column, c_in, fresh)
            }
}

/* Mean and sum of squared distances from it, per channel of a block, from the distances to its first pixel. */
static void measure(const bfloat16 *y, int64_t pixels, int64_t channels, float *mean, float *squares) {
    const __m512 share = _mm512_set1_ps(1.0f / (float)pixels);
    for (int64_t c = 0; c < channels; c += PANEL) {
        __m512 origin[VECTORS], sum[VECTORS], square[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            origin[v] = wide(y + c + LANES * v);
            sum[v] = square[v] = _mm512_setzero_ps();
        }
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            for (int v = 0; v < VECTORS; v++) {
                const __m512 apart = _mm512_sub_ps(wide(y + pixel * channels + c + LANES * v), origin[v]);
                sum[v] = _mm512_add_ps(sum[v], apart);
                square[v] = _mm512_fmadd_ps(apart, apart, square[v]);
            }
        for (int v = 0; v < VECTORS; v++) {
            const __m512 apart = _mm512_mul_ps(sum[v], share), least = _mm512_fnmadd_ps(sum[v], apart, square[v]);
            _mm512_storeu_ps(mean + c + LANES * v, _mm512_add_ps(origin[v], apart));
            _mm512_storeu_ps(squares + c + LANES * v, _mm512_max_ps(least, _mm512_setzero_ps()));
        }
    }
}

/* A batch norm with its clamp, behind the convolution: its input, and what `reduce` in kernels.c has made of its gradient. */
typedef struct {
    const bfloat16 *x;
    const float *table, *line;
    float low, high;
} Norm;

/* The gradient by its input for the pixels of a block: scale (what passes the clamp) + slope x + offset. */
static void propagate(const bfloat16 *gradient, Norm norm, bfloat16 *into, int64_t pixels, int64_t channels) {
    const __m512 low = _mm512_set1_ps(norm.low), high = _mm512_set1_ps(norm.high);
    for (int64_t c = 0; c < channels; c += LANES) {
        const __m512 scale = _mm512_loadu_ps(norm.table + 2 * channels + c), shift = _mm512_loadu_ps(norm.table + 3 * channels + c);
        const __m512 slope = _mm512_loadu_ps(norm.line + c), offset = _mm512_loadu_ps(norm.line + channels + c);
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            const int64_t at = pixel * channels + c;
            const __m512 x = wide(norm.x + at), y = _mm512_fmadd_ps(scale, x, shift);
            const __mmask16 stopped = _mm512_cmp_ps_mask(y, low, _CMP_LE_OQ) | _mm512_cmp_ps_mask(y, high, _CMP_GE_OQ);
            const __m512 passed = _mm512_maskz_mov_ps((__mmask16)~stopped, wide(gradient + at));
            const __m512 dx = _mm512_fmadd_ps(scale, passed, _mm512_fmadd_ps(slope, x, offset));
            _mm256_storeu_si256((__m256i *)(into + at), (__m256i)_mm512_cvtneps_pbh(dx));
        }
    }
}

/* y = x w^T: x is pixels x c_in, w c_out x c_in, y pixels x c_out. `moments` gets, for every block of `longest` pixels, the mean
   and the sum of squared distances from it, c_out numbers each. */
int forward(const bfloat16 *x, const bfloat16 *w, bfloat16 *y, float *moments, int64_t longest, int64_t pixels, int64_t c_in,
            int64_t c_out, int threads) {
    int32_t *panels = memory(2 * c_in * c_out);
    if (!panels) return 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t row = 0; row < c_out; row += PANEL) transpose(w + row * c_in, c_in, panels + row * c_in / 2);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < pixels; first += longest) {
            const int64_t own = least(longest, pixels - first), next = first + own, more = least(longest, pixels - next);
            float *mean = moments + first / longest * 2 * c_out;
            multiply(x + first * c_in, panels, y + first * c_out, own, c_in, c_out,
                     ahead(x + next * c_in, NULL, more * c_in, tiles(own, c_out)));
            measure(y + first * c_out, own, c_out, mean, mean + c_out);
        }
    }
    free(panels);
    return 0;
}

/* dx = g w and dw = g^T x, either of them optional, in blocks of `longest` pixels, an even number; dw is summed in groups of `share`
   blocks first. `gradient` is g, or, where `z` is given, that behind a batch norm whose input z is. */
int backward(const bfloat16 *gradient, const bfloat16 *z, const float *table, const float *line, const bfloat16 *x,
             const bfloat16 *w, bfloat16 *dx, float *dw, double low, double high, int64_t longest, int64_t share, int64_t pixels,
             int64_t c_in, int64_t c_out, int threads) {
    const int64_t weights = c_in * c_out, blocks = (pixels + longest - 1) / longest, groups = (blocks + share - 1) / share;
    const int64_t stride = (longest + 1) / 2 * PANEL; /* dwords of a panel of a block */
    int32_t *panels = memory(2 * weights);
    float *partial = memory(4 * groups * weights);
    int failed = !panels || !partial;
    if (!failed) interleave(w, c_out, c_in, panels, c_out / 2 * PANEL);
#pragma omp parallel num_threads(threads)
    {
        bfloat16 *made = memory(2 * longest * c_out);
        int32_t *g_pairs = memory(4 * c_out / PANEL * stride), *x_pairs = memory(4 * c_in / PANEL * stride);
        const int able = panels && partial && made && g_pairs && x_pairs;
        if (!able) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t group = 0; group < groups; group++)
            for (int64_t block = group * share; able && block < least(blocks, (group + 1) * share); block++) {
                const int64_t first = block * longest, own = least(longest, pixels - first), next = first + own;
                const bfloat16 *g = gradient + first * c_out, *from = x + first * c_in;
                const Ahead then = ahead(gradient + next * c_out, z ? z + next * c_out : NULL, least(longest, pixels - next) * c_out,
                                   dw ? tiles(PANEL, c_in) * (c_out / PANEL) : tiles(own, c_in));
                if (z) {
                    propagate(g, (Norm){z + first * c_out, table, line, (float)low, (float)high}, made, own, c_out);
                    g = made;
                }
                if (dx)
                    multiply(g, panels, dx + first * c_in, own, c_out, c_in,
                             dw ? ahead(from, NULL, own * c_in, tiles(own, c_in)) : then);
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
    free(panels);
    free(partial);
    return failed;
}

#endif
