/* train_behaviour.c - the training run: epochs of batches of shards. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "baseline.h"
#include "hash.h"
#include "train.h"
#include "train_card.h"
#include "train_from.h"
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
    BATCH_CONTEXTS = 32,
    BATCH_TOKENS_MIN = 1024,
    BATCH_TOKENS_MAX = 16384,
    DROPOUT_EVENTS = 256, /* of an item, where there are none */
    GOOD_KEY = 0x676f,
    ALL_ITEMS_MAX = 4096, /* of a full softmax */
    NEGATIVES = 1024,
};

/* README.md has the measurements of these. */
#define TEMPERATURE     0.1f
#define TEMPERATURE_MIN 0.005f
#define TEMPERATURE_MAX 10.0f

/* Nats by which a field's prediction beats its marginal where its loss counts
 * in full. */
static const double full_gain = 0.05;

static const double rate_floor = 0.05; /* of the cosine, at the end */

/* What a run leaves to the one that learns from all of it again. */
struct kept {
    real field_share[FIELDS_MAX];
    struct head_tables tables; /* calibration and quantiles of it */
    bool has_fraud;
    struct card_facts facts;
};

/* A batch: pieces [from, until) of the epoch's order. */
struct batch {
    uint32_t from, until;
};

struct run {
    const struct train_log *log;
    struct train_options options; /* with what was left open chosen */
    const struct train_options *o;
    struct model *base; /* NULL: training begins at random */
    struct model *m;
    struct train_data *data;
    struct train_shared *shared;
    struct team *team;
    struct lane *lanes[THREADS_MAX];
    struct optimizer *optimizer;
    const struct piece **order; /* of the epoch */
    struct batch *batches;
    uint32_t batch_count;
    real *best;        /* weights of the best epoch; NULL without validation */
    uint32_t pretrain; /* epochs of next events alone */
    uint64_t phase_step; /* where this phase's steps began */
    uint32_t phase_epochs;
    const struct kept *kept; /* of the run that chose; NULL: this one does */
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
    if (o->batch_tokens && o->batch_tokens < 2 * o->window)
        return ERR(e, RC_STOP,
                   "training: batches of %u tokens cannot hold a context of "
                   "%u; set --batch-tokens to that or more",
                   o->batch_tokens, 2 * o->window);
    if (!(o->dropout < 1))
        return ERR(e, RC_STOP, "training: dropout %g, must be in [0, 1)",
                   (double)o->dropout);
    if (!(o->average >= 0 && o->average < 1))
        return ERR(e, RC_STOP, "training: average %g, must be in [0, 1)",
                   (double)o->average);
    if (!(o->temperature <= 0 || (o->temperature >= TEMPERATURE_MIN &&
                                  o->temperature <= TEMPERATURE_MAX)))
        return ERR(e, RC_STOP,
                   "training: temperature %g, must be 0 or %g to %g",
                   (double)o->temperature, (double)TEMPERATURE_MIN,
                   (double)TEMPERATURE_MAX);
    if (!(o->learning_rate > 0))
        return ERR(e, RC_STOP, "training: learning rate %g, must be above 0",
                   (double)o->learning_rate);
    if (o->segments > SEGMENTS_MAX)
        return ERR(e, RC_STOP, "training: %u segments, at most %d", o->segments,
                   SEGMENTS_MAX);
    if (o->epochs_max == 0) return ERR(e, RC_STOP, "training: 0 epochs");
    if (o->pretrain_epochs >= o->epochs_max)
        return ERR(e, RC_STOP,
                   "training: %u epochs of pre-training, must be fewer than "
                   "the %u in all",
                   o->pretrain_epochs, o->epochs_max);
    if (!(o->good_share > 0 && o->good_share <= 1))
        return ERR(e, RC_STOP,
                   "training: share of good rows %g, must be in "
                   "(0, 1]",
                   (double)o->good_share);
    if (o->refit && o->leave_one_out)
        return ERR(e, RC_STOP,
                   "training: leaving one out holds its validation back for "
                   "good; leave out --refit");
    return RC_OK;
}

static enum rc take_base(struct run *r, struct err *e)
{
    if (!r->options.from) return RC_OK;
    TRY(model_open(&r->base, r->options.from, e));
    return from_options(r->base, &r->options, e);
}

/* A fraud head where there are labels to learn from, or the base has one. */
static uint32_t fraud_heads(const struct run *r)
{
    bool labels = r->data->positives && r->data->negatives;
    bool kept = r->base && r->base->info.has_fraud;
    return labels || kept ? r->o->fraud_heads : 0;
}

