/* Log-softmax of logits and its gradient, for one element type: nothing of the logits' size exists in float32. */

/* total[n] = log sum_v e^logits[n][v], as torch has it: -inf where all are, inf where one is, nan where one is */
void NAME(logsumexp)(const ELEMENT *logits, float *total, int64_t rows, int64_t columns, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (PARALLEL(rows * columns)) schedule(static)
    for (int64_t at = 0; at < rows; at++) {
        const ELEMENT *row = logits + at * columns;
        float most = -INFINITY, sum = 0;
#pragma omp simd reduction(max : most)
        for (int64_t v = 0; v < columns; v++) most = LOAD(row[v]) > most ? LOAD(row[v]) : most;
        if (isinf(most)) { /* the exponential knows no positive number: what counts is whether one is nan */
#pragma omp simd reduction(+ : sum)
            for (int64_t v = 0; v < columns; v++) sum += LOAD(row[v]) != LOAD(row[v]);
            total[at] = sum > 0 ? NAN : most;
            continue;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t v = 0; v < columns; v++) sum += exponential(LOAD(row[v]) - most);
        total[at] = most + logf(sum);
    }
}

/* gradient[n][v] = upstream[n] ([v = token[n]] - e^(logits[n][v] - total[n])) */
void NAME(logprob_gradients)(const ELEMENT *logits, const float *total, const int64_t *token, const float *upstream,
                             ELEMENT *gradient, int64_t rows, int64_t columns, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (PARALLEL(rows * columns)) schedule(static)
    for (int64_t at = 0; at < rows; at++) {
        const ELEMENT *row = logits + at * columns;
        ELEMENT *made = gradient + at * columns;
        const float down = -upstream[at], less = total[at];
        for (int64_t v = 0; v < columns; v++) made[v] = STORE(exponential(LOAD(row[v]) - less) * down);
        made[token[at]] = STORE(upstream[at] + exponential(LOAD(row[token[at]]) - less) * down);
    }
}
