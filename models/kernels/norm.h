/* RMSNorm (arXiv 1910.07467) and its gradients for one element type, rounded as Llama's rounds: a value divided by the root
 * mean square of its row in float32, rounded to the element type, times its weight, rounded again. */

#define ROUNDED(x) LOAD(STORE(x))
#define CHUNK 256

/* x, out (N, D), weight (D); rstd (N): what a row was multiplied by, or NULL */
void NAME(rms_norm)(const ELEMENT *x, const ELEMENT *weight, ELEMENT *out, float *rstd,
                    int64_t rows, int64_t width, float epsilon, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (PARALLEL(rows * width)) schedule(static)
    for (int64_t at = 0; at < rows; at++) {
        const ELEMENT *row = x + at * width;
        ELEMENT *made = out + at * width;
        float total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t d = 0; d < width; d++) total += LOAD(row[d]) * LOAD(row[d]);
        const float scale = 1 / sqrtf(total / width + epsilon);
        for (int64_t d = 0; d < width; d++) made[d] = STORE(LOAD(weight[d]) * ROUNDED(LOAD(row[d]) * scale));
        if (rstd) rstd[at] = scale;
    }
}

/* dx (N, D) or NULL; dweight (N / 256 rounded up, D) or NULL: sums over 256 rows each, however many threads there are.
 * With y = x rstd and dy = g weight: dx = rstd (dy - y mean_d(dy y)), dweight = sum_n g y. */
void NAME(rms_norm_gradients)(const ELEMENT *g, const ELEMENT *x, const ELEMENT *weight,
                              const float *rstd, ELEMENT *dx, float *dweight, int64_t rows,
                              int64_t width, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (PARALLEL(rows * width)) schedule(static)
    for (int64_t chunk = 0; chunk < (rows + CHUNK - 1) / CHUNK; chunk++) {
        const int64_t from = chunk * CHUNK, end = from + CHUNK < rows ? from + CHUNK : rows;
        float *sum = dweight ? dweight + chunk * width : NULL;
        if (sum) memset(sum, 0, width * sizeof(float));
        for (int64_t at = from; at < end; at++) {
            const ELEMENT *row = x + at * width, *up = g + at * width;
            const float scale = rstd[at];
            if (sum)
                for (int64_t d = 0; d < width; d++) sum[d] += LOAD(up[d]) * ROUNDED(LOAD(row[d]) * scale);
            if (!dx) continue;
            ELEMENT *made = dx + at * width;
            float dot = 0;
#pragma omp simd reduction(+ : dot)
            for (int64_t d = 0; d < width; d++) dot += ROUNDED(LOAD(up[d]) * LOAD(weight[d])) * LOAD(row[d]);
            const float along = dot * scale * scale / width;
            for (int64_t d = 0; d < width; d++)
                made[d] = STORE(scale * (ROUNDED(LOAD(up[d]) * LOAD(weight[d])) - along * LOAD(row[d])));
        }
    }
}
#undef CHUNK
#undef ROUNDED