/* Fields, vocabularies and targets; the shape that follows from them. */
static enum rc take_data(struct run *r, struct err *e)
{
    const struct train_options *o = r->o;
    const struct tokeniser *known = r->base ? &r->base->tokeniser : NULL;
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
    enum rc rc = data_vocabularies(r->log, o, known, &shape, &t, e);
    if (rc == RC_OK) rc = data_new(&r->data, r->log, o, &t, e);
    if (rc == RC_OK && r->data->train.count == 0)
        rc = ERR(e, RC_STOP,
                 "training: no event to learn from; the log has %llu, look "
                 "at --learn-from and --validate-from",
                 (unsigned long long)r->log->rows);
    if (rc == RC_OK) shape.fraud_heads = fraud_heads(r);
    if (rc == RC_OK && r->data->positives && r->data->negatives)
        r->pretrain = o->pretrain_epochs;
    if (rc == RC_OK && r->base)
        rc = from_check(r->base, &shape, r->log->amount_scale,
                        r->log->feature_names, e);
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

/* A batch of so many contexts: steps stay small where users are new, and
 * their number large enough to learn from where there are few events. */
static uint32_t choose_batch(const struct train_data *d, uint32_t window)
{
    uint64_t tokens = BATCH_CONTEXTS * d->train.tokens / d->train.count;
    if (tokens < BATCH_TOKENS_MIN) tokens = BATCH_TOKENS_MIN;
    if (tokens > BATCH_TOKENS_MAX) tokens = BATCH_TOKENS_MAX;
    return tokens < 2 * window ? 2 * window : (uint32_t)tokens;
}

/* Items that come rarely are learned by heart: the fewer events an item has,
 * the more is dropped. README.md has the measurements. */
static float choose_dropout(const struct train_data *d, uint32_t items)
{
    double each = items ? (double)d->train.targets / items : DROPOUT_EVENTS;
    double x = 0.6 - 0.055 * log2(each > 1 ? each : 1);
    return (float)(x < 0.1 ? 0.1 : x > 0.5 ? 0.5 : x);
}

static void choose_options(struct run *r)
{
    struct train_options *o = &r->options;
    uint32_t items = r->m->params.config.items;
    bool labels = r->data->positives > 0;
    if (o->batch_tokens == 0)
        o->batch_tokens = choose_batch(r->data, o->window);
    if (o->dropout < 0) o->dropout = choose_dropout(r->data, items);
    if (o->temperature < 0) o->temperature = labels ? 0 : TEMPERATURE;
    if (o->negatives == TRAIN_AUTO)
        o->negatives = labels || items <= ALL_ITEMS_MAX ? 0 : NEGATIVES;
}

static enum rc take_model(struct run *r, struct err *e)
{
    struct model *m = r->m;
    TRY(tables_features(r->data, &m->tables, e));
    if (m->item_field >= 0)
        tables_reference(m->params.config.items, &m->tables);
    params_start(&m->params, draw(r->o->seed, START_KEY, 0), m->values);
    if (r->base) from_copy(r->base, m);
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

/* With a temperature t, a score is cos(h, e) / t: the last norm stays as it
 * begins, so that |h| = sqrt(D), and the items lie on a sphere whose radius
 * makes the product that. Serving is as ever. A step turns a row by as much as
 * it would one that began small, as all tables do. */
static struct optimizer_options optimizer_options_of(const struct run *r)
{
    const struct train_options *o = r->o;
    const struct params *p = &r->m->params;
    struct optimizer_options out = {.weight_decay = o->weight_decay,
                                    .clip_norm = o->clip_norm,
                                    .average = o->average,
                                    .sphere = TENSOR_NONE,
                                    .fixed = {TENSOR_NONE, TENSOR_NONE}};
    if (!(o->temperature > 0) || r->m->item_field < 0) return out;
    out.sphere = p->embedding[r->m->item_field];
    out.radius = 1 / (o->temperature * sqrtf((float)p->config.width));
    out.sphere_rate = out.radius / (sqrtf((float)p->config.width) *
                                    p->tensor[out.sphere].deviation);
    out.fixed[0] = p->norm_weight;
    out.fixed[1] = p->norm_bias;
    return out;
}

static enum rc take_workers(struct run *r, struct err *e)
{
    const struct train_options *o = r->o;
    uint32_t pieces = r->data->train.count;
    TRY(team_new(&r->team, o->threads, e));
    for (uint32_t t = 0; t < o->threads; t++)
        TRY(lane_new(&r->lanes[t], r->shared, shard_tokens_max(o), e));
    TRY(optimizer_new(&r->optimizer, &r->m->params, r->m->values,
                      optimizer_options_of(r), r->team, e));
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
    model_free(r->base);
}

/* --- one step ----------------------------------------------------------- */

static const struct piece_list *list_of(const struct run *r, uint32_t epoch)
{
    return r->pretrain && epoch >= r->pretrain ? &r->data->labelled
                                               : &r->data->train;
}

/* Fisher and Yates; then batches of neighbours. */
static void order_epoch(struct run *r, uint32_t epoch)
{
    const struct piece_list *list = list_of(r, epoch);
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

/* Pre-training has a warm-up and a cosine of its own. */
static float rate_of(const struct run *r, uint64_t steps_total)
{
    const struct train_options *o = r->o;
    double step = (double)(r->step - r->phase_step);
    double done = step / (double)(steps_total ? steps_total : 1);
    double cosine = 0.5 * (1 + cos(3.14159265358979 * (done < 1 ? done : 1)));
    double warm = o->warmup_steps ? (step + 1) / (double)o->warmup_steps : 1;
    if (warm > 1) warm = 1;
    return (float)((double)o->learning_rate * warm *
                   (rate_floor + (1 - rate_floor) * cosine));
}

static enum rc run_step(struct run *r, const struct batch *b,
                        struct epoch_sums *sums, struct err *e)
{
    uint64_t steps_total = (uint64_t)r->batch_count * r->phase_epochs;
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
    p->loss = mean(sums->loss.item + sums->loss.fields, targets);
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
 * goes: what takes a quarter as long as the epoch. One event of each user is
 * few enough as it is. */
static uint32_t validation_step(const struct run *r)
{
    const struct train_data *d = r->data;
    if (r->o->leave_one_out) return 1;
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
                validation_step(r), ROLE_VALIDATE, v, &labels, e));
    scored_labels_fini(&labels);
    return RC_OK;
}

/* A field that the history does not foretell has nothing to teach. */
static void weigh_fields(struct run *r, const struct measured *v)
{
    if (v->targets < NORMAL_TARGETS_MIN) return;
    for (uint32_t f = 0; f < r->m->params.config.field_count; f++) {
        double share = v->field_gain[f] / full_gain;
        share = share < 0 ? 0 : share > 1 ? 1 : share;
        r->shared->field_share[f] = (real)(share * (double)FIELD_SHARE);
    }
}

static void begin_phase(struct run *r, uint32_t epoch)
{
    r->shared->good_key = draw(r->o->seed, GOOD_KEY, epoch);
    r->shared->fraud_rests = epoch < r->pretrain;
    if (epoch != 0 && epoch != r->pretrain) return;
    r->phase_step = r->step;
    r->phase_epochs =
        epoch < r->pretrain ? r->pretrain : r->o->epochs_max - r->pretrain;
}

static enum rc run_epoch(struct run *r, uint32_t epoch, struct measured *v,
                         struct card_facts *facts, struct err *e)
{
    struct epoch_sums sums = {0};
    struct train_progress losses = {0};
    double started = now_seconds();
    begin_phase(r, epoch);
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
    optimizer_swap_average(r->optimizer); /* run_epochs swaps back */
    TRY(validate(r, v, e));
    weigh_fields(r, v);
    report(r, epoch, r->batch_count, &sums, now_seconds() - r->step_seconds, v);
    return RC_OK;
}

/* Keeps the weights if they are the best so far. Returns whether. */
static bool keep_best(struct run *r, uint32_t epoch, const struct measured *v,
                      struct card_facts *facts)
{
    if (r->best && facts->best_epoch &&
        !(goodness(r, v) > goodness(r, &facts->best)))
        return false; /* nor where it is not a number */
    facts->best = *v;
    facts->best_epoch = epoch + 1;
    if (r->best)
        memcpy(r->best, r->m->values, r->m->params.size * sizeof *r->best);
    return true;
}

static enum rc run_epochs(struct run *r, struct card_facts *facts,
                          struct err *e)
{
    uint32_t worse = 0;
    for (uint32_t epoch = 0; epoch < r->o->epochs_max; epoch++) {
        struct measured v;
        TRY(run_epoch(r, epoch, &v, facts, e));
        if (epoch >= r->pretrain)
            worse = keep_best(r, epoch, &v, facts) ? 0 : worse + 1;
        optimizer_swap_average(r->optimizer);
        if (r->o->patience && worse >= r->o->patience) break;
        if (r->kept && facts->best_epoch == r->kept->facts.best_epoch) break;
        if (r->o->seconds_max > 0 &&
            now_seconds() - r->started >= r->o->seconds_max)
            break;
    }
    if (r->best)
        memcpy(r->m->values, r->best, r->m->params.size * sizeof *r->best);
    else
        optimizer_swap_average(r->optimizer);
    return RC_OK;
}

/* --- end ---------------------------------------------------------------- */

static enum rc calibrate(struct run *r, struct err *e)
{
    struct scored_labels labels = {0};
    struct measured v;
    if (!r->m->info.has_fraud) return RC_OK;
    if (r->data->positives == 0) return RC_OK; /* the base's line stays */
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
    bool own_only =
        r->o->refit && r->best && (r->log->fields & TRAIN_AMOUNT) != 0;
    float *surprise = NULL;
    uint64_t rows;
    enum rc rc =
        measure_surprise(r->shared, r->lanes, r->team,
                         fresh ? &r->data->validate : &r->data->train,
                         fresh ? ROLE_VALIDATE : ROLE_TRAIN, r->m->heads,
                         ANOMALY_ROWS, &surprise, &rows, e);
    if (rc == RC_OK)
        rc = tables_anomaly(surprise, rows, own_only, r->m->heads,
                            &r->m->params, &r->m->tables, e);
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

/* Calibrated and with tables: from its own validation, or as they were. */
static enum rc fill_tables(struct run *r, struct err *e)
{
    struct head_tables *t = &r->m->tables;
    const struct head_tables *from;
    if (!r->kept || !r->kept->has_fraud) TRY(calibrate(r, e));
    if (!r->kept) return make_anomaly(r, e);
    from = &r->kept->tables;
    if (r->kept->has_fraud)
        memcpy(t->calibration, from->calibration, sizeof t->calibration);
    t->depth = from->depth;
    memcpy(t->field_quantile, from->field_quantile, sizeof t->field_quantile);
    memcpy(t->own_quantile, from->own_quantile, sizeof t->own_quantile);
    memcpy(t->total_quantile, from->total_quantile, sizeof t->total_quantile);
    return RC_OK;
}

static enum rc run_all(struct run *r, struct card_facts *facts, struct err *e)
{
    TRY(take_base(r, e));
    TRY(check_options(r->log, r->o, e));
    TRY(take_data(r, e));
    choose_options(r);
    if (r->base)
        memcpy(facts->base_hash, r->base->info.hash, sizeof facts->base_hash);
    TRY(take_model(r, e));
    TRY(take_workers(r, e));
    if (r->kept)
        memcpy(r->shared->field_share, r->kept->field_share,
               sizeof r->kept->field_share);
    TRY(run_epochs(r, facts, e));
    tables_unseen_rows(r->data, r->m);
    shared_refresh_whole(r->shared);
    return fill_tables(r, e);
}

/* What is counted and grouped once the weights stand for good. */
static enum rc count_and_group(struct run *r, struct err *e)
{
    tables_item_counts(r->data, r->m);
    if (r->o->segments > 0)
        TRY(train_segments(r->shared, r->lanes, r->team, &r->m->segments, e));
    r->m->info.segments = r->m->segments.count;
    if (!r->m->info.has_fraud) return RC_OK;
    TRY(make_reference(r, e));
    return baseline_fit(r->data, r->m, e);
}

static enum rc write_model(struct run *r, const struct card_facts *facts,
                           const char *dir, struct err *e)
{
    char *card;
    enum rc rc;
    if (!dir) return RC_OK;
    TRY(count_and_group(r, e));
    card = card_text(r->shared, facts);
    if (!card) return ERR(e, RC_STOP, "training: no memory for the card");
    rc = model_write(r->m, dir, card, e);
    free(card);
    return rc;
}

/* The run on everything before until, as the first one chose. */
static enum rc refit(const struct run *first, const struct kept *kept,
                     const char *dir, struct err *e)
{
    struct train_log log = *first->log;
    struct run r = {.log = &log,
                    .options = *first->o,
                    .o = &r.options,
                    .kept = kept,
                    .report = first->report,
                    .user = first->user,
                    .started = now_seconds()};
    struct card_facts facts = kept->facts, ran = {0};
    enum rc rc;
    if (log.labels_until) log.labels = log.labels_until;
    r.options.validate_from_ms = r.options.until_ms;
    rc = run_all(&r, &ran, e);
    facts.train_loss = ran.train_loss;
    if (rc == RC_OK) rc = write_model(&r, &facts, dir, e);
    run_fini(&r);
    return rc;
}

enum rc train_behaviour(const struct train_log *log,
                        const struct train_options *options, const char *dir,
                        train_report_fn *report_fn, void *user, struct err *e)
{
    struct run r = {.log = log,
                    .options = *options,
                    .o = &r.options,
                    .report = report_fn,
                    .user = user,
                    .started = now_seconds()};
    struct kept kept = {0};
    bool again = options->refit;
    enum rc rc = run_all(&r, &kept.facts, e);
    again = again && rc == RC_OK && r.best;
    if (rc == RC_OK) kept.tables = r.m->tables;
    if (rc == RC_OK) kept.has_fraud = r.m->info.has_fraud;
    if (rc == RC_OK)
        memcpy(kept.field_share, r.shared->field_share,
               sizeof kept.field_share);
    if (rc == RC_OK && !again) rc = write_model(&r, &kept.facts, dir, e);
    run_fini(&r);
    if (again) rc = refit(&r, &kept, dir, e);
    return rc;
}
