/* The model stage alone: what one event costs in the behaviour transformer
 * and in the list of its ten best items, one core, contexts cached.
 *
 * Method  Processor time of the thread, so that neighbours matter less. A
 * random model of the shape in NUMBERS (2 layers, width 64, 2 heads, inner
 * width 256, W = 50, 20,000 items). Every user is first brought to its own
 * point between W and 3 W events. Then events come to the users in random
 * order, so that contexts are cold in the processor's caches, and anchors move
 * as they do live: every W events a context is made again from W tokens. That
 * is in the time, as are embedding, fraud head and anomaly; making events is
 * not. At last what it costs to explain a fraud score: its context four or
 * five times, from the event alone to the whole of it (reasons.h). */
#include "hash.h"
#include "model.h"
#include "random_model.h"
#include "reasons.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BATCH_MAX = 256,
    POOL = 1 << 14, /* different events */
    K = 10,
    SEED = 3,
    FEATURES = 10,
    EXPLAINED = 2000,
};

struct bench {
    struct random_shape shape;
    struct model *model;
    struct scorer *scorer;
    uint32_t users;
    struct context **slot;   /* (users) */
    uint64_t *next;          /* (users) number of the next event */
    struct past_event *pool; /* (POOL + 2 W) */
    float features[FEATURES];
    struct score_request request[BATCH_MAX];
    struct score score[BATCH_MAX];
    struct top_k_request list[BATCH_MAX];
    struct ranked ranked[BATCH_MAX][K];
    double score_us, top_us, heads_us;
    uint64_t draws;
};

static double now_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static void stop(const char *text)
{
    (void)fprintf(stderr, "bench_model: %s\n", text);
    exit(1);
}

static void prepare(struct bench *b, size_t cache_bytes)
{
    uint32_t w = b->shape.window;
    struct scorer_limits limits = {cache_bytes, BATCH_MAX, K};
    struct err e;

    b->model = random_model(b->shape, SEED);
    if (scorer_new(&b->scorer, b->model, limits, &e) != RC_OK) stop(e.text);
    b->slot = calloc(b->users, sizeof *b->slot);
    b->next = calloc(b->users, sizeof *b->next);
    b->pool = calloc(POOL + 2 * w + 1, sizeof *b->pool);
    if (!b->slot || !b->next || !b->pool) stop("no memory");
    for (uint32_t i = 0; i < POOL + 2 * w + 1; i++)
        b->pool[i] = random_event(&b->shape, SEED, 0, i % POOL);
    for (uint32_t u = 0; u < b->users; u++)
        b->next[u] = w + draw(SEED, 9, u) % (2 * w);
}

/* Event n of the user is one of the pool; its earlier ones lie before it. */
static void request_event(struct bench *b, uint32_t i, uint32_t user)
{
    uint64_t n = b->next[user]++;
    uint32_t needed = scorer_events_needed(b->scorer, b->slot[user], n);
    uint64_t start = (hash_mix(user) + n - (needed - 1)) % POOL;
    b->request[i] = (struct score_request){.context = &b->slot[user],
                                           .n = n,
                                           .events = &b->pool[start],
                                           .event_count = needed,
                                           .features = b->features};
}

/* Distinct users, in an order without pattern. */
static void fill(struct bench *b, uint32_t batch)
{
    uint32_t user = (uint32_t)(draw(SEED, 4, b->draws++) % b->users);
    for (uint32_t i = 0; i < batch; i++) {
        request_event(b, i, user);
        user = (user + 7919) % b->users;
    }
}

static void warm_up(struct bench *b)
{
    uint32_t step = BATCH_MAX;
    for (uint32_t u = 0; u < b->users; u += step) {
        uint32_t count = b->users - u < step ? b->users - u : step;
        for (uint32_t i = 0; i < count; i++)
            request_event(b, i, u + i);
        scorer_score(b->scorer, b->request, b->score, count);
    }
}

/* The heads alone, once more on the same rows. */
static void time_heads(struct bench *b, uint32_t batch, real *scratch)
{
    static struct token token[BATCH_MAX];
    static const struct token *tokens[BATCH_MAX];
    static const float *hidden[BATCH_MAX], *features[BATCH_MAX];
    static float out[BATCH_MAX];
    double from;
    for (uint32_t i = 0; i < batch; i++) {
        const struct score_request *r = &b->request[i];
        tokenise(&b->model->tokeniser, &r->events[r->event_count - 1],
                 &token[i]);
        tokens[i] = &token[i];
        hidden[i] = b->score[i].hidden;
        features[i] = b->features;
    }
    from = now_us();
    heads_fraud(b->model->heads, hidden, features, batch, scratch, out);
    heads_anomaly(b->model->heads, hidden, tokens, batch, scratch, out);
    b->heads_us += now_us() - from;
}

static void measure(struct bench *b, uint32_t batch, uint32_t events,
                    real *scratch)
{
    b->score_us = b->top_us = b->heads_us = 0;
    for (uint32_t done = 0; done < events; done += batch) {
        double from;
        fill(b, batch);
        from = now_us();
        scorer_score(b->scorer, b->request, b->score, batch);
        b->score_us += now_us() - from;
        for (uint32_t i = 0; i < batch; i++)
            b->list[i] = (struct top_k_request){.hidden = b->score[i].hidden,
                                                .out = b->ranked[i]};
        from = now_us();
        scorer_top_k(b->scorer, b->list, batch, K);
        b->top_us += now_us() - from;
        time_heads(b, batch, scratch);
    }
    b->score_us /= events;
    b->top_us /= events;
    b->heads_us /= events;
}

