/* The text encoder alone: sentences and tokens a second on one thread.
 *
 * Method  Processor time of the thread, so that neighbours matter less. Lengths
 * are log-normal (sigma 0.4, which pads a batch of 8 to 1.6 and one of 32 to
 * 2.1 times its tokens, were it padded) with a mean of 22 or 62 tokens. Random
 * weights of the shape of all-MiniLM-L6, or a directory. "all" makes the last
 * hidden state of every token, which is what other runtimes do; "first" only
 * what a classification reads, [CLS]. GFLOP/s counts what was computed. */
#include "hash.h"
#include "text_model.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

enum { TEXTS = 512, BATCH_MAX = 32, SEED = 5, TOKENS_MAX = 192 };

static const double sigma = 0.4, seconds_min = 1.0;

struct bench {
    struct text_model *model;
    struct text_encoder *encoder;
    uint32_t *ids;               /* (TEXTS, ids_max) */
    struct text_input in[TEXTS]; /* one mix of lengths */
    float *out;
};

static void stop(const char *text)
{
    (void)fprintf(stderr, "bench_text: %s\n", text);
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Two uniforms to one normal (Box and Muller 1958). */
static double normal(uint64_t a, uint64_t b)
{
    double u = draw_unit(draw(SEED, a, b)) + 0x1p-25;
    return sqrt(-2 * log(u)) * cos(2 * M_PI * draw_unit(draw(SEED + 1, a, b)));
}

static struct text_model *random_model(struct text_config c)
{
    struct text_model *m = calloc(1, sizeof *m);
    struct err e;
    if (!m || text_params_init(&m->params, &c, &e) != RC_OK) stop("no memory");
    m->values = aligned_alloc(64, m->params.size * sizeof *m->values);
    if (!m->values) stop("no memory");
    for (size_t i = 0; i < m->params.size; i++)
        m->values[i] = 0.1f * (draw_unit(draw(SEED, 0, i)) - 0.5f);
    if (text_pack(m, &e) != RC_OK) stop(e.text);
    m->info = (struct text_info){.layers = c.layers,
                                 .width = c.width,
                                 .ids = c.ids,
                                 .ids_max = c.positions,
                                 .types = c.types};
    return m;
}

static void make_texts(struct bench *b, uint32_t mean)
{
    const struct text_info *info = &b->model->info;
    for (uint32_t i = 0; i < TEXTS; i++) {
        double n = mean * exp(sigma * normal(mean, i) - sigma * sigma / 2);
        uint32_t *ids = b->ids + (size_t)i * info->ids_max;
        uint32_t count = n < 3 ? 3 : (uint32_t)(n + 0.5);
        if (count > info->ids_max) count = info->ids_max;
        for (uint32_t k = 0; k < count; k++)
            ids[k] = (uint32_t)(draw(SEED, i, k) % info->ids);
        b->in[i] = (struct text_input){.ids = ids, .count = count};
    }
}

/* Products of one text, as multiplications and additions. */
static double flops(const struct text_config *c, uint32_t tokens,
                    enum text_rows rows)
{
    double d = c->width, n = tokens, each = 0;
    for (uint32_t l = 0; l < c->layers; l++) {
        double wanted = rows == TEXT_FIRST && l + 1 == c->layers ? 1 : n;
        each += 4 * n * d * d;                         /* keys, values */
        each += wanted * (4 * d * d + 4 * d * c->ffn); /* the others */
        each += wanted * 4 * n * d;                    /* attention */
    }
    return each;
}

static void measure(struct bench *b, uint32_t mean, uint32_t batch,
                    enum text_rows rows, bool json, bool first)
{
    double start, took, work = 0;
    uint64_t texts = 0, tokens = 0;
    text_encode(b->encoder, b->in, batch, rows, b->out); /* warm */
    start = now_s();
    do {
        const struct text_input *in = &b->in[texts % TEXTS];
        text_encode(b->encoder, in, batch, rows, b->out);
        for (uint32_t i = 0; i < batch; i++) {
            tokens += in[i].count;
            work += flops(&b->model->params.config, in[i].count, rows);
        }
        texts += batch;
        took = now_s() - start;
    } while (took < seconds_min);
    if (json)
        printf("%s{\"tokens_mean\":%u,\"batch\":%u,\"rows\":\"%s\",\"sentences_"
               "per_s\":%.1f,\"tokens_per_s\":%.1f,\"gflops\":%.1f}",
               first ? "" : ",", mean, batch,
               rows == TEXT_ALL ? "all" : "first", (double)texts / took,
               (double)tokens / took, work / took * 1e-9);
    else
        printf("%6u %6u  %-5s %12.1f %10.0f %9.1f\n", mean, batch,
               rows == TEXT_ALL ? "all" : "first", (double)texts / took,
               (double)tokens / took, work / took * 1e-9);
}

static void run(struct bench *b, bool json)
{
    static const uint32_t means[] = {22, 62}, batches[] = {1, 8, BATCH_MAX};
    bool first = true;
    if (json)
        printf("{\"family\":\"%s\",\"format\":\"fp32\",\"cases\":[",
               matrix_family());
    else
        printf("fp32, %s, one thread\n  mean  batch  rows  sentences/s   "
               "tokens/s   GFLOP/s\n",
               matrix_family());
    for (uint32_t m = 0; m < 2; m++) {
        make_texts(b, means[m]);
        for (uint32_t i = 0; i < 3; i++)
            for (int rows = TEXT_ALL; rows <= TEXT_FIRST; rows++) {
                measure(b, means[m], batches[i], (enum text_rows)rows, json,
                        first);
                first = false;
            }
    }
    if (json) printf("]}\n");
}

static void usage(void)
{
    printf("usage: bench_text [--model DIR] [--json]\n\n"
           "  --model DIR  a published directory; else random weights of the\n"
           "               shape of all-MiniLM-L6\n\n"
           "example: bench_text --json\n");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"model", required_argument, 0, 'm'},
        {"json", no_argument, 0, 'j'},
        {"help", no_argument, 0, 'h'},
        {0}};
    static struct bench b;
    bool json = false;
    int option;
    struct err e;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'j') {
            json = true;
        } else if (option == 'm') {
            if (text_open(&b.model, optarg, &e) != RC_OK) stop(e.text);
        } else {
            usage();
            return option == 'h' ? 0 : 2;
        }
    }
    if (!b.model)
        b.model = random_model((struct text_config){.layers = 6,
                                                    .width = 384,
                                                    .heads = 12,
                                                    .ffn = 1536,
                                                    .ids = 30522,
                                                    .positions = 512,
                                                    .types = 2,
                                                    .epsilon = 1e-12f});
    if (text_encoder_new(&b.encoder, b.model, TOKENS_MAX, &e) != RC_OK)
        stop(e.text);
    b.ids = calloc((size_t)TEXTS * b.model->info.ids_max, sizeof *b.ids);
    b.out =
        calloc((size_t)BATCH_MAX * b.model->info.ids_max * b.model->info.width,
               sizeof *b.out);
    if (!b.ids || !b.out) stop("no memory");
    run(&b, json);
    free(b.ids);
    free(b.out);
    text_encoder_free(b.encoder);
    text_free(b.model);
    return 0;
}
