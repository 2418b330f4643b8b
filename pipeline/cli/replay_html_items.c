/* replay_html_items.c - recommendations on the page of a replay. */
#include <math.h>
#include <stdlib.h>

#include "replay_html.h"

static double rate_of(const struct ranking_part *p)
{
    return p->events ? (double)p->hits / (double)p->events : NAN;
}

static double ndcg_of(const struct ranking_part *p)
{
    return p->events ? p->ndcg_sum / (double)p->events : NAN;
}

/* --- the whole ----------------------------------------------------------- */

/* A row for each number, a column for each way: wide enough for a phone. */
enum { WAYS = 3 };
struct ways {
    const struct ranking *at[WAYS]; /* NULL: not measured */
    uint32_t k_max;
};
typedef double ranking_fn(const struct ranking *r, uint32_t i);

static void number_row(struct html *h, const struct ways *w, const char *name,
                       ranking_fn *number, uint32_t i)
{
    if (RANKING_K[i] > w->k_max) return;
    html_say(h, "<tr><td>%s@%u</td>", name, RANKING_K[i]);
    for (uint32_t k = 0; k < WAYS; k++)
        if (w->at[k]) html_cell(h, "%.4f", number(w->at[k], i));
    html_say(h, "</tr>\n");
}

static void rankings(struct html *h, const char *name, const struct ways *w)
{
    static const char *const NAMES[WAYS] = {"the model", "popularity",
                                            "after the last item"};
    html_say(h, "<div class=\"wide\"><table><tr><th>%s, %llu cases</th>", name,
             (unsigned long long)w->at[0]->events);
    for (uint32_t k = 0; k < WAYS; k++)
        if (w->at[k]) html_say(h, "<th>%s</th>", NAMES[k]);
    html_say(h, "</tr>\n");
    for (uint32_t i = 0; i < RANKING_KS; i++)
        number_row(h, w, "HR", ranking_hit_rate, i);
    for (uint32_t i = 0; i < RANKING_KS; i++)
        number_row(h, w, "NDCG", ranking_ndcg, i);
    for (uint32_t i = 0; i < RANKING_KS; i++)
        number_row(h, w, "MRR", ranking_mrr, i);
    html_say(h, "</table></div>\n");
}

static void both_rankings(struct html *h, const struct replay_report *r)
{
    const struct watch_ranking *left = &r->leave_one_out, *next = &r->next;
    const struct ways last = {{&left->model, &left->popular,
                               r->baselines ? &left->cooccurrence : NULL},
                              UINT32_MAX};
    const struct ways after = {{&next->model,
                                r->next_popular ? &next->popular : NULL,
                                r->baselines ? &next->cooccurrence : NULL},
                               r->next_k_max};
    if (r->left_one_out) rankings(h, "last item, left out", &last);
    if (next->model.events > 0) rankings(h, "next item", &after);
}

static void about_lists(struct html *h, const struct replay_report *r,
                        const struct watch_ranking *w)
{
    struct interval rate = bootstrap_interval(w->resampled.hit_rate);
    struct interval ndcg = bootstrap_interval(w->resampled.ndcg);
    if (r->intervals)
        html_say(h,
                 "<p>95 %% intervals by a bootstrap over users: HR@10 %.4f to "
                 "%.4f, NDCG@10 %.4f to %.4f.</p>",
                 rate.low, rate.high, ndcg.low, ndcg.high);
    if (!isnan(w->items.coverage))
        html_say(h,
                 "<p>The first ten of all lists hold <b>%.2f %%</b> of the "
                 "items; an item in them carries %.2f bits of news.</p>",
                 100 * w->items.coverage, w->items.novelty);
    html_say(h,
             "<p class=\"soft\">Of the items that came the model does not "
             "know %llu, and %llu the user had before: misses, which count."
             "</p>\n",
             (unsigned long long)w->unknown, (unsigned long long)w->seen);
}

/* --- parts --------------------------------------------------------------- */

static void part_row(struct html *h, const char *name,
                     const struct ranking_part *p)
{
    if (p->events == 0) return;
    html_say(h, "<tr><td>%s</td><td>%llu</td>", name,
             (unsigned long long)p->events);
    html_cell(h, "%.4f", rate_of(p));
    html_cell(h, "%.4f", ndcg_of(p));
    html_say(h, "</tr>\n");
}

static void begin_parts(struct html *h, const char *by)
{
    html_say(h,
             "<div class=\"wide\"><table><tr><th>%s</th><th>cases</th>"
             "<th>HR@10</th><th>NDCG@10</th></tr>\n",
             by);
}

