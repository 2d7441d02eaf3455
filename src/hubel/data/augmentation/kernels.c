/* Pictures shown through their matrices and coloured, or moved by whole pixels, in one reading of the stored bytes and one
   writing of the result.

   Stored: uint8, n x height x width x channels. Shown: float, n x high x wide x channels. A pixel is computed from its own
   row and column alone and sums are made row by row, so the bits do not depend on the number of threads.

   Compiled by compiled.py; without a compiler, the operators of torch do the same to within rounding. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE4_1__
#include <immintrin.h>
#endif

typedef float vector __attribute__((vector_size(16)));    /* a pixel: its channels, and lanes nobody reads */
typedef int32_t mask __attribute__((vector_size(16)));
typedef uint8_t quad __attribute__((vector_size(4)));
enum { FILL, REPEAT, REFLECT, MOST = 4 }; /* what is around a picture; most channels */

static inline vector widened(uint32_t bytes) {
#ifdef __SSE4_1__
    return _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128((int)bytes)));
#else
    quad each;
    memcpy(&each, &bytes, 4);
    return __builtin_convertvector(each, vector);
#endif
}

static inline vector four(const uint8_t *from) { /* reads up to three bytes of the next pixel */
    uint32_t bytes;
    memcpy(&bytes, from, 4);
    return widened(bytes);
}

static inline vector loaded(const uint8_t *from, const uint8_t *end, int channels) {
    uint32_t bytes = 0;
    memcpy(&bytes, from, from + 4 <= end ? 4 : (size_t)channels);
    return widened(bytes);
}

static inline vector floats(const float *from) {
    vector result;
    memcpy(&result, from, sizeof result);
    return result;
}

static inline void stored(float *to, vector value, int channels, int last) { /* a pixel's spare lanes fall into the next */
    if (last) memcpy(to, &value, sizeof(float) * (size_t)channels);
    else memcpy(to, &value, sizeof value);
}

static inline vector pixel_of(const float *from, int channels, int last) { /* spare lanes hold what comes next */
    vector result = {0};
    if (!last) return floats(from);
    memcpy(&result, from, sizeof(float) * (size_t)channels);
    return result;
}

static inline vector all(float value) { return (vector){value, value, value, value}; }

static inline vector chosen(mask which, vector yes, vector no) { return (vector)((which & (mask)yes) | (~which & (mask)no)); }

static inline vector smaller(vector a, vector b) { return chosen(a < b, a, b); }

static inline vector larger(vector a, vector b) { return chosen(a > b, a, b); }

/* The columns of a picture's colour matrix, and last its offset. */
typedef struct { vector column[MOST + 1]; } colours;

static inline vector coloured(const colours *matrix, vector pixel, int channels) {
    vector result = matrix->column[channels];
    for (int c = 0; c < channels; c++) result += matrix->column[c] * all(pixel[c]);
    return result;
}

static colours columns_of(const float *matrix, int channels) {
    colours result = {0};
    for (int row = 0; row < channels; row++)
        for (int c = 0; c <= channels; c++) result.column[c][row] = matrix[row * (channels + 1) + c];
    return result;
}

static inline int64_t bound(int64_t at, int64_t side) { return at < 0 ? 0 : at >= side ? side - 1 : at; }

/* A place between the pixels 0 .. side - 1 brought back into the picture, as torch's grid_sample does. */
static inline float inside(float at, int64_t side, int64_t edge) {
    if (edge == REFLECT) {
        const float span = (float)side;
        at = fabsf(at + 0.5f);
        const float turns = floorf(at / span), rest = at - turns * span;
        at = ((int64_t)turns & 1 ? span - rest : rest) - 0.5f;
    }
    if (edge != FILL) at = fminf(fmaxf(at, 0), (float)(side - 1));
    return at;
}

/* Between which two pixels a place lies, and how near to the second; OUT stands for the colour around the picture. */
typedef struct { int64_t first, second; float near; } place;
enum { OUT = -1 };

static inline place placed(float at, int64_t side, int64_t edge) {
    at = inside(at, side, edge);
    at = fminf(fmaxf(at, -2), (float)side + 1); /* further out is out as well */
    const float low = floorf(at);
    const int64_t first = (int64_t)low, second = first + 1;
    place result = {first, second, at - low};
    if (edge == FILL) {
        if (first < 0 || first >= side) result.first = OUT;
        if (second < 0 || second >= side) result.second = OUT;
    } else result.second = bound(second, side);
    return result;
}

typedef struct {
    const uint8_t *image, *end;
    const float *back; /* 2 x 3: from a shown column and row to the stored ones */
    int64_t height, width, high, wide, edge;
    vector fill;
    const colours *matrix;
} job;

static inline vector pixel_at(const job *j, int64_t row, int64_t column, int channels) {
    if (row == OUT || column == OUT) return j->fill;
    return loaded(j->image + (row * j->width + column) * channels, j->end, channels);
}

