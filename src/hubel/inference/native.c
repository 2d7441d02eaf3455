/* A network in bfloat16 as a list of steps, for processors with AVX512-BF16.

   A map lies as pixels x channels; channels are filled up with zeros to a multiple of LANES, so that no loop has a rest.
   Sums are made in float. Pictures are shared out among the threads whole; those that are left over are computed by all
   threads together, step by step. Which thread computes a number does not change it.

   Compiled by native.py with the system's C compiler; where the processor cannot, `run` returns 2 and another engine is taken. */

#include <stdint.h>

#if !defined(__AVX512BF16__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)

int able(void) { return 0; }

#else

#include <immintrin.h>
#include <omp.h>
#include <sched.h>
#include <string.h>

int able(void) { return 1; }

typedef uint16_t bfloat16;

enum { LANES = 16, ROWS = 8, VECTORS = 3, ACROSS = 7 }; /* of a tile of a product: pixels and vectors; of a depthwise line: pixels */
enum { PATIENCE = 4096 };                               /* looks at a meeting before the core is given away */
enum { CACHED = 1 << 18 };                              /* bytes of weights that stay beside the pixels in a core's cache */
enum { PICTURE, CONVOLUTION, DEPTHWISE, MAXIMUM, AVERAGE, MEAN, ADD, SCALE, AFFINE, ACTIVATE, COPY };
enum { IDENTITY, RELU, RELU6, SILU, SIGMOID, HARDSWISH, HARDSIGMOID };

/* One step: it reads `from` (and `other`), bytes into the arena, and writes `to`. Sizes are in pixels, `channels` of the map that
   is read and `out_channels` of the one that is written in elements, filled up; `length` elements of the input follow each other
   in memory for every tap of the kernel. native.py writes this very order. */
typedef struct {
    int64_t kind, activation, from, other, to, height, width, channels, out_height, out_width, out_channels, kernel_height,
        kernel_width, length, stride_height, stride_width, pad_height, pad_width, dilation_height, dilation_width, offset, plain;
    const void *weight;
    const float *bias;
} Step;

typedef struct { /* who computes a step, number `rank` of a team of `size` which shares one arena, and for whom */
    char *arena;
    int64_t rank, size, classes;
    const void *picture;
    float *logits; /* where the last step writes its `classes` numbers; NULL in the others */
} Worker;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t share(const Worker *worker, int64_t count, int64_t more) { return count * (worker->rank + more) / worker->size; }

static inline __m512 load(const bfloat16 *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}

static inline void store(bfloat16 *to, __m512 value) {
    const __m256bh rounded = _mm512_cvtneps_pbh(value);
    memcpy(to, &rounded, 32);
}

static inline __m512 sigmoid(__m512 x) { /* 1 / (1 + 2^t): relative error 2e-4; bfloat16 rounds by up to 4e-3 */
    const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)), whole = _mm512_roundscale_ps(t, 0), rest = _mm512_sub_ps(t, whole);
    __m512 power = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.05517167f), _mm512_set1_ps(0.24261114f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.69326099f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.99992807f));
    return _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(power, whole), _mm512_set1_ps(1)));
}

static inline __m512 clamp(__m512 x, float high) { return _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(high)); }

static inline __attribute__((always_inline)) __m512 activate(int64_t activation, __m512 x) {
    const __m512 half = _mm512_fmadd_ps(x, _mm512_set1_ps(1.f / 6), _mm512_set1_ps(0.5f));
    switch (activation) {
    case RELU: return _mm512_max_ps(x, _mm512_setzero_ps());
    case RELU6: return clamp(x, 6);
    case SILU: return _mm512_mul_ps(x, sigmoid(x));
    case SIGMOID: return sigmoid(x);
    case HARDSWISH: return _mm512_mul_ps(x, clamp(half, 1));
    case HARDSIGMOID: return clamp(half, 1);
    default: return x;
    }
}

static inline void answer(const Worker *worker, int64_t vector, __m512 value) { /* the logits of a vector of channels */
    const int64_t left = worker->classes - vector * LANES;
    _mm512_mask_storeu_ps(worker->logits + vector * LANES, (__mmask16)(left >= LANES ? 0xffff : (1 << most(left, 0)) - 1), value);
}

