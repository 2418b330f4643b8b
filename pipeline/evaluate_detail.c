#include "evaluate_detail.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate_rows.h"
#include "train.h"

enum { NEWTON_STEPS = 50 };

const uint32_t EVALUATE_K[EVALUATE_KS] = {100, 1000, 10000};
const double EVALUATE_RATE[EVALUATE_RATES] = {0.001, 0.01, 0.05};
const double EVALUATE_EDGE[EVALUATE_BINS + 1] = {
    0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1};
static const double HIGH = 0.1;         /* of observed_over_expected_high */
static const double STEP = 1.0 / 240;   /* between points of a curve */
static const double LOGIT_CLIP = 1e-12; /* probabilities of 0 and 1 */

/* What all parts look at. */
struct rows {
    const struct scored *at; /* (count), highest score first */
    uint64_t count, frauds;
};

static bool is_fraud(const struct scored *s)
{
    return s->label == LABEL_FRAUD;
}

/* --- curves -------------------------------------------------------------- */

static void add_point(struct evaluate_point *points, uint32_t *count, double x,
                      double y, bool last)
{
    const struct evaluate_point *before = *count ? &points[*count - 1] : NULL;
    if (before && !last && fabs(x - before->x) < STEP &&
        fabs(y - before->y) < STEP)
        return;
    /* Each kept point is a step on from the one before; should a jagged
     * curve still fill the room, its last point takes the last place. */
    if (*count == EVALUATE_POINTS) (*count)--;
    points[(*count)++] = (struct evaluate_point){x, y};
}

/* Of two thresholds of one recall the first has the higher precision. */
static void keep_at_rate(struct evaluate_detail *d, double rate, double recall,
                         double precision)
{
    for (uint32_t i = 0; i < EVALUATE_RATES; i++) {
        if (rate > EVALUATE_RATE[i] ||
            (recall <= d->recall_at_rate[i] && !isnan(d->precision_at_rate[i])))
            continue;
        d->recall_at_rate[i] = recall;
        d->precision_at_rate[i] = precision;
    }
}

static void measure_curves(const struct rows *r, struct evaluate_detail *d)
{
    double frauds = (double)r->frauds, goods = (double)(r->count - r->frauds);
    double found = 0, raised = 0; /* frauds and goods above the threshold */
    if (frauds == 0 || goods == 0) return;
    d->roc[d->roc_count++] = (struct evaluate_point){0, 0};
    for (uint32_t i = 0; i < EVALUATE_RATES; i++)
        d->recall_at_rate[i] = 0;
    for (uint64_t i = 0, end; i < r->count; i = end) {
        bool last;
        for (end = i; end < r->count && r->at[end].score == r->at[i].score;
             end++) {
            found += is_fraud(&r->at[end]);
            raised += !is_fraud(&r->at[end]);
        }
        last = end == r->count;
        add_point(d->roc, &d->roc_count, raised / goods, found / frauds, last);
        add_point(d->pr, &d->pr_count, found / frauds, found / (found + raised),
                  last);
        keep_at_rate(d, raised / goods, found / frauds,
                     found / (found + raised));
    }
}

static void measure_top(const struct rows *r, struct evaluate_detail *d)
{
    uint64_t found = 0;
    for (uint64_t i = 0, k = 0; i < r->count && k < EVALUATE_KS; i++) {
        found += is_fraud(&r->at[i]);
        if (i + 1 != EVALUATE_K[k]) continue;
        d->precision_at[k] = (double)found / EVALUATE_K[k];
        if (r->frauds > 0) d->recall_at[k] = (double)found / (double)r->frauds;
        k++;
    }
}

/* --- calibration --------------------------------------------------------- */

static uint32_t bin_of(double p)
{
    uint32_t bin = 0;
    while (bin + 1 < EVALUATE_BINS && p >= EVALUATE_EDGE[bin + 1])
        bin++;
    return bin;
}