static void by_history(struct html *h, const struct ranking_parts *p)
{
    char name[64];
    begin_parts(h, "events before");
    for (uint32_t i = 0; i < RANKING_LENGTHS; i++) {
        if (i + 1 < RANKING_LENGTHS)
            (void)snprintf(name, sizeof name, "%u to %u", RANKING_LENGTH[i],
                           RANKING_LENGTH[i + 1] - 1);
        else
            (void)snprintf(name, sizeof name, "%u and more", RANKING_LENGTH[i]);
        part_row(h, name, &p->length[i]);
    }
    html_say(h, "</table></div>\n");
}

static void by_popularity(struct html *h, const struct ranking_parts *p)
{
    char name[64];
    begin_parts(h, "popularity of the item");
    for (uint32_t i = 0; i < RANKING_BANDS; i++) {
        (void)snprintf(name, sizeof name, "%s %g %%",
                       i ? "to the first" : "the first", 100 * RANKING_BAND[i]);
        part_row(h, name, &p->band[i]);
    }
    html_say(h, "</table></div>\n");
}

static void segment_chart(struct html *h, const struct ranking_parts *p,
                          uint32_t count)
{
    double bars[RANKING_SEGMENTS], most = 0;
    char last[16];
    for (uint32_t i = 0; i < count; i++) {
        bars[i] = p->segment[i].events ? ndcg_of(&p->segment[i]) : 0;
        most = fmax(most, bars[i]);
    }
    (void)snprintf(last, sizeof last, "%u", count - 1);
    html_say(h, "<div class=\"charts\">");
    html_bars(h, &(struct html_bars){.title = "NDCG@10 by segment",
                                     .x_name = "segment of the user",
                                     .first_name = "the model",
                                     .first = bars,
                                     .count = count,
                                     .most = most,
                                     .left = "0",
                                     .right = count > 1 ? last : ""});
    html_say(h, "</div>\n");
}

static void by_segment(struct html *h, const struct ranking_parts *p)
{
    uint32_t count = 0;
    char name[16];
    for (uint32_t i = 0; i < RANKING_SEGMENTS; i++)
        if (p->segment[i].events > 0) count = i + 1;
    if (count == 0) return;
    segment_chart(h, p, count);
    begin_parts(h, "segment of the user");
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "%u", i);
        part_row(h, name, &p->segment[i]);
    }
    html_say(h, "</table></div>\n");
}

void replay_html_items(struct html *h, const struct replay_report *r)
{
    const struct watch_ranking *w =
        r->left_one_out ? &r->leave_one_out : &r->next;
    if (r->next.model.events == 0 && !r->left_one_out) return;
    html_say(h, "<h2>Recommendations</h2>");
    both_rankings(h, r);
    about_lists(h, r, w);
    by_history(h, &w->parts);
    by_popularity(h, &w->parts);
    by_segment(h, &w->parts);
}

/* --- another model ------------------------------------------------------- */

static void against_row(struct html *h, const char *name,
                        const struct watch_ranking *a,
                        const struct watch_ranking *b, bool ndcg)
{
    double mine = ndcg ? ranking_ndcg(&a->model, RANKING_TEN)
                       : ranking_hit_rate(&a->model, RANKING_TEN);
    double theirs = ndcg ? ranking_ndcg(&b->model, RANKING_TEN)
                         : ranking_hit_rate(&b->model, RANKING_TEN);
    struct interval at =
        ndcg ? bootstrap_difference(a->resampled.ndcg, b->resampled.ndcg)
             : bootstrap_difference(a->resampled.hit_rate,
                                    b->resampled.hit_rate);
    if (a->model.events == 0 || a->model.events != b->model.events) return;
    html_say(h, "<tr><td>%s, %s@10</td>", name, ndcg ? "NDCG" : "HR");
    html_cell(h, "%.4f", mine);
    html_cell(h, "%.4f", theirs);
    html_say(h,
             "<td>%+.4f <span class=\"soft\">%+.4f to %+.4f</span></td>"
             "</tr>\n",
             mine - theirs, at.low, at.high);
}

void replay_html_items_against(struct html *h, const struct replay_report *r)
{
    for (int ndcg = 0; ndcg < 2; ndcg++) {
        against_row(h, "next item", &r->next, &r->other->next, ndcg);
        against_row(h, "last item, left out", &r->leave_one_out,
                    &r->other->leave_one_out, ndcg);
    }
}
