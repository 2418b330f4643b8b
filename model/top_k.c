#include "top_k.h"

#include "kernels.h"
#include "params.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* With m the mean of all items, a query h is t p + d with bytes p, an item e
 * is m + s q + r with bytes q. So
 *
 *   h.e = h.m + t s (p.q) + d.(s q) + h.r
 *       <= h.m + t s (p.q) + |d| |s q| + |h| |r|     (Cauchy and Schwarz)
 *
 * Less h.m and divided by t this is what the kernels compare. The mean is
 * taken out because learned items have much in common, and what they have in
 * common does not decide. ROUNDING covers, as a share of |h| (|e| + |m| + |e -
 * m|), what the float score itself may differ from h.e (D 2^-24, D <= 1024)
 * and the rounding of the bound's own few operations. */
#define ROUNDING 1e-4

enum {
    NORM_MAX = 181, /* of bytes as integers: 181^2 fits in 15 bits */
    ITEM_MAX = 63,  /* two products with bytes up to 255 fit in 16 bits */
    QUERY_MAX = 127,
    QUERIES = 96,     /* that go over the items together */
    BLOCK_GROUPS = 8, /* whose bytes stay in the first cache meanwhile */
    LOGIT_ROWS = 48,
    INDEX_ALIGN = 64,
    CACHE_LINE_REALS = 64 / sizeof(real),
};

struct top_k_index {
    const real *table;
    real *mean; /* (D) of the items */
    uint32_t items, width, groups;
    struct scan scan;
    struct packed packed; /* for top_k_logits */
    uint8_t *block;
};

/* One request under way. */
struct search {
    struct top_k_request *request;
    struct ranked *heap; /* (k) the worst on top */
    uint32_t found;
    double step;            /* t */
    double common;          /* h.m */
    uint32_t excluded_next; /* into the request's list */
    uint32_t waiting_count; /* items to score in floats */
    uint32_t waiting[SCORE_ROWS];
};

struct top_k_scratch {
    uint32_t k_max;
    uint32_t *pairs; /* (QUERIES, D / 2) */
    struct scan_query *query;
    struct search *search;
    real *rows; /* (LOGIT_ROWS, D) */
    uint64_t rescored;
};

/* ---- bytes ----------------------------------------------------------- */

/* The step for x such that no byte passes most and their norm NORM_MAX. */
static double step_for(const real *x, uint32_t width, int most)
{
    double square = 0, largest = 0, step, by_norm;
    int64_t sum;
    for (uint32_t i = 0; i < width; i++) {
        square += (double)x[i] * x[i];
        if (fabs((double)x[i]) > largest) largest = fabs((double)x[i]);
    }
    if (largest == 0) return 1;
    step = largest / most;
    /* Rounding can add half a step to each column. */
    by_norm = sqrt(square) / (NORM_MAX - sqrt(width) / 2);
    if (by_norm > step) step = by_norm;
    sum = 0;
    for (uint32_t i = 0; i < width; i++) {
        int64_t byte = lrint(x[i] / step);
        sum += byte * byte;
    }
    assert(sum <= NORM_MAX * NORM_MAX);
    return step;
}

static double norm_of(const real *x, uint32_t width)
{
    double square = 0;
    for (uint32_t i = 0; i < width; i++)
        square += (double)x[i] * x[i];
    return sqrt(square);
}

static void put_item(struct top_k_index *t, uint32_t item)
{
    const real *e = t->table + (size_t)item * t->width;
    size_t group = item / SCAN_GROUP, lane = item % SCAN_GROUP;
    int8_t *panel = (int8_t *)t->scan.panels + group * t->width * SCAN_GROUP +
                    lane / SCAN_HALF * t->width * SCAN_HALF +
                    lane % SCAN_HALF * 2;
    real centred[WIDTH_MAX] = {0};
    double step, lost = 0, kept = 0, sizes;
    int64_t sum = 0;

    for (uint32_t k = 0; k < t->width; k++)
        centred[k] = e[k] - t->mean[k];
    /* The kernels read a float; the loss is measured against that. */
    step = (float)step_for(centred, t->width, ITEM_MAX);
    for (uint32_t k = 0; k < t->width; k++) {
        long byte = lrint(centred[k] / step);
        double back = step * (double)byte;
        double rest = (double)e[k] - t->mean[k] - back;
        assert(byte >= -ITEM_MAX && byte <= ITEM_MAX);
        panel[k / 2 * 2 * SCAN_HALF + k % 2] = (int8_t)byte;
        lost += rest * rest;
        kept += back * back;
        sum += byte;
    }
    sizes = norm_of(e, t->width) + norm_of(t->mean, t->width) +
            norm_of(centred, t->width);
    ((int16_t *)t->scan.offset)[item] = (int16_t)(uint16_t)(128 * sum);
    ((float *)t->scan.scale)[item] = (float)step;
    ((float *)t->scan.residual)[item] = (float)(sqrt(lost) + ROUNDING * sizes);
    ((float *)t->scan.norm)[item] = (float)sqrt(kept);
}

