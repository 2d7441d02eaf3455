/* Convolutions of 1 x 1 in bfloat16 as products of matrices, pixels x channels: what surrounds the product is done while a
   block of pixels is in the cache, so that no tensor passes memory more often than it must.

   Forward, y = x w^T; the moments of y, which a batch norm asks for next, are taken from a block as soon as it is written.
   Backward, dx = g w and dw = g^T x in one reading of g. Where a batch norm follows, g itself is made here, block by block,
   from the gradient behind the norm (see `propagate` in kernels.c), and never reaches memory.

   AVX512-BF16 multiplies pairs: lane i of a sum grows by a[2i] b[2i] + a[2i+1] b[2i+1]. So the right matrix is laid in panels
   of 64 columns whose rows are pairs (`panels` of 64 dwords), of the left one a pair at a time is spread over the lanes, and
   6 x 64 sums stay in registers. Sums are in float and do not depend on the number of threads: blocks and groups of pixels
   follow from the sizes alone. Channels are even. Every function returns 0, or 1 where there is no memory.

   Compiled by pointwise.py; without these instructions the file is empty and torch's operators do the work. */

#ifdef __AVX512BF16__

#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bfloat16;

enum { ROWS = 6, PANEL = 64, VECTORS = PANEL / 16 }; /* of a tile of sums: 24 of the 32 registers */
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t panels(int64_t channels) { return (channels + PANEL - 1) / PANEL; }

static void *memory(int64_t bytes) { return aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64)); }

/* The lanes of a vector of 16 or 32 that lie within `left` channels. */
static __mmask16 lanes16(int64_t left) { return left >= 16 ? 0xffff : left > 0 ? (__mmask16)((1u << left) - 1) : 0; }
static __mmask32 lanes32(int64_t left) { return left >= 32 ? ~0u : left > 0 ? (1u << left) - 1 : 0; }

static inline __m512 wide(__m256i values) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}

/* Rows of channels as panels whose rows are pairs of them, an odd last one paired with zeros; `stride` dwords lie between panels. */
static void interleave(const bfloat16 *from, int64_t rows, int64_t channels, int32_t *into, int64_t stride) {
    static const uint16_t order[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i lower = _mm512_loadu_si512(order), upper = _mm512_add_epi16(lower, _mm512_set1_epi16(16));
    for (int64_t row = 0; row < rows; row += 2)
        for (int64_t c = 0; c < panels(channels) * PANEL; c += 32) {
            const bfloat16 *first = from + row * channels + c;
            const __mmask32 lanes = lanes32(channels - c), paired = row + 1 < rows ? lanes : 0;
            const __m512i a = _mm512_maskz_loadu_epi16(lanes, first), b = _mm512_maskz_loadu_epi16(paired, first + channels);
            int32_t *to = into + c / PANEL * stride + row / 2 * PANEL + c % PANEL;
            _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, lower, b));
            _mm512_storeu_si512(to + 16, _mm512_permutex2var_epi16(a, upper, b));
        }
}

/* The rows of a matrix, 64 at most, as the columns of one panel. */
static void transpose(const bfloat16 *from, int64_t rows, int64_t channels, int32_t *into) {
    for (int64_t pair = 0; pair < channels / 2; pair++)
        for (int64_t row = 0; row < PANEL; row++) {
            into[pair * PANEL + row] = 0;
            if (row < rows) memcpy(into + pair * PANEL + row, from + row * channels + 2 * pair, 4);
        }
}

/* sum[row][lane] = the products of `rows` rows of pairs with a panel. Between rows of the left matrix lie `down` dwords, between its
   pairs `along`. */
static inline __attribute__((always_inline)) void product(const int rows, const int32_t *left, int64_t down, int64_t along,
                                                          const int32_t *right, int64_t pairs, __m512 sum[ROWS][VECTORS]) {
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) sum[row][v] = _mm512_setzero_ps();
    for (int64_t pair = 0; pair < pairs; pair++) {
        __m512bh b[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) b[v] = (__m512bh)_mm512_loadu_si512(right + pair * PANEL + 16 * v);
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            const __m512bh a = (__m512bh)_mm512_set1_epi32(left[row * down + pair * along]);
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; v++) sum[row][v] = _mm512_dpbf16_ps(sum[row][v], a, b[v]);
        }
    }
}

