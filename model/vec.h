/* vec.h - eight floats at once, in three dialects with the same bits.
 *
 * The including file defines VEC_AVX2 or VEC_NEON, or neither for plain C.
 * Every operation here is exact or correctly rounded in IEEE 754, so a lane
 * holds the same bits in each dialect; there are no reciprocal estimates and
 * no horizontal instruction whose order of additions differs. */
#ifndef MILLRACE_VEC_H
#define MILLRACE_VEC_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { VEC = 8 };

#if defined(VEC_AVX2)

#include <immintrin.h>

typedef __m256 vec;

static inline vec vec_set1(float x)
{
    return _mm256_set1_ps(x);
}
static inline vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
static inline void vec_store(float *p, vec a)
{
    _mm256_storeu_ps(p, a);
}
static inline vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
static inline vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}
static inline vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}
static inline vec vec_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}
/* a b + c, rounded once. */
static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
/* a > b ? a : b */
static inline vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}
static inline vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}
/* a < b ? yes : no */
static inline vec vec_if_less(vec a, vec b, vec yes, vec no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
/* Bit i: a[i] > b[i]. */
static inline uint32_t vec_more_bits(vec a, vec b)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
}
/* 2^n, where magic holds 1.5 2^23 + n. */
static inline vec vec_power_of_two(vec magic)
{
    __m256i n = _mm256_slli_epi32(_mm256_castps_si256(magic), 23);
    return _mm256_castsi256_ps(
        _mm256_add_epi32(n, _mm256_set1_epi32(0x3f800000)));
}
static inline vec vec_load_bf16(const uint16_t *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
static inline vec vec_load_i16(const int16_t *p)
{
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(x));
}
static inline vec vec_load_u8(const uint8_t *p)
{
    __m128i x = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(x));
}
/* table[index[i]] */
static inline vec vec_lookup(const float *table, const uint8_t *index)
{
    __m128i x = _mm_loadl_epi64((const __m128i *)(const void *)index);
    return _mm256_i32gather_ps(table, _mm256_cvtepu8_epi32(x), 4);
}

#elif defined(VEC_NEON)

#include <arm_neon.h>

typedef struct {
    float32x4_t lo, hi;
} vec;

static inline vec vec_of(float32x4_t lo, float32x4_t hi)
{
    return (vec){lo, hi};
}
static inline vec vec_set1(float x)
{
    return vec_of(vdupq_n_f32(x), vdupq_n_f32(x));
}
static inline vec vec_load(const float *p)
{
    return vec_of(vld1q_f32(p), vld1q_f32(p + 4));
}
static inline void vec_store(float *p, vec a)
{
    vst1q_f32(p, a.lo);
    vst1q_f32(p + 4, a.hi);
}
static inline vec vec_add(vec a, vec b)
{
    return vec_of(vaddq_f32(a.lo, b.lo), vaddq_f32(a.hi, b.hi));
}
static inline vec vec_sub(vec a, vec b)
{
    return vec_of(vsubq_f32(a.lo, b.lo), vsubq_f32(a.hi, b.hi));
}
static inline vec vec_mul(vec a, vec b)
{
    return vec_of(vmulq_f32(a.lo, b.lo), vmulq_f32(a.hi, b.hi));
}
static inline vec vec_div(vec a, vec b)
{
    return vec_of(vdivq_f32(a.lo, b.lo), vdivq_f32(a.hi, b.hi));
}
static inline vec vec_fma(vec a, vec b, vec c)
{
    return vec_of(vfmaq_f32(c.lo, a.lo, b.lo), vfmaq_f32(c.hi, a.hi, b.hi));
}
static inline vec vec_max(vec a, vec b)
{
    return vec_of(vbslq_f32(vcgtq_f32(a.lo, b.lo), a.lo, b.lo),
                  vbslq_f32(vcgtq_f32(a.hi, b.hi), a.hi, b.hi));
}
static inline vec vec_min(vec a, vec b)
{
    return vec_of(vbslq_f32(vcltq_f32(a.lo, b.lo), a.lo, b.lo),
                  vbslq_f32(vcltq_f32(a.hi, b.hi), a.hi, b.hi));
}
static inline vec vec_if_less(vec a, vec b, vec yes, vec no)
{
    return vec_of(vbslq_f32(vcltq_f32(a.lo, b.lo), yes.lo, no.lo),
                  vbslq_f32(vcltq_f32(a.hi, b.hi), yes.hi, no.hi));
}
static inline uint32_t vec_more_bits(vec a, vec b)
{
    const uint32x4_t lo = {1, 2, 4, 8}, hi = {16, 32, 64, 128};
    return vaddvq_u32(vandq_u32(vcgtq_f32(a.lo, b.lo), lo)) +
           vaddvq_u32(vandq_u32(vcgtq_f32(a.hi, b.hi), hi));
}
static inline float32x4_t vec_power_half(float32x4_t magic)
{
    int32x4_t n = vshlq_n_s32(vreinterpretq_s32_f32(magic), 23);
    return vreinterpretq_f32_s32(vaddq_s32(n, vdupq_n_s32(0x3f800000)));
}
static inline vec vec_power_of_two(vec magic)
{
    return vec_of(vec_power_half(magic.lo), vec_power_half(magic.hi));
}
static inline vec vec_load_bf16(const uint16_t *p)
{
    uint16x8_t x = vld1q_u16(p);
    return vec_of(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(x), 16)),
                  vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(x), 16)));
}
static inline vec vec_load_i16(const int16_t *p)
{
    int16x8_t x = vld1q_s16(p);
    return vec_of(vcvtq_f32_s32(vmovl_s16(vget_low_s16(x))),
                  vcvtq_f32_s32(vmovl_s16(vget_high_s16(x))));
}
static inline vec vec_load_u8(const uint8_t *p)
{
    uint16x8_t x = vmovl_u8(vld1_u8(p));
    return vec_of(vcvtq_f32_u32(vmovl_u16(vget_low_u16(x))),
                  vcvtq_f32_u32(vmovl_u16(vget_high_u16(x))));
}
static inline vec vec_lookup(const float *table, const uint8_t *index)
{
    float x[VEC];
    for (int i = 0; i < VEC; i++)
        x[i] = table[index[i]];
    return vec_load(x);
}

