#include "train_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LIST_LENGTH = 10,        /* of hit rate and NDCG */
    RANK_WORK_MAX = 1 << 30, /* logits computed for ranking in one pass */
};

/* --- groups of pieces --------------------------------------------------- */

struct group {
    uint32_t from, count;     /* of the chosen pieces */
    uint64_t targets, frauds; /* before this group */
    double item_loss, field_loss, hits, gain;
    double field_gain[FIELDS_MAX];
    uint64_t ranked;
};

struct pass {
    const struct train_shared *shared;
    struct lane **lanes;
    const struct piece **pieces;
    uint32_t piece_count;
    struct group *groups;
    uint32_t group_count;
    enum role role;
    uint32_t rank_step;
    struct scored_labels *labels;
    const struct heads *heads; /* surprise */
    float *surprise;
    real **scratch;       /* of each thread */
    double *good;         /* (groups, D) sums of hidden states of good events */
    uint64_t *good_count; /* (groups) */
    uint64_t targets, frauds;
};

static void pass_fini(struct pass *p)
{
    free(p->pieces);
    free(p->groups);
}

/* Every step-th piece, packed into groups that fit a lane. */
static enum rc pass_init(struct pass *p, const struct piece_list *list,
                         uint32_t step, struct err *e)
{
    uint32_t tokens_max = p->lanes[0]->tokens_max, tokens = tokens_max;
    p->pieces = malloc((list->count + 1) * sizeof *p->pieces);
    p->groups = calloc(list->count + 1, sizeof *p->groups);
    if (!p->pieces || !p->groups) {
        pass_fini(p);
        return ERR(e, RC_STOP, "training: no memory");
    }
    for (uint32_t i = 0; i < list->count; i += step) {
        struct batch_total total;
        const struct piece *piece = &list->at[i];
        p->pieces[p->piece_count] = piece;
        if (tokens + piece->count > tokens_max) {
            p->groups[p->group_count++] = (struct group){.from = p->piece_count,
                                                         .targets = p->targets,
                                                         .frauds = p->frauds};
            tokens = 0;
        }
        lane_count(p->shared, &piece, 1, p->role, &total);
        tokens += piece->count;
        p->targets += total.targets;
        p->frauds += total.frauds;
        p->groups[p->group_count - 1].count++;
        p->piece_count++;
    }
    return RC_OK;
}

/* --- losses and ranks --------------------------------------------------- */

/* The loss of a field; *gain: how much less than by its marginal. */
static double sum_surprise(struct lane *l, uint32_t f, uint32_t count,
                           double *gain)
{
    const struct train_shared *s = l->shared;
    const struct field_layer *next = heads_next(s->m->heads, f);
    uint32_t d = next->width;
    float surprise[TILE_ROWS_MAX];
    double sum = 0, marginal = 0;
    for (uint32_t i = 0; i < count; i += l->tile_rows) {
        uint32_t rows = count - i < l->tile_rows ? count - i : l->tile_rows;
        matrix_multiply(l->before + (size_t)i * d, d, rows,
                        &next->weight_packed, next->bias, l->logits, next->rows,
                        MATRIX_SET);
        for (uint32_t m = 0; m < rows; m++)
            l->rows[m] = s->data->tokens[l->targets[i + m].row].row[f];
        softmax_surprise(l->logits, rows, next->rows, l->rows, surprise);
        for (uint32_t m = 0; m < rows; m++) {
            sum += (double)surprise[m];
            marginal += (double)s->data->marginal[f][l->rows[m]];
        }
    }
    *gain = marginal - sum;
    return sum;
}

/* How many of the items that the user had before target row score at least
 * as high as it; each once. */
