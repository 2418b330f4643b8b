/* Goal    How fast training is and how good its models are, on real logs.
 * Method  items: `user item` lines in time order; each user's last item is
 *         the test, ranked among all items with those seen masked, ties
 *         against us. fraud: the handbook's transactions; learns from labels
 *         of 2018-07-25..31, tests 2018-08-08..14, cards known by then left
 *         out. The features are those of the pipeline; testing goes through
 *         the scorer that serves.
 *
 *   bench_train items "xzcat ml-1m.txt.xz" MODEL_DIR [option=value ...]
 *   bench_train fraud "xzcat transactions.csv.xz" MODEL_DIR [option=value ...]
 *
 * The second argument is a command whose output is read. Prints CSV. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate.h"
#include "hash.h"
#include "history.h"
#include "model.h"
#include "ranking.h"
#include "train.h"
#include "windows.h"

enum { LINE_BYTES = 256, NAME_BYTES = 24, DAY_MS = 86400000, GROUP = 64 };

static const int64_t handbook_start_ms = INT64_C(1522540800000);

static void stop(const char *what)
{
    fprintf(stderr, "bench_train: %s\n", what);
    exit(1);
}

static void *take(size_t count, size_t size)
{
    void *p = calloc(count + 1, size);
    if (!p) stop("no memory");
    return p;
}

/* --- logs --------------------------------------------------------------- */

struct loaded {
    struct train_log log;
    struct past_event *events;
    float *feature_rows;
    int8_t *labels;
    uint64_t *user_start;
    uint32_t *user; /* (rows) while reading */
    struct train_name *names;
    size_t rows_max;
};

static void grow(struct loaded *l)
{
    if (l->log.rows < l->rows_max) return;
    l->rows_max = l->rows_max ? 2 * l->rows_max : 1 << 16;
    l->events = realloc(l->events, l->rows_max * sizeof *l->events);
    l->labels = realloc(l->labels, l->rows_max);
    l->user = realloc(l->user, l->rows_max * sizeof *l->user);
    if (!l->events || !l->labels || !l->user) stop("no memory");
}

static uint64_t hash_number(uint64_t x)
{
    char text[NAME_BYTES];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)x);
    return hash64(slice_str(text));
}

/* Names 0 .. count - 1: ids are numbers. */
static void make_names(struct loaded *l, uint32_t count)
{
    char *texts = take(count, NAME_BYTES);
    l->names = take(count, sizeof *l->names);
    for (uint32_t i = 0; i < count; i++) {
        char *text = texts + (size_t)i * NAME_BYTES;
        (void)snprintf(text, NAME_BYTES, "%u", i);
        l->names[i] =
            (struct train_name){hash64(slice_str(text)), slice_str(text)};
    }
    l->log.names = l->names;
    l->log.name_count = count;
}

/* A stable counting sort by user, so each user's events keep their order. */
static void sort_by_user(struct loaded *l, uint32_t users)
{
    uint64_t rows = l->log.rows;
    struct past_event *events = take(rows, sizeof *events);
    int8_t *labels = take(rows, 1);
    uint64_t *next = take(users + 1, sizeof *next);
    l->user_start = take(users + 1, sizeof *l->user_start);
    for (uint64_t r = 0; r < rows; r++)
        l->user_start[l->user[r] + 1]++;
    for (uint32_t u = 0; u < users; u++)
        l->user_start[u + 1] += l->user_start[u];
    memcpy(next, l->user_start, users * sizeof *next);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t to = next[l->user[r]]++;
        events[to] = l->events[r];
        labels[to] = l->labels[r];
    }
    free(next);
    free(l->events);
    free(l->labels);
    l->events = events;
    l->labels = labels;
    l->log.users = users;
    l->log.user_start = l->user_start;
    l->log.events = events;
    l->log.labels = labels;
}

static FILE *run_command(const char *command)
{
    FILE *in = popen(command, "r");
    if (!in) stop(strerror(errno));
    return in;
}