/* ------------------------------------------------------------------------------------------------------- convolution */

/* What becomes of R x V sums: the other term, the activation, rounding. Rows before `first` belong to an earlier tile, from `end` on to none. */
static inline __attribute__((always_inline)) void finish(const int R, const int V, int64_t activation, __m512 sum[ROWS][VECTORS],
                                                         const bfloat16 *other, bfloat16 *to, int64_t channels, int64_t first, int64_t end) {
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
        if (i < first || i >= end) continue;
#pragma GCC unroll 3
        for (int j = 0; j < V; j++) {
            const int64_t place = i * channels + j * LANES;
            const __m512 x = other ? _mm512_add_ps(sum[i][j], load(other + place)) : sum[i][j];
            store(to + place, activate(activation, x));
        }
    }
}

static int64_t depth(const Step *step) { return step->kernel_height * step->kernel_width * step->length; }

/* A tile of R pixels and V vectors of output channels: the sum over all taps and input channels, two of them at a time. */
static inline __attribute__((always_inline)) void tile(const int R, const int V, const Step *step, const Worker *worker,
                                                       const bfloat16 *const *rows, int64_t vector, int64_t pixel, int64_t first) {
    __m512 sum[ROWS][VECTORS];
    const bfloat16 *weight = (const bfloat16 *)step->weight + vector * LANES * depth(step);
#pragma GCC unroll 3
    for (int j = 0; j < V; j++) {
        const __m512 start = _mm512_loadu_ps(step->bias + (vector + j) * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < R; i++) sum[i][j] = start;
    }
    const int64_t taps = step->kernel_height * step->kernel_width, length = step->length;
    for (int64_t tap = 0; tap < taps; tap++) {
        const bfloat16 *row[ROWS];
#pragma GCC unroll 8
        for (int i = 0; i < R; i++) row[i] = rows[tap * ROWS + i];
        for (int64_t k = 0; k < length; k += 2) {
            __m512bh factor[VECTORS];
#pragma GCC unroll 3
            for (int j = 0; j < V; j++) factor[j] = (__m512bh)_mm512_loadu_si512(weight + 2 * j * LANES);
            weight += 2 * V * LANES;
#pragma GCC unroll 8
            for (int i = 0; i < R; i++) {
                int pair;
                memcpy(&pair, row[i] + k, 4);
                const __m512bh spread = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 3
                for (int j = 0; j < V; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], spread, factor[j]);
            }
        }
    }
    if (worker->logits) { /* of a map of one pixel */
        for (int j = 0; j < V; j++) answer(worker, vector + j, activate(step->activation, sum[0][j]));
        return;
    }
    const int64_t place = pixel * step->out_channels + vector * LANES, end = step->out_height * step->out_width - pixel;
    const bfloat16 *other = step->other < 0 ? 0 : (const bfloat16 *)(worker->arena + step->other) + place;
    bfloat16 *to = (bfloat16 *)(worker->arena + step->to) + place;
#define FINISH(activation) \
    case activation: finish(R, V, activation, sum, other, to, step->out_channels, first, end); break
    switch (step->activation) {
        FINISH(IDENTITY);
        FINISH(RELU);
        FINISH(RELU6);
        FINISH(SILU);
        FINISH(SIGMOID);
        FINISH(HARDSWISH);
        FINISH(HARDSIGMOID);
    }
}

