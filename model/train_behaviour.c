/* train_behaviour.c - the training run: epochs of batches of shards. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hash.h"
#include "train.h"
#include "train_card.h"
#include "train_optimizer.h"
#include "train_segments.h"
#include "train_tables.h"

enum {
    THREADS_MAX = 64,
    ANOMALY_ROWS = 50000,     /* that the quantile tables are made of */
    REFERENCE_ROWS = 50000,   /* whose mean hidden state is the reference's */
    NORMAL_TARGETS_MIN = 500, /* of validation, to make them of it */
    VALIDATION_SHARE = 4,
    START_KEY = 0x7374,
    SHUFFLE_KEY = 0x7368,
};

static const double rate_floor = 0.05; /* of the cosine, at the end */

/* A batch: pieces [from, until) of the epoch's order. */
struct batch {
    uint32_t from, until;
};

struct run {
    const struct train_log *log;
    const struct train_options *o;
    struct model *m;
    struct train_data *data;
    struct train_shared *shared;
    struct team *team;
    struct lane *lanes[THREADS_MAX];
    struct optimizer *optimizer;
    const struct piece **order; /* of the epoch */
    struct batch *batches;
    uint32_t batch_count;
    real *best; /* weights of the best epoch; NULL without validation */
    train_report_fn *report;
    void *user;
    double started, step_seconds;
    uint64_t step; /* since the start */
    /* Of the step under way. */
    const struct piece **shard[TRAIN_SHARDS];
    uint32_t shard_count[TRAIN_SHARDS];
    struct lane_loss shard_loss[TRAIN_SHARDS];
    struct batch_total total;
    struct dropout dropout;
};

/* Sums over an epoch. */
struct epoch_sums {
    struct lane_loss loss;
    uint64_t targets, item_targets, tokens;
    double fraud_weight;
};

static double now_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- start -------------------------------------------------------------- */

static enum rc check_options(const struct train_log *log,
                             const struct train_options *o, struct err *e)
{
    if (log->rows == 0)
        return ERR(e, RC_STOP, "training: the log has no events");
    if (o->threads == 0 || o->threads > THREADS_MAX)
        return ERR(e, RC_STOP, "training: %u threads, must be 1 to %d",
                   o->threads, THREADS_MAX);
    if (o->window == 0 || o->window > WINDOW_MAX)
        return ERR(e, RC_STOP, "training: window %u, must be 1 to %d",
                   o->window, WINDOW_MAX);
    if (o->batch_tokens < 2 * o->window)
        return ERR(e, RC_STOP,
                   "training: batches of %u tokens cannot hold a context of "
                   "%u; set --batch-tokens to that or more",
                   o->batch_tokens, 2 * o->window);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return ERR(e, RC_STOP, "training: dropout %g, must be in [0, 1)",
                   (double)o->dropout);
    if (!(o->learning_rate > 0))
        return ERR(e, RC_STOP, "training: learning rate %g, must be above 0",
                   (double)o->learning_rate);
    if (o->segments > SEGMENTS_MAX)
        return ERR(e, RC_STOP, "training: %u segments, at most %d", o->segments,
                   SEGMENTS_MAX);
    if (o->epochs_max == 0) return ERR(e, RC_STOP, "training: 0 epochs");
    return RC_OK;
}

/* Fields, vocabularies and targets; the shape that follows from them. */
static enum rc take_data(struct run *r, struct err *e)
{
    const struct train_options *o = r->o;
    struct behaviour_config shape = {.layers = o->layers,
                                     .width = o->width,
                                     .heads = o->heads,
                                     .ffn = o->ffn,
                                     .window = o->window,
                                     .kv_bf16 = o->kv_bf16,
                                     .features = r->log->features,
                                     .bins = BINS,
                                     .fraud_width = o->fraud_width};
    struct tokeniser t = {0};
    enum rc rc = data_vocabularies(r->log, o, &shape, &t, e);
    if (rc == RC_OK) rc = data_new(&r->data, r->log, o, &t, e);
    if (rc == RC_OK && r->data->train.count == 0)
        rc = ERR(e, RC_STOP,
                 "training: no event to learn from; the log has %llu, look "
                 "at --from and --validate-from",
                 (unsigned long long)r->log->rows);
    if (rc == RC_OK && r->data->positives && r->data->negatives)
        shape.fraud_heads = o->fraud_heads;
    if (rc == RC_OK) rc = behaviour_config_check(&shape, e);
    if (rc == RC_OK)
        rc = model_new(&r->m, &shape, r->log->amount_scale,
                       r->log->feature_names, e);
    if (rc == RC_OK)
        r->m->tokeniser = t; /* keeps its vocabularies */
    else
        tokeniser_fini(&t);
    return rc;
}

