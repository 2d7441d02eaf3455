/* Convolutions, dense by tiles of pixels and output channels, depthwise line by line. Included by native.c. */

/* What becomes of R x V sums: the other term, the activation, rounding.
   Rows before `first` belong to an earlier tile, from `end` on to none. */
static inline __attribute__((always_inline)) void
    NAMED(finish)(const int R, const int V, int64_t activation, __m512 sum[ROWS][VECTORS], const REAL *other, REAL *to,
                   int64_t channels, int64_t first, int64_t end) {
#pragma GCC unroll 7
    for (int i = 0; i < R; i++) {
        if (i < first || i >= end) continue;
#pragma GCC unroll 3
        for (int j = 0; j < V; j++) {
            const int64_t place = i * channels + j * LANES;
            const __m512 x = other ? _mm512_add_ps(sum[i][j], NAMED(load)(other + place)) : sum[i][j];
            NAMED(store)(to + place, NAMED(activate)(activation, x));
        }
    }
}

/* A tile of R pixels and V vectors of output channels: the sum over all taps and input channels, TERMS of them at a time. */
static inline __attribute__((always_inline)) void
    NAMED(tile)(const int R, const int V, const Step *step, const Worker *worker, const REAL *const *rows, int64_t vector,
                 int64_t pixel, int64_t first) {
    __m512 sum[ROWS][VECTORS];
    const REAL *weight = (const REAL *)step->weight + vector * LANES * depth(step);
#pragma GCC unroll 3
    for (int j = 0; j < V; j++) {
        const __m512 start = _mm512_loadu_ps(step->bias + (vector + j) * LANES);
#pragma GCC unroll 7
        for (int i = 0; i < R; i++) sum[i][j] = start;
    }
    const int64_t taps = step->kernel_height * step->kernel_width, length = step->length;
    for (int64_t tap = 0; tap < taps; tap++) {
        const REAL *row[ROWS];
#pragma GCC unroll 7
        for (int i = 0; i < R; i++) row[i] = rows[tap * ROWS + i];
        for (int64_t k = 0; k < length; k += TERMS) {
            FACTOR factor[VECTORS];
#pragma GCC unroll 3
            for (int j = 0; j < V; j++) factor[j] = NAMED(factors)(weight + TERMS * j * LANES);
            weight += TERMS * V * LANES;
#pragma GCC unroll 7
            for (int i = 0; i < R; i++) {
                const FACTOR spread = NAMED(spread)(row[i] + k);
#pragma GCC unroll 3
                for (int j = 0; j < V; j++) sum[i][j] = NAMED(plus)(sum[i][j], spread, factor[j]);
            }
        }
    }
    if (worker->logits) { /* of a map of one pixel */
        for (int j = 0; j < V; j++) answer(worker, vector + j, NAMED(activate)(step->activation, sum[0][j]));
        return;
    }
    const int64_t place = pixel * step->out_channels + vector * LANES, end = step->out_height * step->out_width - pixel;
    const REAL *other = step->other < 0 ? 0 : (const REAL *)(worker->arena + step->other) + place;
    REAL *to = (REAL *)(worker->arena + step->to) + place;
#define FINISH(activation) \
    case activation: NAMED(finish)(R, V, activation, sum, other, to, step->out_channels, first, end); break
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
static void NAMED(find)(const Step *step, const REAL *from, const REAL *zeros, int64_t pixel, int64_t rows, const REAL **found) {
    if (step->plain) { /* every pixel by itself */
        for (int64_t i = 0; i < rows; i++)
            found[i] = pixel + i < step->height * step->width ? from + (pixel + i) * step->channels : zeros;
        return;
    }
    const int64_t down = step->dilation_height * step->width * step->channels, along = step->dilation_width * step->channels;
    const int64_t high = (step->kernel_height - 1) * step->dilation_height,
                  wide = (step->kernel_width - 1) * step->dilation_width;
    int64_t row = pixel / step->out_width, column = pixel % step->out_width;
    const int64_t taps = step->kernel_height * step->kernel_width, right = step->stride_width * step->channels;
    int before = 0; /* whether the window of the pixel to the left, in the same row, lies within the map */
    for (int64_t i = 0; i < rows; i++) {
        const int64_t top = row * step->stride_height - step->pad_height, left = column * step->stride_width - step->pad_width;
        const REAL *corner = from + (top * step->width + left) * step->channels;
        const int whole = top >= 0 && top + high < step->height && left >= 0 && left + wide < step->width;
        if (before && whole)
            for (int64_t tap = 0; tap < taps; tap++) found[tap * ROWS + i] = found[tap * ROWS + i - 1] + right;
        else
            for (int64_t tap = i, ky = 0; ky < step->kernel_height; ky++)
                for (int64_t kx = 0; kx < step->kernel_width; kx++, tap += ROWS) {
                    const int64_t y = top + ky * step->dilation_height, x = left + kx * step->dilation_width;
                    const int inside = whole || (y >= 0 && y < step->height && x >= 0 && x < step->width);
                    found[tap] = inside ? corner + ky * down + kx * along : zeros;
                }
        before = whole && column + 1 < step->out_width;
        if (++column == step->out_width) column = 0, row++;
    }
}

static void NAMED(convolution)(const Step *step, const Worker *worker) {
    const REAL *from = (const REAL *)(worker->arena + step->from), *zeros = (const REAL *)worker->arena;
    const int64_t pixels = step->out_height * step->out_width, vectors = step->out_channels / LANES;
    const int64_t rows = pixels == 1 ? 1 : ROWS;
    const int64_t tiles = (pixels + rows - 1) / rows, panels = (vectors + VECTORS - 1) / VECTORS, units = tiles * panels;
    const int64_t narrow = vectors / panels, wider = vectors % panels; /* vectors of a panel; panels with one more */
    const int by_panel = (int64_t)sizeof(REAL) * depth(step) * step->out_channels > CACHED;
    const int64_t inner = by_panel ? tiles : panels, end = share(worker, units, 1);
    const REAL *found[step->kernel_height * step->kernel_width * ROWS];
    int64_t outer = share(worker, units, 0) / inner, turn = share(worker, units, 0) % inner, known = -1;
    for (int64_t unit = share(worker, units, 0); unit < end; unit++) {
        const int64_t panel = by_panel ? outer : turn, number = by_panel ? turn : outer;
        const int64_t vector = panel * narrow + least(panel, wider), wide = narrow + (panel < wider);
        const int64_t pixel = most(least(number * rows, pixels - rows), 0), first = number * rows - pixel;
        if (number != known) NAMED(find)(step, from, zeros, pixel, rows, found);
        known = number;
        if (++turn == inner) turn = 0, outer++;
#define TILE(R, V) \
    case 4 * R + V: NAMED(tile)(R, V, step, worker, found, vector, pixel, first); break
        switch (4 * rows + wide) {
            TILE(1, 1);
            TILE(1, 2);
            TILE(1, 3);
            TILE(ROWS, 1);
            TILE(ROWS, 2);
            TILE(ROWS, 3);
        }
    }
}

/* T outputs of a line from the lines around it. TERMS taps are taken at a time. */
static inline __attribute__((always_inline)) void
    NAMED(across)(const int64_t activation, const int T, const Step *step, const LANE *const *lines, const LANE *weight,
                   const float *bias, int64_t x, REAL *to) {
    const int64_t stride = step->stride_width * LANES;
    __m512 sum[ROWS];
#pragma GCC unroll 7
    for (int t = 0; t < T; t++) sum[t] = _mm512_loadu_ps(bias);
    for (int64_t ky = 0; ky < step->kernel_height; ky++) {
        const LANE *line = lines[ky] + x * stride;
        for (int64_t kx = 0; kx < step->kernel_width; kx += TERMS, weight += LANES, line += TERMS * LANES) {
            const FACTOR factor = NAMED(factors)(weight);
#pragma GCC unroll 7
            for (int t = 0; t < T; t++) sum[t] = NAMED(plus)(sum[t], NAMED(factors)(line + t * stride), factor);
        }
    }
#pragma GCC unroll 7
    for (int t = 0; t < T; t++) NAMED(store)(to + t * step->out_channels, NAMED(activate)(activation, sum[t]));
}

static inline __attribute__((always_inline)) void
    NAMED(along)(const int64_t activation, const Step *step, const LANE *const *lines, const LANE *weight, const float *bias,
                  REAL *to) {
    const int64_t width = step->out_width;
    if (width < ROWS)
        for (int64_t x = 0; x < width; x++) NAMED(across)(activation, 1, step, lines, weight, bias, x, to + x * step->out_channels);
    else
        for (int64_t x = 0; x < width; x += ROWS) {
            const int64_t start = least(x, width - ROWS);
            NAMED(across)(activation, ROWS, step, lines, weight, bias, start, to + start * step->out_channels);
        }
}

static void NAMED(depthwise)(const Step *step, const Worker *worker) {
    const int64_t height = step->kernel_height, span = (step->width + 2 * step->pad_width) * LANES,
                  vectors = step->channels / LANES;
    const int64_t taps = height * ((step->kernel_width + TERMS - 1) / TERMS), channels = step->channels;
    const int64_t by_row = step->out_height >= 2 * height * worker->size; /* then few lines are converted twice */
    const int64_t top = by_row ? share(worker, step->out_height, 0) : 0,
                  end = by_row ? share(worker, step->out_height, 1) : step->out_height;
    LANE ring[(height + 1) * span] __attribute__((aligned(64)));
    const LANE *lines[height];
    memset(ring, 0, sizeof ring); /* borders, and the last line, which stands for those above and below the map */
    for (int64_t vector = by_row ? 0 : share(worker, vectors, 0); vector < (by_row ? vectors : share(worker, vectors, 1));
         vector++) {
        const REAL *from = (const REAL *)(worker->arena + step->from) + vector * LANES;
        const LANE *weight = (const LANE *)step->weight + vector * LANES * taps;
        const float *bias = step->bias + vector * LANES;
        int64_t next = 0;
        for (int64_t y = top; y < end; y++) {
            const int64_t begin = y * step->stride_height - step->pad_height;
            for (next = most(next, begin); next < begin + height; next++)
                if (next >= 0 && next < step->height)
                    NAMED(line)(from + (next * step->width - 1) * channels, channels, step->width, step->pad_width,
                                ring + next % height * span);
            for (int64_t ky = 0; ky < height; ky++)
                lines[ky] = ring + (begin + ky < 0 || begin + ky >= step->height ? height : (begin + ky) % height) * span;
            REAL *to = (REAL *)(worker->arena + step->to) + y * step->out_width * channels + vector * LANES;
#define ALONG(activation) \
    case activation: NAMED(along)(activation, step, lines, weight, bias, to); break
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
