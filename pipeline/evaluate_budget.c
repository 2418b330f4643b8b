#include "evaluate_budget.h"

#include <math.h>
#include <stdlib.h>

#include "evaluate_rows.h"
#include "train.h"

/* What one review would look at. */
struct review {
    int64_t day;
    float score;
    double lost; /* amounts of its frauds */
};

static int by_day_and_score(const void *a, const void *b)
{
    const struct review *x = a, *y = b;
    if (x->day != y->day) return x->day < y->day ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->lost > y->lost) - (x->lost < y->lost);
}

static int by_day_and_user(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->day != y->day) return x->day < y->day ? -1 : 1;
    return (x->user > y->user) - (x->user < y->user);
}

static double share_found(struct review *at, uint64_t count, uint32_t reviews)
{
    double found = 0, all = 0;
    qsort(at, count, sizeof *at, by_day_and_score);
    for (uint64_t i = 0, first = 0; i < count; i++) {
        if (at[i].day != at[first].day) first = i;
        all += at[i].lost;
        if (i - first < reviews) found += at[i].lost;
    }
    return all > 0 ? found / all : NAN;
}

static struct review review_of(const struct evaluate *ev,
                               const struct scored *row, int32_t amounts)
{
    float amount = evaluate_score(ev, row->row, (uint32_t)amounts);
    bool lost = row->label == LABEL_FRAUD && !isnan(amount);
    return (struct review){row->day, row->score, lost ? (double)amount : 0};
}

bool evaluate_value_found(const struct evaluate *ev, struct scored *rows,
                          uint64_t count, int32_t amounts, uint32_t reviews,
                          struct evaluate_budget *out)
{
    struct review *at = malloc((count + 1) * sizeof *at);
    uint64_t cards = 0;
    if (!at) return false;
    for (uint64_t i = 0; i < count; i++)
        at[i] = review_of(ev, &rows[i], amounts);
    out->by_events = share_found(at, count, reviews);
    qsort(rows, count, sizeof *rows, by_day_and_user);
    for (uint64_t i = 0; i < count; i++) {
        struct review more = review_of(ev, &rows[i], amounts);
        if (i == 0 || by_day_and_user(&rows[i - 1], &rows[i]) != 0)
            at[cards++] = (struct review){.day = more.day, .score = -INFINITY};
        at[cards - 1].score = fmaxf(at[cards - 1].score, more.score);
        at[cards - 1].lost += more.lost;
    }
    out->by_cards = share_found(at, cards, reviews);
    free(at);
    return true;
}
