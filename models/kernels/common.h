/* What all kernels share: element types, the exponential, softmax weights. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(a) JOIN(a, ELEMENT)
#define LOAD JOIN(load, ELEMENT)
#define STORE JOIN(store, ELEMENT)

/* torch's own measure of what one thread does in less time than it takes to wake another */
#define PARALLEL(elements) (threads > 1 && (elements) > 32768)

typedef uint16_t bfloat16;

static inline float load_float(float x) { return x; }
static inline float store_float(float x) { return x; }

static inline float load_bfloat16(bfloat16 x) {
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* to the nearest, ties to even, as torch rounds */
static inline bfloat16 store_bfloat16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7FC0 : (bfloat16)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/* e^x for x <= 0, within two units in the last place; 0 below -87, where float32 runs out;
 * nan of nan. No branches: loops over it are vectorized. */
static inline float exponential(float x) {
    const float bounded = x < -87.0f ? -87.0f : x, n = rintf(bounded * 1.44269504f);
    const float r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, bounded));
    float series = 1.0f / 720;
    series = fmaf(series, r, 1.0f / 120);
    series = fmaf(series, r, 1.0f / 24);
    series = fmaf(series, r, 1.0f / 6);
    series = fmaf(series, r, 0.5f);
    series = fmaf(series, r, 1.0f);
    series = fmaf(series, r, 1.0f);
    const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float power;
    memcpy(&power, &bits, 4);
    return x < -87.0f ? 0.0f : series * power;
}

/* the largest score; a nan is none */
static inline float largest(const float *score, int64_t size) {
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (int64_t l = 0; l < size; l++) most = score[l] > most ? score[l] : most;
    return most;
}

/* score -> e^(score - most) in place; their sum */
static inline float below(float *score, float most, int64_t size) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t l = 0; l < size; l++) {
        score[l] = exponential(score[l] - most);
        total += score[l];
    }
    return total;
}
