/* replay_html.c - a replay's report as one page: what a risk team asks
 * first, then the curves behind it, then what it takes to make it again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "replay_html.h"

enum { DAYS_SHOWN_MAX = 400 };

static const char *const NAMES[WATCH_COLUMNS] = {
    [WATCH_FRAUD] = "fraud probability",
    [WATCH_ANOMALY] = "anomaly",
    [WATCH_AMOUNT] = "amount alone",
    [WATCH_REGRESSION] = "regression on features",
    [WATCH_ALONE] = "head without transformer",
};

static bool has_scores(const struct evaluate_result *v)
{
    return v->rows > 0 && !isnan(v->auc_roc);
}

static void baseline_verdict(struct html *h, const struct replay_report *r)
{
    if (!r->baselines || !has_scores(&r->scores[WATCH_REGRESSION])) return;
    html_say(h,
             "<p>On the same events a regression on the features gives %.3f, "
             "and the fraud head without the transformer %.3f.</p>",
             r->scores[WATCH_REGRESSION].average_precision,
             r->scores[WATCH_ALONE].average_precision);
}

static void fraud_verdict(struct html *h, const struct replay_report *r)
{
    const struct evaluate_result *v = &r->scores[WATCH_FRAUD];
    const struct evaluate_detail *d = &r->details[WATCH_FRAUD];
    html_say(
        h,
        "<p>Of %llu events %llu were frauds (%.2f %%). The fraud score finds "
        "<b>%.0f %%</b> of them while raising 1 %% of the good events: average "
        "precision <b>%.3f</b> (95 %%: %.3f to %.3f), where chance gives %.3f",
        (unsigned long long)v->rows, (unsigned long long)v->positives,
        100 * v->base_rate, 100 * d->recall_at_rate[1], v->average_precision,
        d->average_precision.low, d->average_precision.high, v->base_rate);
    if (has_scores(&r->scores[WATCH_AMOUNT]))
        html_say(h, " and the amount alone %.3f",
                 r->scores[WATCH_AMOUNT].average_precision);
    html_say(h, ".</p>");
    baseline_verdict(h, r);
    if (!isnan(d->observed_over_expected))
        html_say(h,
                 "<p>For every fraud that the probabilities promise, %.2f came",
                 d->observed_over_expected);
    if (!isnan(d->observed_over_expected_high))
        html_say(h, "; among scores above 0.1, %.2f",
                 d->observed_over_expected_high);
    if (!isnan(d->observed_over_expected)) html_say(h, ".</p>");
    if (!isnan(d->budget.by_events))
        html_say(
            h,
            "<p>Reviewing the %u highest scores of every day finds %.0f %% of "
            "the defrauded amounts; the cards with the %u highest, %.0f %%."
            "</p>",
            r->reviews, 100 * d->budget.by_events, r->reviews,
            100 * d->budget.by_cards);
}

static void ranking_verdict(struct html *h, const struct replay_report *r)
{
    const struct watch_ranking *w =
        r->left_one_out ? &r->leave_one_out : &r->next;
    bool popular = r->left_one_out || r->next_popular;
    if (w->model.events == 0) return;
    html_say(h,
             "<p>The %s is among the first ten recommended in <b>%.1f %%</b>",
             r->left_one_out ? "user's last item" : "item that comes next",
             100 * ranking_hit_rate(&w->model, 2));
    if (popular)
        html_say(h, " of cases; popularity alone gets %.1f %%",
                 100 * ranking_hit_rate(&w->popular, 2));
    html_say(h, "%s.</p>", popular ? "" : " of cases");
}

static void verdict(struct html *h, const struct replay_report *r)
{
    html_say(h, "<div class=\"verdict\">");
    if (has_scores(&r->scores[WATCH_FRAUD]))
        fraud_verdict(h, r);
    else
        html_say(h,
                 "<p>There were no labels of both kinds, so no score could be "
                 "held against the truth.</p>");
    ranking_verdict(h, r);
    if (r->verified)
        html_say(h, "<p>%s: %llu recorded outputs are equal in every byte.</p>",
                 replay_report_differs(r)
                     ? "<b>The replay differs from the run"
                       "</b>"
                     : "The replay equals the recorded run",
                 (unsigned long long)r->verify.equal);
    html_say(h, "</div>\n");
}

/* --- fraud and anomaly --------------------------------------------------- */