/* A tile of a product of pixels: `rows` pixels of x by one panel, written to y as far as it has channels. */
static inline __attribute__((always_inline)) void tile(const int rows, const bfloat16 *x, int64_t c_in, const int32_t *panel,
                                                       bfloat16 *y, int64_t c_out, int64_t left) {
    __m512 sum[ROWS][VECTORS];
    product(rows, (const int32_t *)x, c_in / 2, 1, panel, c_in / 2, sum);
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v += 2)
            _mm512_mask_storeu_epi16(y + row * c_out + 16 * v, lanes32(left - 16 * v),
                                     (__m512i)_mm512_cvtne2ps_pbh(sum[row][v + 1], sum[row][v]));
}

/* A tile of dw: `rows` rows of it by one panel of columns, added to `into`. */
static inline __attribute__((always_inline)) void tile_of_weight(const int rows, const int32_t *g, const int32_t *x,
                                                                 int64_t pairs, float *into, int64_t c_in, int64_t left) {
    __m512 sum[ROWS][VECTORS];
    product(rows, g, 1, PANEL, x, pairs, sum);
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) {
            const __mmask16 lanes = lanes16(left - 16 * v);
            float *to = into + row * c_in + 16 * v;
            _mm512_mask_storeu_ps(to, lanes, _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to), sum[row][v]));
        }
}

#define BY_ROWS(rows, call)     \
    switch (rows) {             \
        case 1: call(1); break; \
        case 2: call(2); break; \
        case 3: call(3); break; \
        case 4: call(4); break; \
        case 5: call(5); break; \
        default: call(6);       \
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

static int64_t tiles(int64_t rows, int64_t columns) { return (rows + ROWS - 1) / ROWS * panels(columns); }

/* y = x times a matrix in panels, for the pixels of a block. */
static void multiply(const bfloat16 *x, const int32_t *packed, bfloat16 *y, int64_t pixels, int64_t c_in, int64_t c_out, Ahead next) {
    const int64_t stride = c_in / 2 * PANEL;
    for (int64_t column = 0; column < c_out; column += PANEL)
        for (int64_t pixel = 0; pixel < pixels; pixel += ROWS) {
            fetch(&next);
#define CALL(rows) tile(rows, x + pixel * c_in, c_in, packed + column / PANEL * stride, y + pixel * c_out + column, c_out, c_out - column)
            BY_ROWS(pixels - pixel, CALL)
#undef CALL
        }
}

/* dw += g^T x for the pixels of a block, both as panels of pairs of pixels. */
static void multiply_weight(const int32_t *g, const int32_t *x, float *dw, int64_t pairs, int64_t stride, int64_t c_in,
                            int64_t c_out, Ahead next) {
    for (int64_t top = 0; top < c_out; top += PANEL)
        for (int64_t column = 0; column < c_in; column += PANEL)
            for (int64_t row = 0; row < least(PANEL, c_out - top); row += ROWS) {
                fetch(&next);
#define CALL(rows) tile_of_weight(rows, g + top / PANEL * stride + row, x + column / PANEL * stride, pairs, \
                                  dw + (top + row) * c_in + column, c_in, c_in - column)
                BY_ROWS(least(PANEL, c_out - top) - row, CALL)
#undef CALL
            }
}