static enum rc take_model(struct run *r, struct err *e)
{
    struct model *m = r->m;
    TRY(tables_features(r->data, &m->tables, e));
    if (m->item_field >= 0)
        tables_reference(m->params.config.items, &m->tables);
    params_start(&m->params, draw(r->o->seed, START_KEY, 0), m->values);
    m->behaviour = behaviour_new(&m->params, m->values);
    m->heads = heads_new(&m->params, m->values, &m->tables);
    if (!m->behaviour || !m->heads)
        return ERR(e, RC_STOP, "training: no memory for packed weights");
    return shared_new(&r->shared, m, r->data, r->o, e);
}

/* A shard holds a fair share and at most one piece more. */
static uint32_t shard_tokens_max(const struct train_options *o)
{
    return o->batch_tokens / TRAIN_SHARDS + 2 * o->window;
}

static enum rc take_workers(struct run *r, struct err *e)
{
    const struct train_options *o = r->o;
    uint32_t pieces = r->data->train.count;
    TRY(team_new(&r->team, o->threads, e));
    for (uint32_t t = 0; t < o->threads; t++)
        TRY(lane_new(&r->lanes[t], r->shared, shard_tokens_max(o), e));
    TRY(optimizer_new(
        &r->optimizer, &r->m->params, r->m->values,
        (struct optimizer_options){.weight_decay = o->weight_decay,
                                   .clip_norm = o->clip_norm},
        r->team, e));
    r->order = malloc((pieces + 1) * sizeof *r->order);
    r->batches = malloc((pieces + 1) * sizeof *r->batches);
    for (uint32_t s = 0; s < TRAIN_SHARDS; s++)
        r->shard[s] = malloc((pieces + 1) * sizeof *r->shard[s]);
    if (r->data->validate.count)
        r->best = malloc(r->m->params.size * sizeof *r->best);
    if (!r->order || !r->batches || !r->shard[TRAIN_SHARDS - 1] ||
        (r->data->validate.count && !r->best))
        return ERR(e, RC_STOP, "training: no memory");
    return RC_OK;
}

static void run_fini(struct run *r)
{
    for (uint32_t s = 0; s < TRAIN_SHARDS; s++)
        free(r->shard[s]);
    free(r->order);
    free(r->batches);
    free(r->best);
    optimizer_free(r->optimizer);
    for (uint32_t t = 0; t < THREADS_MAX; t++)
        lane_free(r->lanes[t]);
    team_free(r->team);
    shared_free(r->shared);
    data_free(r->data);
    model_free(r->m);
}

/* --- one step ----------------------------------------------------------- */

/* Fisher and Yates; then batches of neighbours. */
static void order_epoch(struct run *r, uint32_t epoch)
{
    const struct piece_list *list = &r->data->train;
    uint64_t key = draw(r->o->seed, SHUFFLE_KEY, epoch);
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < list->count; i++)
        r->order[i] = &list->at[i];
    for (uint32_t i = list->count; i > 1; i--) {
        uint32_t k = (uint32_t)(draw(key, i, 0) % i);
        const struct piece *swap = r->order[k];
        r->order[k] = r->order[i - 1];
        r->order[i - 1] = swap;
    }
    r->batch_count = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (i == 0 || tokens + r->order[i]->count > r->o->batch_tokens) {
            r->batches[r->batch_count++] = (struct batch){.from = i};
            tokens = 0;
        }
        tokens += r->order[i]->count;
        r->batches[r->batch_count - 1].until = i + 1;
    }
}

