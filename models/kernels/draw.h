/* The next token of every row by the inverse of the cumulative distribution, and its log-probability. */

/* logits (B, V), chance (B) in [0, 1), `inverse` of the temperature; token (B), logprob (B) at temperature 1; scratch:
 * threads x V floats. The token is the first whose cumulated weight exceeds chance x total, so that one of weight 0 is
 * never drawn; where logits are nan it is the last. Sixty-four weights are added at a time: a sum of one after the other
 * would wait for each. */
void NAME(draw)(const ELEMENT *logits, const float *chance, int64_t *token, float *logprob, float *scratch, int64_t rows,
                int64_t words, float inverse, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (PARALLEL(rows * words)) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const ELEMENT *logit = logits + row * words;
        float *weight = scratch + THREAD * words, most = -INFINITY, total = 0;
#pragma omp simd reduction(max : most)
        for (int64_t v = 0; v < words; v++) most = LOAD(logit[v]) > most ? LOAD(logit[v]) : most;
#pragma omp simd reduction(+ : total)
        for (int64_t v = 0; v < words; v++) {
            weight[v] = exponential(LOAD(logit[v]) - most);
            total += weight[v];
        }
        const float normalizer = most + logf(total);
        if (inverse != 1.0f) {
            total = 0;
#pragma omp simd reduction(+ : total)
            for (int64_t v = 0; v < words; v++) {
                weight[v] = exponential((LOAD(logit[v]) - most) * inverse);
                total += weight[v];
            }
        }
        const double target = (double)chance[row] * total;
        double before = 0;
        int64_t drawn = words - 1;
        for (int64_t start = 0; start < words; start += 64) {
            const int64_t end = start + 64 < words ? start + 64 : words;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t v = start; v < end; v++) sum += weight[v];
            /* Rounding may hide that the total is reached: what remains is the last word that has weight. */
            for (int64_t v = end - 1; v >= start && sum > 0; v--)
                if (weight[v] > 0) {
                    drawn = v;
                    break;
                }
            if (before + sum > target) {
                for (int64_t v = start; v < drawn; v++)
                    if ((before += weight[v]) > target) drawn = v;
                break;
            }
            before += sum;
        }
        token[row] = drawn;
        logprob[row] = LOAD(logit[drawn]) - normalizer;
    }
}