/* Where the pixels of a tile begin, for every tap; outside the map lie zeros. */
static void find(const Step *step, const bfloat16 *from, const bfloat16 *zeros, int64_t pixel, int64_t rows, const bfloat16 **found) {
    if (step->plain) { /* every pixel by itself */
        for (int64_t i = 0; i < rows; i++) found[i] = pixel + i < step->height * step->width ? from + (pixel + i) * step->channels : zeros;
        return;
    }
    const int64_t down = step->dilation_height * step->width * step->channels, along = step->dilation_width * step->channels;
    const int64_t high = (step->kernel_height - 1) * step->dilation_height, wide = (step->kernel_width - 1) * step->dilation_width;
    int64_t row = pixel / step->out_width, column = pixel % step->out_width;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t top = row * step->stride_height - step->pad_height, left = column * step->stride_width - step->pad_width;
        const bfloat16 *corner = from + (top * step->width + left) * step->channels;
        const int whole = top >= 0 && top + high < step->height && left >= 0 && left + wide < step->width;
        for (int64_t tap = i, ky = 0; ky < step->kernel_height; ky++)
            for (int64_t kx = 0; kx < step->kernel_width; kx++, tap += ROWS) {
                const int64_t y = top + ky * step->dilation_height, x = left + kx * step->dilation_width;
                const int inside = whole || (y >= 0 && y < step->height && x >= 0 && x < step->width);
                found[tap] = inside ? corner + ky * down + kx * along : zeros;
            }
        if (++column == step->out_width) column = 0, row++;
    }
}

static void convolution(const Step *step, const Worker *worker) {
    const bfloat16 *from = (const bfloat16 *)(worker->arena + step->from), *zeros = (const bfloat16 *)worker->arena;
    const int64_t pixels = step->out_height * step->out_width, vectors = step->out_channels / LANES;
    const int64_t rows = pixels == 1 ? 1 : (pixels + 6) / 7 * 7 < (pixels + 7) / 8 * 8 ? 7 : 8;
    const int64_t tiles = (pixels + rows - 1) / rows, panels = (vectors + VECTORS - 1) / VECTORS, units = tiles * panels;
    const int64_t narrow = vectors / panels, wider = vectors % panels; /* vectors of a panel; panels with one more */
    const int by_panel = 2 * depth(step) * step->out_channels > CACHED;
    const int64_t inner = by_panel ? tiles : panels, end = share(worker, units, 1);
    const bfloat16 *found[step->kernel_height * step->kernel_width * ROWS];
    int64_t outer = share(worker, units, 0) / inner, turn = share(worker, units, 0) % inner, known = -1;
    for (int64_t unit = share(worker, units, 0); unit < end; unit++) {
        const int64_t panel = by_panel ? outer : turn, number = by_panel ? turn : outer;
        const int64_t vector = panel * narrow + least(panel, wider), wide = narrow + (panel < wider);
        const int64_t pixel = most(least(number * rows, pixels - rows), 0), first = number * rows - pixel;
        if (number != known) find(step, from, zeros, pixel, rows, found);
        known = number;
        if (++turn == inner) turn = 0, outer++;
#define TILE(R, V) \
    case 4 * R + V: tile(R, V, step, worker, found, vector, pixel, first); break
        switch (4 * rows + wide) {
            TILE(1, 1);
            TILE(1, 2);
            TILE(1, 3);
            TILE(7, 1);
            TILE(7, 2);
            TILE(7, 3);
            TILE(8, 1);
            TILE(8, 2);
            TILE(8, 3);
        }
    }
}

/* --------------------------------------------------------------------------------------------- depthwise convolution */

/* T outputs of a line from the lines around it. In these, pixel x stands together with pixel x + 1, so that one instruction
   takes two taps. */
static inline __attribute__((always_inline)) void across(const int64_t activation, const int T, const Step *step, const uint32_t *const *lines,
                                                         const uint32_t *weight, const float *bias, int64_t x, bfloat16 *to) {
    const int64_t stride = step->stride_width * LANES;
    __m512 sum[ACROSS];
#pragma GCC unroll 7
    for (int t = 0; t < T; t++) sum[t] = _mm512_loadu_ps(bias);
    for (int64_t ky = 0; ky < step->kernel_height; ky++) {
        const uint32_t *line = lines[ky] + x * stride;
        for (int64_t kx = 0; kx < step->kernel_width; kx += 2, weight += LANES, line += 2 * LANES) {
            const __m512bh factor = (__m512bh)_mm512_loadu_si512(weight);
#pragma GCC unroll 7
            for (int t = 0; t < T; t++) sum[t] = _mm512_dpbf16_ps(sum[t], (__m512bh)_mm512_loadu_si512(line + t * stride), factor);
        }
    }
#pragma GCC unroll 7
    for (int t = 0; t < T; t++) store(to + t * step->out_channels, activate(activation, sum[t]));
}

