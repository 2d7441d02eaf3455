/* Batch norm in training with the activation and the sum around it, max pooling, the input gradient of a strided
   depthwise convolution, and the optimizer's step: passes over memory that a chain of single operators makes two or three times over.

   Tensors are dense with the channels innermost: `count` elements, element i belongs to channel i % channels. The same
   code is compiled for float and for bfloat16 storage; every sum is made in float within a block and in double between
   blocks, and the blocks do not depend on the number of threads, so neither do the bits.

   Compiled by kernels.py with the system's C compiler; without one, training uses the operators of torch. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint16_t bits; } bfloat16;

static inline float from_bfloat16(bfloat16 value) {
    uint32_t bits = (uint32_t)value.bits << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

static inline bfloat16 to_bfloat16(float value) { /* to nearest, ties to even, as torch rounds */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (bfloat16){(uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

static inline float same(float value) { return value; }

enum { PIECE = 1 << 14 }; /* elements that a thread takes at once where nothing is summed */
enum { BLOCK = 1 << 16, LANES = 256 }; /* elements of a block: two of them fit a core's cache; shortest inner loop */

/* Channels are few and vectors long: several pixels are taken for one row of `width(channels)` elements. */
static int64_t width(int64_t channels) { return channels * ((LANES + channels - 1) / channels); }

static float *widened(const float *table, int64_t lines, int64_t channels) { /* lines x channels -> lines x width */
    int64_t wide = width(channels);
    float *result = malloc(sizeof(float) * (size_t)(lines * wide));
    for (int64_t i = 0; result && i < lines * wide; i++) result[i] = table[i / wide * channels + i % wide % channels];
    return result;
}

static int64_t block_length(int64_t channels) { /* whole rows, at least one */
    int64_t wide = width(channels);
    return wide * (BLOCK > wide ? BLOCK / wide : 1);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* A step of SGD for tensors in turn, from gradients in bfloat16. `table` has a row of five per tensor: the addresses of its
   gradient, its weights, its velocity (0 without momentum) and the weights rounded, which is where the next forward pass reads them, and
   how many there are. The roundings are those of torch's fused kernel; `one` is 1, and keeps the compiler from merging two. */
int sgd_step(const int64_t *table, int64_t tensors, double rate_, double momentum_, double decay_, double one_, int64_t nesterov,
            int threads) {
    const float rate = (float)-rate_, momentum = (float)momentum_, decay = (float)decay_, one = (float)one_;
#pragma omp parallel num_threads(threads)
    for (int64_t tensor = 0; tensor < tensors; tensor++) {
        const int64_t *row = table + 5 * tensor, count = row[4];
#pragma omp for schedule(dynamic) nowait
        for (int64_t start = 0; start < count; start += PIECE) {
            const int64_t own = least(count - start, PIECE);
            const bfloat16 *restrict g = (const bfloat16 *)row[0] + start;
            float *restrict w = (float *)row[1] + start, *restrict v = row[2] ? (float *)row[2] + start : NULL;
            bfloat16 *restrict rounded = (bfloat16 *)row[3] + start;
            if (!v)
                for (int64_t i = 0; i < own; i++) {
                    w[i] = fmaf(fmaf(w[i], decay, from_bfloat16(g[i])), rate, w[i]);
                    rounded[i] = to_bfloat16(w[i]);
                }
            else
                for (int64_t i = 0; i < own; i++) {
                    const float down = fmaf(w[i], decay, from_bfloat16(g[i]));
                    v[i] = fmaf(down, one, v[i] * momentum);
                    w[i] = fmaf(nesterov ? fmaf(v[i], momentum, down) : v[i], rate, w[i]);
                    rounded[i] = to_bfloat16(w[i]);
                }
        }
    }
    return 0;
}

/* What batch norm needs of a batch, from mean and sum of squared distances of its blocks of `length` elements: `partial` is
   blocks x 2 x wide. They are joined by Chan's update into table = mean, 1 / sqrt(variance + eps), scale and shift, `channels`
   numbers each, and into the running statistics, where there are any. Every function returns 0, or 1 where there is no memory. */
int finalize_stats(const float *partial, const float *weight, const float *bias, float *running_mean, float *running_variance,
           float *table, double eps, double momentum, int64_t length, int64_t wide, int64_t count, int64_t channels, int threads) {
    const int64_t blocks = (count + length - 1) / length;
    double *wider = calloc((size_t)(2 * wide), sizeof(double));
    (void)threads; /* as every kernel is called */
    if (!wider) return 1;
    for (int64_t block = 0; block < blocks; block++) {
        const float *restrict centre = partial + 2 * block * wide;
        const int64_t own = least(count - block * length, length);
        for (int64_t i = 0; i < wide; i++) wider[i] += (double)(own / wide + (i < own % wide)) * centre[i];
    }
    const double seen = (double)(count / channels);
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t i = c; i < wide; i += channels) sum += wider[i];
        for (int64_t i = c; i < wide; i += channels) wider[i] = sum / seen;
    }
    for (int64_t block = 0; block < blocks; block++) {
        const float *restrict centre = partial + 2 * block * wide, *restrict squares = centre + wide;
        const int64_t own = least(count - block * length, length);
        for (int64_t i = 0; i < wide; i++) {
            const double apart = centre[i] - wider[i];
            wider[wide + i] += squares[i] + (double)(own / wide + (i < own % wide)) * apart * apart;
        }
    }
    for (int64_t c = 0; c < channels; c++) {
        const double centre = wider[c];
        double squares = 0;
        for (int64_t i = c; i < wide; i += channels) squares += wider[wide + i];
        const double inverse = 1 / sqrt(squares / seen + eps), scale = weight ? weight[c] * inverse : inverse;
        table[c] = (float)centre;
        table[channels + c] = (float)inverse;
        table[2 * channels + c] = (float)scale;
        table[3 * channels + c] = (float)((bias ? bias[c] : 0) - centre * scale);
        if (running_mean) running_mean[c] = (float)((1 - momentum) * running_mean[c] + momentum * centre);
        if (running_variance)
            running_variance[c] = (float)((1 - momentum) * running_variance[c] + momentum * squares / (seen - 1));
    }
    free(wider);
    return 0;
}

#define REAL bfloat16
#define LOAD from_bfloat16
#define STORE to_bfloat16
#define NAMED(name) name##_bfloat16
#include "kernels.c"
#undef REAL
#undef LOAD
#undef STORE
#undef NAMED
#define REAL float
#define LOAD same
#define STORE same
#define NAMED(name) name##_float32
#include "kernels.c"

#else

/* The same from the numbers themselves, in one reading: within a block from the distances to its first row. */
int NAMED(moments)(const REAL *x, const float *weight, const float *bias, float *running_mean, float *running_variance,
                   float *table, double eps, double momentum, int64_t count, int64_t channels, int threads) {
    const int64_t wide = width(channels), length = block_length(channels), blocks = (count + length - 1) / length;
    float *partial = malloc(sizeof(float) * (size_t)(3 * blocks * wide));
    if (!partial) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t turn = 0; turn < blocks; turn++) { /* from the end, which whoever wrote x has left in the cache */
        const int64_t block = blocks - 1 - turn, own = least(count - block * length, length), rows = own / wide;
        const REAL *from = x + block * length;
        float *restrict centre = partial + 2 * block * wide, *restrict squares = centre + wide;
        float *restrict origin = partial + (2 * blocks + block) * wide;
        memset(centre, 0, sizeof(float) * (size_t)(2 * wide));
        memset(origin, 0, sizeof(float) * (size_t)wide);
        for (int64_t i = 0; i < least(own, wide); i++) origin[i] = LOAD(from[i]);
        for (int64_t row = 0; row < own; row += wide) { /* one by one: reading several side by side takes twice as long */
            const int64_t end = least(own - row, wide);
            for (int64_t i = 0; i < end; i++) {
                const float apart = LOAD(from[row + i]) - origin[i];
                centre[i] += apart;
                squares[i] += apart * apart;
            }
        }
        for (int64_t i = 0; i < wide; i++) {
            const float seen = (float)(rows + (i < own % wide)), mean = seen > 0 ? centre[i] / seen : 0;
            squares[i] = fmaxf(squares[i] - centre[i] * mean, 0);
            centre[i] = origin[i] + mean;
        }
    }
    const int failed = finalize_stats(partial, weight, bias, running_mean, running_variance, table, eps, momentum, length, wide, count,
                              channels, threads);
    free(partial);
    return failed;
}