static void scores_head(struct html *h, const struct replay_report *r)
{
    html_say(h,
             "<h2>Scores against the truth</h2><div class=\"wide\"><table><tr>"
             "<th></th>");
    for (uint32_t i = 0; i < replay_report_columns(r); i++)
        if (has_scores(&r->scores[i])) html_say(h, "<th>%s</th>", NAMES[i]);
    html_say(h, "</tr>\n");
}

static void interval_row(struct html *h, const struct replay_report *r,
                         const char *name, bool auc)
{
    html_say(h, "<tr><td>%s</td>", name);
    for (uint32_t i = 0; i < replay_report_columns(r); i++) {
        const struct evaluate_result *v = &r->scores[i];
        const struct evaluate_detail *d = &r->details[i];
        struct interval at = auc ? d->auc_roc : d->average_precision;
        if (!has_scores(v)) continue;
        html_say(h, "<td>%.4f <span class=\"soft\">%.3f&ndash;%.3f</span></td>",
                 auc ? v->auc_roc : v->average_precision, at.low, at.high);
    }
    html_say(h, "</tr>\n");
}

/* A row of one number of each kind of score. */
static void detail_row(struct html *h, const struct replay_report *r,
                       const char *name,
                       double (*number)(const struct replay_report *r,
                                        uint32_t column, uint32_t at),
                       uint32_t at)
{
    html_say(h, "<tr><td>%s</td>", name);
    for (uint32_t i = 0; i < replay_report_columns(r); i++)
        if (has_scores(&r->scores[i])) html_cell(h, "%.4f", number(r, i, at));
    html_say(h, "</tr>\n");
}

static double rate_of(const struct replay_report *r, uint32_t i, uint32_t at)
{
    return r->details[i].recall_at_rate[at];
}

static double rate_precision_of(const struct replay_report *r, uint32_t i,
                                uint32_t at)
{
    return r->details[i].precision_at_rate[at];
}

static double recall_of(const struct replay_report *r, uint32_t i, uint32_t at)
{
    return r->details[i].recall_at[at];
}

static double precision_of(const struct replay_report *r, uint32_t i,
                           uint32_t at)
{
    return r->details[i].precision_at[at];
}

static double cards_of(const struct replay_report *r, uint32_t i, uint32_t at)
{
    (void)at;
    return r->scores[i].card_precision;
}

static double value_of(const struct replay_report *r, uint32_t i, uint32_t at)
{
    (void)at;
    return r->details[i].budget.by_events;
}

static double card_value_of(const struct replay_report *r, uint32_t i,
                            uint32_t at)
{
    (void)at;
    return r->details[i].budget.by_cards;
}

static double loss_of(const struct replay_report *r, uint32_t i, uint32_t at)
{
    (void)at;
    return r->scores[i].log_loss;
}

static void scores_table(struct html *h, const struct replay_report *r)
{
    char name[64];
    scores_head(h, r);
    interval_row(h, r, "average precision", false);
    interval_row(h, r, "AUC", true);
    detail_row(h, r, "card precision@100, mean of days", cards_of, 0);
    for (uint32_t i = 0; i < EVALUATE_RATES; i++) {
        (void)snprintf(name, sizeof name, "recall at %g %% false positives",
                       100 * EVALUATE_RATE[i]);
        detail_row(h, r, name, rate_of, i);
        (void)snprintf(name, sizeof name, "precision at %g %% false positives",
                       100 * EVALUATE_RATE[i]);
        detail_row(h, r, name, rate_precision_of, i);
    }
    for (uint32_t i = 0; i < EVALUATE_KS; i++) {
        (void)snprintf(name, sizeof name, "precision of the first %u",
                       EVALUATE_K[i]);
        detail_row(h, r, name, precision_of, i);
        (void)snprintf(name, sizeof name, "recall of the first %u",
                       EVALUATE_K[i]);
        detail_row(h, r, name, recall_of, i);
    }
    (void)snprintf(name, sizeof name, "value found, %u events a day",
                   r->reviews);
    detail_row(h, r, name, value_of, 0);
    (void)snprintf(name, sizeof name, "value found, %u cards a day",
                   r->reviews);
    detail_row(h, r, name, card_value_of, 0);
    detail_row(h, r, "log loss", loss_of, 0);
    html_say(
        h, "</table></div><p class=\"soft\">Small numbers are 95 %% intervals "
           "by a bootstrap over users. Equal scores count against us.</p>\n");
}

