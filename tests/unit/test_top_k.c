/* Goal: lists are exact: the k best by the scores of a plain pass, in every
 * bit, ties to the lower index, without what is excluded or not allowed, and
 * no more of a category than its cap.
 * Method: tables of many sizes and kinds (random, with equal rows, with a few
 * huge rows, all zero) against all logits sorted by qsort. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hash.h"
#include "top_k.h"

#include <math.h>
#include <stdlib.h>

enum { K_MAX = 60, QUERIES = 101, WIDTH_MAX_TRIED = 256 };

enum kind { RANDOM, EQUAL_ROWS, HUGE_ROWS, ZEROS, ALIKE, KINDS };

static float unit(uint64_t seed, uint64_t a, uint64_t b)
{
    return draw_unit(draw(seed, a, b)) - 0.5f;
}

static float *make_table(enum kind kind, uint32_t items, uint32_t width)
{
    float *t = calloc((size_t)items * width, sizeof *t);
    assert_non_null(t);
    for (uint32_t i = 0; i < items; i++)
        for (uint32_t c = 0; c < width; c++) {
            float *x = &t[(size_t)i * width + c];
            uint32_t row = kind == EQUAL_ROWS ? i % 7 : i;
            *x = unit(1, row, c);
            if (kind == HUGE_ROWS && i % 50 == 3) *x *= 1000;
            if (kind == ZEROS) *x = 0;
            /* A large part in common: scores lie close together. */
            if (kind == ALIKE) *x = *x * 0.01f + unit(2, 0, c) * 3;
        }
    return t;
}

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static bool is_full(const struct top_k_request *r, uint32_t item,
                    const struct ranked *list, uint32_t count)
{
    uint32_t same = 0;
    if (r->category_max == 0 || r->category[item] == 0) return false;
    for (uint32_t i = 0; i < count; i++)
        same += r->category[list[i].item] == r->category[item];
    return same >= r->category_max;
}

/* The best again and again, but of full categories. Returns how many. */
static uint32_t take_best(const struct top_k_request *r, struct ranked *all,
                          uint32_t count, uint32_t k)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count && found < k; i++)
        if (!is_full(r, all[i].item, all, found)) all[found++] = all[i];
    return found;
}

static void expect_list(const struct top_k_request *r, const float *logits,
                        uint32_t items, uint32_t k)
{
    struct ranked *all = calloc(items, sizeof *all);
    uint32_t count = 0;
    for (uint32_t i = 0, next = 0; i < items; i++) {
        while (next < r->excluded_count && r->excluded[next] < i)
            next++;
        if (next < r->excluded_count && r->excluded[next] == i) continue;
        if (r->allowed && !(r->allowed[i / 64] >> i % 64 & 1)) continue;
        all[count++] = (struct ranked){i, logits[i]};
    }
    qsort(all, count, sizeof *all, by_rank);
    count = take_best(r, all, count, k);
    assert_int_equal(r->found, count);
    for (uint32_t i = 0; i < r->found; i++) {
        assert_int_equal(r->out[i].item, all[i].item);
        assert_true(r->out[i].score == all[i].score);
    }
    free(all);
}

/* What else narrows the lists down; zeros: nothing. */
struct narrowed {
    uint32_t allowed_of; /* one in so many is not allowed */
    uint32_t categories, category_max;
};

static void narrow(struct top_k_request *r, struct narrowed n, uint32_t items,
                   uint64_t *allowed, uint64_t *category)
{
    for (uint32_t i = 0; i < items; i++) {
        bool out = n.allowed_of > 0 && draw(5, i, 0) % n.allowed_of == 0;
        if (!out) allowed[i / 64] |= UINT64_C(1) << i % 64;
        if (n.categories > 0) category[i] = draw(5, i, 1) % n.categories;
    }
    if (n.allowed_of > 0) r->allowed = allowed;
    r->category = category;
    r->category_max = n.category_max;
}

static void check_narrowed(enum kind kind, uint32_t items, uint32_t width,
                           uint32_t queries, uint32_t k, uint32_t excluded_step,
                           struct narrowed n)
{
    uint64_t *allowed = calloc(items / 64 + 1, sizeof *allowed);
    uint64_t *category = calloc(items, sizeof *category);
    float *table = make_table(kind, items, width);
    float *hidden = calloc((size_t)queries * width, sizeof *hidden);
    float *logits = calloc((size_t)queries * items, sizeof *logits);
    uint32_t *excluded = calloc(items, sizeof *excluded), excluded_count = 0;
    struct top_k_index *t = top_k_index_new(table, items, width);
    struct top_k_scratch *s = top_k_scratch_new(t, K_MAX);
    struct top_k_request in[QUERIES] = {{0}};
    struct ranked(*out)[K_MAX] = calloc(queries, sizeof *out);
    const real *list[QUERIES];