/* y = min(max(scale x + shift + other, low), high), `other` optional. */
int NAMED(apply)(const REAL *x, const REAL *other, REAL *y, const float *table, double low_, double high_, int64_t count,
                 int64_t channels, int threads) {
    const float low = (float)low_, high = (float)high_;
    const int64_t wide = width(channels), length = block_length(channels), blocks = (count + length - 1) / length;
    float *wider = widened(table + 2 * channels, 2, channels);
    if (wider) {
        const float *restrict a = wider, *restrict b = wider + wide;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t end = least(count, (block + 1) * length);
            for (int64_t row = block * length; row < end; row += wide) {
                const int64_t own = least(end - row, wide);
                const REAL *restrict from = x + row, *restrict add = other ? other + row : x;
                REAL *restrict to = y + row;
                if (other)
                    for (int64_t i = 0; i < own; i++) {
                        float value = a[i] * LOAD(from[i]) + b[i] + LOAD(add[i]);
                        value = value < low ? low : value;
                        to[i] = STORE(value > high ? high : value);
                    }
                else
                    for (int64_t i = 0; i < own; i++) {
                        float value = a[i] * LOAD(from[i]) + b[i];
                        value = value < low ? low : value;
                        to[i] = STORE(value > high ? high : value);
                    }
            }
        }
    }
    free(wider);
    return !wider;
}