static void find_mean(struct top_k_index *t)
{
    for (uint32_t k = 0; k < t->width; k++) {
        double sum = 0;
        for (uint32_t i = 0; i < t->items; i++)
            sum += t->table[(size_t)i * t->width + k];
        t->mean[k] = t->items > 0 ? (real)(sum / t->items) : 0;
    }
}

/* ---- index and scratch ----------------------------------------------- */

static void *lay(uint8_t *base, size_t *used, size_t bytes)
{
    void *p = base ? base + *used : NULL;
    *used += (bytes + INDEX_ALIGN - 1) / INDEX_ALIGN * INDEX_ALIGN;
    return p;
}

static size_t lay_out(struct top_k_index *t)
{
    size_t rows = (size_t)t->groups * SCAN_GROUP, used = 0;
    real *panels;
    t->scan.width = t->width;
    t->scan.panels = lay(t->block, &used, rows * t->width);
    t->scan.offset = lay(t->block, &used, rows * sizeof(int16_t));
    t->scan.scale = lay(t->block, &used, rows * sizeof(float));
    t->scan.residual = lay(t->block, &used, rows * sizeof(float));
    t->scan.norm = lay(t->block, &used, rows * sizeof(float));
    t->mean = lay(t->block, &used, t->width * sizeof(real));
    panels =
        lay(t->block, &used, packed_size(t->width, t->items) * sizeof(real));
    if (panels)
        t->packed =
            matrix_pack_transposed(t->table, t->width, t->items, panels);
    return used;
}

struct top_k_index *top_k_index_new(const real *table, uint32_t items,
                                    uint32_t width)
{
    struct top_k_index *t = calloc(1, sizeof *t);
    size_t bytes;
    if (!t) return NULL;
    assert(width % 8 == 0 && width > 0 && width <= WIDTH_MAX);
    t->table = table;
    t->items = items;
    t->width = width;
    t->groups = (items + SCAN_GROUP - 1) / SCAN_GROUP;
    bytes = lay_out(t);
    t->block = aligned_alloc(INDEX_ALIGN, bytes + INDEX_ALIGN);
    if (!t->block) {
        free(t);
        return NULL;
    }
    memset(t->block, 0, bytes); /* items that fill the last group */
    (void)lay_out(t);
    find_mean(t);
    for (uint32_t i = 0; i < items; i++)
        put_item(t, i);
    return t;
}

void top_k_index_free(struct top_k_index *t)
{
    if (!t) return;
    free(t->block);
    free(t);
}

struct top_k_scratch *top_k_scratch_new(const struct top_k_index *t,
                                        uint32_t k_max)
{
    struct top_k_scratch *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->k_max = k_max;
    s->pairs = calloc((size_t)QUERIES * t->width / 2, sizeof *s->pairs);
    s->query = calloc(QUERIES, sizeof *s->query);
    s->search = calloc(QUERIES, sizeof *s->search);
    s->rows = calloc((size_t)LOGIT_ROWS * t->width, sizeof *s->rows);
    if (s->pairs && s->query && s->search && s->rows) return s;
    top_k_scratch_free(s);
    return NULL;
}

void top_k_scratch_free(struct top_k_scratch *s)
{
    if (!s) return;
    free(s->pairs);
    free(s->query);
    free(s->search);
    free(s->rows);
    free(s);
}

uint64_t top_k_rescored(const struct top_k_scratch *s)
{
    return s->rescored;
}

/* ---- the k best so far ----------------------------------------------- */

static bool worse(struct ranked a, struct ranked b)
{
    return a.score < b.score || (a.score == b.score && a.item > b.item);
}