    for (uint32_t i = 0; excluded_step && i < items; i += excluded_step)
        excluded[excluded_count++] = i;
    for (uint32_t q = 0; q < queries; q++) {
        for (uint32_t c = 0; c < width; c++)
            hidden[(size_t)q * width + c] = q == 1 ? 0 : unit(3, q, c) * 4;
        list[q] = hidden + (size_t)q * width;
        in[q] = (struct top_k_request){.hidden = list[q],
                                       .excluded = excluded,
                                       .excluded_count = excluded_count,
                                       .out = out[q]};
        narrow(&in[q], n, items, allowed, category);
    }
    top_k_find(t, s, in, queries, k);
    top_k_logits(t, s, list, queries, logits);
    for (uint32_t q = 0; q < queries; q++)
        expect_list(&in[q], logits + (size_t)q * items, items, k);
    top_k_scratch_free(s);
    top_k_index_free(t);
    free(table), free(hidden), free(logits), free(excluded), free(out);
    free(allowed), free(category);
}

static void check(enum kind kind, uint32_t items, uint32_t width,
                  uint32_t queries, uint32_t k, uint32_t excluded_step)
{
    check_narrowed(kind, items, width, queries, k, excluded_step,
                   (struct narrowed){0});
}

static void test_every_kind(void **state)
{
    static const uint32_t itemses[] = {1, 9, 32, 33, 500, 3000};
    static const uint32_t widths[] = {8, 64, WIDTH_MAX_TRIED};
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < sizeof itemses / sizeof *itemses; i++)
            for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
                check(kind, itemses[i], widths[w], 13, 10, 0);
                check(kind, itemses[i], widths[w], 3, K_MAX, 3);
            }
}

static void test_batches(void **state)
{
    (void)state;
    for (uint32_t queries = 1; queries <= QUERIES; queries += 10)
        check(RANDOM, 700, 32, queries, 10, 5);
}

static void test_all_excluded(void **state)
{
    (void)state;
    check(RANDOM, 100, 16, 2, 10, 1);
    check(RANDOM, 100, 16, 2, 1, 0);
}

/* Also where caps leave less than k, where most is not allowed, and where all
 * scores are equal. */
static void test_allowed_and_caps(void **state)
{
    static const struct narrowed all[] = {
        {.allowed_of = 2},
        {.allowed_of = 1},
        {.categories = 2, .category_max = 3}, /* one of them has no cap */
        {.categories = 5, .category_max = 1},
        {.categories = 40, .category_max = 2, .allowed_of = 3},
        {.categories = 1000, .category_max = 1, .allowed_of = 2},
    };
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t n = 0; n < sizeof all / sizeof *all; n++) {
            check_narrowed(kind, 700, 32, 5, 10, 0, all[n]);
            check_narrowed(kind, 700, 16, 3, K_MAX, 3, all[n]);
            check_narrowed(kind, 9, 8, 3, 10, 4, all[n]);
        }
}

/* The bound must spare most of the work, or it is not worth its while; also
 * where items have most in common. */
static void test_few_rescored(void **state)
{
    enum { ITEMS = 20000, WIDTH = 64, COUNT = 32, K = 10 };
    static const enum kind kinds[] = {RANDOM, ALIKE};
    static float hidden[COUNT][WIDTH];
    static struct ranked out[COUNT][K];
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        float *table = make_table(kinds[i], ITEMS, WIDTH);
        struct top_k_index *t = top_k_index_new(table, ITEMS, WIDTH);
        struct top_k_scratch *s = top_k_scratch_new(t, K);
        struct top_k_request in[COUNT];
        double each;
        for (uint32_t q = 0; q < COUNT; q++) {
            for (uint32_t c = 0; c < WIDTH; c++)
                hidden[q][c] = unit(4, q, c);
            in[q] = (struct top_k_request){.hidden = hidden[q], .out = out[q]};
        }
        top_k_find(t, s, in, COUNT, K);
        each = (double)top_k_rescored(s) / COUNT;
        print_message("of %d %s items %.0f were scored in floats\n", ITEMS,
                      kinds[i] == ALIKE ? "much alike" : "random", each);
        assert_true(each < (kinds[i] == ALIKE ? 1000 : 300));
        top_k_scratch_free(s);
        top_k_index_free(t);
        free(table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_excluded),
        cmocka_unit_test(test_allowed_and_caps),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_few_rescored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
