#include "train_card.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

static void put_time(FILE *out, const char *name, int64_t time_ms)
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm date;
    char text[32];
    if (time_ms == INT64_MIN || time_ms == INT64_MAX) return;
    if (!gmtime_r(&seconds, &date)) return;
    (void)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &date);
    fprintf(out, "- %s: %s UTC\n", name, text);
}

static void put_number(FILE *out, const char *name, double x)
{
    if (isfinite(x)) fprintf(out, "| %s | %.4f |\n", name, x);
}

static void put_data(FILE *out, const struct train_shared *s)
{
    const struct train_data *d = s->data;
    const struct train_log *log = d->log;
    fprintf(out, "\n## Data\n\n- users: %" PRIu32 ", events: %" PRIu64 "\n",
            log->users, log->rows);
    fprintf(out,
            "- events learned from: %" PRIu64 ", validated on: %" PRIu64 "\n",
            d->train.targets, d->validate.targets);
    if (s->o->leave_one_out)
        fprintf(out, "- each user's last event was never read (test), the one "
                     "before it is validation\n");
    put_time(out, "from", s->o->from_ms);
    put_time(out, "validated from", s->o->validate_from_ms);
    put_time(out, "until", s->o->until_ms);
    if (d->positives)
        fprintf(out,
                "- labels learned from: %" PRIu64 " frauds, %" PRIu64
                " good; validated on: %" PRIu64 " frauds, %" PRIu64 " good\n",
                d->positives, d->negatives, d->validate_positives,
                d->validate_negatives);
}

static void put_shape(FILE *out, const struct train_shared *s)
{
    const struct behaviour_config *c = &s->m->params.config;
    fprintf(out,
            "\n## Shape\n\n%u layers, width %u, %u heads, inner width %u, "
            "window %u (contexts of up to %u events), %u items; fraud: %u "
            "nets of width %u over %u window features.\n\nFields:",
            c->layers, c->width, c->heads, c->ffn, c->window, 2 * c->window,
            c->items, c->fraud_heads, c->fraud_width, c->features);
    for (uint32_t f = 0; f < c->field_count; f++)
        fprintf(out, " %s (%u)%s", c->field[f].name, c->field[f].rows,
                f + 1 < c->field_count ? "," : ".\n");
}

static void put_options(FILE *out, const struct train_options *o,
                        const struct card_facts *facts)
{
    fprintf(out,
            "\n## Training\n\nAdamW, rate %g, decay %g, warm-up %u steps, "
            "batches of %u tokens, dropout %g, clipping at %g, ",
            (double)o->learning_rate, (double)o->weight_decay, o->warmup_steps,
            o->batch_tokens, (double)o->dropout, (double)o->clip_norm);
    if (o->average > 0)
        fprintf(out, "weights averaged by %g, ", (double)o->average);
    if (o->temperature > 0)
        fprintf(out, "items on a sphere, temperature %g, ",
                (double)o->temperature);
    if (o->negatives)
        fprintf(out, "softmax over %u sampled items, ", o->negatives);
    else
        fprintf(out, "full softmax, ");
    fprintf(out, "weight of the fraud loss %g, seed %" PRIu64 ".\n",
            (double)o->fraud_weight, o->seed);
    if (o->from)
        fprintf(out, "It went on from the model %s.\n", facts->base_hash);
    if (o->command && o->command[0]) fprintf(out, "\n    %s\n", o->command);
}

static void put_gains(FILE *out, const struct train_shared *s,
                      const struct measured *best)
{
    const struct params *p = &s->m->params;
    char name[FIELD_NAME_BYTES + 32];
    for (uint32_t f = 0; f < p->config.field_count; f++) {
        if (p->next_weight[f] == TENSOR_NONE) continue;
        (void)snprintf(name, sizeof name, "gain over the marginal: %s",
                       p->config.field[f].name);
        put_number(out, name, best->field_gain[f]);
    }
}

static void put_scores(FILE *out, const struct train_shared *s,
                       const struct card_facts *facts)
{
    fprintf(out,
            "\n## Scores\n\nEpoch %u of %u was kept. Loss of the last "
            "epoch on what was learned from: %.4f.\n",
            facts->best_epoch, facts->epochs, facts->train_loss);
    if (facts->best.targets == 0) {
        fprintf(out, "There was no validation set.\n");
        return;
    }
    fprintf(out, "\n| validation | |\n| --- | --- |\n");
    put_number(out, "loss", facts->best.loss);
    put_number(out, "hit rate at 10", facts->best.hit_rate);
    put_number(out, "NDCG at 10", facts->best.ndcg);
    put_number(out, "fraud: average precision", facts->best.average_precision);
    put_gains(out, s, &facts->best);
}

char *card_text(const struct train_shared *s, const struct card_facts *facts)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) return NULL;
    fprintf(out, "# Behaviour model\n\nScores events and recommends items; "
                 "made by `millrace train behaviour`.\n");
    put_data(out, s);
    put_shape(out, s);
    put_options(out, s->o, facts);
    put_scores(out, s, facts);
    if (s->o->notes) fputs(s->o->notes, out);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}