/* The gradient that passes the clamp. */
#define PASSED(g, y) (((y) <= low) | ((y) >= high) ? 0.0f : (g))

/* First half of the gradient. From the sums of what passes the clamp and of that times (x - mean), per channel: the
   gradients of weight and bias in `affine`, and line = slope and offset of the second half. `y` and `passed` are given where another
   term was added before the clamp; its gradient is written to `passed`. There the gradient may come in two terms. */
int NAMED(bn_grad_affine)(const REAL *gradient, const REAL *second, const REAL *x, const REAL *y, REAL *passed,
                  const float *table, float *affine, float *line, double low_, double high_, int64_t count, int64_t channels,
                  int threads) {
    const float low = (float)low_, high = (float)high_, *mean = table, *inverse = table + channels;
    const float *scale = table + 2 * channels;
    const int64_t wide = width(channels), length = block_length(channels), blocks = (count + length - 1) / length;
    float *wider = widened(table, 4, channels), *partial = malloc(sizeof(float) * (size_t)(2 * blocks * wide));
    double *total = calloc((size_t)(2 * wide), sizeof(double));
    const int failed = !wider || !partial || !total;
    if (!failed) {
        const float *restrict centre = wider, *restrict a = wider + 2 * wide, *restrict b = wider + 3 * wide;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t turn = 0; turn < blocks; turn++) {
            const int64_t block = blocks - 1 - turn, end = least(count, (block + 1) * length);
            float *restrict sum = partial + 2 * block * wide, *restrict product = sum + wide;
            memset(sum, 0, sizeof(float) * (size_t)(2 * wide));
            for (int64_t row = block * length; row < end; row += wide) {
                const int64_t own = least(end - row, wide);
                const REAL *restrict g = gradient + row, *restrict from = x + row;
                if (passed) {
                    const REAL *restrict out = y + row;
                    REAL *restrict to = passed + row;
                    if (second) {
                        const REAL *restrict more = second + row;
                        for (int64_t i = 0; i < own; i++) {
                            const float value = PASSED(LOAD(g[i]) + LOAD(more[i]), LOAD(out[i]));
                            sum[i] += value;
                            product[i] += value * (LOAD(from[i]) - centre[i]);
                            to[i] = STORE(value);
                        }
                    } else
                        for (int64_t i = 0; i < own; i++) {
                            const float value = PASSED(LOAD(g[i]), LOAD(out[i]));
                            sum[i] += value;
                            product[i] += value * (LOAD(from[i]) - centre[i]);
                            to[i] = STORE(value);
                        }
                } else
                    for (int64_t i = 0; i < own; i++) {
                        const float at = LOAD(from[i]), value = PASSED(LOAD(g[i]), a[i] * at + b[i]);
                        sum[i] += value;
                        product[i] += value * (at - centre[i]);
                    }
            }
        }
        for (int64_t block = 0; block < blocks; block++)
            for (int64_t i = 0; i < 2 * wide; i++) total[i] += partial[2 * block * wide + i];
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0, product = 0;
            for (int64_t i = c; i < wide; i += channels) sum += total[i], product += total[wide + i];
            const double pixels = (double)(count / channels), normalised = product * inverse[c];
            affine[c] = (float)normalised;
            affine[channels + c] = (float)sum;
            line[c] = (float)(-scale[c] * inverse[c] * normalised / pixels);
            line[channels + c] = (float)(-scale[c] * sum / pixels - (double)line[c] * mean[c]);
        }
    }
    free(wider);
    free(partial);
    free(total);
    return failed;
}

/* Second half: dx = scale (what passes the clamp) + slope x + offset. */
int NAMED(bn_grad_input)(const REAL *gradient, const REAL *x, REAL *dx, const float *table, const float *line,
                     double low_, double high_, int64_t count, int64_t channels, int threads) {
    const float low = (float)low_, high = (float)high_;
    const int64_t wide = width(channels), length = block_length(channels), blocks = (count + length - 1) / length;
    float *wider = widened(table + 2 * channels, 2, channels), *longer = widened(line, 2, channels);
    const int failed = !wider || !longer;
    if (!failed) {
        const float *restrict a = wider, *restrict b = wider + wide, *restrict u = longer, *restrict v = longer + wide;
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t end = least(count, (block + 1) * length);
            for (int64_t row = block * length; row < end; row += wide) {
                const int64_t own = least(end - row, wide);
                const REAL *restrict g = gradient + row, *restrict from = x + row;
                REAL *restrict to = dx + row;
                for (int64_t i = 0; i < own; i++) {
                    const float at = LOAD(from[i]), value = PASSED(LOAD(g[i]), a[i] * at + b[i]);
                    to[i] = STORE(a[i] * value + u[i] * at + v[i]);
                }
            }
        }
    }
    free(wider);
    free(longer);
    return failed;
}

