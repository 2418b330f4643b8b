#include "replay_report.h"

#include <math.h>

#include "cli.h"
#include "verify_report.h"

static double per_second(const struct replay_report *r, uint64_t count)
{
    return r->seconds > 0 ? (double)count / r->seconds : NAN;
}

/* Worker microseconds of a step for each event. */
static double step_us(const struct replay_report *r, enum step s)
{
    struct histogram h = {0};
    uint64_t events = metrics_sum(r->metrics, COUNT_events);
    metrics_steps(r->metrics, s, &h);
    return events ? (double)h.sum_ns / 1e3 / (double)events : NAN;
}

static uint64_t bad_events(const struct replay_report *r)
{
    uint64_t bad = 0;
    for (uint32_t w = 0; w < r->workers; w++)
        for (uint32_t i = 0; i < BAD_REASONS; i++)
            bad += metrics_worker(r->metrics, w)->dead_letters[i];
    return bad;
}

/* --- for people --------------------------------------------------------- */

static void print_counts(const struct replay_report *r)
{
    char events[CLI_HUMAN_BYTES], rate[CLI_HUMAN_BYTES], took[CLI_HUMAN_BYTES];
    uint64_t all = metrics_sum(r->metrics, COUNT_events);
    (void)printf("replayed  %s events in %s: %s events/s with %u worker%s\n",
                 cli_human((double)all, events),
                 cli_human_seconds(r->seconds, took),
                 cli_human(per_second(r, all), rate), r->workers,
                 r->workers == 1 ? "" : "s");
    (void)printf(
        "scored    %llu, recommendations %llu, flagged %llu\n",
        (unsigned long long)metrics_sum(r->metrics, COUNT_events_scored),
        (unsigned long long)metrics_sum(r->metrics,
                                        COUNT_outputs_recommendations),
        (unsigned long long)metrics_sum(r->metrics, COUNT_outputs_flagged));
    (void)printf(
        "bad       %llu, late %llu\n", (unsigned long long)bad_events(r),
        (unsigned long long)metrics_sum(r->metrics, COUNT_events_late));
    (void)printf("us/event ");
    for (uint32_t s = 0; s < STEPS_COUNT; s++)
        (void)printf(" %s %.2f", step_name((enum step)s),
                     step_us(r, (enum step)s));
    (void)printf("\n");
}

static void print_scores(const char *name, const struct evaluate_result *v)
{
    if (v->rows == 0 || isnan(v->auc_roc)) return;
    (void)printf("%-9s AUC %.4f  average precision %.4f (base rate %.4f)  "
                 "card precision@100 %.4f  over %llu events, %llu frauds\n",
                 name, v->auc_roc, v->average_precision, v->base_rate,
                 v->card_precision, (unsigned long long)v->rows,
                 (unsigned long long)v->positives);
    if (v->known > 0)
        (void)printf("          %llu events of users known to be defrauded "
                     "left out\n",
                     (unsigned long long)v->known);
}

/* What decides whether a probability may be taken at its word. */
static void print_calibration(const struct evaluate_result *v,
                              const struct evaluate_detail *d)
{
    if (isnan(v->auc_roc) || isnan(d->observed_over_expected)) return;
    (void)printf("          observed/expected %.3f (above 0.1: %.3f)  slope "
                 "%.3f  intercept %.3f  log loss %.5f\n",
                 d->observed_over_expected, d->observed_over_expected_high,
                 d->slope, d->intercept, v->log_loss);
}

static void print_budget(const struct replay_report *r)
{
    const struct evaluate_detail *d = &r->details[WATCH_FRAUD];
    if (isnan(d->recall_at_rate[1])) return;
    (void)printf("          recall %.4f at 1 %% of the good",
                 d->recall_at_rate[1]);
    if (!isnan(d->budget.by_events))
        (void)printf("  %u reviews a day find %.4f of the amounts (of cards: "
                     "%.4f)",
                     r->reviews, d->budget.by_events, d->budget.by_cards);
    (void)printf("\n");
}

static void print_ranking(const char *name, const struct ranking *r,
                          uint32_t k_max)
{
    (void)printf("%-9s", name);
    for (uint32_t i = 0; i < RANKING_KS; i++)
        if (RANKING_K[i] <= k_max)
            (void)printf(" HR@%u %.4f NDCG@%u %.4f ", RANKING_K[i],
                         ranking_hit_rate(r, i), RANKING_K[i],
                         ranking_ndcg(r, i));
    (void)printf(" over %llu\n", (unsigned long long)r->events);
}

