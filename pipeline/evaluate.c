#include "evaluate.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_rows.h"
#include "hash.h"
#include "train.h"

enum { ROWS_FIRST = 1024, DAY_MS = EVALUATE_DAY_MS };
static const double CLIP = 0x1p-52;

struct evaluate {
    uint32_t columns;
    uint64_t count, max;
    int64_t *time_ms; /* (max) */
    uint64_t *user;   /* (max) */
    int8_t *label;    /* (max) */
    float *scores;    /* (max, columns) */
};

struct evaluate *evaluate_new(uint32_t columns)
{
    struct evaluate *ev = calloc(1, sizeof *ev);
    assert(columns > 0 && columns <= EVALUATE_COLUMNS_MAX);
    if (ev) ev->columns = columns;
    return ev;
}

void evaluate_free(struct evaluate *ev)
{
    if (!ev) return;
    free(ev->time_ms);
    free(ev->user);
    free(ev->label);
    free(ev->scores);
    free(ev);
}

uint64_t evaluate_rows(const struct evaluate *ev)
{
    return ev->count;
}

/* *array becomes (max) of size bytes; false, and as it was: no memory. */
static bool grow(void *array, uint64_t max, size_t size)
{
    void **at = array;
    void *larger = realloc(*at, max * size);
    if (larger) *at = larger;
    return larger != NULL;
}

enum rc evaluate_add(struct evaluate *ev, const float *scores, int8_t label,
                     uint64_t user, int64_t time_ms, struct err *e)
{
    if (ev->count == ev->max) {
        uint64_t max = ev->max ? ev->max * 2 : ROWS_FIRST;
        if (!grow(&ev->time_ms, max, sizeof *ev->time_ms) ||
            !grow(&ev->user, max, sizeof *ev->user) ||
            !grow(&ev->label, max, sizeof *ev->label) ||
            !grow(&ev->scores, max, sizeof *ev->scores * ev->columns))
            return ERR(e, RC_STOP, "evaluation: no memory for %llu rows",
                       (unsigned long long)max);
        ev->max = max;
    }
    ev->time_ms[ev->count] = time_ms;
    ev->user[ev->count] = user;
    ev->label[ev->count] = label;
    memcpy(ev->scores + ev->count * ev->columns, scores,
           sizeof *scores * ev->columns);
    ev->count++;
    return RC_OK;
}

enum rc evaluate_merge(struct evaluate *ev, const struct evaluate *from,
                       struct err *e)
{
    assert(ev->columns == from->columns);
    for (uint64_t i = 0; i < from->count; i++)
        TRY(evaluate_add(ev, from->scores + i * from->columns, from->label[i],
                         from->user[i], from->time_ms[i], e));
    return RC_OK;
}

struct evaluate_options evaluate_options_default(void)
{
    return (struct evaluate_options){
        .from_ms = INT64_MIN,
        .until_ms = INT64_MAX,
        .card_k = 100,
        .reviews = 100,
    };
}

/* ------------------------------------------------- a time for each user */

/* Open addressing with linear probing; never more than half full. */
struct user_times {
    struct user_time {
        uint64_t user;
        int64_t time_ms;
        bool used;
    } * at;
    uint64_t mask; /* slots less one */
};

static bool user_times_init(struct user_times *t, uint64_t users_max)
{
    uint64_t slots = 16;
    while (slots < users_max * 2)
        slots *= 2;
    t->at = calloc(slots, sizeof *t->at);
    t->mask = slots - 1;
    return t->at != NULL;
}

/* The user's slot, used or not. */
static struct user_time *user_times_slot(const struct user_times *t,
                                         uint64_t user)
{
    uint64_t i = hash_mix(user) & t->mask;
    while (t->at[i].used && t->at[i].user != user)
        i = (i + 1) & t->mask;
    return &t->at[i];
}

static void user_times_keep_least(struct user_times *t, uint64_t user,
                                  int64_t time_ms)
{
    struct user_time *slot = user_times_slot(t, user);
    if (!slot->used || time_ms < slot->time_ms)
        *slot = (struct user_time){user, time_ms, true};
}

