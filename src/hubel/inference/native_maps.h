/* Steps that are no convolution. Included by native.c. */

static void NAMED(pool)(const Step *step, const Worker *worker) {
    const REAL *from = (const REAL *)(worker->arena + step->from);
    REAL *to = (REAL *)(worker->arena + step->to);
    const int maximum = step->kind == MAXIMUM;
    for (int64_t place = share(worker, step->out_height * step->out_width, 0);
         place < share(worker, step->out_height * step->out_width, 1); place++) {
        const int64_t top = place / step->out_width * step->stride_height - step->pad_height;
        const int64_t left = place % step->out_width * step->stride_width - step->pad_width;
        const int64_t bottom = least(top + step->kernel_height, step->height),
                      right = least(left + step->kernel_width, step->width);
        const int64_t seen = (bottom - most(top, 0)) * (right - most(left, 0));
        const __m512 part = _mm512_set1_ps(1.f / (float)(step->offset ? step->kernel_height * step->kernel_width : seen));
        for (int64_t c = 0; c < step->channels; c += LANES) {
            __m512 sum = _mm512_set1_ps(maximum ? -__builtin_inff() : 0);
            for (int64_t y = most(top, 0); y < bottom; y++)
                for (int64_t x = most(left, 0); x < right; x++) {
                    const __m512 value = NAMED(load)(from + (y * step->width + x) * step->channels + c);
                    sum = maximum ? _mm512_max_ps(sum, value) : _mm512_add_ps(sum, value);
                }
            sum = maximum ? sum : _mm512_mul_ps(sum, part);
            NAMED(store)(to + place * step->channels + c, NAMED(activate)(step->activation, sum));
        }
    }
}

static void NAMED(mean)(const Step *step, const Worker *worker) { /* of every channel over the whole map */
    const int64_t pixels = step->height * step->width, vectors = step->channels / LANES;
    for (int64_t vector = share(worker, vectors, 0); vector < share(worker, vectors, 1); vector++) {
        const REAL *from = (const REAL *)(worker->arena + step->from) + vector * LANES;
        __m512 even = _mm512_setzero_ps(), odd = even;
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            const __m512 value = NAMED(load)(from + pixel * step->channels);
            if (pixel & 1)
                odd = _mm512_add_ps(odd, value);
            else
                even = _mm512_add_ps(even, value);
        }
        const __m512 result = _mm512_mul_ps(_mm512_add_ps(even, odd), _mm512_set1_ps(1.f / (float)pixels));
        const __m512 found = NAMED(activate)(step->activation, result);
        if (worker->logits)
            answer(worker, vector, found);
        else NAMED(store)((REAL *)(worker->arena + step->to) + vector * LANES, found);
    }
}

/* ADD another map, SCALE by a number per channel, AFFINE: by a factor and a summand per channel, where there are any. */
static inline __attribute__((always_inline)) void
    NAMED(each)(const int64_t kind, const int64_t activation, const Step *step, const Worker *worker) {
    const int64_t channels = step->channels, pixels = step->height * step->width;
    const REAL *from = (const REAL *)(worker->arena + step->from), *other = (const REAL *)(worker->arena + step->other);
    REAL *to = (REAL *)(worker->arena + step->to);
    const float *factor = step->weight;
    for (int64_t pixel = share(worker, pixels, 0); pixel < share(worker, pixels, 1); pixel++)
        for (int64_t c = 0; c < channels; c += LANES) {
            const int64_t place = pixel * channels + c;
            __m512 x = NAMED(load)(from + place);
            if (kind == ADD) x = _mm512_add_ps(x, NAMED(load)(other + place));
            if (kind == SCALE) x = _mm512_mul_ps(x, NAMED(load)(other + c));
            if (kind == AFFINE) x = _mm512_fmadd_ps(x, _mm512_loadu_ps(factor + c), _mm512_loadu_ps(step->bias + c));
            NAMED(store)(to + place, NAMED(activate)(activation, x));
        }
}

static void NAMED(elementwise)(const Step *step, const Worker *worker) {
    const int64_t plain = step->activation == IDENTITY, relu = step->activation == RELU;
    switch (step->kind) {
    case ADD: relu ? NAMED(each)(ADD, RELU, step, worker) : NAMED(each)(ADD, step->activation, step, worker); break;
    case SCALE: plain ? NAMED(each)(SCALE, IDENTITY, step, worker) : NAMED(each)(SCALE, step->activation, step, worker); break;
    case AFFINE: relu ? NAMED(each)(AFFINE, RELU, step, worker) : NAMED(each)(AFFINE, step->activation, step, worker); break;
    default: NAMED(each)(ACTIVATE, step->activation, step, worker);
    }
}

/* `length` channels into a wider map, from channel `offset` on, with `pad_height` zeros before them and `pad_width` after. */
static void NAMED(copy)(const Step *step, const Worker *worker) {
    const int64_t pixels = step->height * step->width;
    const REAL *from = (const REAL *)(worker->arena + step->from);
    REAL *to = (REAL *)(worker->arena + step->to) + step->offset;
    for (int64_t pixel = share(worker, pixels, 0); pixel < share(worker, pixels, 1); pixel++) {
        memcpy(to + pixel * step->out_channels, from + pixel * step->channels, sizeof(REAL) * (size_t)step->length);
        memset(to + pixel * step->out_channels - step->pad_height, 0, sizeof(REAL) * (size_t)step->pad_height);
        memset(to + pixel * step->out_channels + step->length, 0, sizeof(REAL) * (size_t)step->pad_width);
    }
}

/* The picture, uint8 or float, with a factor and a summand per channel, into a map with its border of zeros. */
static void NAMED(picture)(const Step *step, const Worker *worker) {
    const int64_t height = step->height, width = step->width, colours = step->length, channels = step->out_channels;
    const int bytes = (int)step->offset; /* 1: uint8, height x width x colours; 4: float, colours x height x width */
    const float *factor = step->weight, *summand = step->bias;
    for (int64_t y = share(worker, step->out_height, 0); y < share(worker, step->out_height, 1); y++) {
        REAL *to = (REAL *)(worker->arena + step->to) + y * step->out_width * channels;
        memset(to, 0, sizeof(REAL) * (size_t)(step->out_width * channels));
        const int64_t own = y - step->pad_height;
        if (own < 0 || own >= height) continue;
        to += step->pad_width * channels;
        for (int64_t colour = 0; colour < colours; colour++)
            for (int64_t x = 0; x < width; x++) {
                const float value = bytes == 1 ? (float)((const uint8_t *)worker->picture)[(own * width + x) * colours + colour]
                                               : ((const float *)worker->picture)[(colour * height + own) * width + x];
                to[x * channels + colour] = NAMED(rounded)(value * factor[colour] + summand[colour]);
            }
    }
}
