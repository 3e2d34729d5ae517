/* Attention of one query per row, for one element type. A row attends to its prompt, which siblings share, and to what it
 * has said. Keys lie by feature (D, L) and values by column (L, D): both products run along memory. */

/* Asks memory for what the next row's turn will read: the caches of a core hold less than a batch's keys and values, and
 * the blocks of a row are too short for the processor to see where the next one begins. */
#define AHEAD(place, count)                                                  \
    for (int line = 0; line < (count); line += 64 / (int)sizeof(ELEMENT)) __builtin_prefetch((place) + line);

/* score[l] = sum_d query[d] key[d][l] for a multiple of 16 columns */
#define SCORES(COLUMNS)                                                      \
    {                                                                        \
        float sum[COLUMNS] = {0};                                            \
        for (int64_t d = 0; d < width; d++) {                                \
            const ELEMENT *row = key + d * stride + at;                      \
            AHEAD(row + width * stride, COLUMNS)                             \
            for (int j = 0; j < COLUMNS; j++) sum[j] += query[d] * LOAD(row[j]); \
        }                                                                    \
        memcpy(score + at, sum, sizeof sum);                                 \
    }

static inline void NAME(scores)(const ELEMENT *key, int64_t stride, int64_t columns, const float *query, int64_t width,
                                float *score) {
    int64_t at = 0;
    for (; at + 128 <= columns; at += 128) SCORES(128)
    for (; at + 32 <= columns; at += 32) SCORES(32)
    for (; at < columns; at += 16) SCORES(16)
}
#undef SCORES

/* out[d] += sum_l weight[l] value[l][d]; four sums at a time, so that none waits for the one before */
#define WEIGH(FEATURES)                                                       \
    {                                                                         \
        float sum[4][FEATURES] = {{0}};                                       \
        int64_t l = 0;                                                        \
        for (; l + 4 <= columns; l += 4)                                      \
            for (int part = 0; part < 4; part++) {                            \
                const ELEMENT *row = value + (l + part) * width + at;         \
                AHEAD(row + ahead, FEATURES)                                  \
                for (int j = 0; j < FEATURES; j++) sum[part][j] += weight[l + part] * LOAD(row[j]); \
            }                                                                 \
        for (; l < columns; l++) {                                            \
            const ELEMENT *row = value + l * width + at;                      \
            for (int j = 0; j < FEATURES; j++) sum[0][j] += weight[l] * LOAD(row[j]); \
        }                                                                     \
        for (int j = 0; j < FEATURES; j++) out[at + j] += (sum[0][j] + sum[1][j]) + (sum[2][j] + sum[3][j]); \
    }

static inline void NAME(weigh)(const ELEMENT *value, int64_t columns, const float *weight, int64_t width, int64_t ahead,
                               float *out) {
    int64_t at = 0;
    for (; at + 32 <= width; at += 32) WEIGH(32)
    for (; at + 16 <= width; at += 16) WEIGH(16)
    for (; at < width; at++) WEIGH(1)
}
#undef WEIGH

/* query, out (B, H, D); key (B, K, D, C), value (B, K, C, D), of which `said` columns are filled and the rest finite;
 * prompt_key (U, K, D, P), prompt_value (U, K, P, D), P a multiple of 16 or 0; prompt (B), each row's; hidden (U, P) is
 * added to the scores, or NULL; mask (B, said) tells which columns count, its rows `mask_stride` bytes apart, or NULL;
 * scratch: threads x (P + C + 2 D) floats. */
void NAME(attend)(const ELEMENT *query, const ELEMENT *key, const ELEMENT *value, const ELEMENT *prompt_key,
                  const ELEMENT *prompt_value, const int64_t *prompt, const float *hidden, const uint8_t *mask,
                  int64_t mask_stride, ELEMENT *out, float *scratch, int64_t rows, int64_t heads, int64_t shared,
                  int64_t width, int64_t said, int64_t capacity, int64_t columns, float scaling, int64_t threads) {
    const int64_t each = heads / shared, filled = (said + 15) / 16 * 16, size = columns + filled;
#pragma omp parallel for num_threads(threads) if (PARALLEL(rows * heads * width * (columns + said))) schedule(static)
    for (int64_t at = 0; at < rows * shared; at++) {
        const int64_t row = at / shared, from = prompt ? prompt[row] : 0, read = from * shared + at % shared;
        float *score = scratch + THREAD * (columns + capacity + 2 * width), *own = score + columns;
        float *asked = score + columns + capacity, *sum = asked + width;
        for (int64_t one = 0; one < each; one++) {
            const int64_t place = (at * each + one) * width;
            for (int64_t d = 0; d < width; d++) asked[d] = LOAD(query[place + d]) * scaling;
            memset(sum, 0, width * sizeof(float));
            NAME(scores)(prompt_key + read * width * columns, columns, columns, asked, width, score);
            if (hidden)
                for (int64_t l = 0; l < columns; l++) score[l] += hidden[from * columns + l];
            NAME(scores)(key + at * width * capacity, capacity, filled, asked, width, own);
            if (mask)
                for (int64_t l = 0; l < said; l++) own[l] = mask[row * mask_stride + l] ? own[l] : -INFINITY;
            for (int64_t l = said; l < filled; l++) own[l] = -INFINITY;
            const float total = below(score, largest(score, size), size);
            NAME(weigh)(prompt_value + read * width * columns, columns, score, width, width * columns, sum);
            NAME(weigh)(value + at * width * capacity, said, own, width, width * capacity, sum);
            for (int64_t d = 0; d < width; d++) out[place + d] = STORE(sum[d] / total);
        }
    }
}