static void sift_down(struct ranked *heap, uint32_t count, uint32_t at)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        struct ranked moved = heap[at];
        if (child >= count) return;
        if (child + 1 < count && worse(heap[child + 1], heap[child])) child++;
        if (!worse(heap[child], moved)) return;
        heap[at] = heap[child];
        heap[child] = moved;
        at = child;
    }
}

/* Its category's worst in the heap, if the category is full; else found. */
static uint32_t full_category(const struct search *s, struct ranked r)
{
    const struct top_k_request *q = s->request;
    uint64_t category = q->category_max > 0 ? q->category[r.item] : 0;
    uint32_t worst = s->found, count = 0;
    if (category == 0) return s->found;
    for (uint32_t i = 0; i < s->found; i++) {
        if (q->category[s->heap[i].item] != category) continue;
        if (count++ == 0 || worse(s->heap[i], s->heap[worst])) worst = i;
    }
    return count < q->category_max ? s->found : worst;
}

/* Keeps the best set that k and the caps allow. One more item breaks at most
 * one of them: a full category, whose worst then goes, or k, and then the
 * worst of all. (Such sets are the independent ones of a laminar matroid, for
 * which that is exact.) An item no better than the worst of k is never in. */
static void heap_put(struct search *s, uint32_t k, struct ranked r)
{
    uint32_t out = full_category(s, r);
    if (out < s->found) {
        if (!worse(s->heap[out], r)) return;
        s->heap[out] = r;
        sift_down(s->heap, s->found, out);
        return;
    }
    if (s->found < k) {
        uint32_t at = s->found++;
        s->heap[at] = r;
        while (at > 0 && worse(s->heap[at], s->heap[(at - 1) / 2])) {
            struct ranked moved = s->heap[at];
            s->heap[at] = s->heap[(at - 1) / 2];
            s->heap[(at - 1) / 2] = moved;
            at = (at - 1) / 2;
        }
    } else if (worse(s->heap[0], r)) {
        s->heap[0] = r;
        sift_down(s->heap, k, 0);
    }
}

/* Best first, in place. */
static void heap_sort(struct search *s)
{
    for (uint32_t left = s->found; left > 1;) {
        struct ranked worst = s->heap[0];
        s->heap[0] = s->heap[--left];
        s->heap[left] = worst;
        sift_down(s->heap, left, 0);
    }
}

/* ---- the search ------------------------------------------------------ */

static void start(const struct top_k_index *t, struct top_k_scratch *scratch,
                  uint32_t i, struct top_k_request *r)
{
    struct search *s = &scratch->search[i];
    struct scan_query *q = &scratch->query[i];
    uint32_t *pairs = scratch->pairs + (size_t)i * t->width / 2;
    double square = 0, lost = 0, norm;

    *s = (struct search){.request = r, .heap = r->out};
    s->step = step_for(r->hidden, t->width, QUERY_MAX);
    for (uint32_t p = 0; p < t->width / 2; p++) {
        uint32_t both = 0;
        for (uint32_t j = 0; j < 2; j++) {
            double x = r->hidden[2 * p + j];
            long byte = lrint(x / s->step);
            double back = s->step * (double)byte;
            assert(byte >= -QUERY_MAX && byte <= QUERY_MAX);
            both |= (uint32_t)(byte + 128) << 8 * j;
            square += x * x;
            s->common += x * t->mean[2 * p + j];
            lost += (x - back) * (x - back);
        }
        pairs[p] = both | both << 16;
    }
    norm = sqrt(square);
    *q = (struct scan_query){
        .pairs = pairs,
        .reach = (float)(norm / s->step * (1 + ROUNDING)),
        .loss = norm > 0 ? (float)(sqrt(lost) / norm * (1 + ROUNDING)) : 0,
        .limit = -FLT_MAX,
    };
}

/* Scores what waits, and raises the limit. */
static void settle(const struct top_k_index *t, struct top_k_scratch *scratch,
                   uint32_t i, uint32_t k)
{
    struct search *s = &scratch->search[i];
    const real *row[SCORE_ROWS];
    real score[SCORE_ROWS];
    if (s->waiting_count == 0) return;
    for (uint32_t j = 0; j < s->waiting_count; j++)
        row[j] = t->table + (size_t)s->waiting[j] * t->width;
    kernels_get()->score_rows(s->request->hidden, row, s->waiting_count,
                              t->width, score);
    for (uint32_t j = 0; j < s->waiting_count; j++)
        if (s->found < k || score[j] > s->heap[0].score)
            heap_put(s, k, (struct ranked){s->waiting[j], (float)score[j]});
    scratch->rescored += s->waiting_count;
    s->waiting_count = 0;
    if (s->found == k) {
        double limit = (s->heap[0].score - s->common) / s->step;
        scratch->query[i].limit = (float)(limit - 1e-6 * fabs(limit));
    }
}