static void load_items(struct loaded *l, const char *command)
{
    FILE *in = run_command(command);
    char line[LINE_BYTES];
    unsigned user, item, users = 0, items = 0;
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "%u %u", &user, &item) != 2) stop("a line is bad");
        grow(l);
        l->events[l->log.rows] =
            (struct past_event){.time_ms = (int64_t)l->log.rows,
                                .gap_ms = -1,
                                .item = hash_number(item),
                                .flags = PAST_NO_TIME | PAST_NO_AMOUNT};
        l->labels[l->log.rows] = LABEL_UNKNOWN;
        l->user[l->log.rows++] = user;
        if (user >= users) users = user + 1;
        if (item >= items) items = item + 1;
    }
    (void)pclose(in);
    make_names(l, items);
    sort_by_user(l, users);
    l->log.labels = NULL;
    l->log.fields = TRAIN_ITEM;
    l->log.amount_scale = 1;
}

/* Gaps, ratios and window features, by the code that serves. */
static void fold(struct loaded *l)
{
    struct history_shape history = {.events_max = 2, .amount_scale = 100};
    struct windows_shape windows = {
        .count = 3,
        .length_ms = {DAY_MS, INT64_C(7) * DAY_MS, INT64_C(30) * DAY_MS},
        .events_max = 4096,
        .amount_scale = 100,
        .has_amount = true,
        .has_time = true,
        .has_other = true,
        .values_max = 32};
    uint32_t features = windows_features(&windows);
    char **names = take(features, sizeof *names);
    history_shape_init(&history);
    l->feature_rows = take(l->log.rows * features, sizeof(float));
    for (uint32_t f = 0; f < features; f++) {
        char name[64];
        names[f] = strdup(windows_feature_name(&windows, f, name, sizeof name));
    }
    for (uint32_t u = 0; u < l->log.users; u++) {
        struct history h;
        struct windows *w = windows_new(&windows);
        history_init(&h);
        for (uint64_t r = l->user_start[u]; r < l->user_start[u + 1]; r++) {
            (void)history_apply(&history, &h, (int64_t)r, &l->events[r]);
            (void)windows_apply(&windows, w, &l->events[r],
                                l->feature_rows + r * features);
        }
        history_fini(&history, &h);
        windows_free(&windows, w);
    }
    l->log.features = features;
    l->log.feature_names = (const char *const *)names;
    l->log.feature_rows = l->feature_rows;
}

static void load_fraud(struct loaded *l, const char *command)
{
    FILE *in = run_command(command);
    char line[LINE_BYTES];
    unsigned users = 0, items = 0;
    if (!fgets(line, sizeof line, in)) stop("no header");
    while (fgets(line, sizeof line, in)) {
        unsigned long long id, seconds;
        unsigned user, item, fraud;
        long long cents;
        if (sscanf(line, "%llu,%llu,%u,%u,%lld,%u", &id, &seconds, &user, &item,
                   &cents, &fraud) != 6)
            stop("a line is bad");
        grow(l);
        l->events[l->log.rows] = (struct past_event){
            .time_ms = handbook_start_ms + (int64_t)seconds * 1000,
            .amount = cents,
            .item = hash_number(item),
            .event_id = hash_number(id)};
        l->labels[l->log.rows] = fraud ? LABEL_FRAUD : LABEL_GOOD;
        l->user[l->log.rows++] = user;
        if (user >= users) users = user + 1;
        if (item >= items) items = item + 1;
    }
    (void)pclose(in);
    make_names(l, items);
    sort_by_user(l, users);
    l->log.fields = TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME;
    l->log.amount_scale = 100;
    fold(l);
}

/* --- training ----------------------------------------------------------- */

static int64_t day_ms(int day)
{
    return handbook_start_ms + (int64_t)day * DAY_MS;
}

/* Days of the handbook's calendar, 2018-04-01 being 0. */
enum {
    DAY_JULY_25 = 115,
    DAY_AUGUST_1 = 122,
    DAY_AUGUST_8 = 129,
    DAY_AUGUST_15 = 136
};