uint32_t replay_report_columns(const struct replay_report *r)
{
    return r->baselines ? WATCH_COLUMNS : WATCH_REGRESSION;
}

static void print_items(const struct ranking_items *i)
{
    if (isnan(i->coverage)) return;
    (void)printf("          lists of ten hold %.2f %% of all items, %.2f bits "
                 "of novelty\n",
                 100 * i->coverage, i->novelty);
}

bool replay_report_differs(const struct replay_report *r)
{
    const struct verify_result *v = &r->verify;
    return r->verified && v->differ + v->missing + v->extra > 0;
}

static void print_verified(const struct replay_report *r)
{
    const struct verify_result *v = &r->verify;
    (void)printf("verified  %llu outputs equal in every byte",
                 (unsigned long long)v->equal);
    if (replay_report_differs(r))
        (void)printf(", %llu differ, %llu are not made, %llu not recorded",
                     (unsigned long long)v->differ,
                     (unsigned long long)v->missing,
                     (unsigned long long)v->extra);
    if (v->outside > 0)
        (void)printf("; %llu are of events not replayed",
                     (unsigned long long)v->outside);
    (void)printf("\n");
    if (r->first) verify_report_print(r->first);
}

bool replay_report_pairs(const struct replay_report *r, uint32_t column)
{
    const struct evaluate_result *a = &r->scores[column];
    const struct evaluate_result *b = &r->other->scores[column];
    return !isnan(a->auc_roc) && !isnan(b->auc_roc) && a->rows == b->rows &&
           a->positives == b->positives;
}

static void print_estimate(const char *name,
                           const struct off_policy_estimate *x)
{
    (void)printf("  %s %.5f (%.5f to %.5f)", name, x->value, x->at.low,
                 x->at.high);
}

static void print_off_policy(const struct replay_report *r)
{
    const struct off_policy_result *x = &r->earned;
    if (!r->off_policy) return;
    (void)printf("a list    earned %.5f as logged;", x->logged);
    print_estimate("IPS", &x->ips);
    print_estimate("SNIPS", &x->snips);
    print_estimate("DR", &x->dr);
    (void)printf("\n          over %llu lists, worth %.0f by their first "
                 "place, %.1f by all\n",
                 (unsigned long long)x->lists, x->effective_first,
                 x->effective_all);
    if (r->unmatched > 0)
        (void)printf("          %llu logged lists are of events for which "
                     "this replay makes none\n",
                     (unsigned long long)r->unmatched);
}

static void print_quality(const struct replay_report *r)
{
    print_scores("fraud", &r->scores[WATCH_FRAUD]);
    print_calibration(&r->scores[WATCH_FRAUD], &r->details[WATCH_FRAUD]);
    print_budget(r);
    if (r->baselines) {
        print_scores(" features", &r->scores[WATCH_REGRESSION]);
        print_scores(" head", &r->scores[WATCH_ALONE]);
        print_scores(" amount", &r->scores[WATCH_AMOUNT]);
    }
    print_scores("anomaly", &r->scores[WATCH_ANOMALY]);
    if (r->next.model.events > 0)
        print_ranking("next item", &r->next.model, r->next_k_max);
    if (r->next.model.events > 0 && r->next_popular)
        print_ranking(" popular", &r->next.popular, r->next_k_max);
    if (r->next.model.events > 0 && r->baselines)
        print_ranking(" co-occur", &r->next.cooccurrence, r->next_k_max);
    print_items(&r->next.items);
    if (r->left_one_out) {
        print_ranking("last item", &r->leave_one_out.model, UINT32_MAX);
        print_ranking(" popular", &r->leave_one_out.popular, UINT32_MAX);
        if (r->baselines)
            print_ranking(" co-occur", &r->leave_one_out.cooccurrence,
                          UINT32_MAX);
        print_items(&r->leave_one_out.items);
    }
    print_off_policy(r);
}