/* A line of the map, LANES channels of it, as pairs of neighbours between zeros. */
static void pairs(const bfloat16 *from, int64_t channels, int64_t width, int64_t pad, uint32_t *line) {
    __m512i own = _mm512_setzero_si512();
    for (int64_t x = -1; x < width; x++, from += channels) {
        const __m512i next = x + 1 < width ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + channels))) : _mm512_setzero_si512();
        if (x + pad >= 0) _mm512_storeu_si512(line + (pad + x) * LANES, _mm512_or_si512(own, _mm512_slli_epi32(next, 16)));
        own = next;
    }
}

static inline __attribute__((always_inline)) void along(const int64_t activation, const Step *step, const uint32_t *const *lines,
                                                        const uint32_t *weight, const float *bias, bfloat16 *to) {
    const int64_t width = step->out_width;
    if (width < ACROSS)
        for (int64_t x = 0; x < width; x++) across(activation, 1, step, lines, weight, bias, x, to + x * step->out_channels);
    else
        for (int64_t x = 0; x < width; x += ACROSS) {
            const int64_t start = least(x, width - ACROSS);
            across(activation, ACROSS, step, lines, weight, bias, start, to + start * step->out_channels);
        }
}

static void depthwise(const Step *step, const Worker *worker) {
    const int64_t height = step->kernel_height, span = (step->width + 2 * step->pad_width) * LANES, vectors = step->channels / LANES;
    const int64_t taps = height * ((step->kernel_width + 1) / 2), channels = step->channels; /* two of a line make one */
    const int64_t by_row = step->out_height >= 2 * height * worker->size; /* then few lines are converted twice */
    const int64_t top = by_row ? share(worker, step->out_height, 0) : 0, end = by_row ? share(worker, step->out_height, 1) : step->out_height;
    uint32_t ring[(height + 1) * span] __attribute__((aligned(64)));
    const uint32_t *lines[height];
    memset(ring, 0, sizeof ring); /* borders, and the last line, which stands for those above and below the map */
    for (int64_t vector = by_row ? 0 : share(worker, vectors, 0); vector < (by_row ? vectors : share(worker, vectors, 1)); vector++) {
        const bfloat16 *from = (const bfloat16 *)(worker->arena + step->from) + vector * LANES;
        const uint32_t *weight = (const uint32_t *)step->weight + vector * LANES * taps;
        const float *bias = step->bias + vector * LANES;
        int64_t next = 0;
        for (int64_t y = top; y < end; y++) {
            const int64_t begin = y * step->stride_height - step->pad_height;
            for (next = most(next, begin); next < begin + height; next++)
                if (next >= 0 && next < step->height)
                    pairs(from + (next * step->width - 1) * channels, channels, step->width, step->pad_width, ring + next % height * span);
            for (int64_t ky = 0; ky < height; ky++)
                lines[ky] = ring + (begin + ky < 0 || begin + ky >= step->height ? height : (begin + ky) % height) * span;
            bfloat16 *to = (bfloat16 *)(worker->arena + step->to) + y * step->out_width * channels + vector * LANES;
#define ALONG(activation) \
    case activation: along(activation, step, lines, weight, bias, to); break
            switch (step->activation) {
                ALONG(IDENTITY);
                ALONG(RELU);
                ALONG(RELU6);
                ALONG(SILU);
                ALONG(SIGMOID);
                ALONG(HARDSWISH);
                ALONG(HARDSIGMOID);
            }
        }
    }
}

/* ------------------------------------------------------------------------------------------------------ everything else */