static void curves(struct html *h, const struct replay_report *r)
{
    struct html_line pr[WATCH_COLUMNS], roc[WATCH_COLUMNS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < replay_report_columns(r); i++) {
        const struct evaluate_detail *d = &r->details[i];
        if (!has_scores(&r->scores[i])) continue;
        pr[n] = (struct html_line){NAMES[i], d->pr, d->pr_count, false};
        roc[n++] = (struct html_line){NAMES[i], d->roc, d->roc_count, false};
    }
    html_say(h, "<h2>Curves</h2><div class=\"charts\">");
    html_lines(h,
               &(struct html_chart){.title = "Precision over recall",
                                    .x_name = "recall",
                                    .y_name = "precision",
                                    .lines = pr,
                                    .count = n,
                                    .level = r->scores[WATCH_FRAUD].base_rate});
    html_lines(h, &(struct html_chart){.title = "ROC",
                                       .x_name = "false positives",
                                       .y_name = "recall",
                                       .lines = roc,
                                       .count = n,
                                       .level = NAN,
                                       .diagonal = true});
    html_say(h, "</div>\n");
}

static void calibration_chart(struct html *h, const struct evaluate_detail *d)
{
    struct evaluate_point points[EVALUATE_BINS];
    struct html_line line = {"bins", points, 0, true};
    for (uint32_t i = 0; i < EVALUATE_BINS; i++) {
        const struct evaluate_bin *bin = &d->bins[i];
        double rows = (double)bin->rows;
        if (bin->rows > 0)
            points[line.count++] = (struct evaluate_point){
                bin->score_sum / rows, (double)bin->frauds / rows};
    }
    html_lines(h, &(struct html_chart){.title = "Calibration",
                                       .x_name = "mean probability",
                                       .y_name = "share of frauds",
                                       .lines = &line,
                                       .count = 1,
                                       .level = NAN,
                                       .diagonal = true});
}

static void histogram_chart(struct html *h, const struct evaluate_detail *d,
                            const char *name)
{
    double good[EVALUATE_BARS], fraud[EVALUATE_BARS];
    for (uint32_t i = 0; i < EVALUATE_BARS; i++) {
        good[i] = (double)d->good_bars[i];
        fraud[i] = (double)d->fraud_bars[i];
    }
    html_bars(h, &(struct html_bars){.title = "Events by score",
                                     .x_name = name,
                                     .first_name = "good",
                                     .second_name = "fraud",
                                     .first = good,
                                     .second = fraud,
                                     .count = EVALUATE_BARS,
                                     .logarithmic = true,
                                     .left = "0",
                                     .right = "1"});
}

static void number_row(struct html *h, const char *name, double value)
{
    html_say(h, "<tr><td>%s</td>", name);
    html_cell(h, "%.3f", value);
    html_say(h, "</tr>\n");
}

