/* Numbers of one type, LANES at a time: reading, writing, products, activations. Included by native.c. */

#if TERMS == 2

static inline __m512 NAMED(load)(const REAL *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}

static inline void NAMED(store)(REAL *to, __m512 value) {
    const __m256bh rounded = _mm512_cvtneps_pbh(value);
    memcpy(to, &rounded, 32);
}

static inline REAL NAMED(rounded)(float value) { /* to nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (REAL)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline __m512bh NAMED(spread)(const REAL *from) {
    int both;
    memcpy(&both, from, 4);
    return (__m512bh)_mm512_set1_epi32(both);
}

static inline __m512bh NAMED(factors)(const void *from) { return (__m512bh)_mm512_loadu_si512(from); }

static inline __m512 NAMED(plus)(__m512 sum, __m512bh a, __m512bh b) { return _mm512_dpbf16_ps(sum, a, b); }

static inline __m512 NAMED(sigmoid)(__m512 x) { /* 1 / (1 + 2^t): relative error 2e-4; bfloat16 rounds by up to 4e-3 */
    const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)), whole = _mm512_roundscale_ps(t, 0),
                 rest = _mm512_sub_ps(t, whole);
    __m512 power = _mm512_fmadd_ps(rest, _mm512_set1_ps(0.05517167f), _mm512_set1_ps(0.24261114f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.69326099f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.99992807f));
    return _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(power, whole), _mm512_set1_ps(1)));
}

/* A line of the map, LANES channels of it, as pairs of neighbours between zeros. */
static void NAMED(line)(const REAL *from, int64_t channels, int64_t width, int64_t pad, LANE *to) {
    __m512i own = _mm512_setzero_si512();
    for (int64_t x = -1; x < width; x++, from += channels) {
        const __m512i next = x + 1 < width ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(from + channels)))
                                           : _mm512_setzero_si512();
        if (x + pad >= 0) _mm512_storeu_si512(to + (pad + x) * LANES, _mm512_or_si512(own, _mm512_slli_epi32(next, 16)));
        own = next;
    }
}

#else

static inline __m512 NAMED(load)(const REAL *from) { return _mm512_loadu_ps(from); }

static inline void NAMED(store)(REAL *to, __m512 value) { _mm512_storeu_ps(to, value); }

static inline REAL NAMED(rounded)(float value) { return value; }

static inline __m512 NAMED(spread)(const REAL *from) { return _mm512_set1_ps(*from); }

static inline __m512 NAMED(factors)(const void *from) { return _mm512_loadu_ps(from); }

static inline __m512 NAMED(plus)(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }

static inline __m512 NAMED(sigmoid)(__m512 x) { /* 1 / (1 + 2^t): relative error 3e-7 */
    const __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)), whole = _mm512_roundscale_ps(t, 0),
                 rest = _mm512_sub_ps(t, whole);
    __m512 power = _mm512_set1_ps(0.0013264728f);
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.0096715127f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.055507337f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.24022242f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(0.69314698f));
    power = _mm512_fmadd_ps(rest, power, _mm512_set1_ps(1));
    return _mm512_div_ps(_mm512_set1_ps(1), _mm512_add_ps(_mm512_scalef_ps(power, whole), _mm512_set1_ps(1)));
}

/* A line of the map, LANES channels of it, between zeros. */
static void NAMED(line)(const REAL *from, int64_t channels, int64_t width, int64_t pad, LANE *to) {
    for (int64_t x = 0; x < width; x++) _mm512_storeu_ps(to + (pad + x) * LANES, _mm512_loadu_ps(from + (x + 1) * channels));
}

#endif

static inline __attribute__((always_inline)) __m512 NAMED(activate)(int64_t activation, __m512 x) {
    const __m512 half = _mm512_fmadd_ps(x, _mm512_set1_ps(1.f / 6), _mm512_set1_ps(0.5f));
    switch (activation) {
    case RELU: return _mm512_max_ps(x, _mm512_setzero_ps());
    case RELU6: return clamp(x, 6);
    case SILU: return _mm512_mul_ps(x, NAMED(sigmoid)(x));
    case SIGMOID: return NAMED(sigmoid)(x);
    case HARDSWISH: return _mm512_mul_ps(x, clamp(half, 1));
    case HARDSIGMOID: return clamp(half, 1);
    default: return x;
    }
}