static uint32_t seen_above(const struct lane *l, const real *logits,
                           const struct target *t, uint32_t item)
{
    const struct train_shared *s = l->shared;
    const struct train_log *log = s->data->log;
    uint32_t f = (uint32_t)s->m->item_field, above = 0;
    uint64_t low = 0, high = log->users;
    const struct token *tokens = s->data->tokens;
    while (high - low > 1) { /* whose row it is */
        uint64_t middle = (low + high) / 2;
        if (log->user_start[middle] <= t->row)
            low = middle;
        else
            high = middle;
    }
    for (uint64_t r = log->user_start[low]; r < t->row; r++) {
        uint32_t seen = tokens[r].row[f];
        bool again = seen >= s->m->params.config.items || seen == item ||
                     logits[seen] < logits[item];
        for (uint64_t q = log->user_start[low]; !again && q < r; q++)
            again = tokens[q].row[f] == seen;
        above += !again;
    }
    return above;
}

static void rank_target(const struct lane *l, const real *logits,
                        const struct target *t, struct group *g)
{
    const struct train_shared *s = l->shared;
    uint32_t items = s->m->params.config.items;
    uint32_t item = s->data->tokens[t->row].row[s->m->item_field];
    uint32_t rank = 0;
    for (uint32_t k = 0; k < items; k++)
        rank += logits[k] >= logits[item];
    if (s->o->leave_one_out) rank -= seen_above(l, logits, t, item);
    g->ranked++;
    if (rank > LIST_LENGTH) return;
    g->hits++;
    g->gain += 1 / log2(rank + 1.0);
}

/* Item losses and ranks over the whole table, for the first of the lane's
 * item targets: all, unless that is too much work. */
static void rank_items(struct lane *l, const struct pass *p, struct group *g)
{
    const struct train_shared *s = l->shared;
    uint32_t items = s->items.rows, d = s->items.width;
    uint32_t count = (l->item_count + p->rank_step - 1) / p->rank_step;
    uint32_t tile = (uint32_t)(l->logits_size / items);
    for (uint32_t i = 0; i < count; i += tile) {
        uint32_t rows = count - i < tile ? count - i : tile;
        matrix_multiply(l->before + (size_t)i * d, d, rows,
                        &s->items.table_packed, NULL, l->logits, items,
                        MATRIX_SET);
        for (uint32_t m = 0; m < rows; m++) {
            const struct target *t = &l->targets[i + m];
            const real *row = l->logits + (size_t)m * items;
            uint32_t item = s->data->tokens[t->row].row[s->m->item_field];
            g->item_loss +=
                (double)(matrix_log_sum_exp(row, items) - row[item]);
            rank_target(l, row, t, g);
        }
    }
}

static void measure_group(void *user, uint32_t task, uint32_t thread)
{
    const struct pass *p = user;
    struct group *g = &p->groups[task];
    struct lane *l = p->lanes[thread];
    const struct train_shared *s = p->shared;
    lane_forward(l, p->pieces + g->from, g->count, p->role,
                 (struct dropout){0});
    lane_gather_before(l);
    if (l->item_count) rank_items(l, p, g);
    for (uint32_t f = 0; f < s->m->params.config.field_count; f++)
        if (s->m->params.next_weight[f] != TENSOR_NONE)
            g->field_loss +=
                sum_surprise(l, f, l->target_count, &g->field_gain[f]);
    lane_fraud_logits(l, p->labels->logit + g->frauds);
    for (uint32_t i = 0; i < l->fraud_count; i++)
        p->labels->label[g->frauds + i] =
            s->data->label[l->frauds[i].row] == LABEL_FRAUD;
}

/* Ranks every target if that is at most RANK_WORK_MAX logits. */
static uint32_t rank_step(const struct pass *p)
{
    uint64_t work = p->targets * p->shared->m->params.config.items;
    return (uint32_t)(work / RANK_WORK_MAX + 1);
}

