/* Events of a call become rows of chunks: each user's missing tokens, then
 * the new ones, in order; a full chunk runs through all layers at once. */
#include "scorer.h"
#include "behaviour_check.h"
#include "context_pool.h"
#include "heads.h"
#include "model.h"
#include "model_dir.h"
#include "top_k.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_ROWS = 96, /* tokens that move through the layers together */
    SCORER_ALIGN = 64,
};

/* A request's place in its call. */
struct pending {
    const real *before; /* hidden state before its event; NULL: none */
    uint32_t next;      /* request of the same user, or NO_REQUEST */
    bool first;         /* of its user in the call */
};

enum { NO_REQUEST = UINT32_MAX };

struct scorer {
    const struct model *model;
    const struct behaviour *behaviour;
    struct scorer_limits limits;
    struct context_pool pool;
    struct scorer_stats stats;

    /* The chunk under way. */
    uint32_t rows;
    uint32_t wanted;
    struct row row[CHUNK_ROWS];
    struct context *row_context[CHUNK_ROWS];
    uint32_t all_rows[CHUNK_ROWS]; /* 0, 1, 2, ... */
    uint32_t wanted_row[CHUNK_ROWS];
    real *wanted_to[CHUNK_ROWS]; /* where its hidden state goes */
    struct activations act;      /* of all layers but the last */
    real *last_x, *last_norm;    /* (CHUNK_ROWS, D) wanted rows */
    uint8_t *bucket;             /* (CHUNK_ROWS, weight_stride) */

    /* Users of the call that wait for the chunk to run, then are unpinned. */
    struct context **done; /* (events_max + SUFFIXES_MAX) */
    uint32_t done_count;

    /* The call. */
    struct pending *pending; /* (events_max) */
    uint32_t *slot_head;     /* hash table of users: a request each */
    uint32_t *slot_tail;
    uint32_t slot_mask;
    struct token *token;   /* (events_max) */
    real *hidden, *before; /* (events_max, D) */
    const real **hidden_list, **before_list;
    const struct token **token_list;
    const float **feature_list;
    float *fraud, *anomaly; /* (events_max) */
    real *heads_scratch;
    struct top_k_scratch *top_k;
    void *block; /* all of the above arrays */
};

/* ---- new and free ---------------------------------------------------- */

/* Lays arrays out in one block; with no block it only counts. */
struct layout {
    uint8_t *base;
    size_t used;
};

static void *lay(struct layout *l, size_t count, size_t size)
{
    void *p = l->base ? l->base + l->used : NULL;
    l->used += (count * size + SCORER_ALIGN - 1) / SCORER_ALIGN * SCORER_ALIGN;
    return p;
}

static void lay_activations(struct scorer *s, struct layout *l)
{
    const struct behaviour_config *c = &s->model->params.config;
    struct activations *a = &s->act;
    size_t d = c->width;

    *a = (struct activations){0};
    a->x = lay(l, CHUNK_ROWS * d, sizeof(real));
    a->norm1 = lay(l, CHUNK_ROWS * d, sizeof(real));
    a->keyvalue = lay(l, CHUNK_ROWS * 2 * d, sizeof(real));
    a->query = lay(l, CHUNK_ROWS * d, sizeof(real));
    a->mixed = lay(l, CHUNK_ROWS * d, sizeof(real));
    a->weight =
        lay(l, c->heads * (size_t)s->behaviour->weight_stride, sizeof(real));
    a->total = lay(l, c->heads, sizeof(real));
    a->up = lay(l, CHUNK_ROWS * (size_t)c->ffn, sizeof(real));
    a->act = a->up;
    a->norm2 = a->norm1;
    s->last_x = lay(l, CHUNK_ROWS * d, sizeof(real));
    s->last_norm = lay(l, CHUNK_ROWS * d, sizeof(real));
    s->bucket = lay(l, CHUNK_ROWS * (size_t)s->behaviour->weight_stride, 1);
}