static double logit(double p)
{
    p = fmin(fmax(p, LOGIT_CLIP), 1 - LOGIT_CLIP);
    return log(p / (1 - p));
}

/* Newton's method on two parameters; NaN where there is no maximum, as with
 * one class. */
static void fit_logits(const struct rows *r, struct evaluate_detail *d)
{
    double a = 0, b = 1;
    for (uint32_t step = 0; step < NEWTON_STEPS; step++) {
        double ga = 0, gb = 0, haa = 0, hab = 0, hbb = 0, det, da, db;
        for (uint64_t i = 0; i < r->count; i++) {
            double x = logit((double)r->at[i].score);
            double p = 1 / (1 + exp(-(a + b * x)));
            double miss = is_fraud(&r->at[i]) - p, weight = p * (1 - p);
            ga += miss;
            gb += miss * x;
            haa += weight;
            hab += weight * x;
            hbb += weight * x * x;
        }
        det = haa * hbb - hab * hab;
        da = (ga * hbb - gb * hab) / det;
        db = (gb * haa - ga * hab) / det;
        if (!isfinite(da) || !isfinite(db)) return;
        a += da;
        b += db;
        if (fabs(da) + fabs(db) > 1e-10) continue;
        d->intercept = a;
        d->slope = b;
        return;
    }
}

static bool are_probabilities(const struct rows *r)
{
    return r->count > 0 && r->at[0].score <= 1 &&
           r->at[r->count - 1].score >= 0;
}

static void measure_calibration(const struct rows *r, struct evaluate_detail *d)
{
    double expected = 0, expected_high = 0, observed_high = 0;
    uint64_t above = 0;
    if (!are_probabilities(r)) return;
    for (uint64_t i = 0; i < r->count; i++) {
        double p = r->at[i].score;
        struct evaluate_bin *bin = &d->bins[bin_of(p)];
        uint32_t bar = (uint32_t)(p * EVALUATE_BARS);
        if (bar == EVALUATE_BARS) bar--;
        (is_fraud(&r->at[i]) ? d->fraud_bars : d->good_bars)[bar]++;
        bin->rows++;
        bin->frauds += is_fraud(&r->at[i]);
        bin->score_sum += p;
        above += p >= 0.99 && !is_fraud(&r->at[i]);
        expected += p;
        if (p > HIGH) expected_high += p;
        if (p > HIGH) observed_high += is_fraud(&r->at[i]);
    }
    if (r->count > r->frauds)
        d->good_above_99 = (double)above / (double)(r->count - r->frauds);
    if (expected > 0) d->observed_over_expected = (double)r->frauds / expected;
    if (expected_high > 0)
        d->observed_over_expected_high = observed_high / expected_high;
    if (r->frauds > 0 && r->frauds < r->count) fit_logits(r, d);
}

/* --- the bootstrap ------------------------------------------------------- */

struct resampled {
    double auc_roc, average_precision;
};

/* As measure_curves of evaluate.c, each row as often as its user. */
static struct resampled resample(const struct rows *r, uint32_t number)
{
    double above_good = 0, above_fraud = 0, pairs = 0, precision = 0;
    for (uint64_t i = 0, end; i < r->count; i = end) {
        double fraud = 0, good = 0;
        for (end = i; end < r->count && r->at[end].score == r->at[i].score;
             end++) {
            uint32_t times = bootstrap_times(r->at[end].user, number);
            *(is_fraud(&r->at[end]) ? &fraud : &good) += times;
        }
        pairs += good * (above_fraud + fraud / 2);
        above_fraud += fraud;
        above_good += good;
        if (fraud > 0)
            precision += fraud * above_fraud / (above_fraud + above_good);
    }
    return (struct resampled){
        .auc_roc = pairs / (above_fraud * above_good),
        .average_precision = precision / above_fraud,
    };
}