static void add_up(const struct pass *p, struct measured *out)
{
    struct group all = {0};
    *out = (struct measured){.targets = p->targets, .frauds = p->frauds};
    for (uint32_t i = 0; i < p->group_count; i++) {
        const struct group *g = &p->groups[i];
        all.item_loss += g->item_loss;
        all.field_loss += g->field_loss;
        for (uint32_t f = 0; f < FIELDS_MAX; f++)
            out->field_gain[f] += g->field_gain[f];
        all.hits += g->hits;
        all.gain += g->gain;
        all.ranked += g->ranked;
    }
    out->loss = p->targets ? FIELD_SHARE * all.field_loss / (double)p->targets
                           : (double)NAN;
    for (uint32_t f = 0; p->targets && f < FIELDS_MAX; f++)
        out->field_gain[f] /= (double)p->targets;
    out->hit_rate = out->ndcg = (double)NAN;
    if (all.ranked == 0) return;
    out->loss += all.item_loss / (double)all.ranked;
    out->hit_rate = all.hits / (double)all.ranked;
    out->ndcg = all.gain / (double)all.ranked;
}

enum rc measure(const struct train_shared *shared, struct lane **lanes,
                struct team *team, const struct piece_list *list, uint32_t step,
                enum role role, struct measured *out,
                struct scored_labels *labels, struct err *e)
{
    struct pass p = {.shared = shared, .lanes = lanes, .role = role};
    TRY(pass_init(&p, list, step, e));
    *labels = (struct scored_labels){
        .logit = malloc((p.frauds + 1) * sizeof *labels->logit),
        .label = malloc(p.frauds + 1),
        .count = p.frauds};
    if (!labels->logit || !labels->label) {
        pass_fini(&p);
        scored_labels_fini(labels);
        return ERR(e, RC_STOP, "training: no memory");
    }
    p.labels = labels;
    p.rank_step = rank_step(&p);
    team_run(team, p.group_count, measure_group, &p);
    add_up(&p, out);
    out->average_precision = average_precision(labels);
    pass_fini(&p);
    return RC_OK;
}

/* --- surprise ----------------------------------------------------------- */

static void surprise_group(void *user, uint32_t task, uint32_t thread)
{
    const struct pass *p = user;
    const struct group *g = &p->groups[task];
    struct lane *l = p->lanes[thread];
    const struct behaviour_config *c = &p->shared->m->params.config;
    const real *before[TILE_ROWS_MAX];
    const struct token *tokens[TILE_ROWS_MAX];
    lane_forward(l, p->pieces + g->from, g->count, p->role,
                 (struct dropout){0});
    lane_gather_before(l);
    for (uint32_t i = 0; i < l->target_count; i += TILE_ROWS_MAX) {
        uint32_t rows = l->target_count - i;
        if (rows > TILE_ROWS_MAX) rows = TILE_ROWS_MAX;
        for (uint32_t m = 0; m < rows; m++) {
            before[m] = l->before + (size_t)(i + m) * c->width;
            tokens[m] = p->shared->data->tokens + l->targets[i + m].row;
        }
        heads_surprise(p->heads, before, tokens, rows, p->scratch[thread],
                       p->surprise +
                           (g->targets + i) *
                               heads_surprises(&p->shared->m->params));
    }
}

static enum rc take_scratch(struct pass *p, uint32_t threads, struct err *e)
{
    size_t reals = heads_scratch(&p->shared->m->params);
    p->scratch = calloc(threads, sizeof *p->scratch);
    for (uint32_t t = 0; p->scratch && t < threads; t++) {
        p->scratch[t] = aligned_alloc(64, (reals / 16 + 1) * 16 * sizeof(real));
        if (!p->scratch[t]) return ERR(e, RC_STOP, "training: no memory");
    }
    return p->scratch ? RC_OK : ERR(e, RC_STOP, "training: no memory");
}

enum rc measure_surprise(const struct train_shared *shared, struct lane **lanes,
                         struct team *team, const struct piece_list *list,
                         enum role role, const struct heads *heads,
                         uint64_t rows_max, float **out, uint64_t *rows,
                         struct err *e)
{
    struct pass p = {
        .shared = shared, .lanes = lanes, .role = role, .heads = heads};
    uint32_t columns = heads_surprises(&shared->m->params);
    uint32_t threads = team_threads(team);
    enum rc rc;
    TRY(pass_init(&p, list, (uint32_t)(list->targets / rows_max + 1), e));
    rc = take_scratch(&p, threads, e);
    *rows = p.targets;
    *out = p.surprise = malloc((p.targets * columns + 1) * sizeof **out);
    if (rc == RC_OK && !*out) rc = ERR(e, RC_STOP, "training: no memory");
    if (rc == RC_OK) team_run(team, p.group_count, surprise_group, &p);
    for (uint32_t t = 0; p.scratch && t < threads; t++)
        free(p.scratch[t]);
    free(p.scratch);
    pass_fini(&p);
    return rc;
}

