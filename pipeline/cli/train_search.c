#include "train_search.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "hash.h"

enum { SEARCH_KEY = 0x7365, STEPS = 5 };

static const float dropouts[STEPS] = {0.1f, 0.2f, 0.3f, 0.4f, 0.5f};
static const float factors[STEPS] = {0.5f, 0.7f, 1, 1.4f, 2};
static const float decays[STEPS] = {0, 0.003f, 0.01f, 0.03f, 0.1f};

/* One running trial: the caller's report goes by, the best epoch is kept. */
struct watched {
    struct search_trial *trial;
    bool one_out;
    train_report_fn *report;
    void *user;
};

static uint64_t step_of(const struct train_options *o, uint32_t trial,
                        uint32_t knob)
{
    return draw(o->seed ^ SEARCH_KEY, trial, knob) % STEPS;
}

/* The settings of a trial, from those given. */
static void vary(struct train_options *o, uint32_t trial)
{
    float tokens;
    if (trial == 0) return;
    o->learning_rate *= factors[step_of(o, trial, 0)];
    o->dropout = dropouts[step_of(o, trial, 1)];
    o->weight_decay = decays[step_of(o, trial, 2)];
    o->fraud_weight *= factors[step_of(o, trial, 3)];
    tokens = (float)o->batch_tokens * factors[step_of(o, trial, 4)];
    if (tokens >= (float)(2 * o->window)) o->batch_tokens = (uint32_t)tokens;
}

static void note(struct search_trial *t, const char *what, double reached,
                 uint32_t epoch)
{
    if (t->what && !(reached > t->reached)) return;
    t->what = what;
    t->reached = reached;
    t->epoch = epoch;
}

static void watch(void *user, const struct train_progress *p)
{
    struct watched *w = user;
    struct search_trial *t = w->trial;
    if (w->report) w->report(w->user, p);
    if (!p->epoch_end) return;
    t->epochs = p->epoch;
    t->seconds = p->seconds;
    if (w->one_out && isfinite(p->validation_ndcg))
        note(t, "NDCG@10", p->validation_ndcg, p->epoch);
    else if (isfinite(p->validation_average_precision))
        note(t, "average precision", p->validation_average_precision, p->epoch);
    else if (isfinite(p->validation_loss))
        note(t, "loss", -p->validation_loss, p->epoch);
}

static enum rc try_one(const struct train_log *log,
                       const struct train_options *given, uint32_t trial,
                       struct watched *w, struct err *e)
{
    struct train_options o = *given;
    vary(&o, trial);
    o.refit = false;
    *w->trial = (struct search_trial){.learning_rate = o.learning_rate,
                                      .dropout = o.dropout,
                                      .weight_decay = o.weight_decay,
                                      .fraud_weight = o.fraud_weight,
                                      .batch_tokens = o.batch_tokens,
                                      .reached = (double)NAN};
    return train_behaviour(log, &o, NULL, watch, w, e);
}

enum rc train_search(const struct train_log *log, struct train_options *o,
                     uint32_t count, struct search_trial *trials,
                     train_report_fn *report, search_tell_fn *tell, void *user,
                     struct err *e)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct watched w = {.trial = &trials[i],
                            .one_out = o->leave_one_out,
                            .report = report,
                            .user = user};
        TRY(try_one(log, o, i, &w, e));
        if (isnan(trials[i].reached))
            return ERR(e, RC_STOP,
                       "training: nothing validates the trials of a search; "
                       "give --validate-from or --leave-one-out");
        if (trials[i].reached > trials[best].reached) best = i;
        tell(user, i, &trials[i], best);
    }
    vary(o, best);
    return RC_OK;
}

char *search_table(const struct search_trial *trials, uint32_t count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    fprintf(out,
            "\n## Search\n\nTried on the validation split, best epoch "
            "each.\n\n| learning rate | dropout | weight decay | fraud weight "
            "| batch tokens | epoch | %s |\n"
            "| --- | --- | --- | --- | --- | --- | --- |\n",
            trials[0].what);
    for (uint32_t i = 0; i < count; i++) {
        const struct search_trial *t = &trials[i];
        fprintf(out, "| %.3g | %.2g | %.3g | %.3g | %u | %u of %u | %.4f |\n",
                (double)t->learning_rate, (double)t->dropout,
                (double)t->weight_decay, (double)t->fraud_weight,
                t->batch_tokens, t->epoch, t->epochs, t->reached);
    }
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}
