/* inspect_event - one event of a log: what was made of it, and why. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "inspect_log.h"
#include "model.h"
#include "reason_text.h"

enum { ID_BYTES = 256, BAR_WIDTH = 20 };

/* An event as it was found; all copied. */
struct found {
    char id[ID_BYTES], user[ID_BYTES], item[ID_BYTES];
    int64_t time_ms, offset;
    int32_t partition;
    double amount; /* NaN: none */
    struct outcome outcome;
    struct reasons reasons;
    struct reason *at; /* (reasons.count) */
    struct reason_words *words;
};

struct subject {
    struct inspect *in;
    uint64_t id;
    struct model *model;
    struct inspect_log log;
    struct found found;
    bool is_found;
};

/* --- finding it -------------------------------------------------------- */

static void copy_text(char out[ID_BYTES], struct slice s)
{
    (void)snprintf(out, ID_BYTES, "%.*s", (int)s.len, (const char *)s.ptr);
}

static enum rc copy_reasons(struct subject *s, const struct reasons *r,
                            struct err *e)
{
    struct found *f = &s->found;
    f->at = calloc(r->count + 1, sizeof *f->at);
    f->words = calloc(r->count + 1, sizeof *f->words);
    if (!f->at || !f->words) return ERR(e, RC_STOP, "no memory for reasons");
    f->reasons = *r;
    memcpy(f->at, r->at, r->count * sizeof *f->at);
    f->reasons.at = f->at;
    for (uint32_t i = 0; i < r->count; i++) {
        const char *name = NULL;
        if (f->at[i].part == REASON_FEATURE)
            name = model_feature_name(s->model, f->at[i].feature);
        reason_text(&f->at[i], name, &f->words[i]);
    }
    return RC_OK;
}

static enum rc keep(struct subject *s, const struct batch *b, uint32_t i,
                    struct err *e)
{
    const struct event *ev = &b->events[i];
    struct found *f = &s->found;
    bool has_amount = !(ev->past.flags & PAST_NO_AMOUNT);
    copy_text(f->id, ev->event_id);
    copy_text(f->user, ev->user);
    copy_text(f->item, ev->item);
    f->time_ms = ev->time_ms;
    f->partition = b->records[i].partition;
    f->offset = b->records[i].offset;
    f->amount = has_amount
                    ? (double)ev->past.amount / s->in->config->role_amount_scale
                    : (double)NAN;
    f->outcome = b->outcomes[i];
    s->is_found = true;
    if (!f->outcome.reasons) return RC_OK;
    return copy_reasons(s, f->outcome.reasons, e);
}

/* The first of that id. */
static enum rc look(void *user, const struct batch *b, struct err *e)
{
    struct subject *s = user;
    for (uint32_t i = 0; !s->is_found && i < b->count; i++) {
        const struct event *ev = &b->events[i];
        if (ev->bad != BAD_NONE || ev->forget || ev->is_label) continue;
        if (ev->past.event_id == s->id) TRY(keep(s, b, i, e));
    }
    return RC_OK;
}

static enum rc find(struct subject *s, struct err *e)
{
    const struct config *c = s->in->config;
    struct worker_options o = {
        .explain_id = s->id, .observe = look, .observer = s};
    if (!c->role_event_id[0])
        return ERR(
            e, RC_STOP,
            "role.event_id is not set; it says which field names events");
    if (s->in->logs.count == 0)
        return ERR(e, RC_STOP,
                   "scores are not kept in state.dir; give the log with --log");
    if (!c->model_dir[0])
        return ERR(e, RC_STOP, "model.dir is not set; it says what scores");
    TRY(model_open(&s->model, c->model_dir, e));
    o.model = s->model;
    TRY(inspect_log_open(&s->log, s->in, o, e));
    return inspect_log_fold(&s->log, &s->is_found, e);
}

/* --- printing ---------------------------------------------------------- */

static const char *state_name(const struct found *f)
{
    if (!f->outcome.scored) return "not_scored";
    switch (f->outcome.reasons_state) {
    case REASONS_GIVEN:
        return "given";
    case REASONS_UNAVAILABLE:
        return "unavailable";
    default:
        return "none";
    }
}