/* A row of the result where rows stay rows: the two stored rows are blended first, then the columns. */
static inline void straight_row(const job *j, int64_t row, const place *across, float *restrict blend, float *restrict to,
                                int channels) {
    const place down = placed(j->back[4] * (float)row + j->back[5], j->height, j->edge);
    const int64_t length = j->width * channels;
    if (down.first != OUT && down.second != OUT) {
        const uint8_t *restrict upper = j->image + down.first * length, *restrict lower = j->image + down.second * length;
        for (int64_t i = 0; i < length; i++) {
            const float a = upper[i], b = lower[i];
            blend[i] = a + down.near * (b - a);
        }
    } else
        for (int64_t i = 0; i < j->width; i++) {
            const vector a = pixel_at(j, down.first, i, channels), b = pixel_at(j, down.second, i, channels);
            stored(blend + i * channels, a + all(down.near) * (b - a), channels, 0);
        }
    for (int64_t i = 0; i < j->wide; i++) {
        const place p = across[i];
        const vector a = p.first == OUT ? j->fill : floats(blend + p.first * channels);
        const vector b = p.second == OUT ? j->fill : floats(blend + p.second * channels);
        vector value = a + all(p.near) * (b - a);
        if (j->matrix) value = coloured(j->matrix, value, channels);
        stored(to + i * channels, value, channels, i * channels + MOST > j->wide * channels);
    }
}

/* A row of the result where rows are slanted. */
static inline void slanted_row(const job *j, int64_t row, float *restrict to, int channels) {
    const float x_start = j->back[1] * (float)row + j->back[2], y_start = j->back[4] * (float)row + j->back[5];
    const float x_most = (float)(j->width - 1), y_most = (float)(j->height - 1);
    for (int64_t i = 0; i < j->wide; i++) {
        const float right = j->back[0] * (float)i + x_start, down = j->back[3] * (float)i + y_start;
        vector a, b, c, d;
        float across, along;
        const int within = right >= 0 && down >= 0 && right < x_most && down < y_most;
        const int64_t column = within ? (int64_t)right : 0, line = within ? (int64_t)down : 0;
        const uint8_t *from = j->image + (line * j->width + column) * channels, *next = from + j->width * channels;
        if (within && next + channels + 4 <= j->end) { /* all four pixels are in the picture, and a byte behind them */
            a = four(from), b = four(from + channels), c = four(next), d = four(next + channels);
            across = right - (float)column, along = down - (float)line;
        } else {
            const place x = placed(right, j->width, j->edge), y = placed(down, j->height, j->edge);
            a = pixel_at(j, y.first, x.first, channels), b = pixel_at(j, y.first, x.second, channels);
            c = pixel_at(j, y.second, x.first, channels), d = pixel_at(j, y.second, x.second, channels);
            across = x.near, along = y.near;
        }
        const vector top = a + all(across) * (b - a), low = c + all(across) * (d - c);
        vector value = top + all(along) * (low - top);
        if (j->matrix) value = coloured(j->matrix, value, channels);
        stored(to + i * channels, value, channels, i * channels + MOST > j->wide * channels);
    }
}

static inline void shown_rows(const job *j, int64_t from, int64_t to_row, float *out, const place *across, float *blend,
                              int channels) {
    for (int64_t row = from; row < to_row; row++) {
        float *to = out + row * j->wide * channels;
        if (across) straight_row(j, row, across, blend, to, channels);
        else slanted_row(j, row, to, channels);
    }
}

static inline void statistics_of(const float *rows, int64_t high, int64_t wide, int channels, float *mean, float *low,
                                 float *most) {
    double total[MOST] = {0};
    vector least = all(INFINITY), greatest = all(-INFINITY);
    for (int64_t row = 0; row < high; row++) {
        vector sum = {0};
        for (int64_t i = 0; i < wide; i++) {
            const vector value = pixel_of(rows + (row * wide + i) * channels, channels, i * channels + MOST > wide * channels);
            sum += value;
            least = smaller(value, least);
            greatest = larger(value, greatest);
        }
        for (int c = 0; c < channels; c++) total[c] += sum[c];
    }
    for (int c = 0; c < channels; c++) {
        mean[c] = (float)(total[c] / (double)(high * wide));
        low[c] = least[c];
        most[c] = greatest[c];
    }
}

/* out = every picture through its 2 x 3 matrix `back` (from a shown column and row to the stored ones), by bilinear
   interpolation, then through its colour matrix, channels x channels + 1; without one, mean, low and most of every channel
   are written too, n x channels each. Returns 1 where there is no memory. */
