/* What stands between the matrix products of attention among siblings, for one element type: softmax over the prompt
 * and the row's own text, and its gradient. A row may look at all of `before` and at the first columns of `own`: of
 * `each` rows after one another every one is at the same place. The rest of `own` is written as 0 and never read. */

/* The columns of its own text that a row may look at, and a multiple of 16 of them: loops without a short rest. */
#define SEEN(row) ((row) / each + 1)
#define ROUNDED(columns) (((columns) + 15) / 16 * 16)

/* Rows are short: each step is done for so many of them before the next, as one row's steps wait for each other. */
#define TOGETHER 16

/* score = row, -inf from `seen` on, to a multiple of 16 */
static inline void NAME(spread)(const ELEMENT *row, int64_t seen, int64_t columns, float *score) {
    const int64_t whole = ROUNDED(seen), there = whole < columns ? whole : columns;
    for (int64_t l = 0; l < there; l++) score[l] = LOAD(row[l]);
    for (int64_t l = seen; l < whole; l++) score[l] = -INFINITY;
}

/* row = weight x scale, 0 from `seen` on */
static inline void NAME(settle)(const float *weight, float scale, int64_t seen, int64_t columns, ELEMENT *row) {
    const int64_t whole = ROUNDED(seen), there = whole < columns ? whole : columns;
    for (int64_t l = 0; l < there; l++) row[l] = STORE(weight[l] * scale);
    for (int64_t l = there; l < columns; l++) row[l] = 0;
}

/* Scores -> softmax weights in place: before (B, M, T Q, P), P may be 0, and own (B, M, T Q, T), one distribution for
 * both; hidden (B / K, P) is added to the scores, or NULL; scratch: threads x 16 x (P + T + 30) floats. */
void NAME(sibling_weights)(ELEMENT *before, ELEMENT *own, const float *hidden, float *scratch, int64_t batch,
                           int64_t shared, int64_t many, int64_t width, int64_t each, int64_t length, int64_t threads) {
    const int64_t rows = width * each, from = ROUNDED(length), size = from + ROUNDED(width);
#pragma omp parallel for num_threads(threads) if (PARALLEL(batch * many * rows * (length + width))) schedule(static)
    for (int64_t at = 0; at < batch * many; at++) {
        float *const scores = scratch + THREAD * TOGETHER * size, scale[TOGETHER];
        const float *added = hidden ? hidden + at / many / shared * length : NULL;
        for (int64_t start = 0; start < rows; start += TOGETHER) {
            const int64_t end = start + TOGETHER < rows ? start + TOGETHER : rows;
            float *score = scores;
            for (int64_t row = start; row < end; row++, score += size) {
                NAME(spread)(before + (at * rows + row) * length, length, length, score);
                if (added)
                    for (int64_t l = 0; l < length; l++) score[l] += added[l];
                NAME(spread)(own + (at * rows + row) * width, SEEN(row), width, score + from);
            }
            score = scores;
            for (int64_t row = start; row < end; row++, score += size)
                scale[row - start] = largest(score, from + ROUNDED(SEEN(row)));
            score = scores;
            for (int64_t row = start; row < end; row++, score += size)
                scale[row - start] = 1 / below(score, scale[row - start], from + ROUNDED(SEEN(row)));
            score = scores;
            for (int64_t row = start; row < end; row++, score += size) {
                NAME(settle)(score, scale[row - start], length, length, before + (at * rows + row) * length);
                NAME(settle)(score + from, scale[row - start], SEEN(row), width, own + (at * rows + row) * width);
            }
        }
    }
}

/* gradient = weight x (gradient - delta), 0 from `seen` on */
static inline void NAME(towards)(const ELEMENT *weight, float delta, int64_t seen, int64_t columns, ELEMENT *gradient) {
    const int64_t whole = ROUNDED(seen), there = whole < columns ? whole : columns;
    for (int64_t l = 0; l < there; l++) gradient[l] = STORE(LOAD(weight[l]) * (LOAD(gradient[l]) - delta));
    for (int64_t l = there; l < columns; l++) gradient[l] = 0;
}

/* Gradients of the weights -> those of the scores in place: weight x (gradient - sum_d upstream x out); weights before
 * and own as above, their gradients first and rest, upstream and out (B, M, T Q, D). */
void NAME(sibling_gradients)(const ELEMENT *before, const ELEMENT *own, ELEMENT *first, ELEMENT *rest,
                             const ELEMENT *upstream, const ELEMENT *out, int64_t batch, int64_t many, int64_t width,
                             int64_t each, int64_t length, int64_t features, int64_t threads) {
    const int64_t rows = width * each;
#pragma omp parallel for num_threads(threads) if (PARALLEL(batch * many * rows * (length + width))) schedule(static)
    for (int64_t at = 0; at < batch * many; at++)
        for (int64_t row = 0; row < rows; row++) {
            const int64_t place = at * rows + row;
            float delta = 0;
            for (int64_t d = 0; d < features; d++)
                delta += LOAD(upstream[place * features + d]) * LOAD(out[place * features + d]);
            NAME(towards)(before + place * length, delta, length, length, first + place * length);
            NAME(towards)(own + place * width, delta, SEEN(row), width, rest + place * width);
        }
}
#undef SEEN
#undef ROUNDED
#undef TOGETHER