/* Of this model less the other. */
static void print_difference(const char *name, const struct replay_report *r,
                             uint32_t column)
{
    const struct replay_report *o = r->other;
    struct interval precision, auc;
    if (!replay_report_pairs(r, column)) return;
    precision = bootstrap_difference(r->details[column].precision_resampled,
                                     o->details[column].precision_resampled);
    auc = bootstrap_difference(r->details[column].auc_resampled,
                               o->details[column].auc_resampled);
    (void)printf("%-9s average precision %+.4f (95 %%: %+.4f to %+.4f)  AUC "
                 "%+.4f (%+.4f to %+.4f)\n",
                 name,
                 r->scores[column].average_precision -
                     o->scores[column].average_precision,
                 precision.low, precision.high,
                 r->scores[column].auc_roc - o->scores[column].auc_roc, auc.low,
                 auc.high);
}

static void print_ranking_difference(const char *name,
                                     const struct watch_ranking *a,
                                     const struct watch_ranking *b)
{
    struct interval at;
    if (a->model.events == 0 || a->model.events != b->model.events) return;
    at = bootstrap_difference(a->resampled.ndcg, b->resampled.ndcg);
    (void)printf("%-9s NDCG@10 %+.4f (95 %%: %+.4f to %+.4f)  HR@10 %+.4f\n",
                 name,
                 ranking_ndcg(&a->model, RANKING_TEN) -
                     ranking_ndcg(&b->model, RANKING_TEN),
                 at.low, at.high,
                 ranking_hit_rate(&a->model, RANKING_TEN) -
                     ranking_hit_rate(&b->model, RANKING_TEN));
}

void replay_report_print(const struct replay_report *r)
{
    print_counts(r);
    if (r->verified) print_verified(r);
    if (!r->measured) return;
    print_quality(r);
    if (!r->other) return;
    (void)printf("\nmodel %s, the other of --compare:\n",
                 r->other->model->hash);
    print_quality(r->other);
    (void)printf("\n%s less %s:\n", r->model->hash, r->other->model->hash);
    print_difference("fraud", r, WATCH_FRAUD);
    print_difference("anomaly", r, WATCH_ANOMALY);
    print_ranking_difference("next item", &r->next, &r->other->next);
    print_ranking_difference("last item", &r->leave_one_out,
                             &r->other->leave_one_out);
}

/* --- for machines ------------------------------------------------------- */

static const char *const SCORES[WATCH_COLUMNS] = {
    [WATCH_FRAUD] = "fraud",      [WATCH_ANOMALY] = "anomaly",
    [WATCH_AMOUNT] = "amount",    [WATCH_REGRESSION] = "regression",
    [WATCH_ALONE] = "head_alone",
};

static void set_real(json_t *out, const char *key, double value)
{
    (void)json_object_set_new(out, key, cli_json_real(value));
}

static void add_detail(json_t *out, const struct evaluate_detail *d,
                       uint32_t reviews)
{
    char key[64];
    set_real(out, "auc_roc_low", d->auc_roc.low);
    set_real(out, "auc_roc_high", d->auc_roc.high);
    set_real(out, "average_precision_low", d->average_precision.low);
    set_real(out, "average_precision_high", d->average_precision.high);
    for (uint32_t i = 0; i < EVALUATE_KS; i++) {
        (void)snprintf(key, sizeof key, "precision_at_%u", EVALUATE_K[i]);
        set_real(out, key, d->precision_at[i]);
        (void)snprintf(key, sizeof key, "recall_at_%u", EVALUATE_K[i]);
        set_real(out, key, d->recall_at[i]);
    }
    for (uint32_t i = 0; i < EVALUATE_RATES; i++) {
        (void)snprintf(key, sizeof key, "recall_at_fpr_%g", EVALUATE_RATE[i]);
        set_real(out, key, d->recall_at_rate[i]);
        (void)snprintf(key, sizeof key, "precision_at_fpr_%g",
                       EVALUATE_RATE[i]);
        set_real(out, key, d->precision_at_rate[i]);
    }
    (void)snprintf(key, sizeof key, "value_found_at_%u_a_day", reviews);
    set_real(out, key, d->budget.by_events);
    (void)snprintf(key, sizeof key, "value_found_at_%u_cards_a_day", reviews);
    set_real(out, key, d->budget.by_cards);
    set_real(out, "observed_over_expected", d->observed_over_expected);
    set_real(out, "observed_over_expected_above_0.1",
             d->observed_over_expected_high);
    set_real(out, "calibration_slope", d->slope);
    set_real(out, "calibration_intercept", d->intercept);
    set_real(out, "good_share_above_0.99", d->good_above_99);
}