static uint32_t context_count(uint64_t n, uint32_t window)
{
    uint64_t k = n / window;
    return (uint32_t)(n - (k == 0 ? 0 : (k - 1) * window) + 1);
}

/* Microseconds and tokens of one explanation; users in no order. */
static double time_explain(struct bench *b, double *tokens)
{
    struct explainer *x;
    struct reasons reasons;
    double us = 0, all = 0;
    struct err e;
    if (explainer_new(&x, b->model, &e) != RC_OK || !x) stop("no explainer");
    for (uint32_t i = 0; i < EXPLAINED; i++) {
        uint32_t user = (uint32_t)(draw(SEED, 5, i) % b->users), count;
        struct explain_request r = {.features = b->features};
        uint64_t before;
        double from;
        request_event(b, 0, user);
        scorer_score(b->scorer, b->request, b->score, 1);
        count = context_count(b->request[0].n, b->shape.window);
        r.events =
            &b->pool[(hash_mix(user) + b->request[0].n - (count - 1)) % POOL];
        r.event_count = count;
        r.hidden = b->score[0].hidden;
        before = scorer_stats(b->scorer).tokens_total;
        from = now_us();
        if (!explain(x, b->scorer, &r, &reasons)) stop("it does not add up");
        us += now_us() - from;
        all += (double)(scorer_stats(b->scorer).tokens_total - before);
    }
    explainer_free(x);
    *tokens = all / EXPLAINED;
    return us / EXPLAINED;
}

static void report_explain(struct bench *b, bool json)
{
    double tokens, us = time_explain(b, &tokens);
    if (json)
        printf("  \"explain_us\": %.1f, \"explain_tokens\": %.1f}\n", us,
               tokens);
    else
        printf("explaining one score: %.1f us, %.1f tokens\n", us, tokens);
}

static void report(const struct bench *b, uint32_t batch, bool json, bool last,
                   double tokens)
{
    double append_us = b->score_us - b->heads_us;
    if (json)
        printf("    {\"batch\": %u, \"append_us\": %.2f, \"heads_us\": %.2f, "
               "\"top_10_us\": %.2f, \"total_us\": %.2f, "
               "\"tokens_per_event\": %.2f}%s\n",
               batch, append_us, b->heads_us, b->top_us,
               b->score_us + b->top_us, tokens, last ? "" : ",");
    else
        printf("%6u %14.2f %14.2f %14.2f %14.2f %14.2f\n", batch, append_us,
               b->heads_us, b->top_us, b->score_us + b->top_us, tokens);
}

static void run(struct bench *b, uint32_t events, bool json)
{
    static const uint32_t batches[] = {1, 8, 64, 256};
    uint32_t count = sizeof batches / sizeof *batches;
    real *scratch = aligned_alloc(
        64, (heads_scratch(&b->model->params) * sizeof *scratch / 64 + 1) * 64);
    if (!scratch) stop("no memory");
    if (json)
        printf("{\"bench\": \"model\", \"kernels\": \"%s\", \"users\": %u, "
               "\"items\": %u, \"kv\": \"%s\", \"per_event\": [\n",
               matrix_family(), b->users, b->shape.items,
               b->shape.kv_bf16 ? "bf16" : "fp32");
    else
        printf("kernels %s, %u users, %u items, keys and values in %s; "
               "microseconds per event\n"
               " batch         append          heads         top 10"
               "          total   tokens/event\n",
               matrix_family(), b->users, b->shape.items,
               b->shape.kv_bf16 ? "bf16" : "fp32");
    for (uint32_t i = 0; i < count; i++) {
        uint64_t before = scorer_stats(b->scorer).tokens_total;
        uint32_t rounded = events / batches[i] * batches[i];
        measure(b, batches[i], rounded, scratch);
        report(b, batches[i], json, i + 1 == count,
               (double)(scorer_stats(b->scorer).tokens_total - before) /
                   rounded);
        (void)fflush(stdout);
    }
    if (json) printf("  ],\n");
    report_explain(b, json);
    free(scratch);
}

static void usage(void)
{
    printf("bench_model [--users N] [--items N] [--events N] [--cache-mib N] "
           "[--fp32] [--json]\n\n"
           "Microseconds per event of the model stage. Example:\n"
           "  bench_model --users 20000 --cache-mib 2048\n");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"users", required_argument, NULL, 'u'},
        {"items", required_argument, NULL, 'i'},
        {"events", required_argument, NULL, 'e'},
        {"cache-mib", required_argument, NULL, 'c'},
        {"fp32", no_argument, NULL, 'f'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    static struct bench b = {
        .shape = {2, 64, 2, 256, 50, 20000, FEATURES, true, true},
        .users = 50000,
    };
    uint32_t events = 40000;
    size_t cache_mib = 4096;
    bool json = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'u':
            b.users = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'i':
            b.shape.items = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'e':
            events = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'c':
            cache_mib = strtoul(optarg, NULL, 10);
            break;
        case 'f':
            b.shape.kv_bf16 = false;
            break;
        case 'j':
            json = true;
            break;
        case 'h':
            usage();
            return 0;
        default:
            usage();
            return 2;
        }
    if (b.users < BATCH_MAX || events < BATCH_MAX)
        stop("at least 256 users and events");
    prepare(&b, cache_mib << 20);
    warm_up(&b);
    run(&b, events, json);
    if (scorer_stats(b.scorer).evictions_total > 0)
        (void)fprintf(stderr, "bench_model: not all users fit: raise "
                              "--cache-mib or lower --users\n");
    return 0;
}