#else

typedef struct {
    float f[VEC];
} vec;

#define VEC_EACH(expression)                                                   \
    vec r;                                                                     \
    for (int i = 0; i < VEC; i++)                                              \
        r.f[i] = (expression);                                                 \
    return r

static inline vec vec_set1(float x)
{
    VEC_EACH(x);
}
static inline vec vec_load(const float *p)
{
    VEC_EACH(p[i]);
}
static inline void vec_store(float *p, vec a)
{
    memcpy(p, a.f, sizeof a.f);
}
static inline vec vec_add(vec a, vec b)
{
    VEC_EACH(a.f[i] + b.f[i]);
}
static inline vec vec_sub(vec a, vec b)
{
    VEC_EACH(a.f[i] - b.f[i]);
}
static inline vec vec_mul(vec a, vec b)
{
    VEC_EACH(a.f[i] * b.f[i]);
}
static inline vec vec_div(vec a, vec b)
{
    VEC_EACH(a.f[i] / b.f[i]);
}
static inline vec vec_fma(vec a, vec b, vec c)
{
    VEC_EACH(fmaf(a.f[i], b.f[i], c.f[i]));
}
static inline vec vec_max(vec a, vec b)
{
    VEC_EACH(a.f[i] > b.f[i] ? a.f[i] : b.f[i]);
}
static inline vec vec_min(vec a, vec b)
{
    VEC_EACH(a.f[i] < b.f[i] ? a.f[i] : b.f[i]);
}
static inline vec vec_if_less(vec a, vec b, vec yes, vec no)
{
    VEC_EACH(a.f[i] < b.f[i] ? yes.f[i] : no.f[i]);
}
static inline uint32_t vec_more_bits(vec a, vec b)
{
    uint32_t bits = 0;
    for (int i = 0; i < VEC; i++)
        bits |= (uint32_t)(a.f[i] > b.f[i]) << i;
    return bits;
}
static inline float vec_float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline float vec_power_one(float magic)
{
    uint32_t bits;
    memcpy(&bits, &magic, sizeof bits);
    return vec_float_of((bits << 23) + 0x3f800000u);
}
static inline vec vec_power_of_two(vec magic)
{
    VEC_EACH(vec_power_one(magic.f[i]));
}
static inline vec vec_load_bf16(const uint16_t *p)
{
    VEC_EACH(vec_float_of((uint32_t)p[i] << 16));
}
static inline vec vec_load_i16(const int16_t *p)
{
    VEC_EACH((float)p[i]);
}
static inline vec vec_load_u8(const uint8_t *p)
{
    VEC_EACH((float)p[i]);
}
static inline vec vec_lookup(const float *table, const uint8_t *index)
{
    VEC_EACH(table[index[i]]);
}

#undef VEC_EACH

#endif

/* The first count (1 .. 8) floats at p; the other lanes are fill. Nothing
 * behind them is read. */
static inline vec vec_load_first(const float *p, size_t count, float fill)
{
    float x[VEC] = {fill, fill, fill, fill, fill, fill, fill, fill};
    memcpy(x, p, count * sizeof *p);
    return vec_load(x);
}

static inline void vec_store_first(float *p, size_t count, vec a)
{
    float x[VEC];
    vec_store(x, a);
    memcpy(p, x, count * sizeof *p);
}

/* The one order in which lanes are folded: halves, quarters, the last two. */
static inline float vec_sum(vec a)
{
    float x[VEC];
    vec_store(x, a);
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

static inline float vec_top(vec a)
{
    float x[VEC], top;
    vec_store(x, a);
    top = x[0];
    for (int i = 1; i < VEC; i++)
        if (x[i] > top) top = x[i];
    return top;
}

#endif