static bool is_excluded(struct search *s, uint32_t item)
{
    const struct top_k_request *r = s->request;
    while (s->excluded_next < r->excluded_count &&
           r->excluded[s->excluded_next] < item)
        s->excluded_next++;
    return s->excluded_next < r->excluded_count &&
           r->excluded[s->excluded_next] == item;
}

static bool is_allowed(const struct search *s, uint32_t item)
{
    const uint64_t *allowed = s->request->allowed;
    return !allowed || (allowed[item / 64] >> item % 64 & 1);
}

static void take_hits(const struct top_k_index *t,
                      struct top_k_scratch *scratch, uint32_t i, uint32_t k,
                      uint32_t group, uint32_t hits)
{
    struct search *s = &scratch->search[i];
    for (; hits != 0; hits &= hits - 1) {
        uint32_t item = group * SCAN_GROUP + (uint32_t)__builtin_ctz(hits);
        if (item >= t->items || !is_allowed(s, item) || is_excluded(s, item))
            continue;
        for (uint32_t column = 0; column < t->width; column += CACHE_LINE_REALS)
            __builtin_prefetch(t->table + (size_t)item * t->width + column);
        s->waiting[s->waiting_count++] = item;
        if (s->waiting_count == SCORE_ROWS) settle(t, scratch, i, k);
    }
}

/* A few queries over a block of groups. */
static void search_block(const struct top_k_index *t, struct top_k_scratch *s,
                         uint32_t query, uint32_t queries, uint32_t first,
                         uint32_t last, uint32_t k)
{
    const struct kernels *kernels = kernels_get();
    uint32_t hits[SCAN_QUERIES];
    while (first < last) {
        first += kernels->scan(&t->scan, first, last - first, s->query + query,
                               queries, hits);
        if (first == last) return;
        for (uint32_t i = 0; i < queries; i++)
            if (hits[i]) take_hits(t, s, query + i, k, first, hits[i]);
        first++;
    }
}

static void search_some(const struct top_k_index *t, struct top_k_scratch *s,
                        struct top_k_request *in, uint32_t count, uint32_t k)
{
    for (uint32_t i = 0; i < count; i++)
        start(t, s, i, &in[i]);
    for (uint32_t first = 0; first < t->groups; first += BLOCK_GROUPS) {
        uint32_t last =
            first + BLOCK_GROUPS < t->groups ? first + BLOCK_GROUPS : t->groups;
        for (uint32_t i = 0; i < count; i += SCAN_QUERIES)
            search_block(t, s, i,
                         count - i < SCAN_QUERIES ? count - i : SCAN_QUERIES,
                         first, last, k);
    }
    for (uint32_t i = 0; i < count; i++) {
        settle(t, s, i, k);
        heap_sort(&s->search[i]);
        in[i].found = s->search[i].found;
    }
}

void top_k_find(const struct top_k_index *t, struct top_k_scratch *s,
                struct top_k_request *in, uint32_t count, uint32_t k)
{
    assert(k <= s->k_max);
    for (uint32_t i = 0; k > 0 && i < count; i += QUERIES)
        search_some(t, s, in + i, count - i < QUERIES ? count - i : QUERIES, k);
}

void top_k_logits(const struct top_k_index *t, struct top_k_scratch *s,
                  const real *const *hidden, uint32_t count, real *out)
{
    for (uint32_t from = 0; from < count; from += LOGIT_ROWS) {
        uint32_t rows = count - from < LOGIT_ROWS ? count - from : LOGIT_ROWS;
        for (uint32_t i = 0; i < rows; i++)
            memcpy(s->rows + (size_t)i * t->width, hidden[from + i],
                   t->width * sizeof *s->rows);
        matrix_multiply(s->rows, t->width, rows, &t->packed, NULL,
                        out + (size_t)from * t->items, t->items, MATRIX_SET);
    }
}