int show(const uint8_t *images, const float *back, const float *fill, const float *matrices, float *out, float *mean,
         float *low, float *most, int64_t n, int64_t height, int64_t width, int64_t channels, int64_t high, int64_t wide,
         int64_t edge, int threads) {
    const uint8_t *end = images + n * height * width * channels;
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        float *blend = malloc(sizeof(float) * (size_t)(width * channels + MOST));
        place *across = malloc(sizeof(place) * (size_t)wide);
        if (!blend || !across) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(static)
        for (int64_t picture = 0; picture < n; picture++) {
            if (!blend || !across) continue;
            job j = {images + picture * height * width * channels, end, back + 6 * picture, height, width, high, wide, edge,
                     {0}, NULL};
            for (int c = 0; c < channels; c++) j.fill[c] = fill[c];
            colours matrix;
            if (matrices) {
                matrix = columns_of(matrices + picture * channels * (channels + 1), (int)channels);
                j.matrix = &matrix;
            }
            const int straight = j.back[1] == 0 && j.back[3] == 0;
            for (int64_t i = 0; straight && i < wide; i++)
                across[i] = placed(j.back[0] * (float)i + j.back[2], width, edge);
            float *to = out + picture * high * wide * channels;
            const place *columns = straight ? across : NULL;
            if (channels == 3) shown_rows(&j, 0, high, to, columns, blend, 3);
            else if (channels == 1) shown_rows(&j, 0, high, to, columns, blend, 1);
            else shown_rows(&j, 0, high, to, columns, blend, (int)channels);
            if (mean) {
                const int64_t at = picture * channels;
                if (channels == 3) statistics_of(to, high, wide, 3, mean + at, low + at, most + at);
                else statistics_of(to, high, wide, (int)channels, mean + at, low + at, most + at);
            }
        }
        free(blend);
        free(across);
    }
    return failed;
}

static inline void tinted(float *rows, int64_t pixels, const colours *matrix, int channels) {
    for (int64_t i = 0; i < pixels; i++) {
        const vector value = pixel_of(rows + i * channels, channels, i * channels + MOST > pixels * channels);
        const vector result = coloured(matrix, value, channels);
        memcpy(rows + i * channels, &result, sizeof(float) * (size_t)channels); /* the next pixel is still to be read */
    }
}

/* rows = every pixel through its picture's colour matrix, in place. */
int tint(float *rows, const float *matrices, int64_t n, int64_t pixels, int64_t channels, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t picture = 0; picture < n; picture++) {
        const colours matrix = columns_of(matrices + picture * channels * (channels + 1), (int)channels);
        float *own = rows + picture * pixels * channels;
        if (channels == 3) tinted(own, pixels, &matrix, 3);
        else tinted(own, pixels, &matrix, (int)channels);
    }
    return 0;
}

/* Which of the pixels 0 .. side - 1 stands at a place, OUT for none. */
static inline int64_t whole(int64_t at, int64_t side, int64_t edge) {
    if (edge == REFLECT) at = side - 1 - llabs(side - 1 - llabs(at));
    return edge == FILL && (at < 0 || at >= side) ? OUT : bound(at, side);
}

static inline void gathered(const uint8_t *line, const int64_t *from, const uint8_t *fill, uint8_t *row, int64_t width, int channels) {
    for (int64_t i = 0; i < width; i++) {
        const uint8_t *pixel = line && from[i] != OUT ? line + from[i] * channels : fill;
        for (int c = 0; c < channels; c++) row[i * channels + c] = pixel[c];
    }
}

/* out = every picture mirrored, moved by whole pixels, and (value - mean) / deviation, per channel and in bytes: in one pass what
   indexing and normalising make, to the bit. `moves` has three numbers per picture: to the right, down, and whether it is
   mirrored. Returns 1 where there is no memory. */
int shift(const uint8_t *images, const int64_t *moves, const uint8_t *fill, const float *mean, const float *deviation, float *out,
          int64_t n, int64_t height, int64_t width, int64_t channels, int64_t edge, int threads) {
    const int64_t length = width * channels;
    int failed = 0;
#pragma omp parallel num_threads(threads)
    {
        uint8_t *restrict row = malloc((size_t)length);
        int64_t *from = malloc(sizeof(int64_t) * (size_t)width);
        float *restrict centre = malloc(sizeof(float) * (size_t)(2 * length)), *restrict spread = centre + length;
        if (!row || !from || !centre) {
#pragma omp atomic write
            failed = 1;
        } else
            for (int64_t i = 0; i < length; i++) centre[i] = mean[i % channels], spread[i] = deviation[i % channels];
#pragma omp for schedule(static)
        for (int64_t picture = 0; picture < n; picture++) {
            if (!row || !from || !centre) continue;
            const int64_t right = moves[3 * picture], down = moves[3 * picture + 1], mirrored = moves[3 * picture + 2];
            for (int64_t i = 0; i < width; i++) from[i] = whole(mirrored ? width - 1 - (i - right) : i - right, width, edge);
            for (int64_t i = 0; i < height; i++) {
                const int64_t at = whole(i - down, height, edge);
                const uint8_t *line = at == OUT ? NULL : images + (picture * height + at) * length;
                float *restrict to = out + (picture * height + i) * length;
                if (channels == 3) gathered(line, from, fill, row, width, 3);
                else gathered(line, from, fill, row, width, (int)channels);
                for (int64_t k = 0; k < length; k++) to[k] = ((float)row[k] - centre[k]) / spread[k];
            }
        }
        free(row);
        free(from);
        free(centre);
    }
    return failed;
}