/* --- good events -------------------------------------------------------- */

static void good_group(void *user, uint32_t task, uint32_t thread)
{
    const struct pass *p = user;
    const struct group *g = &p->groups[task];
    struct lane *l = p->lanes[thread];
    uint32_t d = p->shared->m->params.config.width;
    double *sum = p->good + (size_t)task * d;
    lane_forward(l, p->pieces + g->from, g->count, p->role,
                 (struct dropout){0});
    for (uint32_t i = 0; i < l->fraud_count; i++) {
        const real *hidden = l->hidden + (size_t)l->frauds[i].hidden * d;
        if (p->shared->data->label[l->frauds[i].row] != LABEL_GOOD) continue;
        p->good_count[task]++;
        for (uint32_t k = 0; k < d; k++)
            sum[k] += (double)hidden[k];
    }
}

/* Group by group, whatever thread summed them. */
static void mean_of_groups(const struct pass *p, uint32_t d, real *out,
                           bool *any)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < p->group_count; i++)
        count += p->good_count[i];
    *any = count > 0;
    for (uint32_t k = 0; k < d; k++) {
        double sum = 0;
        for (uint32_t i = 0; i < p->group_count; i++)
            sum += p->good[(size_t)i * d + k];
        out[k] = (real)(count > 0 ? sum / (double)count : 0);
    }
}

enum rc measure_good(const struct train_shared *shared, struct lane **lanes,
                     struct team *team, const struct piece_list *list,
                     enum role role, uint64_t rows_max, real *out, bool *any,
                     struct err *e)
{
    struct pass p = {.shared = shared, .lanes = lanes, .role = role};
    uint32_t d = shared->m->params.config.width;
    enum rc rc = RC_OK;
    TRY(pass_init(&p, list, (uint32_t)(list->targets / rows_max + 1), e));
    p.good = calloc((size_t)p.group_count * d + 1, sizeof *p.good);
    p.good_count = calloc(p.group_count + 1, sizeof *p.good_count);
    if (p.good && p.good_count) {
        team_run(team, p.group_count, good_group, &p);
        mean_of_groups(&p, d, out, any);
    } else {
        rc = ERR(e, RC_STOP, "training: no memory");
    }
    free(p.good);
    free(p.good_count);
    pass_fini(&p);
    return rc;
}

/* --- labels ------------------------------------------------------------- */

void scored_labels_fini(struct scored_labels *s)
{
    free(s->logit);
    free(s->label);
    *s = (struct scored_labels){0};
}

struct scored {
    float logit;
    uint8_t label;
};

static int compare_scored(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (y->logit > x->logit) - (y->logit < x->logit);
}

double average_precision(const struct scored_labels *s)
{
    struct scored *at = malloc((s->count + 1) * sizeof *at);
    uint64_t frauds = 0, found = 0, before = 0;
    double area = 0;
    for (uint64_t i = 0; at && i < s->count; i++) {
        at[i] = (struct scored){s->logit[i], s->label[i]};
        frauds += s->label[i];
    }
    if (!at || frauds == 0 || frauds == s->count) {
        free(at);
        return (double)NAN;
    }
    qsort(at, s->count, sizeof *at, compare_scored);
    for (uint64_t i = 0; i < s->count; i++) {
        found += at[i].label;
        if (i + 1 < s->count && at[i + 1].logit == at[i].logit) continue;
        area += (double)(found - before) / (double)frauds * (double)found /
                (double)(i + 1);
        before = found;
    }
    free(at);
    return area;
}
