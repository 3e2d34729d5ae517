/* Rotary position embedding by halves (arXiv 2104.09864) for one element type. */

/* states, out (R, H, D), cos and sin (A, D), row r by the angles r mod A. `back`: the gradient of that, whose rotation is
 * the other way round. Which sign and which half the sines are of is all that differs. */
void NAME(rotate)(const ELEMENT *states, const ELEMENT *cosine, const ELEMENT *sine, ELEMENT *out, int64_t rows,
                  int64_t heads, int64_t width, int64_t angles, int64_t back, int64_t threads) {
    const int64_t half = width / 2;
    const float sign = back ? 1.0f : -1.0f;
#pragma omp parallel for num_threads(threads) if (PARALLEL(rows * heads * width)) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const ELEMENT *cos = cosine + row % angles * width, *sin = sine + row % angles * width;
        const ELEMENT *low = sin + (back ? half : 0), *high = sin + (back ? 0 : half);
        for (int64_t head = 0; head < heads; head++) {
            const ELEMENT *x = states + (row * heads + head) * width;
            ELEMENT *y = out + (row * heads + head) * width;
#pragma omp simd
            for (int64_t j = 0; j < half; j++) {
                const float one = LOAD(x[j]), other = LOAD(x[half + j]);
                y[j] = STORE(one * LOAD(cos[j]) + sign * other * LOAD(low[j]));
                y[half + j] = STORE(other * LOAD(cos[half + j]) - sign * one * LOAD(high[j]));
            }
        }
    }
}