static void calibration_table(struct html *h, const struct evaluate_detail *d)
{
    html_say(h, "<div class=\"wide\"><table><tr><th>probability</th><th>events"
                "</th><th>mean</th><th>frauds</th><th>share</th></tr>\n");
    for (uint32_t i = 0; i < EVALUATE_BINS; i++) {
        const struct evaluate_bin *bin = &d->bins[i];
        double rows = (double)bin->rows;
        html_say(h, "<tr><td>%g&ndash;%g</td><td>%llu</td>", EVALUATE_EDGE[i],
                 EVALUATE_EDGE[i + 1], (unsigned long long)bin->rows);
        html_cell(h, "%.4f", bin->rows ? bin->score_sum / rows : NAN);
        html_say(h, "<td>%llu</td>", (unsigned long long)bin->frauds);
        html_cell(h, "%.4f", bin->rows ? (double)bin->frauds / rows : NAN);
        html_say(h, "</tr>\n");
    }
    html_say(h, "</table></div><table>");
    number_row(h, "frauds observed over expected", d->observed_over_expected);
    number_row(h, "the same above 0.1", d->observed_over_expected_high);
    number_row(h, "slope of the label on the logit (best 1)", d->slope);
    number_row(h, "intercept (best 0)", d->intercept);
    html_say(h, "</table>\n");
}

static void calibration(struct html *h, const struct replay_report *r)
{
    const struct evaluate_detail *d = &r->details[WATCH_FRAUD];
    if (isnan(d->observed_over_expected)) return;
    html_say(h, "<h2>Calibration of the fraud probability</h2>"
                "<div class=\"charts\">");
    calibration_chart(h, d);
    histogram_chart(h, d, NAMES[WATCH_FRAUD]);
    histogram_chart(h, &r->details[WATCH_ANOMALY], NAMES[WATCH_ANOMALY]);
    html_say(h, "</div>\n");
    calibration_table(h, d);
}

static void day_text(int64_t day, char out[16])
{
    time_t at = (time_t)(day * 86400);
    struct tm t;
    (void)gmtime_r(&at, &t);
    (void)strftime(out, 16, "%Y-%m-%d", &t);
}

static void days(struct html *h, const struct evaluate_detail *d)
{
    double bars[DAYS_SHOWN_MAX];
    char first[16], last[16];
    if (d->day_count == 0 || d->day_count > DAYS_SHOWN_MAX ||
        isnan(d->days[0].card_precision))
        return;
    for (uint32_t i = 0; i < d->day_count; i++)
        bars[i] = d->days[i].card_precision;
    day_text(d->days[0].day, first);
    day_text(d->days[d->day_count - 1].day, last);
    html_say(h, "<h2>Day by day</h2><div class=\"charts\">");
    html_bars(h, &(struct html_bars){.title = "Card precision@100",
                                     .x_name = "day (UTC)",
                                     .first_name = "fraud probability",
                                     .first = bars,
                                     .count = d->day_count,
                                     .left = first,
                                     .right = d->day_count > 1 ? last : ""});
    html_say(h, "</div>\n");
}

/* --- speed ---------------------------------------------- */

enum { OCTAVES = HISTOGRAM_LAST_LOG2 - HISTOGRAM_FIRST_LOG2 + 2 };

/* Counts by octave: the first takes all up to 1 us, the last all above. */
static void by_octave(const struct replay_report *r, enum step s,
                      double out[OCTAVES])
{
    struct histogram times = {0};
    metrics_steps(r->metrics, s, &times);
    for (uint32_t i = 0; i < OCTAVES; i++)
        out[i] = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        out[(i + HISTOGRAM_PER_OCTAVE - 1) / HISTOGRAM_PER_OCTAVE] +=
            (double)times.counts[i];
}

static void latency_chart(struct html *h, const struct replay_report *r)
{
    double append[OCTAVES], forward[OCTAVES];
    by_octave(r, STEP_append, append);
    by_octave(r, STEP_forward, forward);
    html_say(h, "<div class=\"charts\">");
    html_bars(h, &(struct html_bars){.title = "Batches by what a step took",
                                     .x_name = "time, doubling",
                                     .first_name = "append",
                                     .second_name = "forward",
                                     .first = append,
                                     .second = forward,
                                     .count = OCTAVES,
                                     .logarithmic = true,
                                     .left = "1 us",
                                     .right = "over 69 s"});
    html_say(h, "</div>\n");
}