/* Each piece to the shard with the fewest tokens so far. */
static uint32_t cut_shards(struct run *r, const struct batch *b)
{
    uint32_t tokens[TRAIN_SHARDS] = {0}, all = 0;
    memset(r->shard_count, 0, sizeof r->shard_count);
    for (uint32_t i = b->from; i < b->until; i++) {
        uint32_t least = 0;
        for (uint32_t s = 1; s < TRAIN_SHARDS; s++)
            if (tokens[s] < tokens[least]) least = s;
        r->shard[least][r->shard_count[least]++] = r->order[i];
        tokens[least] += r->order[i]->count;
        all += r->order[i]->count;
    }
    return all;
}

static void run_shard(void *user, uint32_t task, uint32_t thread)
{
    struct run *r = user;
    struct lane *l = r->lanes[thread];
    r->shard_loss[task] = (struct lane_loss){0};
    if (r->shard_count[task] == 0) return;
    lane_forward(l, r->shard[task], r->shard_count[task], ROLE_TRAIN,
                 r->dropout);
    r->shard_loss[task] = lane_backward(
        l, &r->total, r->dropout, optimizer_gradients(r->optimizer, task));
}

static float rate_of(const struct run *r, uint64_t steps_total)
{
    const struct train_options *o = r->o;
    double done = (double)r->step / (double)(steps_total ? steps_total : 1);
    double cosine = 0.5 * (1 + cos(3.14159265358979 * (done < 1 ? done : 1)));
    double warm =
        o->warmup_steps ? (double)(r->step + 1) / (double)o->warmup_steps : 1;
    if (warm > 1) warm = 1;
    return (float)((double)o->learning_rate * warm *
                   (rate_floor + (1 - rate_floor) * cosine));
}

static enum rc run_step(struct run *r, const struct batch *b,
                        struct epoch_sums *sums, struct err *e)
{
    uint64_t steps_total = (uint64_t)r->batch_count * r->o->epochs_max;
    double norm;
    sums->tokens += cut_shards(r, b);
    lane_count(r->shared, r->order + b->from, b->until - b->from, ROLE_TRAIN,
               &r->total);
    r->dropout = (struct dropout){
        .rate = r->o->dropout, .seed = r->o->seed, .step = r->step};
    shared_refresh(r->shared, r->step);
    team_run(r->team, TRAIN_SHARDS, run_shard, r);
    norm = optimizer_step(r->optimizer, rate_of(r, steps_total));
    r->step++;
    for (uint32_t s = 0; s < TRAIN_SHARDS; s++) {
        sums->loss.item += r->shard_loss[s].item;
        sums->loss.fields += r->shard_loss[s].fields;
        sums->loss.fraud += r->shard_loss[s].fraud;
    }
    sums->targets += r->total.targets;
    sums->item_targets += r->total.item_targets;
    sums->fraud_weight += r->total.fraud_weight;
    if (isfinite(norm)) return RC_OK;
    return ERR(e, RC_STOP,
               "training: the gradient is not finite at step %llu; a smaller "
               "--learning-rate may help",
               (unsigned long long)r->step);
}

/* --- epochs ------------------------------------------------------------- */

static double mean(double sum, double count)
{
    return count > 0 ? sum / count : (double)NAN;
}

static void fill_losses(const struct run *r, const struct epoch_sums *sums,
                        struct train_progress *p)
{
    double targets = (double)sums->targets;
    p->item_loss = mean(sums->loss.item, (double)sums->item_targets);
    p->fraud_loss = mean(sums->loss.fraud, sums->fraud_weight);
    p->loss = mean(sums->loss.item + (double)FIELD_SHARE * sums->loss.fields,
                   targets);
    if (sums->fraud_weight > 0)
        p->loss += (double)r->o->fraud_weight * p->fraud_loss;
}