static json_t *scores_json(const struct evaluate_result *v,
                           const struct evaluate_detail *d, uint32_t reviews)
{
    json_t *out = json_pack(
        "{s:I s:I s:I s:I s:I s:o s:o s:o s:o s:o s:o s:I}", "events",
        (json_int_t)v->rows, "frauds", (json_int_t)v->positives, "unlabelled",
        (json_int_t)v->unlabelled, "unscored", (json_int_t)v->unscored,
        "known_left_out", (json_int_t)v->known, "base_rate",
        cli_json_real(v->base_rate), "auc_roc", cli_json_real(v->auc_roc),
        "average_precision", cli_json_real(v->average_precision), "log_loss",
        cli_json_real(v->log_loss), "brier", cli_json_real(v->brier),
        "card_precision_at_100", cli_json_real(v->card_precision), "days",
        (json_int_t)v->days);
    add_detail(out, d, reviews);
    return out;
}

static json_t *ranking_json(const struct ranking *r, uint32_t k_max)
{
    json_t *out = json_object();
    char key[32];
    (void)json_object_set_new(out, "events",
                              json_integer((json_int_t)r->events));
    for (uint32_t i = 0; i < RANKING_KS; i++) {
        if (RANKING_K[i] > k_max) continue;
        (void)snprintf(key, sizeof key, "hr_at_%u", RANKING_K[i]);
        (void)json_object_set_new(out, key,
                                  cli_json_real(ranking_hit_rate(r, i)));
        (void)snprintf(key, sizeof key, "ndcg_at_%u", RANKING_K[i]);
        (void)json_object_set_new(out, key, cli_json_real(ranking_ndcg(r, i)));
        (void)snprintf(key, sizeof key, "mrr_at_%u", RANKING_K[i]);
        (void)json_object_set_new(out, key, cli_json_real(ranking_mrr(r, i)));
    }
    return out;
}

static json_t *part_json(const struct ranking_part *p)
{
    double events = (double)p->events;
    return json_pack(
        "{s:I s:o s:o}", "events", (json_int_t)p->events, "hr_at_10",
        cli_json_real(p->events ? (double)p->hits / events : NAN), "ndcg_at_10",
        cli_json_real(p->events ? p->ndcg_sum / events : NAN));
}

/* Keys say where a part begins or ends: "5": users with 5 events or more, up
 * to the next; "0.1": the most popular tenth, but for what came before. */
static void add_parts(json_t *out, const struct ranking_parts *p)
{
    json_t *length = json_object(), *band = json_object(),
           *segment = json_object();
    char key[32];
    for (uint32_t i = 0; i < RANKING_LENGTHS; i++) {
        (void)snprintf(key, sizeof key, "%u", RANKING_LENGTH[i]);
        (void)json_object_set_new(length, key, part_json(&p->length[i]));
    }
    for (uint32_t i = 0; i < RANKING_BANDS; i++) {
        (void)snprintf(key, sizeof key, "%g", RANKING_BAND[i]);
        (void)json_object_set_new(band, key, part_json(&p->band[i]));
    }
    for (uint32_t i = 0; i < RANKING_SEGMENTS; i++) {
        (void)snprintf(key, sizeof key, "%u", i);
        if (p->segment[i].events > 0)
            (void)json_object_set_new(segment, key, part_json(&p->segment[i]));
    }
    (void)json_object_set_new(out, "by_history", length);
    (void)json_object_set_new(out, "by_popularity", band);
    (void)json_object_set_new(out, "by_segment", segment);
}

static void add_ranking_intervals(json_t *out,
                                  const struct ranking_resampled *r)
{
    struct interval rate = bootstrap_interval(r->hit_rate);
    struct interval ndcg = bootstrap_interval(r->ndcg);
    set_real(out, "hr_at_10_low", rate.low);
    set_real(out, "hr_at_10_high", rate.high);
    set_real(out, "ndcg_at_10_low", ndcg.low);
    set_real(out, "ndcg_at_10_high", ndcg.high);
}