static void lay_call(struct scorer *s, struct layout *l)
{
    size_t events = s->limits.events_max;
    size_t d = s->model->params.config.width;
    size_t slots = 1;

    while (slots < 2 * events)
        slots *= 2;
    s->slot_mask = (uint32_t)(slots - 1);
    s->slot_head = lay(l, slots, sizeof *s->slot_head);
    s->slot_tail = lay(l, slots, sizeof *s->slot_tail);
    s->pending = lay(l, events, sizeof *s->pending);
    s->done = lay(l, events + SUFFIXES_MAX, sizeof *s->done);
    s->token = lay(l, events, sizeof *s->token);
    s->hidden = lay(l, events * d, sizeof(real));
    s->before = lay(l, events * d, sizeof(real));
    s->hidden_list = lay(l, events, sizeof *s->hidden_list);
    s->before_list = lay(l, events, sizeof *s->before_list);
    s->token_list = lay(l, events, sizeof *s->token_list);
    s->feature_list = lay(l, events, sizeof *s->feature_list);
    s->fraud = lay(l, events, sizeof *s->fraud);
    s->anomaly = lay(l, events, sizeof *s->anomaly);
    s->heads_scratch = lay(l, heads_scratch(&s->model->params), sizeof(real));
}

static enum rc take_memory(struct scorer *s, struct err *e)
{
    struct layout l = {0};
    lay_activations(s, &l);
    lay_call(s, &l);
    s->block = aligned_alloc(SCORER_ALIGN, l.used);
    if (!s->block)
        return ERR(e, RC_STOP, "scorer: no memory for %zu bytes", l.used);
    /* Buckets behind a context's end are read, and masked. */
    memset(s->block, 0, l.used);
    l = (struct layout){.base = s->block};
    lay_activations(s, &l);
    lay_call(s, &l);
    if (!context_pool_init(&s->pool, s->behaviour, s->limits.context_bytes_max))
        return ERR(e, RC_STOP,
                   "scorer: no memory for %zu bytes of cached keys and "
                   "values; lower model.cache",
                   s->limits.context_bytes_max);
    if (s->model->items) {
        s->top_k = top_k_scratch_new(s->model->items, s->limits.k_max);
        if (!s->top_k) return ERR(e, RC_STOP, "scorer: no memory for lists");
    }
    return RC_OK;
}