static void measure_intervals(const struct rows *r, struct evaluate_detail *d)
{
    for (uint32_t i = 0; i < BOOTSTRAP_RESAMPLES; i++) {
        struct resampled one = resample(r, i);
        d->auc_resampled[i] = one.auc_roc;
        d->precision_resampled[i] = one.average_precision;
    }
    d->auc_roc = bootstrap_interval(d->auc_resampled);
    d->average_precision = bootstrap_interval(d->precision_resampled);
}

/* --- days ---------------------------------------------------------------- */

static int by_day(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (x->day > y->day) - (x->day < y->day);
}

/* False: no memory. */
static bool list_days(const struct rows *r, struct evaluate_detail *d)
{
    uint64_t days = 0;
    for (uint64_t i = 0; i < r->count; i++)
        days += i == 0 || r->at[i].day != r->at[i - 1].day;
    d->days = calloc(days + 1, sizeof *d->days);
    if (!d->days) return false;
    for (uint64_t i = 0; i < r->count; i++) {
        struct evaluate_day *day;
        if (i == 0 || r->at[i].day != r->at[i - 1].day)
            d->days[d->day_count++] = (struct evaluate_day){
                .day = r->at[i].day, .card_precision = NAN};
        day = &d->days[d->day_count - 1];
        day->rows++;
        day->frauds += is_fraud(&r->at[i]);
    }
    return true;
}

/* Reorders the rows. False: no memory. */
static bool measure_days(struct scored *at, struct evaluate_result *counts,
                         uint32_t card_k, struct evaluate_detail *d)
{
    double *by_day = malloc((d->day_count + 1) * sizeof *by_day);
    bool good = by_day != NULL;
    if (good && card_k > 0) {
        good = evaluate_cards(at, card_k, counts, by_day);
        for (uint32_t i = 0; good && i < d->day_count; i++)
            d->days[i].card_precision = by_day[i];
    }
    free(by_day);
    return good;
}

/* --- all of it ----------------------------------------------------------- */

static void begin(struct evaluate_detail *d)
{
    const struct interval none = {NAN, NAN};
    *d = (struct evaluate_detail){.budget = {NAN, NAN},
                                  .auc_roc = none,
                                  .average_precision = none,
                                  .observed_over_expected = NAN,
                                  .observed_over_expected_high = NAN,
                                  .slope = NAN,
                                  .intercept = NAN,
                                  .good_above_99 = NAN};
    for (uint32_t i = 0; i < EVALUATE_KS; i++)
        d->precision_at[i] = d->recall_at[i] = NAN;
    for (uint32_t i = 0; i < EVALUATE_RATES; i++)
        d->recall_at_rate[i] = d->precision_at_rate[i] = NAN;
    for (uint32_t i = 0; i < BOOTSTRAP_RESAMPLES; i++)
        d->auc_resampled[i] = d->precision_resampled[i] = NAN;
}

enum rc evaluate_detail(const struct evaluate *ev, uint32_t column,
                        int32_t amounts, const struct evaluate_options *o,
                        struct evaluate_result *counts,
                        struct evaluate_detail *out, struct err *e)
{
    struct scored *at;
    struct rows r;
    bool good;

    begin(out);
    TRY(evaluate_select(ev, column, o, &at, counts, e));
    r = (struct rows){at, counts->rows, counts->positives};
    evaluate_sorted(at, counts);
    measure_curves(&r, out);
    measure_top(&r, out);
    measure_calibration(&r, out);
    if (o->intervals && r.frauds > 0 && r.frauds < r.count)
        measure_intervals(&r, out);
    good = amounts < 0 || evaluate_value_found(ev, at, r.count, amounts,
                                               o->reviews, &out->budget);
    qsort(at, r.count, sizeof *at, by_day);
    good =
        good && list_days(&r, out) && measure_days(at, counts, o->card_k, out);
    free(at);
    if (good) return RC_OK;
    evaluate_detail_free(out);
    return ERR(e, RC_STOP, "evaluation: no memory for the days of %llu rows",
               (unsigned long long)r.count);
}

void evaluate_detail_free(struct evaluate_detail *d)
{
    free(d->days);
    d->days = NULL;
    d->day_count = 0;
}