static void report(const struct run *r, uint32_t epoch, uint32_t step,
                   const struct epoch_sums *sums, double epoch_started,
                   const struct measured *v)
{
    uint64_t left =
        (uint64_t)(r->o->epochs_max - epoch) * r->batch_count - step;
    double now = now_seconds();
    struct train_progress p = {
        .epoch_end = v != NULL,
        .epoch = epoch + 1,
        .epochs_max = r->o->epochs_max,
        .step = step,
        .steps_per_epoch = r->batch_count,
        .seconds = now - r->started,
        .seconds_left = (now - r->started) / (double)r->step * (double)left,
        .tokens_per_second = (double)sums->tokens / (now - epoch_started),
        .validation_loss = v ? v->loss : (double)NAN,
        .validation_hit_rate = v ? v->hit_rate : (double)NAN,
        .validation_ndcg = v ? v->ndcg : (double)NAN,
        .validation_average_precision = v ? v->average_precision : (double)NAN,
    };
    if (!r->report) return;
    fill_losses(r, sums, &p);
    if (r->o->seconds_max > 0 && p.seconds + p.seconds_left > r->o->seconds_max)
        p.seconds_left = fmax(r->o->seconds_max - p.seconds, 0);
    r->report(r->user, &p);
}

/* What early stopping watches; larger is better. */
static double goodness(const struct run *r, const struct measured *v)
{
    if (r->o->leave_one_out && !isnan(v->ndcg)) return v->ndcg;
    if (!isnan(v->average_precision)) return v->average_precision;
    return -v->loss;
}

/* After an epoch a part of the validation is enough to see where training
 * goes: what takes a quarter as long as the epoch. */
static uint32_t validation_step(const struct train_data *d)
{
    return (uint32_t)(VALIDATION_SHARE * d->validate.tokens /
                      (2 * d->train.tokens)) +
           1;
}

static enum rc validate(struct run *r, struct measured *v, struct err *e)
{
    struct scored_labels labels;
    *v = (struct measured){.loss = (double)NAN,
                           .hit_rate = (double)NAN,
                           .ndcg = (double)NAN,
                           .average_precision = (double)NAN};
    if (!r->data->validate.count) return RC_OK;
    shared_refresh_whole(r->shared);
    TRY(measure(r->shared, r->lanes, r->team, &r->data->validate,
                validation_step(r->data), ROLE_VALIDATE, v, &labels, e));
    scored_labels_fini(&labels);
    return RC_OK;
}

static enum rc run_epoch(struct run *r, uint32_t epoch, struct measured *v,
                         struct card_facts *facts, struct err *e)
{
    struct epoch_sums sums = {0};
    struct train_progress losses = {0};
    double started = now_seconds();
    order_epoch(r, epoch);
    for (uint32_t b = 0; b < r->batch_count; b++) {
        TRY(run_step(r, &r->batches[b], &sums, e));
        if (b + 1 < r->batch_count)
            report(r, epoch, b + 1, &sums, started, NULL);
    }
    fill_losses(r, &sums, &losses);
    facts->train_loss = losses.loss;
    facts->epochs = epoch + 1;
    r->step_seconds = now_seconds() - started;
    TRY(validate(r, v, e));
    report(r, epoch, r->batch_count, &sums, now_seconds() - r->step_seconds, v);
    return RC_OK;
}

static enum rc run_epochs(struct run *r, struct card_facts *facts,
                          struct err *e)
{
    size_t bytes = r->m->params.size * sizeof *r->m->values;
    double best = -INFINITY;
    uint32_t worse = 0;
    for (uint32_t epoch = 0; epoch < r->o->epochs_max; epoch++) {
        struct measured v;
        TRY(run_epoch(r, epoch, &v, facts, e));
        if (!r->best) {
            facts->best_epoch = epoch + 1;
        } else if (goodness(r, &v) > best) {
            best = goodness(r, &v);
            facts->best = v;
            facts->best_epoch = epoch + 1;
            memcpy(r->best, r->m->values, bytes);
            worse = 0;
        } else if (++worse >= r->o->patience && r->o->patience) {
            break;
        }
        if (r->o->seconds_max > 0 &&
            now_seconds() - r->started >= r->o->seconds_max)
            break;
    }
    if (r->best && facts->best_epoch) memcpy(r->m->values, r->best, bytes);
    return RC_OK;
}

