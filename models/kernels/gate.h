/* The gate of SwiGLU (arXiv 2002.05202), silu(gate) up, and its gradients for one element type, one pass each. silu is
 * rounded to the element type, and so is its gradient, as where two operators compute them. */

#define ROUNDED(x) LOAD(STORE(x))
#define BLOCK 4096

static inline float NAME(sigmoid)(float x) {
    const float power = exponential(-fabsf(x));
    return (x < 0 ? power : 1.0f) / (1 + power);
}

/* gate, up, out (size) */
void NAME(silu_times)(const ELEMENT *gate, const ELEMENT *up, ELEMENT *out, int64_t size,
                      int64_t threads) {
#pragma omp parallel for num_threads(threads) if (PARALLEL(size)) schedule(static)
    for (int64_t from = 0; from < size; from += BLOCK) {
        const int64_t end = from + BLOCK < size ? from + BLOCK : size;
        for (int64_t i = from; i < end; i++) {
            const float x = LOAD(gate[i]);
            out[i] = STORE(ROUNDED(x * NAME(sigmoid)(x)) * LOAD(up[i]));
        }
    }
}

/* dgate = g up s (1 + gate (1 - s)) with s = sigmoid(gate), dup = g silu(gate); all of that size */
void NAME(silu_times_gradients)(const ELEMENT *g, const ELEMENT *gate, const ELEMENT *up,
                                ELEMENT *dgate, ELEMENT *dup, int64_t size, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (PARALLEL(size)) schedule(static)
    for (int64_t from = 0; from < size; from += BLOCK) {
        const int64_t end = from + BLOCK < size ? from + BLOCK : size;
        for (int64_t i = from; i < end; i++) {
            const float x = LOAD(gate[i]), s = NAME(sigmoid)(x), upstream = LOAD(g[i]);
            dup[i] = STORE(upstream * ROUNDED(x * s));
            dgate[i] = STORE(ROUNDED(upstream * LOAD(up[i])) * (s * (1 + x * (1 - s))));
        }
    }
}
#undef BLOCK
#undef ROUNDED