static void speed(struct html *h, const struct replay_report *r)
{
    uint64_t events = metrics_sum(r->metrics, COUNT_events);
    html_say(h,
             "<h2>Speed</h2><p>%llu events in %.2f s with %u worker%s.</p>"
             "<div class=\"wide\"><table><tr><th>step</th><th>us an event</th>"
             "<th>median, ms a batch</th><th>99 %%, ms</th></tr>\n",
             (unsigned long long)events, r->seconds, r->workers,
             r->workers == 1 ? "" : "s");
    for (uint32_t s = 0; s < STEPS_COUNT; s++) {
        struct histogram times = {0};
        metrics_steps(r->metrics, s, &times);
        html_say(h, "<tr><td>%s</td>", step_name((enum step)s));
        html_cell(h, "%.2f",
                  events ? (double)times.sum_ns / 1e3 / (double)events : NAN);
        html_cell(h, "%.3f", (double)histogram_quantile_ns(&times, 0.5) / 1e6);
        html_cell(h, "%.3f", (double)histogram_quantile_ns(&times, 0.99) / 1e6);
        html_say(h, "</tr>\n");
    }
    html_say(h, "</table></div>\n");
    latency_chart(h, r);
}

/* --- another model ------------------------------------------------------- */

static void difference_row(struct html *h, const struct replay_report *r,
                           uint32_t i, bool auc)
{
    const struct evaluate_detail *a = &r->details[i];
    const struct evaluate_detail *b = &r->other->details[i];
    const struct evaluate_result *v = &r->scores[i], *w = &r->other->scores[i];
    struct interval at =
        auc ? bootstrap_difference(a->auc_resampled, b->auc_resampled)
            : bootstrap_difference(a->precision_resampled,
                                   b->precision_resampled);
    double mine = auc ? v->auc_roc : v->average_precision;
    double theirs = auc ? w->auc_roc : w->average_precision;
    html_say(h, "<tr><td>%s, %s</td>", NAMES[i],
             auc ? "AUC" : "average precision");
    html_cell(h, "%.4f", mine);
    html_cell(h, "%.4f", theirs);
    html_say(h,
             "<td>%+.4f <span class=\"soft\">%+.4f to %+.4f</span></td></tr>\n",
             mine - theirs, at.low, at.high);
}

static void other_model(struct html *h, const struct replay_report *r)
{
    const struct replay_report *o = r->other;
    if (!o) return;
    html_say(h,
             "<h2>Against model %s</h2><div class=\"wide\"><table><tr><th></th>"
             "<th>%s</th><th>%s</th><th>difference</th></tr>\n",
             o->model->hash, r->model->hash, o->model->hash);
    for (uint32_t i = 0; i < WATCH_AMOUNT; i++) {
        if (!replay_report_pairs(r, i)) continue;
        difference_row(h, r, i, false);
        difference_row(h, r, i, true);
    }
    replay_html_items_against(h, r);
    html_say(h, "</table></div><p class=\"soft\">The same events, paired: "
                "intervals are of the difference, by the same resamples of "
                "users.</p>\n");
}

/* --- all of it ------------------------------------------------------------ */

enum rc replay_report_html(const struct replay_report *r,
                           const struct replay_page *page, const char *path,
                           struct err *e)
{
    struct html h;
    TRY(html_begin(&h, path, "millrace replay", e));
    html_say(&h, "<h1>Replay report</h1><p class=\"soft\">%llu events%s%s</p>",
             (unsigned long long)metrics_sum(r->metrics, COUNT_events),
             r->model ? ", model " : ", no model",
             r->model ? r->model->hash : "");
    if (r->measured) {
        verdict(&h, r);
        if (has_scores(&r->scores[WATCH_FRAUD])) {
            scores_table(&h, r);
            curves(&h, r);
            calibration(&h, r);
            days(&h, &r->details[WATCH_FRAUD]);
        }
        replay_html_items(&h, r);
        replay_html_drift(&h, r);
        replay_html_off_policy(&h, r);
        other_model(&h, r);
    }
    speed(&h, r);
    if (r->model) replay_html_card(&h, page->config);
    replay_html_again(&h, r, page);
    return html_end(&h, e);
}