static void pool(const Step *step, const Worker *worker) {
    const bfloat16 *from = (const bfloat16 *)(worker->arena + step->from);
    bfloat16 *to = (bfloat16 *)(worker->arena + step->to);
    const int maximum = step->kind == MAXIMUM;
    for (int64_t place = share(worker, step->out_height * step->out_width, 0); place < share(worker, step->out_height * step->out_width, 1); place++) {
        const int64_t top = place / step->out_width * step->stride_height - step->pad_height;
        const int64_t left = place % step->out_width * step->stride_width - step->pad_width;
        const int64_t bottom = least(top + step->kernel_height, step->height), right = least(left + step->kernel_width, step->width);
        const int64_t seen = (bottom - most(top, 0)) * (right - most(left, 0));
        const __m512 part = _mm512_set1_ps(1.f / (float)(step->offset ? step->kernel_height * step->kernel_width : seen));
        for (int64_t c = 0; c < step->channels; c += LANES) {
            __m512 sum = _mm512_set1_ps(maximum ? -__builtin_inff() : 0);
            for (int64_t y = most(top, 0); y < bottom; y++)
                for (int64_t x = most(left, 0); x < right; x++) {
                    const __m512 value = load(from + (y * step->width + x) * step->channels + c);
                    sum = maximum ? _mm512_max_ps(sum, value) : _mm512_add_ps(sum, value);
                }
            sum = maximum ? sum : _mm512_mul_ps(sum, part);
            store(to + place * step->channels + c, activate(step->activation, sum));
        }
    }
}

static void mean(const Step *step, const Worker *worker) { /* of every channel over the whole map */
    const int64_t pixels = step->height * step->width, vectors = step->channels / LANES;
    for (int64_t vector = share(worker, vectors, 0); vector < share(worker, vectors, 1); vector++) {
        const bfloat16 *from = (const bfloat16 *)(worker->arena + step->from) + vector * LANES;
        __m512 even = _mm512_setzero_ps(), odd = even;
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            const __m512 value = load(from + pixel * step->channels);
            if (pixel & 1) odd = _mm512_add_ps(odd, value);
            else even = _mm512_add_ps(even, value);
        }
        const __m512 result = _mm512_mul_ps(_mm512_add_ps(even, odd), _mm512_set1_ps(1.f / (float)pixels));
        const __m512 found = activate(step->activation, result);
        if (worker->logits) answer(worker, vector, found);
        else store((bfloat16 *)(worker->arena + step->to) + vector * LANES, found);
    }
}

/* ADD another map, SCALE by a number per channel, AFFINE: by a factor and a summand per channel, where there are any. */
static inline __attribute__((always_inline)) void each(const int64_t kind, const int64_t activation, const Step *step, const Worker *worker) {
    const int64_t channels = step->channels, pixels = step->height * step->width;
    const bfloat16 *from = (const bfloat16 *)(worker->arena + step->from), *other = (const bfloat16 *)(worker->arena + step->other);
    bfloat16 *to = (bfloat16 *)(worker->arena + step->to);
    const float *factor = step->weight;
    for (int64_t pixel = share(worker, pixels, 0); pixel < share(worker, pixels, 1); pixel++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t place = pixel * channels + c;
            __m512 x = load(from + place);
            if (kind == ADD) x = _mm512_add_ps(x, load(other + place));
            if (kind == SCALE) x = _mm512_mul_ps(x, load(other + c));
            if (kind == AFFINE) x = _mm512_fmadd_ps(x, _mm512_loadu_ps(factor + c), _mm512_loadu_ps(step->bias + c));
            store(to + place, activate(activation, x));
        }
}

static void elementwise(const Step *step, const Worker *worker) {
    const int64_t plain = step->activation == IDENTITY, relu = step->activation == RELU;
    switch (step->kind) {
    case ADD: relu ? each(ADD, RELU, step, worker) : each(ADD, step->activation, step, worker); break;
    case SCALE: plain ? each(SCALE, IDENTITY, step, worker) : each(SCALE, step->activation, step, worker); break;
    case AFFINE: relu ? each(AFFINE, RELU, step, worker) : each(AFFINE, step->activation, step, worker); break;
    default: each(ACTIVATE, step->activation, step, worker);
    }
}

/* `length` channels into a wider map, from channel `offset` on, and zeros after them. */
static void copy(const Step *step, const Worker *worker) {
    const int64_t pixels = step->height * step->width;
    const bfloat16 *from = (const bfloat16 *)(worker->arena + step->from);
    bfloat16 *to = (bfloat16 *)(worker->arena + step->to) + step->offset;
    for (int64_t pixel = share(worker, pixels, 0); pixel < share(worker, pixels, 1); pixel++) {
        memcpy(to + pixel * step->out_channels, from + pixel * step->channels, sizeof(bfloat16) * (size_t)step->length);
        memset(to + pixel * step->out_channels + step->length, 0, sizeof(bfloat16) * (size_t)step->pad_width);
    }
}