/* --- end ---------------------------------------------------------------- */

static enum rc calibrate(struct run *r, struct err *e)
{
    struct scored_labels labels = {0};
    struct measured v;
    if (!r->m->info.has_fraud) return RC_OK;
    if (r->data->validate.count)
        TRY(measure(r->shared, r->lanes, r->team, &r->data->validate, 1,
                    ROLE_VALIDATE, &v, &labels, e));
    tables_calibrate(&labels, (double)r->shared->positive_weight,
                     &r->m->tables);
    scored_labels_fini(&labels);
    return RC_OK;
}

/* From validation where it is large enough: surprise on what was learned
 * from is a little too small. */
static enum rc make_anomaly(struct run *r, struct err *e)
{
    bool fresh = r->data->validate.targets >= NORMAL_TARGETS_MIN;
    float *surprise = NULL;
    uint64_t rows;
    enum rc rc =
        measure_surprise(r->shared, r->lanes, r->team,
                         fresh ? &r->data->validate : &r->data->train,
                         fresh ? ROLE_VALIDATE : ROLE_TRAIN, r->m->heads,
                         ANOMALY_ROWS, &surprise, &rows, e);
    if (rc == RC_OK)
        rc = tables_anomaly(surprise, rows, r->m->heads, &r->m->params.config,
                            &r->m->tables, e);
    free(surprise);
    return rc;
}

/* What fraud scores will be explained against: the middle value of every
 * feature of good events, and the mean of their hidden states. */
static enum rc make_reference(struct run *r, struct err *e)
{
    struct model *m = r->m;
    real *hidden = calloc(m->params.config.width, sizeof *hidden);
    float *features = calloc(m->params.config.features + 1, sizeof *features);
    bool any = false;
    enum rc rc = RC_OK;
    if (!hidden || !features) rc = ERR(e, RC_STOP, "training: no memory");
    if (rc == RC_OK)
        rc = measure_good(r->shared, r->lanes, r->team, &r->data->train,
                          ROLE_TRAIN, REFERENCE_ROWS, hidden, &any, e);
    if (rc == RC_OK) rc = tables_typical(r->data, features, e);
    if (rc == RC_OK && any) model_set_reference(m, hidden, features);
    free(hidden);
    free(features);
    return rc;
}

static enum rc finish(struct run *r, const struct card_facts *facts,
                      const char *dir, struct err *e)
{
    char *card;
    enum rc rc;
    tables_unseen_rows(r->data, r->m);
    shared_refresh_whole(r->shared);
    TRY(calibrate(r, e));
    TRY(make_anomaly(r, e));
    tables_item_counts(r->data, r->m);
    if (r->o->segments > 0)
        TRY(train_segments(r->shared, r->lanes, r->team, &r->m->segments, e));
    r->m->info.segments = r->m->segments.count;
    if (r->m->info.has_fraud) TRY(make_reference(r, e));
    card = card_text(r->shared, facts);
    if (!card) return ERR(e, RC_STOP, "training: no memory for the card");
    rc = model_write(r->m, dir, card, e);
    free(card);
    return rc;
}

enum rc train_behaviour(const struct train_log *log,
                        const struct train_options *options, const char *dir,
                        train_report_fn *report_fn, void *user, struct err *e)
{
    struct run r = {.log = log,
                    .o = options,
                    .report = report_fn,
                    .user = user,
                    .started = now_seconds()};
    struct card_facts facts = {0};
    enum rc rc = check_options(log, options, e);
    if (rc == RC_OK) rc = take_data(&r, e);
    if (rc == RC_OK) rc = take_model(&r, e);
    if (rc == RC_OK) rc = take_workers(&r, e);
    if (rc == RC_OK) rc = run_epochs(&r, &facts, e);
    if (rc == RC_OK) rc = finish(&r, &facts, dir, e);
    run_fini(&r);
    return rc;
}