static void set_option(struct train_options *o, const char *text)
{
    const char *equal = strchr(text, '=');
    size_t length = equal ? (size_t)(equal - text) : 0;
    double x = equal ? strtod(equal + 1, NULL) : 0;
#define NUMBER(name, type)                                                     \
    if (length == strlen(#name) && strncmp(text, #name, length) == 0) {        \
        o->name = (type)x;                                                     \
        return;                                                                \
    }
    NUMBER(layers, uint32_t)
    NUMBER(width, uint32_t)
    NUMBER(heads, uint32_t)
    NUMBER(ffn, uint32_t)
    NUMBER(window, uint32_t)
    NUMBER(epochs_max, uint32_t)
    NUMBER(patience, uint32_t)
    NUMBER(batch_tokens, uint32_t)
    NUMBER(learning_rate, float)
    NUMBER(weight_decay, float)
    NUMBER(dropout, float)
    NUMBER(clip_norm, float)
    NUMBER(average, float)
    NUMBER(temperature, float)
    NUMBER(warmup_steps, uint32_t)
    NUMBER(negatives, uint32_t)
    NUMBER(fraud_heads, uint32_t)
    NUMBER(fraud_width, uint32_t)
    NUMBER(fraud_weight, float)
    NUMBER(seconds_max, double)
    NUMBER(seed, uint64_t)
    NUMBER(threads, uint32_t)
#undef NUMBER
    if (length == 4 && strncmp(text, "from", 4) == 0)
        o->from_ms = day_ms((int)x);
    else if (length == 10 && strncmp(text, "fraud_from", 10) == 0)
        o->fraud_from_ms = day_ms((int)x);
    else if (length == 13 && strncmp(text, "validate_from", 13) == 0)
        o->validate_from_ms = day_ms((int)x);
    else if (length == 5 && strncmp(text, "until", 5) == 0)
        o->until_ms = day_ms((int)x);
    else
        stop(text);
}

static void print_epoch(void *user, const struct train_progress *p)
{
    (void)user;
    if (!p->epoch_end) {
        if (p->step % 50 == 0)
            fprintf(stderr, "\repoch %u step %u/%u loss %.4f %.0f tokens/s  ",
                    p->epoch, p->step, p->steps_per_epoch, p->loss,
                    p->tokens_per_second);
        return;
    }
    printf("%u,%.1f,%.0f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f\n", p->epoch,
           p->seconds, p->tokens_per_second, p->loss, p->item_loss,
           p->fraud_loss, p->validation_loss, p->validation_hit_rate,
           p->validation_ndcg, p->validation_average_precision);
    (void)fflush(stdout);
}

/* --- testing ------------------------------------------------------------ */

static struct scorer *make_scorer(const struct model *m)
{
    struct scorer_limits limits = {.context_bytes_max = (size_t)512 << 20,
                                   .events_max = GROUP,
                                   .k_max = 10};
    struct scorer *s;
    struct err e;
    if (scorer_new(&s, m, limits, &e) != RC_OK) stop(e.text);
    return s;
}

/* The request of event row of a user whose events begin at start. */
static struct score_request request(const struct loaded *l, struct scorer *s,
                                    uint64_t start, uint64_t row,
                                    struct context **slot)
{
    uint64_t n = row - start;
    uint32_t count = scorer_events_needed(s, *slot, n);
    return (struct score_request){.context = slot,
                                  .n = n,
                                  .events = l->events + row + 1 - count,
                                  .event_count = count,
                                  .features =
                                      l->feature_rows + row * l->log.features};
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Rank of the user's last item, those before it masked. */
static uint32_t rank_last(const struct loaded *l, const struct model *m,
                          uint32_t user, const float *logits, uint32_t *seen)
{
    uint64_t last = l->user_start[user + 1] - 1;
    int32_t target = model_item_index(m, l->events[last].item);
    uint32_t count = 0;
    for (uint64_t r = l->user_start[user]; r < last; r++) {
        int32_t item = model_item_index(m, l->events[r].item);
        if (item >= 0 && item != target) seen[count++] = (uint32_t)item;
    }
    qsort(seen, count, sizeof *seen, compare_u32);
    if (target < 0) return model_info(m)->items + 1;
    return ranking_of(logits, model_info(m)->items, (uint32_t)target, seen,
                      count);
}

static void test_items(const struct loaded *l, const struct model *m)
{
    struct scorer *s = make_scorer(m);
    struct ranking r = {0};
    float *logits = take(model_info(m)->items, sizeof *logits);
    uint32_t *seen = take(l->log.rows, sizeof *seen);
    for (uint32_t u = 0; u < l->log.users; u++) {
        uint64_t start = l->user_start[u], end = l->user_start[u + 1];
        struct context *slot = NULL;
        struct score_request in;
        struct score out;
        if (end - start < 3) continue;
        in = request(l, s, start, end - 2, &slot);
        scorer_score(s, &in, &out, 1);
        scorer_item_logits(s, &out.hidden, 1, logits);
        ranking_add(&r, rank_last(l, m, u, logits, seen));
        scorer_forget(s, &slot);
    }
    printf("test,users,%llu,HR@10,%.4f,NDCG@10,%.4f\n",
           (unsigned long long)r.events, ranking_hit_rate(&r, 2),
           ranking_ndcg(&r, 2));
    scorer_free(s);
}

static void print_fraud(struct evaluate *ev, uint32_t column, const char *name,
                        bool leave_out)
{
    struct evaluate_options o = evaluate_options_default();
    struct evaluate_result out;
    struct err e;
    o.from_ms = day_ms(DAY_AUGUST_8);
    o.until_ms = day_ms(DAY_AUGUST_15);
    o.leave_out_known = leave_out;
    o.known_from_ms = day_ms(DAY_JULY_25);
    o.known_delay_ms = INT64_C(7) * DAY_MS;
    if (evaluate_measure(ev, column, &o, &out, &e) != RC_OK) stop(e.text);
    printf("test,%s,%s,rows,%llu,frauds,%llu,AUC,%.4f,AP,%.4f,CP@100,%.4f,"
           "log_loss,%.5f\n",
           name, leave_out ? "known cards left out" : "all",
           (unsigned long long)out.rows, (unsigned long long)out.positives,
           out.auc_roc, out.average_precision, out.card_precision,
           out.log_loss);
}

static void test_fraud(const struct loaded *l, const struct model *m)
{
    struct scorer *s = make_scorer(m);
    struct evaluate *ev = evaluate_new(2);
    for (uint32_t u = 0; u < l->log.users; u++) {
        uint64_t start = l->user_start[u];
        struct context *slot = NULL;
        for (uint64_t r = start; r < l->user_start[u + 1]; r++) {
            float scores[2] = {NAN, NAN};
            struct err e;
            if (l->events[r].time_ms >= day_ms(DAY_AUGUST_8)) {
                struct score_request in = request(l, s, start, r, &slot);
                struct score out;
                scorer_score(s, &in, &out, 1);
                scores[0] = out.fraud;
                scores[1] = out.anomaly;
            }
            if (evaluate_add(ev, scores, l->labels[r], u + 1,
                             l->events[r].time_ms, &e) != RC_OK)
                stop(e.text);
        }
        scorer_forget(s, &slot);
    }
    print_fraud(ev, 0, "fraud", false);
    print_fraud(ev, 0, "fraud", true);
    print_fraud(ev, 1, "anomaly", false);
    print_fraud(ev, 1, "anomaly", true);
    evaluate_free(ev);
    scorer_free(s);
}

int main(int argc, char **argv)
{
    struct loaded l = {0};
    struct train_options o;
    struct model *m;
    struct err e;
    bool fraud;
    if (argc < 4)
        stop("usage: bench_train items|fraud COMMAND MODEL_DIR "
             "[option=value ...]");
    fraud = strcmp(argv[1], "fraud") == 0;
    train_options_default(&o);
    if (fraud) {
        load_fraud(&l, argv[2]);
        o.fraud_from_ms = day_ms(DAY_JULY_25);
        o.until_ms = day_ms(DAY_AUGUST_1);
    } else {
        load_items(&l, argv[2]);
        o.leave_one_out = true;
        o.window = 100;
        o.batch_tokens = 16384;
    }
    for (int i = 4; i < argc; i++)
        set_option(&o, argv[i]);
    printf("epoch,seconds,tokens_per_second,loss,item_loss,fraud_loss,"
           "validation_loss,validation_HR@10,validation_NDCG@10,"
           "validation_AP\n");
    if (train_behaviour(&l.log, &o, argv[3], print_epoch, NULL, &e) != RC_OK)
        stop(e.text);
    if (model_open(&m, argv[3], &e) != RC_OK) stop(e.text);
    if (fraud)
        test_fraud(&l, m);
    else
        test_items(&l, m);
    model_free(m);
    return 0;
}