/* Mean and sum of squared distances from it, per channel of a block, from the distances to its first pixel. */
static void measure(const bfloat16 *y, int64_t pixels, int64_t channels, float *mean, float *squares) {
    const __m512 share = _mm512_set1_ps(1.0f / (float)pixels);
    for (int64_t c = 0; c < channels; c += PANEL) {
        __mmask16 lanes[VECTORS];
        __m512 origin[VECTORS], sum[VECTORS], square[VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            lanes[v] = lanes16(channels - c - 16 * v);
            origin[v] = wide(_mm256_maskz_loadu_epi16(lanes[v], y + c + 16 * v));
            sum[v] = square[v] = _mm512_setzero_ps();
        }
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            for (int v = 0; v < VECTORS; v++) {
                const bfloat16 *from = y + pixel * channels + c + 16 * v;
                const __m512 apart = _mm512_sub_ps(wide(_mm256_maskz_loadu_epi16(lanes[v], from)), origin[v]);
                sum[v] = _mm512_add_ps(sum[v], apart);
                square[v] = _mm512_fmadd_ps(apart, apart, square[v]);
            }
        for (int v = 0; v < VECTORS; v++) {
            const __m512 apart = _mm512_mul_ps(sum[v], share);
            _mm512_mask_storeu_ps(mean + c + 16 * v, lanes[v], _mm512_add_ps(origin[v], apart));
            _mm512_mask_storeu_ps(squares + c + 16 * v, lanes[v],
                                  _mm512_max_ps(_mm512_fnmadd_ps(sum[v], apart, square[v]), _mm512_setzero_ps()));
        }
    }
}

/* The gradient of a batch norm's input, from that behind the norm and its clamp: as `propagate` in kernels.c. */
static void propagate(const bfloat16 *gradient, const bfloat16 *z, bfloat16 *into, const float *table, const float *line,
                      float low, float high, int64_t pixels, int64_t channels) {
    const __m512 least_ = _mm512_set1_ps(low), most = _mm512_set1_ps(high);
    for (int64_t c = 0; c < channels; c += 32) {
        __mmask16 lanes[2];
        __m512 a[2], b[2], slope[2], offset[2];
        for (int v = 0; v < 2; v++) {
            const int64_t at = c + 16 * v;
            lanes[v] = lanes16(channels - at);
            a[v] = _mm512_maskz_loadu_ps(lanes[v], table + 2 * channels + at);
            b[v] = _mm512_maskz_loadu_ps(lanes[v], table + 3 * channels + at);
            slope[v] = _mm512_maskz_loadu_ps(lanes[v], line + at);
            offset[v] = _mm512_maskz_loadu_ps(lanes[v], line + channels + at);
        }
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            for (int v = 0; v < 2; v++) {
                const int64_t at = pixel * channels + c + 16 * v;
                const __m512 from = wide(_mm256_maskz_loadu_epi16(lanes[v], z + at));
                const __m512 g = wide(_mm256_maskz_loadu_epi16(lanes[v], gradient + at));
                const __m512 y = _mm512_fmadd_ps(a[v], from, b[v]);
                const __mmask16 stopped = _mm512_cmp_ps_mask(y, least_, _CMP_LE_OQ) | _mm512_cmp_ps_mask(y, most, _CMP_GE_OQ);
                const __m512 passed = _mm512_maskz_mov_ps((__mmask16)~stopped, g);
                const __m512 dz = _mm512_fmadd_ps(a[v], passed, _mm512_fmadd_ps(slope[v], from, offset[v]));
                _mm256_mask_storeu_epi16(into + at, lanes[v], (__m256i)_mm512_cvtneps_pbh(dz));
            }
    }
}

/* y = x w^T: x is pixels x c_in, w c_out x c_in, y pixels x c_out. `moments`, where given, gets for every block of `longest` pixels
   the mean and the sum of squared distances from it, c_out numbers each. */
int forward(const bfloat16 *x, const bfloat16 *w, bfloat16 *y, float *moments, int64_t longest, int64_t pixels, int64_t c_in,
            int64_t c_out, int threads) {
    const int64_t stride = c_in / 2 * PANEL;
    int32_t *packed = memory(4 * panels(c_out) * stride);
    if (!packed) return 1;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t panel = 0; panel < panels(c_out); panel++)
            transpose(w + panel * PANEL * c_in, least(PANEL, c_out - panel * PANEL), c_in, packed + panel * stride);