/* Maximum over windows: x is n x h x w x channels, y and `which` n x oh x ow x channels, `which` the place of the first
   largest in its window. What is not a number is larger than any. */
int NAMED(max_pool)(const REAL *x, REAL *y, uint8_t *which, int64_t n, int64_t h, int64_t w, int64_t oh, int64_t ow,
                    int64_t channels, int64_t kernel, int64_t stride, int64_t padding, int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *restrict best = malloc(sizeof(float) * (size_t)channels);
        int32_t *restrict place = malloc(sizeof(int32_t) * (size_t)channels);
        if (!best || !place) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t line = 0; line < n * oh; line++) {
            if (!best || !place) continue;
            const int64_t top = line % oh * stride - padding;
            for (int64_t oj = 0; oj < ow; oj++) {
                const int64_t left = oj * stride - padding;
                int first = 1;
                for (int64_t ki = top < 0 ? -top : 0; ki < kernel && top + ki < h; ki++)
                    for (int64_t kj = left < 0 ? -left : 0; kj < kernel && left + kj < w; kj++) {
                        const REAL *restrict from = x + ((line / oh * h + top + ki) * w + left + kj) * channels;
                        const int32_t here = (int32_t)(ki * kernel + kj);
                        if (first)
                            for (int64_t c = 0; c < channels; c++) best[c] = LOAD(from[c]), place[c] = here;
                        else
                            for (int64_t c = 0; c < channels; c++) {
                                const float value = LOAD(from[c]);
                                const int larger = (value > best[c]) | (value != value);
                                best[c] = larger ? value : best[c];
                                place[c] = larger ? here : place[c];
                            }
                        first = 0;
                    }
                REAL *restrict to = y + (line * ow + oj) * channels;
                uint8_t *restrict its = which + (line * ow + oj) * channels;
                for (int64_t c = 0; c < channels; c++) to[c] = STORE(best[c]), its[c] = (uint8_t)place[c];
            }
        }
        free(best);
        free(place);
    }
    return failed;
}

/* Gradient by the input of what slides windows over every channel by itself: of a depthwise convolution with `weight`, kernel x
   kernel x channels, or of a maximum with `which` of max_pool. gradient is n x oh x ow x channels, dx n x h x w x channels. */
int NAMED(gather)(const REAL *gradient, const float *weight, const uint8_t *which, REAL *dx, int64_t n, int64_t h, int64_t w,
                  int64_t oh, int64_t ow, int64_t channels, int64_t kernel, int64_t stride, int64_t padding, int threads) {
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *restrict sum = malloc(sizeof(float) * (size_t)channels);
        if (!sum) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t line = 0; line < n * h; line++) {
            if (!sum) continue;
            const int64_t picture = line / h, i = line % h;
            for (int64_t j = 0; j < w; j++) {
                memset(sum, 0, sizeof(float) * (size_t)channels);
                for (int64_t ki = (i + padding) % stride; ki < kernel && ki <= i + padding; ki += stride) {
                    const int64_t oi = (i + padding - ki) / stride;
                    if (oi >= oh) continue;
                    for (int64_t kj = (j + padding) % stride; kj < kernel && kj <= j + padding; kj += stride) {
                        const int64_t oj = (j + padding - kj) / stride, here = ki * kernel + kj;
                        if (oj >= ow) continue;
                        const int64_t at = ((picture * oh + oi) * ow + oj) * channels;
                        const REAL *restrict g = gradient + at;
                        if (which) {
                            const uint8_t *restrict its = which + at;
                            const uint8_t place = (uint8_t)here;
                            for (int64_t c = 0; c < channels; c++) sum[c] += its[c] == place ? LOAD(g[c]) : 0.0f;
                        } else {
                            const float *restrict k = weight + here * channels;
                            for (int64_t c = 0; c < channels; c++) sum[c] += LOAD(g[c]) * k[c];
                        }
                    }
                }
                REAL *restrict to = dx + (line * w + j) * channels;
                for (int64_t c = 0; c < channels; c++) to[c] = STORE(sum[c]);
            }
        }
        free(sum);
    }
    return failed;
}

#endif