/* Each user's first fraud since known_from. */
static bool first_frauds(const struct evaluate *ev, int64_t known_from_ms,
                         struct user_times *out)
{
    uint64_t frauds = 0;
    for (uint64_t i = 0; i < ev->count; i++)
        frauds += ev->label[i] == LABEL_FRAUD;
    if (!user_times_init(out, frauds)) return false;
    for (uint64_t i = 0; i < ev->count; i++)
        if (ev->label[i] == LABEL_FRAUD && ev->time_ms[i] >= known_from_ms)
            user_times_keep_least(out, ev->user[i], ev->time_ms[i]);
    return true;
}

/* ------------------------------------------------------- what is measured */

float evaluate_score(const struct evaluate *ev, uint64_t row, uint32_t column)
{
    return ev->scores[row * ev->columns + column];
}

int64_t evaluate_time(const struct evaluate *ev, uint64_t row)
{
    return ev->time_ms[row];
}

/* Whole days since 1970, also before it. */
static int64_t day_of(int64_t time_ms)
{
    return time_ms / DAY_MS - (time_ms % DAY_MS < 0);
}

static bool is_known(const struct user_times *frauds, uint64_t user,
                     int64_t day, int64_t delay_ms)
{
    const struct user_time *first = user_times_slot(frauds, user);
    __int128 known_by = (__int128)day * DAY_MS - delay_ms;
    return first->used && first->time_ms < known_by;
}

/* Fills rows (ev->count) and the counts of *out. */
static void select_rows(const struct evaluate *ev, uint32_t column,
                        const struct evaluate_options *o,
                        const struct user_times *frauds, struct scored *rows,
                        struct evaluate_result *out)
{
    for (uint64_t i = 0; i < ev->count; i++) {
        float score = evaluate_score(ev, i, column);
        int64_t day = day_of(ev->time_ms[i]);
        if (ev->time_ms[i] < o->from_ms || ev->time_ms[i] >= o->until_ms)
            continue;
        if (ev->label[i] == LABEL_UNKNOWN) {
            out->unlabelled++;
        } else if (o->leave_out_known &&
                   is_known(frauds, ev->user[i], day, o->known_delay_ms)) {
            out->known++;
        } else if (isnan(score)) {
            out->unscored++;
        } else {
            out->positives += ev->label[i] == LABEL_FRAUD;
            rows[out->rows++] =
                (struct scored){ev->user[i], i, day, score, ev->label[i]};
        }
    }
}

static int by_score_down(const void *a, const void *b)
{
    float x = ((const struct scored *)a)->score;
    float y = ((const struct scored *)b)->score;
    return (x < y) - (x > y);
}

/* Highest score first; of equal ones the good first, against us. The order
 * is total but for rows that are alike, so no sum depends on the order in
 * which rows were added. */
static int by_card(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    int order = by_score_down(a, b);
    if (order) return order;
    return x->label - y->label;
}

enum rc evaluate_select(const struct evaluate *ev, uint32_t column,
                        const struct evaluate_options *o, struct scored **rows,
                        struct evaluate_result *out, struct err *e)
{
    struct user_times frauds = {0};
    bool good;

    assert(column < ev->columns);
    *rows = malloc(sizeof **rows * (ev->count + 1));
    good = *rows && first_frauds(ev, o->known_from_ms, &frauds);
    *out = (struct evaluate_result){.base_rate = NAN,
                                    .auc_roc = NAN,
                                    .average_precision = NAN,
                                    .log_loss = NAN,
                                    .brier = NAN,
                                    .card_precision = NAN};
    if (good) {
        select_rows(ev, column, o, &frauds, *rows, out);
        qsort(*rows, out->rows, sizeof **rows, by_card);
        if (out->rows > 0)
            out->base_rate = (double)out->positives / (double)out->rows;
    } else {
        free(*rows);
    }
    free(frauds.at);
    if (good) return RC_OK;
    return ERR(e, RC_STOP, "evaluation: no memory to sort %llu rows",
               (unsigned long long)ev->count);
}

/* --------------------------------------------------------------- metrics */

/* One walk down the thresholds; rows of one score are taken together. */
static void measure_curves(const struct scored *rows,
                           struct evaluate_result *out)
{
    double positives = (double)out->positives;
    double negatives = (double)(out->rows - out->positives);
    double above_good = 0, above_fraud = 0, pairs = 0, precision = 0;