static json_t *watch_json(const struct replay_report *r,
                          const struct watch_ranking *w, bool popular,
                          uint32_t k_max)
{
    json_t *out = ranking_json(&w->model, k_max);
    set_real(out, "coverage_at_10", w->items.coverage);
    set_real(out, "novelty_at_10", w->items.novelty);
    if (r->intervals) add_ranking_intervals(out, &w->resampled);
    add_parts(out, &w->parts);
    if (r->baselines)
        (void)json_object_set_new(out, "co_occurrence",
                                  ranking_json(&w->cooccurrence, k_max));
    (void)json_object_set_new(out, "unknown_items",
                              json_integer((json_int_t)w->unknown));
    (void)json_object_set_new(out, "seen_items",
                              json_integer((json_int_t)w->seen));
    if (popular)
        (void)json_object_set_new(out, "popularity",
                                  ranking_json(&w->popular, k_max));
    return out;
}

static json_t *steps_json(const struct replay_report *r)
{
    json_t *out = json_object();
    for (uint32_t s = 0; s < STEPS_COUNT; s++)
        (void)json_object_set_new(out, step_name((enum step)s),
                                  cli_json_real(step_us(r, (enum step)s)));
    return out;
}

/* Indexes of features by name, null where there are none. */
static json_t *drift_json(const struct replay_report *r)
{
    json_t *features = json_object(), *scores = json_object();
    uint32_t count = r->drift ? r->model->features : 0;
    for (uint32_t f = 0; f < count; f++)
        set_real(features, drift_name(r->drift, f), drift_feature(r->drift, f));
    for (uint32_t i = 0; i < replay_report_columns(r); i++)
        set_real(scores, SCORES[i], r->score_drift[i]);
    return json_pack("{s:o s:o}", "features", features, "scores", scores);
}

static void add_estimate(json_t *out, const char *name,
                         const struct off_policy_estimate *x)
{
    char key[32];
    set_real(out, name, x->value);
    (void)snprintf(key, sizeof key, "%s_low", name);
    set_real(out, key, x->at.low);
    (void)snprintf(key, sizeof key, "%s_high", name);
    set_real(out, key, x->at.high);
}

static json_t *off_policy_json(const struct replay_report *r)
{
    const struct off_policy_result *x = &r->earned;
    json_t *out = json_pack("{s:I s:I}", "lists", (json_int_t)x->lists,
                            "unmatched_lists", (json_int_t)r->unmatched);
    set_real(out, "logged", x->logged);
    add_estimate(out, "ips", &x->ips);
    add_estimate(out, "snips", &x->snips);
    add_estimate(out, "dr", &x->dr);
    set_real(out, "effective_lists_first", x->effective_first);
    set_real(out, "effective_lists_all", x->effective_all);
    return out;
}

static void add_quality(json_t *out, const struct replay_report *r)
{
    (void)json_object_set_new(out, "drift", drift_json(r));
    if (r->off_policy)
        (void)json_object_set_new(out, "off_policy", off_policy_json(r));
    for (uint32_t i = 0; i < replay_report_columns(r); i++)
        (void)json_object_set_new(
            out, SCORES[i],
            scores_json(&r->scores[i], &r->details[i], r->reviews));
    (void)json_object_set_new(
        out, "next_item",
        watch_json(r, &r->next, r->next_popular, r->next_k_max));
    if (r->left_one_out)
        (void)json_object_set_new(
            out, "leave_one_out",
            watch_json(r, &r->leave_one_out, true, UINT32_MAX));
}

static json_t *difference_json(const struct replay_report *r, uint32_t column)
{
    const struct replay_report *o = r->other;
    const struct evaluate_detail *a = &r->details[column];
    const struct evaluate_detail *b = &o->details[column];
    struct interval precision, auc;
    json_t *out;
    if (!replay_report_pairs(r, column)) return json_null();
    precision =
        bootstrap_difference(a->precision_resampled, b->precision_resampled);
    auc = bootstrap_difference(a->auc_resampled, b->auc_resampled);
    out = json_object();
    set_real(out, "average_precision",
             r->scores[column].average_precision -
                 o->scores[column].average_precision);
    set_real(out, "average_precision_low", precision.low);
    set_real(out, "average_precision_high", precision.high);
    set_real(out, "auc_roc",
             r->scores[column].auc_roc - o->scores[column].auc_roc);
    set_real(out, "auc_roc_low", auc.low);
    set_real(out, "auc_roc_high", auc.high);
    return out;
}