static json_t *reasons_json(const struct found *f)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < f->reasons.count; i++) {
        const struct reason *r = &f->at[i];
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "code",
                            f->words[i].code, "text", f->words[i].text,
                            "feature", f->words[i].feature, "value",
                            cli_json_real((double)r->value), "usual",
                            cli_json_real((double)r->usual), "contribution",
                            cli_json_real((double)r->log_odds)));
    }
    return list;
}

static void print_json(const struct subject *s)
{
    const struct found *f = &s->found;
    const struct outcome *o = &f->outcome;
    bool given = o->reasons != NULL;
    cli_print_json(json_pack(
        "{s:s, s:s, s:s, s:I, s:i, s:I, s:o, s:o, s:o, s:b, s:s, s:s, s:o, "
        "s:o, s:o}",
        "event_id", f->id, "user_id", f->user, "item_id", f->item, "time_ms",
        (json_int_t)f->time_ms, "partition", (int)f->partition, "offset",
        (json_int_t)f->offset, "amount", cli_json_real(f->amount),
        "probability", cli_json_real(o->scored ? (double)o->fraud : NAN),
        "anomaly", cli_json_real(o->scored ? (double)o->anomaly : NAN),
        "flagged", o->flagged, "reasons_state", state_name(f),
        "reasons_reference", model_info(s->model)->reference, "reasons_base",
        cli_json_real(given ? (double)f->reasons.base : NAN),
        "reasons_log_odds",
        cli_json_real(given ? (double)f->reasons.log_odds : NAN), "reasons",
        reasons_json(f)));
}

/* As long as the largest is BAR_WIDTH. */
static void print_reason(const struct found *f, uint32_t i)
{
    double largest = fabs((double)f->at[0].log_odds);
    double x = (double)f->at[i].log_odds;
    int length = (int)(BAR_WIDTH * fabs(x) / largest + 0.5);
    (void)printf("%+9.3f  %-*.*s  %-32s  %s\n", x, BAR_WIDTH, length,
                 x > 0 ? "++++++++++++++++++++" : "--------------------",
                 f->words[i].code, f->words[i].text);
}

static void print_reasons(const struct subject *s)
{
    const struct found *f = &s->found;
    (void)printf("\nwhy, in log-odds: %+.3f for a typical good event (%s), "
                 "%+.3f for this one\n",
                 (double)f->reasons.base, model_info(s->model)->reference,
                 (double)f->reasons.log_odds);
    for (uint32_t i = 0; i < f->reasons.count; i++)
        print_reason(f, i);
    (void)printf("%+9.3f  together\n",
                 (double)f->reasons.log_odds - (double)f->reasons.base);
}

static void print_text(const struct subject *s)
{
    const struct found *f = &s->found;
    const struct outcome *o = &f->outcome;
    char at[INSPECT_TIME_BYTES];
    (void)printf("event    %s, partition %d, offset %lld\n", f->id,
                 f->partition, (long long)f->offset);
    (void)printf("user     %s, event %llu of it\n", f->user,
                 (unsigned long long)o->n);
    (void)printf("item     %s\n", *f->item ? f->item : "-");
    (void)printf("time     %s\n", inspect_time(f->time_ms, at));
    if (!isnan(f->amount)) (void)printf("amount   %.2f\n", f->amount);
    if (!o->scored) {
        (void)printf("score    none: it was left out (time.late.policy, "
                     "repeat.policy)\n");
        return;
    }
    (void)printf("fraud    %.4f%s\n", (double)o->fraud,
                 o->flagged ? ", flagged" : "");
    (void)printf("anomaly  %.4f\n", (double)o->anomaly);
    if (o->reasons)
        print_reasons(s);
    else
        (void)printf("\nno reasons: the model has no reference; train it "
                     "again, with labels\n");
}

int inspect_event(struct inspect *in, const char *id)
{
    struct subject s = {.in = in, .id = hash64(slice_str(id))};
    struct err e;
    enum rc rc = find(&s, &e);
    int status = EXIT_OK;
    if (rc != RC_OK)
        status = cli_fail(&in->cli, EXIT_FAILED, &e);
    else if (!s.is_found)
        status = cli_complain(&in->cli, EXIT_FAILED,
                              "no event %s in the log given", id);
    else if (in->cli.json)
        print_json(&s);
    else
        print_text(&s);
    inspect_log_close(&s.log);
    if (s.model) model_free(s.model);
    free(s.found.at);
    free(s.found.words);
    return status;
}