#pragma omp for schedule(static)
        for (int64_t first = 0; first < pixels; first += longest) {
            const int64_t own = least(longest, pixels - first), next = first + own, more = least(longest, pixels - next);
            multiply(x + first * c_in, packed, y + first * c_out, own, c_in, c_out,
                     ahead(x + next * c_in, NULL, more * c_in, tiles(own, c_out)));
            if (moments) {
                float *mean = moments + first / longest * 2 * c_out;
                measure(y + first * c_out, own, c_out, mean, mean + c_out);
            }
        }
    }
    free(packed);
    return 0;
}

/* dx = g w and dw = g^T x, either of them optional, in blocks of `longest` pixels, an even number; dw is summed over groups of
   `share` blocks first. Where `z` is given it is a batch norm's input, and g follows from the
   gradient behind the norm, its table and its line (see kernels.c). */
int backward(const bfloat16 *gradient, const bfloat16 *z, const float *table, const float *line, const bfloat16 *x,
             const bfloat16 *w, bfloat16 *dx, float *dw, double low, double high, int64_t longest, int64_t share, int64_t pixels,
             int64_t c_in, int64_t c_out, int threads) {
    const int64_t stride = (longest + 1) / 2 * PANEL, weights = c_in * c_out, blocks = (pixels + longest - 1) / longest;
    const int64_t groups = (blocks + share - 1) / share;
    int32_t *packed = dx ? memory(4 * panels(c_in) * c_out / 2 * PANEL) : NULL;
    float *partial = dw ? memory(4 * groups * weights) : NULL;
    int failed = (dx && !packed) || (dw && !partial);
    if (packed) interleave(w, c_out, c_in, packed, c_out / 2 * PANEL);
#pragma omp parallel num_threads(threads) if (!failed)
    {
        bfloat16 *made = memory(2 * longest * c_out);
        int32_t *g_pairs = memory(4 * panels(c_out) * stride), *x_pairs = memory(4 * panels(c_in) * stride);
        const int able = !failed && made && g_pairs && x_pairs;
        if (!able) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t group = 0; group < groups; group++) {
            if (!able) continue;
            float *sums = partial + group * weights;
            if (dw) memset(sums, 0, sizeof(float) * (size_t)weights);
            for (int64_t block = group * share; block < least(blocks, (group + 1) * share); block++) {
                const int64_t first = block * longest, own = least(longest, pixels - first), more = least(longest, pixels - first - own);
                const bfloat16 *g = gradient + first * c_out, *before = z ? z + first * c_out : NULL, *from = x + first * c_in;
                const Ahead next = ahead(g + own * c_out, z ? before + own * c_out : NULL, more * c_out,
                                         dw ? tiles(c_out, c_in) : tiles(own, c_in));
                if (z) {
                    propagate(g, before, made, table, line, (float)low, (float)high, own, c_out);
                    g = made;
                }
                if (dx) multiply(g, packed, dx + first * c_in, own, c_out, c_in, dw ? ahead(from, NULL, own * c_in, tiles(own, c_in)) : next);
                if (dw) {
                    interleave(g, own, c_out, g_pairs, stride);
                    interleave(from, own, c_in, x_pairs, stride);
                    multiply_weight(g_pairs, x_pairs, sums, (own + 1) / 2, stride, c_in, c_out, next);
                }
            }
        }
        free(made);
        free(g_pairs);
        free(x_pairs);
        if (dw && able) {
#pragma omp for schedule(static)
            for (int64_t row = 0; row < c_out; row++) {
                float *restrict to = dw + row * c_in;
                memcpy(to, partial + row * c_in, sizeof(float) * (size_t)c_in);
                for (int64_t group = 1; group < groups; group++) {
                    const float *restrict from = partial + group * weights + row * c_in;
                    for (int64_t i = 0; i < c_in; i++) to[i] += from[i];
                }
            }
        }
    }
    free(packed);
    free(partial);
    return failed;
}

#endif