    for (uint64_t i = 0, end; i < out->rows; i = end) {
        double fraud = 0, good;
        for (end = i; end < out->rows && rows[end].score == rows[i].score;
             end++)
            fraud += rows[end].label == LABEL_FRAUD;
        good = (double)(end - i) - fraud;
        pairs += good * (above_fraud + fraud / 2);
        above_fraud += fraud;
        above_good += good;
        precision += fraud * above_fraud / (above_fraud + above_good);
    }
    if (positives > 0 && negatives > 0)
        out->auc_roc = pairs / (positives * negatives);
    if (positives > 0) out->average_precision = precision / positives;
}

/* Only for scores that are probabilities; else both stay NaN. */
static void measure_losses(const struct scored *rows,
                           struct evaluate_result *out)
{
    double log_loss = 0, brier = 0;
    for (uint64_t i = 0; i < out->rows; i++) {
        double p = rows[i].score, miss;
        if (p < 0 || p > 1) return;
        miss = rows[i].label == LABEL_FRAUD ? 1 - p : p;
        brier += miss * miss;
        log_loss -= log(fmin(fmax(1 - miss, CLIP), 1 - CLIP));
    }
    if (out->rows == 0) return;
    out->log_loss = log_loss / (double)out->rows;
    out->brier = brier / (double)out->rows;
}

void evaluate_sorted(const struct scored *rows, struct evaluate_result *out)
{
    measure_curves(rows, out);
    measure_losses(rows, out);
}

static int by_day_and_user(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->day != y->day) return x->day < y->day ? -1 : 1;
    return (x->user > y->user) - (x->user < y->user);
}

/* Rows of one day and user become one card: the maxima of both. */
static uint64_t merge_cards(struct scored *rows, uint64_t count)
{
    uint64_t cards = 0;
    qsort(rows, count, sizeof *rows, by_day_and_user);
    for (uint64_t i = 0; i < count; i++) {
        struct scored *card = cards ? &rows[cards - 1] : NULL;
        if (!card || by_day_and_user(card, &rows[i]) != 0) {
            rows[cards++] = rows[i];
            continue;
        }
        if (rows[i].score > card->score) card->score = rows[i].score;
        if (rows[i].label > card->label) card->label = rows[i].label;
    }
    return cards;
}

/* Found among the first k cards of one day that were not found before. */
static uint32_t cards_found(struct scored *day, uint64_t count, uint32_t k,
                            struct user_times *found)
{
    uint32_t taken = 0, hits = 0;
    qsort(day, count, sizeof *day, by_card);
    for (uint64_t i = 0; i < count && taken < k; i++) {
        if (user_times_slot(found, day[i].user)->used) continue;
        taken++;
        if (day[i].label != LABEL_FRAUD) continue;
        hits++;
        user_times_keep_least(found, day[i].user, 0);
    }
    return hits;
}

bool evaluate_cards(struct scored *rows, uint32_t k,
                    struct evaluate_result *out, double *by_day)
{
    struct user_times found;
    uint64_t cards;
    double sum = 0, hits;

    if (!user_times_init(&found, out->positives)) return false;
    cards = merge_cards(rows, out->rows);
    for (uint64_t i = 0, end; i < cards; i = end) {
        for (end = i; end < cards && rows[end].day == rows[i].day;)
            end++;
        hits = (double)cards_found(rows + i, end - i, k, &found) / k;
        if (by_day) by_day[out->days] = hits;
        sum += hits;
        out->days++;
    }
    if (out->days > 0) out->card_precision = sum / out->days;
    free(found.at);
    return true;
}

enum rc evaluate_measure(const struct evaluate *ev, uint32_t column,
                         const struct evaluate_options *o,
                         struct evaluate_result *out, struct err *e)
{
    struct scored *rows;
    bool good = true;

    TRY(evaluate_select(ev, column, o, &rows, out, e));
    evaluate_sorted(rows, out);
    if (o->card_k > 0) good = evaluate_cards(rows, o->card_k, out, NULL);
    free(rows);
    if (good) return RC_OK;
    return ERR(e, RC_STOP, "evaluation: no memory for cards of %llu frauds",
               (unsigned long long)out->positives);
}