enum rc scorer_new(struct scorer **out, const struct model *m,
                   struct scorer_limits limits, struct err *e)
{
    struct scorer *s = calloc(1, sizeof *s);
    enum rc rc;
    *out = NULL;
    if (!s) return ERR(e, RC_STOP, "scorer: no memory");
    assert(limits.events_max > 0);
    matrix_thread_init();
    s->model = m;
    s->behaviour = m->behaviour;
    s->limits = limits;
    for (uint32_t i = 0; i < CHUNK_ROWS; i++)
        s->all_rows[i] = i;
    rc = behaviour_check(s->behaviour, e);
    if (rc == RC_OK) rc = take_memory(s, e);
    if (rc != RC_OK) {
        scorer_free(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

void scorer_free(struct scorer *s)
{
    if (!s) return;
    context_pool_fini(&s->pool);
    top_k_scratch_free(s->top_k);
    free(s->block);
    free(s);
}

/* ---- what a user needs ----------------------------------------------- */

static uint64_t anchor_of(const struct scorer *s, uint64_t n)
{
    uint64_t w = s->model->info.window, k = n / w;
    return k == 0 ? 0 : (k - 1) * w;
}

bool scorer_anchor_moves(const struct scorer *s, uint64_t n)
{
    return n > 0 && anchor_of(s, n) != anchor_of(s, n - 1);
}

/* Event n is the next token of this context, or some are missing between. */
static bool leads_to(const struct scorer *s, const struct context *c,
                     uint64_t n)
{
    return c && c->anchor == anchor_of(s, n) && c->anchor + c->count <= n;
}

/* Tokens of the context of event n, before it, that c does not hold. */
static uint32_t missing_before(const struct scorer *s, const struct context *c,
                               uint64_t n)
{
    if (!leads_to(s, c, n)) return (uint32_t)(n - anchor_of(s, n));
    return (uint32_t)(n - c->anchor) - c->count;
}

uint32_t scorer_events_needed(const struct scorer *s,
                              const struct context *cached, uint64_t n)
{
    return missing_before(s, cached, n) + 1;
}

void scorer_forget(struct scorer *s, struct context **slot)
{
    if (*slot) context_pool_release(&s->pool, *slot);
}

void scorer_forget_all(struct scorer *s)
{
    while (s->pool.once.oldest)
        context_pool_release(&s->pool, s->pool.once.oldest);
    while (s->pool.again.oldest)
        context_pool_release(&s->pool, s->pool.again.oldest);
}

void scorer_move(struct context **from, struct context **to)
{
    assert(*from && !*to);
    *to = *from;
    (*to)->owner = to;
    *from = NULL;
}

/* ---- a chunk --------------------------------------------------------- */

static void run_layers(struct scorer *s)
{
    const struct behaviour *b = s->behaviour;
    uint32_t last = s->model->params.config.layers - 1;
    struct rows rows = {.count = s->rows, .row = s->row, .bucket = s->bucket};
    struct activations *a = &s->act;

    if (s->model->params.config.has_time)
        behaviour_buckets(b, &rows, s->bucket);
    rows.wanted = s->all_rows;
    rows.wanted_count = s->rows;
    a->x_wanted = a->middle = a->out = a->x;
    a->norm_wanted = a->norm1;
    for (uint32_t l = 0; l < last; l++)
        behaviour_layer_forward(b, l, &rows, a, NULL);
    rows.wanted = s->wanted_row;
    rows.wanted_count = s->wanted;
    a->x_wanted = a->middle = a->out = s->last_x;
    a->norm_wanted = s->last_norm;
    behaviour_layer_forward(b, last, &rows, a, NULL);
}

static void flush(struct scorer *s)
{
    const struct params *p = &s->model->params;
    uint32_t d = p->config.width;

    if (s->rows > 0) {
        run_layers(s);
        for (uint32_t i = 0; i < s->wanted; i++)
            matrix_norm(s->last_x + (size_t)i * d, 1, d, NORM_EPSILON,
                        params_of(p, s->model->values, p->norm_weight),
                        params_of(p, s->model->values, p->norm_bias),
                        s->wanted_to[i], NULL);
        for (uint32_t i = 0; i < s->rows; i++)
            s->row_context[i]->rows = 0;
        s->stats.tokens_total += s->rows;
        s->rows = s->wanted = 0;
    }
    for (uint32_t i = 0; i < s->done_count; i++)
        context_pool_unpin(&s->pool, s->done[i]);
    s->done_count = 0;
}

/* Appends one token. to: where its hidden state goes, or NULL. */
static void add_row(struct scorer *s, struct context *c,
                    const struct token *token, real *to)
{
    uint32_t d = s->model->params.config.width, i;

    if (s->rows == CHUNK_ROWS) flush(s);
    if (!context_pool_grow(&s->pool, c)) {
        flush(s); /* those done no longer need to stay */
        bool grown = context_pool_grow(&s->pool, c);
        assert(grown);
    }
    i = s->rows++;
    if (c->count == 0) c->anchor_ms = token->time_ms;
    c->times[c->count] = behaviour_time(token->time_ms, c->anchor_ms);
    behaviour_embed(s->behaviour, token, c->count, s->act.x + (size_t)i * d);
    s->row[i] =
        (struct row){.page = c->page, .times = c->times, .position = c->count};
    s->row_context[i] = c;
    c->count++;
    c->rows++;
    if (to) {
        s->wanted_row[s->wanted] = i;
        s->wanted_to[s->wanted++] = to;
    }
}

/* ---- a call ---------------------------------------------------------- */

/* Chains the requests of each user, and pins what is cached for them. */
static void group_requests(struct scorer *s, const struct score_request *in,
                           uint32_t count)
{
    memset(s->slot_head, 0xff,
           (s->slot_mask + (size_t)1) * sizeof *s->slot_head);
    for (uint32_t i = 0; i < count; i++) {
        uintptr_t key = (uintptr_t)in[i].context / sizeof(void *);
        uint32_t at = (uint32_t)((key * 0x9e3779b97f4a7c15u) >> 32);
        struct pending *p = &s->pending[i];

        for (at &= s->slot_mask; s->slot_head[at] != NO_REQUEST &&
                                 in[s->slot_head[at]].context != in[i].context;)
            at = (at + 1) & s->slot_mask;
        *p = (struct pending){.next = NO_REQUEST};
        if (s->slot_head[at] == NO_REQUEST) {
            p->first = true;
            s->slot_head[at] = i;
            if (leads_to(s, *in[i].context, in[i].n))
                context_pool_pin(&s->pool, *in[i].context);
        } else {
            s->pending[s->slot_tail[at]].next = i;
        }
        s->slot_tail[at] = i;
    }
}

static struct context *new_context(struct scorer *s, struct context **slot,
                                   uint64_t anchor)
{
    struct context *c = context_pool_take(&s->pool, slot, anchor);
    if (c) return c;
    flush(s); /* those done no longer need to stay */
    c = context_pool_take(&s->pool, slot, anchor);
    assert(c);
    return c;
}

/* The context for a request whose own does not lead to it: emptied or new. */
static struct context *context_from_anchor(struct scorer *s,
                                           const struct score_request *r)
{
    struct context *c = *r->context;
    uint64_t anchor = anchor_of(s, r->n);
    if (!c) return new_context(s, r->context, anchor);
    /* Rows under way still read its old pages. */
    if (c->rows > 0) flush(s);
    context_pool_pin(&s->pool, c);
    context_pool_reset(&s->pool, c, anchor);
    return c;
}

/* Appends the tokens that the context lacks up to the event before the
 * request's, and says where the hidden state before it will be. */
static const real *refill(struct scorer *s, struct context *c,
                          const struct score_request *r, real *before)
{
    uint32_t missing = missing_before(s, c, r->n);
    const struct past_event *ev;

    assert(r->event_count > missing);
    ev = r->events + (r->event_count - 1 - missing);
    for (uint32_t i = 0; i < missing; i++) {
        struct token token;
        tokenise(&s->model->tokeniser, &ev[i], &token);
        add_row(s, c, &token, i + 1 == missing ? before : NULL);
    }
    return missing > 0 ? before : NULL;
}

/* All requests of one user, from its first. */
static void score_user(struct scorer *s, const struct score_request *in,
                       uint32_t i)
{
    uint32_t d = s->model->params.config.width;
    struct context *c = NULL;
    const real *last = NULL;

    for (; i != NO_REQUEST; i = s->pending[i].next) {
        const struct score_request *r = &in[i];
        real *before = s->before + (size_t)i * d;
        real *hidden = s->hidden + (size_t)i * d;

        c = *r->context;
        if (!leads_to(s, c, r->n)) {
            s->stats.misses_total++;
            c = context_from_anchor(s, r);
            last = NULL;
        } else {
            s->stats.hits_total++;
        }
        if (missing_before(s, c, r->n) > 0) {
            last = refill(s, c, r, before);
        } else if (!last && c->count > 0) {
            memcpy(before, c->hidden, d * sizeof *before);
            last = before;
        }
        s->pending[i].before = last;
        tokenise(&s->model->tokeniser, &r->events[r->event_count - 1],
                 &s->token[i]);
        add_row(s, c, &s->token[i], hidden);
        last = hidden;
    }
    s->done[s->done_count++] = c;
}

static void score_heads(struct scorer *s, const struct score_request *in,
                        struct score *out, uint32_t count)
{
    uint32_t d = s->model->params.config.width;
    for (uint32_t i = 0; i < count; i++) {
        s->hidden_list[i] = s->hidden + (size_t)i * d;
        s->before_list[i] = s->pending[i].before;
        s->token_list[i] = &s->token[i];
        s->feature_list[i] = in[i].features;
    }
    if (s->model->info.has_fraud)
        heads_fraud(s->model->heads, s->hidden_list, s->feature_list, count,
                    s->heads_scratch, s->fraud);
    heads_anomaly(s->model->heads, s->before_list, s->token_list, count,
                  s->heads_scratch, s->anomaly);
    for (uint32_t i = 0; i < count; i++)
        out[i] = (struct score){
            .hidden = s->hidden_list[i],
            .fraud = s->model->info.has_fraud ? s->fraud[i] : NAN,
            .anomaly = s->anomaly[i],
        };
}

void scorer_score(struct scorer *s, const struct score_request *in,
                  struct score *out, uint32_t count)
{
    uint32_t d = s->model->params.config.width;

    assert(count <= s->limits.events_max);
    matrix_thread_init();
    group_requests(s, in, count);
    for (uint32_t i = 0; i < count; i++)
        if (s->pending[i].first) score_user(s, in, i);
    flush(s);
    for (uint32_t i = 0; i < count; i++)
        if (s->pending[i].next == NO_REQUEST && *in[i].context)
            memcpy((*in[i].context)->hidden, s->hidden + (size_t)i * d,
                   d * sizeof(real));
    context_pool_trim(&s->pool);
    score_heads(s, in, out, count);
}

/* ---- contexts that begin later ---------------------------------------- */

void scorer_suffixes(struct scorer *s, const struct past_event *events,
                     uint32_t count, const uint32_t *from, uint32_t suffixes,
                     real *out)
{
    struct context *slot[SUFFIXES_MAX] = {NULL};
    uint32_t d = s->model->params.config.width;

    assert(suffixes <= SUFFIXES_MAX);
    matrix_thread_init();
    for (uint32_t k = 0; k < suffixes; k++) {
        struct context *c = new_context(s, &slot[k], from[k]);
        for (uint32_t i = from[k]; i < count; i++) {
            struct token token;
            tokenise(&s->model->tokeniser, &events[i], &token);
            add_row(s, c, &token, i + 1 == count ? out + (size_t)k * d : NULL);
        }
        s->done[s->done_count++] = c;
    }
    flush(s);
    for (uint32_t k = 0; k < suffixes; k++)
        if (slot[k]) context_pool_release(&s->pool, slot[k]);
    context_pool_trim(&s->pool);
}

float scorer_fraud_alone(struct scorer *s, const float *features)
{
    const struct model *m = s->model;
    const real *hidden = m->tables.fraud_reference_hidden;
    float out;
    if (!m->info.has_fraud || !m->tables.has_fraud_reference) return NAN;
    matrix_thread_init();
    heads_fraud(m->heads, &hidden, &features, 1, s->heads_scratch, &out);
    return out;
}

/* ---- lists ----------------------------------------------------------- */

void scorer_top_k(struct scorer *s, struct top_k_request *in, uint32_t count,
                  uint32_t k)
{
    assert(s->top_k && k <= s->limits.k_max);
    matrix_thread_init();
    top_k_find(s->model->items, s->top_k, in, count, k);
}

void scorer_item_logits(struct scorer *s, const float *const *hidden,
                        uint32_t count, float *out)
{
    assert(s->model->items);
    matrix_thread_init();
    top_k_logits(s->model->items, s->top_k, hidden, count, out);
}

struct scorer_stats scorer_stats(const struct scorer *s)
{
    struct scorer_stats stats = s->stats;
    stats.evictions_total = s->pool.evictions;
    stats.context_bytes = context_pool_bytes(&s->pool);
    stats.contexts = s->pool.context_count - s->pool.free_contexts;
    return stats;
}
