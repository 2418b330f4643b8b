/* replay_html_drift.c - how far events have moved away from those that were
 * learned from, and what the lists would have earned, on the page of a
 * replay. */
#include <math.h>
#include <stdlib.h>

#include "replay_html.h"

enum { FEATURES_SHOWN = 15 };
static const double SOME = 0.1, MUCH = 0.25;

struct moved {
    uint32_t feature;
    double index;
};

static int by_index(const void *a, const void *b)
{
    const struct moved *x = a, *y = b;
    if (x->index != y->index) return x->index > y->index ? -1 : 1;
    return (x->feature > y->feature) - (x->feature < y->feature);
}

static const char *in_words(double index)
{
    return index < SOME ? "little" : index < MUCH ? "some" : "much";
}

static void index_row(struct html *h, const char *name, double index)
{
    html_say(h, "<tr><td>");
    html_text(h, slice_str(name));
    html_say(h, "</td>");
    html_cell(h, "%.4f", index);
    html_say(h, "<td>%s</td></tr>\n", isnan(index) ? "" : in_words(index));
}

static void begin_indexes(struct html *h, const char *of)
{
    html_say(h,
             "<div class=\"wide\"><table><tr><th>%s</th><th>stability index"
             "</th><th>moved</th></tr>\n",
             of);
}

static void features(struct html *h, const struct replay_report *r)
{
    uint32_t count = r->model->features, much = 0;
    struct moved *all = calloc((size_t)count + 1, sizeof *all);
    for (uint32_t f = 0; all && f < count; f++) {
        all[f] = (struct moved){f, drift_feature(r->drift, f)};
        much += all[f].index >= MUCH;
    }
    if (all && count > 0 && !isnan(all[0].index)) {
        qsort(all, count, sizeof *all, by_index);
        html_say(h, "<p>%u of %u features moved much since training.</p>", much,
                 count);
        begin_indexes(h, "feature");
        for (uint32_t i = 0; i < count && i < FEATURES_SHOWN; i++)
            index_row(h, drift_name(r->drift, all[i].feature), all[i].index);
        html_say(h, "</table></div>\n");
    }
    free(all);
}

void replay_html_drift(struct html *h, const struct replay_report *r)
{
    bool scores = !isnan(r->score_drift[WATCH_FRAUD]) ||
                  !isnan(r->score_drift[WATCH_ANOMALY]);
    if (!r->drift && !scores) return;
    html_say(h, "<h2>Drift</h2><p class=\"soft\">Population stability: below "
                "0.1 little has moved, above 0.25 much. Features against the "
                "rows that were learned from, scores against those of the "
                "events before the measured ones.</p>\n");
    if (scores) {
        begin_indexes(h, "score");
        index_row(h, "fraud probability", r->score_drift[WATCH_FRAUD]);
        index_row(h, "anomaly", r->score_drift[WATCH_ANOMALY]);
        html_say(h, "</table></div>\n");
    }
    if (r->drift) features(h, r);
}

/* --- what other lists would have earned ---------------------------------- */

static void estimate_row(struct html *h, const char *name,
                         const struct off_policy_estimate *x)
{
    html_say(h, "<tr><td>%s</td>", name);
    html_cell(h, "%.5f", x->value);
    html_cell(h, "%.5f", x->at.low);
    html_cell(h, "%.5f", x->at.high);
    html_say(h, "</tr>\n");
}

void replay_html_off_policy(struct html *h, const struct replay_report *r)
{
    const struct off_policy_result *x = &r->earned;
    if (!r->off_policy) return;
    html_say(h,
             "<h2>What these lists would have earned</h2><p>%llu logged lists "
             "earned %.5f each: the item that came next was among them. For "
             "the lists of this model they are worth %.0f lists by the first "
             "place, %.1f by all places; where that is few, believe no "
             "estimate.</p>",
             (unsigned long long)x->lists, x->logged, x->effective_first,
             x->effective_all);
    html_say(h, "<div class=\"wide\"><table><tr><th>estimate</th><th>a list"
                "</th><th>from</th><th>to</th></tr>\n");
    estimate_row(h, "inverse propensity", &x->ips);
    estimate_row(h, "self-normalised", &x->snips);
    estimate_row(h, "doubly robust", &x->dr);
    html_say(h, "</table></div>\n");
}