/* The picture, uint8 or float, with a factor and a summand per channel, into a map with its border of zeros. */
static void picture(const Step *step, const Worker *worker) {
    const int64_t height = step->height, width = step->width, colours = step->length, channels = step->out_channels;
    const int bytes = (int)step->offset; /* 1: uint8, height x width x colours; 4: float, colours x height x width */
    const float *factor = step->weight, *summand = step->bias;
    for (int64_t y = share(worker, step->out_height, 0); y < share(worker, step->out_height, 1); y++) {
        bfloat16 *to = (bfloat16 *)(worker->arena + step->to) + y * step->out_width * channels;
        memset(to, 0, sizeof(bfloat16) * (size_t)(step->out_width * channels));
        const int64_t own = y - step->pad_height;
        if (own < 0 || own >= height) continue;
        to += step->pad_width * channels;
        for (int64_t colour = 0; colour < colours; colour++)
            for (int64_t x = 0; x < width; x++) {
                const float value = bytes == 1 ? (float)((const uint8_t *)worker->picture)[(own * width + x) * colours + colour]
                                               : ((const float *)worker->picture)[(colour * height + own) * width + x];
                const float result = value * factor[colour] + summand[colour];
                uint32_t bits;
                memcpy(&bits, &result, 4);
                to[x * channels + colour] = (bfloat16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
            }
    }
}

static void perform(const Step *step, const Worker *worker) {
    switch (step->kind) {
    case PICTURE: picture(step, worker); break;
    case CONVOLUTION: convolution(step, worker); break;
    case DEPTHWISE: depthwise(step, worker); break;
    case MAXIMUM:
    case AVERAGE: pool(step, worker); break;
    case MEAN: mean(step, worker); break;
    case COPY: copy(step, worker); break;
    default: elementwise(step, worker);
    }
}

typedef struct { /* where a team waits for its last member; in turns of under a microsecond, a tenth of OpenMP's barrier */
    int64_t arrived __attribute__((aligned(64))), phase __attribute__((aligned(64)));
} Meeting;

static void meet(Meeting *meeting, int64_t team) {
    const int64_t phase = __atomic_load_n(&meeting->phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&meeting->arrived, 1, __ATOMIC_ACQ_REL) == team) {
        meeting->arrived = 0;
        __atomic_store_n(&meeting->phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int turn = 0; __atomic_load_n(&meeting->phase, __ATOMIC_ACQUIRE) == phase; turn++)
        if (turn < PATIENCE) _mm_pause();
        else sched_yield(); /* somebody else needs the core */
}

/* Logits, `pictures` x `classes`, of pictures of `bytes` each. The arena has `size` bytes for every thread; its first bytes stay
   zero, as many as the widest map has in a pixel. */
int run(const Step *steps, const char *input, float *logits, char *arena, int64_t count, int64_t pictures, int64_t bytes,
        int64_t classes, int64_t size, int threads) {
    int64_t next = 0; /* picture that nobody has begun */
    Meeting meeting = {0, 0};
#pragma omp parallel num_threads(threads)
    {
        const int64_t rank = omp_get_thread_num(), team = omp_get_num_threads(), whole = pictures / team * team;
        Worker worker = {arena + rank * size, 0, 1, classes, 0, 0};
        for (;;) {
            int64_t own;
#pragma omp atomic capture
            own = next++;
            if (own >= whole) break;
            worker.picture = input + own * bytes;
            for (int64_t i = 0; i < count; i++) {
                worker.logits = i + 1 < count ? 0 : logits + own * classes;
                perform(steps + i, &worker);
            }
        }
        meet(&meeting, team);
        worker = (Worker){arena, rank, team, classes, 0, 0};
        for (int64_t own = whole; own < pictures; own++) {
            worker.picture = input + own * bytes;
            for (int64_t i = 0; i < count; i++) {
                worker.logits = i + 1 < count ? 0 : logits + own * classes;
                perform(steps + i, &worker);
                meet(&meeting, team);
            }
        }
    }
    return 0;
}

#endif