static json_t *ranking_difference_json(const struct watch_ranking *a,
                                       const struct watch_ranking *b)
{
    struct interval rate, ndcg;
    json_t *out;
    if (a->model.events == 0 || a->model.events != b->model.events)
        return json_null();
    rate = bootstrap_difference(a->resampled.hit_rate, b->resampled.hit_rate);
    ndcg = bootstrap_difference(a->resampled.ndcg, b->resampled.ndcg);
    out = json_object();
    set_real(out, "hr_at_10",
             ranking_hit_rate(&a->model, RANKING_TEN) -
                 ranking_hit_rate(&b->model, RANKING_TEN));
    set_real(out, "hr_at_10_low", rate.low);
    set_real(out, "hr_at_10_high", rate.high);
    set_real(out, "ndcg_at_10",
             ranking_ndcg(&a->model, RANKING_TEN) -
                 ranking_ndcg(&b->model, RANKING_TEN));
    set_real(out, "ndcg_at_10_low", ndcg.low);
    set_real(out, "ndcg_at_10_high", ndcg.high);
    return out;
}

/* The other model's numbers, and what this one's are above them. */
static json_t *other_json(const struct replay_report *r)
{
    json_t *out = json_pack("{s:s}", "model_hash", r->other->model->hash);
    add_quality(out, r->other);
    (void)json_object_set_new(out, "fraud_difference",
                              difference_json(r, WATCH_FRAUD));
    (void)json_object_set_new(out, "anomaly_difference",
                              difference_json(r, WATCH_ANOMALY));
    (void)json_object_set_new(
        out, "next_item_difference",
        ranking_difference_json(&r->next, &r->other->next));
    (void)json_object_set_new(
        out, "leave_one_out_difference",
        ranking_difference_json(&r->leave_one_out, &r->other->leave_one_out));
    return out;
}

static json_t *verify_json(const struct replay_report *r)
{
    const struct verify_result *v = &r->verify;
    return json_pack("{s:I s:I s:I s:I s:I s:I s:O?}", "equal",
                     (json_int_t)v->equal, "differ", (json_int_t)v->differ,
                     "missing", (json_int_t)v->missing, "extra",
                     (json_int_t)v->extra, "repeated", (json_int_t)v->repeated,
                     "outside", (json_int_t)v->outside, "first", r->first);
}

json_t *replay_report_json(const struct replay_report *r)
{
    const struct metrics *m = r->metrics;
    uint64_t events = metrics_sum(m, COUNT_events);
    json_t *out = json_pack(
        "{s:I s:I s:I s:I s:I s:I s:o s:o s:I s:o}", "events",
        (json_int_t)events, "scored",
        (json_int_t)metrics_sum(m, COUNT_events_scored), "recommendations",
        (json_int_t)metrics_sum(m, COUNT_outputs_recommendations), "flagged",
        (json_int_t)metrics_sum(m, COUNT_outputs_flagged), "bad",
        (json_int_t)bad_events(r), "late",
        (json_int_t)metrics_sum(m, COUNT_events_late), "seconds",
        cli_json_real(r->seconds), "events_per_second",
        cli_json_real(per_second(r, events)), "workers", (json_int_t)r->workers,
        "step_us_per_event", steps_json(r));
    if (r->model) {
        (void)json_object_set_new(out, "model_hash",
                                  json_string(r->model->hash));
        (void)json_object_set_new(out, "kernel_family",
                                  json_string(r->model->family));
    }
    if (r->measured) {
        char digest[17];
        (void)snprintf(digest, sizeof digest, "%016llx",
                       (unsigned long long)r->digest);
        (void)json_object_set_new(out, "events_digest", json_string(digest));
    }
    if (r->verified) (void)json_object_set_new(out, "verify", verify_json(r));
    if (r->measured) add_quality(out, r);
    if (r->other) (void)json_object_set_new(out, "compare", other_json(r));
    return out;
}

void replay_report_free(struct replay_report *r)
{
    json_decref(r->first);
    drift_free(r->drift);
    for (uint32_t i = 0; i < WATCH_COLUMNS; i++)
        evaluate_detail_free(&r->details[i]);
}
