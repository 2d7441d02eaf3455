/* A network as a list of steps, in bfloat16 for processors with AVX512-BF16, in float for those with AVX512.

   A map lies as pixels x channels; channels are filled up with zeros to a multiple of LANES, so that no loop has a rest.
   Sums are made in float. Pictures are shared out among the threads whole; those that are left over are computed by all
   threads together, step by step. Which thread computes a number does not change it.

   Compiled by native.py with the system's C compiler, the second half once for each type of number; what a processor cannot do
   is not there, and another engine is taken. */

#ifndef REAL

#include <stdint.h>

#if defined(PORTABLE) || (defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__))

#ifdef PORTABLE
#include "avx512.h"
#else
#include <immintrin.h>
#endif
#include <omp.h>
#include <sched.h>
#include <string.h>

enum { LANES = 16, ROWS = 7, VECTORS = 3 }; /* of a tile of a product: pixels and vectors of channels; 7 divides 224's maps */
enum { CACHED = 1 << 18 };                  /* bytes of weights that stay beside the pixels in a core's cache */
enum { PATIENCE = 4096 };                   /* looks at a meeting before the core is given away */
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

static inline void answer(const Worker *worker, int64_t vector, __m512 value) { /* the logits of a vector of channels */
    const int64_t left = worker->classes - vector * LANES;
    _mm512_mask_storeu_ps(worker->logits + vector * LANES, (__mmask16)(left >= LANES ? 0xffff : (1 << most(left, 0)) - 1), value);
}

static inline __m512 clamp(__m512 x, float high) {
    return _mm512_min_ps(_mm512_max_ps(x, _mm512_setzero_ps()), _mm512_set1_ps(high));
}

static int64_t depth(const Step *step) { return step->kernel_height * step->kernel_width * step->length; }

typedef struct { /* where a team waits for its last member; OpenMP's barrier takes 8 % longer for all of EfficientNet-B0 */
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
        if (turn < PATIENCE)
            _mm_pause();
        else
            sched_yield(); /* somebody else needs the core */
}

#if defined(PORTABLE) || defined(__AVX512BF16__)
#define REAL uint16_t
#define LANE uint32_t /* of a depthwise line: a number and its neighbour */
#define TERMS 2       /* of a product's sum, in one instruction */
#define FACTOR __m512bh
#define NAMED(name) name##_bfloat16
#include "native.c"
#undef REAL
#undef LANE
#undef TERMS
#undef FACTOR
#undef NAMED
#endif
#define REAL float
#define LANE float
#define TERMS 1
#define FACTOR __m512
#define NAMED(name) name##_float32
#include "native.c"

#endif

#else /* for each type of number */

#include "native_numbers.h"

#include "native_convolution.h"
#include "native_maps.h"

static void NAMED(perform)(const Step *step, const Worker *worker) {
    switch (step->kind) {
    case PICTURE: NAMED(picture)(step, worker); break;
    case CONVOLUTION: NAMED(convolution)(step, worker); break;
    case DEPTHWISE: NAMED(depthwise)(step, worker); break;
    case MAXIMUM:
    case AVERAGE: NAMED(pool)(step, worker); break;
    case MEAN: NAMED(mean)(step, worker); break;
    case COPY: NAMED(copy)(step, worker); break;
    default: NAMED(elementwise)(step, worker);
    }
}

/* Logits, `pictures` x `classes`, of pictures of `bytes` each. The arena has `size` bytes for every thread; its first bytes stay
   zero, as many as the widest map has in a pixel. */
int NAMED(run)(const Step *steps, const char *input, float *logits, char *arena, int64_t count, int64_t pictures, int64_t bytes,
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
                NAMED(perform)(steps + i, &worker);
            }
        }
        meet(&meeting, team);
        worker = (Worker){arena, rank, team, classes, 0, 0};
        for (int64_t own = whole; own < pictures; own++) {
            worker.picture = input + own * bytes;
            for (int64_t i = 0; i < count; i++) {
                worker.logits = i + 1 < count ? 0 : logits + own * classes;
                NAMED(perform)(steps + i, &worker);
                meet(&meeting, team);
            }
        }
    }
    return 0;
}

#endif
