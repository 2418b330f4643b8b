#include "train_data.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

static const int64_t DAY_MS = INT64_C(24) * 3600 * 1000;

enum {
    IDS_MAX = 4096,           /* of a small vocabulary */
    NUMBER_SAMPLE = 100000,   /* values that a number's borders come from */
    LEAVE_OUT_EVENTS_MIN = 3, /* a shorter user has no validation event */
};

/* --- roles and labels --------------------------------------------------- */

static void roles_leave_one_out(const struct train_log *log, uint8_t *out)
{
    for (uint32_t u = 0; u < log->users; u++) {
        uint64_t from = log->user_start[u], until = log->user_start[u + 1];
        if (from == until) continue;
        memset(out + from, ROLE_TRAIN, until - from);
        out[until - 1] = ROLE_NONE;
        if (until - from >= LEAVE_OUT_EVENTS_MIN)
            out[until - 2] = ROLE_VALIDATE;
    }
}

void data_roles(const struct train_log *log, const struct train_options *o,
                uint8_t *out)
{
    if (o->leave_one_out) {
        roles_leave_one_out(log, out);
        return;
    }
    for (uint64_t r = 0; r < log->rows; r++) {
        int64_t time_ms = log->events[r].time_ms;
        out[r] = ROLE_NONE;
        if (time_ms < o->from_ms || time_ms >= o->until_ms) continue;
        out[r] = time_ms < o->validate_from_ms ? ROLE_TRAIN : ROLE_VALIDATE;
    }
}

/* A row without a label is good if its time is before this. */
static int64_t silence_is_good_before(int64_t cut_ms, int64_t newest_ms,
                                      int64_t delay_ms)
{
    if (cut_ms > newest_ms) cut_ms = newest_ms;
    return cut_ms < INT64_MIN + delay_ms ? INT64_MIN : cut_ms - delay_ms;
}

/* Where silence of each role ends and, of training, the fraud loss begins. */
struct label_times {
    int64_t good_ms[3], from_ms;
};

static struct label_times label_times(const struct train_log *log,
                                      const struct train_options *o)
{
    struct label_times t = {.from_ms = o->fraud_from_ms};
    int64_t newest_ms = INT64_MIN, known_ms;
    for (uint64_t r = 0; r < log->rows; r++)
        if (log->events[r].time_ms > newest_ms)
            newest_ms = log->events[r].time_ms;
    known_ms = t.good_ms[ROLE_TRAIN] = silence_is_good_before(
        o->validate_from_ms, newest_ms, o->label_delay_ms);
    t.good_ms[ROLE_VALIDATE] =
        silence_is_good_before(o->until_ms, newest_ms, o->label_delay_ms);
    if (o->fraud_span_ms > 0 && known_ms >= INT64_MIN + o->fraud_span_ms &&
        known_ms - o->fraud_span_ms > t.from_ms)
        t.from_ms = known_ms - o->fraud_span_ms;
    return t;
}

static int8_t label_of(const struct train_log *log, uint64_t row,
                       enum role role, const struct label_times *t)
{
    int64_t time_ms = log->events[row].time_ms;
    if (role == ROLE_NONE) return LABEL_UNKNOWN;
    if (role == ROLE_TRAIN && time_ms < t->from_ms) return LABEL_UNKNOWN;
    if (log->labels[row] != LABEL_UNKNOWN) return log->labels[row];
    return time_ms < t->good_ms[role] ? LABEL_GOOD : LABEL_UNKNOWN;
}

/* Time of the user's first fraud at or after from_ms, or INT64_MAX. */
static int64_t first_fraud(const struct train_log *log, uint32_t user,
                           int64_t from_ms)
{
    int64_t first_ms = INT64_MAX;
    for (uint64_t r = log->user_start[user]; r < log->user_start[user + 1];
         r++) {
        int64_t time_ms = log->events[r].time_ms;
        if (log->labels[r] == LABEL_FRAUD && time_ms >= from_ms &&
            time_ms < first_ms)
            first_ms = time_ms;
    }
    return first_ms;
}

static int64_t day_start(int64_t time_ms)
{
    int64_t into = time_ms % DAY_MS;
    return time_ms - (into < 0 ? into + DAY_MS : into);
}

/* Users whose fraud is known by the day are stopped by then, so validation
 * does not ask about them: as evaluate.h has it. */
static void leave_out_known(struct train_data *d, const struct train_options *o)
{
    const struct train_log *log = d->log;
    if (o->known_span_ms <= 0 || o->validate_from_ms == INT64_MAX) return;
    for (uint32_t u = 0; u < log->users; u++) {
        int64_t first_ms =
            first_fraud(log, u, o->validate_from_ms - o->known_span_ms);
        for (uint64_t r = log->user_start[u]; r < log->user_start[u + 1]; r++)
            if (d->role[r] == ROLE_VALIDATE &&
                first_ms <
                    day_start(log->events[r].time_ms) - o->label_delay_ms)
                d->label[r] = LABEL_UNKNOWN;
    }
}

static void data_labels(struct train_data *d, const struct train_options *o)
{
    const struct train_log *log = d->log;
    struct label_times times;
    memset(d->label, LABEL_UNKNOWN, log->rows);
    if (!log->labels || o->fraud_weight <= 0) return;
    times = label_times(log, o);
    for (uint64_t r = 0; r < log->rows; r++)
        d->label[r] = label_of(log, r, (enum role)d->role[r], &times);
    leave_out_known(d, o);
    for (uint64_t r = 0; r < log->rows; r++) {
        if (d->label[r] < 0) continue;
        if (d->role[r] == ROLE_TRAIN)
            d->label[r] ? d->positives++ : d->negatives++;
        else
            d->label[r] ? d->validate_positives++ : d->validate_negatives++;
    }
}

/* --- vocabularies ------------------------------------------------------- */

static uint64_t id_of(const struct past_event *ev, enum field_kind kind,
                      uint32_t extra)
{
    switch (kind) {
    case FIELD_ITEM:
        return ev->item;
    case FIELD_TYPE:
        return ev->type;
    case FIELD_CATEGORY:
        return ev->category;
    case FIELD_CHANNEL:
        return ev->channel;
    case FIELD_CATEGORICAL:
        return ev->categorical[extra];
    default:
        return 0;
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int compare_names(const void *a, const void *b)
{
    const struct train_name *x = a, *y = b;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

/* The id's text, empty where the log does not give it. */
static struct slice text_of(const struct train_name *names, size_t count,
                            uint64_t hash)
{
    const struct train_name key = {.hash = hash};
    const struct train_name *name =
        bsearch(&key, names, count, sizeof *names, compare_names);
    return name ? name->text : slice_of(NULL, 0);
}

/* Distinct ids of a field with their counts, from sorted hashes, but those
 * in base. Items without a text are left out: they could not be recommended. */
static size_t count_ids(const uint64_t *hashes, size_t count,
                        const struct train_name *names, size_t name_count,
                        enum field_kind kind, const struct vocabulary *base,
                        struct vocabulary_entry *out)
{
    size_t found = 0;
    for (size_t i = 0, next; i < count; i = next) {
        struct slice text = text_of(names, name_count, hashes[i]);
        for (next = i + 1; next < count && hashes[next] == hashes[i];)
            next++;
        if (kind == FIELD_ITEM && text.len == 0) continue;
        if (vocabulary_find(base, hashes[i]) >= 0) continue;
        out[found++] = (struct vocabulary_entry){
            .hash = hashes[i], .events = next - i, .text = text};
    }
    return found;
}

static enum rc build_vocabulary(const struct train_log *log,
                                const uint8_t *role,
                                const struct train_name *names,
                                const struct behaviour_field *field,
                                uint32_t ids_max, const struct vocabulary *base,
                                struct vocabulary *v, struct err *e)
{
    uint64_t *hashes = malloc((log->rows + 1) * sizeof *hashes);
    struct vocabulary_entry *entries =
        malloc((log->rows + 1) * sizeof *entries);
    size_t count = 0, found = 0;
    enum rc rc = RC_OK;
    if (!hashes || !entries) rc = ERR(e, RC_STOP, "training: no memory");
    for (uint64_t r = 0; rc == RC_OK && r < log->rows; r++) {
        uint64_t id = id_of(&log->events[r], field->kind, field->extra);
        if (id && role[r] == ROLE_TRAIN) hashes[count++] = id;
    }
    if (rc == RC_OK) {
        qsort(hashes, count, sizeof *hashes, compare_u64);
        found = count_ids(hashes, count, names, log->name_count, field->kind,
                          base, entries);
    }
    if (rc == RC_OK) rc = vocabulary_grow(v, base, entries, found, ids_max, e);
    free(entries);
    free(hashes);
    return rc;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Inner quantiles of a number over an even sample of the training rows. */
static enum rc build_borders(const struct train_log *log, const uint8_t *role,
                             uint32_t extra, float *border, struct err *e)
{
    uint64_t step = log->rows / NUMBER_SAMPLE + 1;
    float *values = malloc((log->rows / step + 1) * sizeof *values);
    size_t count = 0;
    if (!values) return ERR(e, RC_STOP, "training: no memory");
    for (uint64_t r = 0; r < log->rows; r += step) {
        float x = log->events[r].number[extra];
        if (role[r] == ROLE_TRAIN && isfinite(x)) values[count++] = x;
    }
    qsort(values, count, sizeof *values, compare_floats);
    for (uint32_t b = 0; b < NUMBER_BINS - 1; b++)
        border[b] = count ? values[count * (b + 1) / NUMBER_BINS] : 0;
    free(values);
    return RC_OK;
}

static void add_field(struct behaviour_config *c, enum field_kind kind,
                      uint32_t extra, bool predicted, const char *name)
{
    struct behaviour_field *field = &c->field[c->field_count++];
    *field = (struct behaviour_field){
        .kind = kind, .extra = extra, .predicted = predicted};
    if (kind == FIELD_CATEGORICAL || kind == FIELD_NUMBER)
        (void)snprintf(field->name, sizeof field->name, "%s.%u", name, extra);
    else
        (void)snprintf(field->name, sizeof field->name, "%s", name);
}

static void list_fields(const struct train_log *log, struct behaviour_config *c)
{
    c->field_count = 0;
    c->has_time = (log->fields & TRAIN_TIME) != 0;
    if (log->fields & TRAIN_ITEM) add_field(c, FIELD_ITEM, 0, true, "item");
    if (log->fields & TRAIN_TYPE) add_field(c, FIELD_TYPE, 0, true, "type");
    if (log->fields & TRAIN_CATEGORY)
        add_field(c, FIELD_CATEGORY, 0, true, "category");
    if (log->fields & TRAIN_CHANNEL)
        add_field(c, FIELD_CHANNEL, 0, true, "channel");
    if (log->fields & TRAIN_AMOUNT) {
        add_field(c, FIELD_AMOUNT_LEVEL, 0, true, "amount_level");
        add_field(c, FIELD_AMOUNT_RATIO, 0, true, "amount_ratio");
    }
    if (log->fields & TRAIN_TIME) {
        add_field(c, FIELD_GAP, 0, true, "gap");
        add_field(c, FIELD_HOUR, 0, true, "hour");
        add_field(c, FIELD_WEEKDAY, 0, false, "weekday");
        add_field(c, FIELD_LATE, 0, false, "late");
    }
    for (uint32_t i = 0; i < log->categoricals; i++)
        add_field(c, FIELD_CATEGORICAL, i, true, "categorical");
    for (uint32_t i = 0; i < log->numbers; i++)
        add_field(c, FIELD_NUMBER, i, false, "number");
}

static enum rc fill_fields(const struct train_log *log,
                           const struct train_options *o, const uint8_t *role,
                           const struct train_name *names,
                           const struct tokeniser *base,
                           struct behaviour_config *c, struct tokeniser *t,
                           struct err *e)
{
    const struct vocabulary none = {0};
    for (uint32_t f = 0; f < c->field_count; f++) {
        struct behaviour_field *field = &c->field[f];
        struct vocabulary *v = &t->vocabulary[f];
        uint32_t ids_max =
            field->kind == FIELD_ITEM ? o->items_max : (uint32_t)IDS_MAX;
        if (field_has_vocabulary(field->kind))
            TRY(build_vocabulary(log, role, names, field, ids_max,
                                 base ? &base->vocabulary[f] : &none, v, e));
        if (field->kind == FIELD_NUMBER && base)
            memcpy(t->border[f], base->border[f], sizeof t->border[f]);
        else if (field->kind == FIELD_NUMBER)
            TRY(build_borders(log, role, field->extra, t->border[f], e));
        if (field->kind == FIELD_ITEM) c->items = v->count;
        field->rows = field_rows(field->kind, v->count, o->item_buckets);
    }
    t->field_count = c->field_count;
    t->item_buckets = c->item_buckets;
    memcpy(t->field, c->field, sizeof c->field);
    return RC_OK;
}

enum rc data_vocabularies(const struct train_log *log,
                          const struct train_options *o,
                          const struct tokeniser *base,
                          struct behaviour_config *shape, struct tokeniser *t,
                          struct err *e)
{
    uint8_t *role = malloc(log->rows + 1);
    struct train_name *names = malloc((log->name_count + 1) * sizeof *names);
    enum rc rc = RC_OK;
    if (!role || !names) rc = ERR(e, RC_STOP, "training: no memory");
    if (rc == RC_OK) {
        if (log->name_count)
            memcpy(names, log->names, log->name_count * sizeof *names);
        qsort(names, log->name_count, sizeof *names, compare_names);
        data_roles(log, o, role);
        list_fields(log, shape);
        shape->item_buckets = o->item_buckets;
        rc = fill_fields(log, o, role, names, base, shape, t, e);
    }
    free(names);
    free(role);
    return rc;
}

/* --- pieces ------------------------------------------------------------- */

/* Whether the token of target i is read: its own hidden state is. */
static bool piece_reads_last(const struct train_data *d, const struct piece *p,
                             uint32_t i)
{
    return d->label[p->row + i] >= 0;
}

/* The piece of events [from, until) of the user, if it has a target of this
 * role in [targets_from, until); counts are relative to from. */
static bool piece_cut(const struct train_data *d, uint32_t user, uint64_t from,
                      uint64_t targets_from, uint64_t until, enum role role,
                      struct piece *out)
{
    uint64_t base = d->log->user_start[user], first = until, last = until;
    for (uint64_t n = targets_from; n < until; n++) {
        if (d->role[base + n] != role) continue;
        if (first == until) first = n;
        last = n;
    }
    if (first == until) return false;
    *out = (struct piece){.row = base + from,
                          .target_from = (uint32_t)(first - from),
                          .target_until = (uint32_t)(last - from + 1),
                          .user = user};
    out->count = out->target_until;
    if (!piece_reads_last(d, out, out->target_until - 1)) out->count--;
    return out->count > 0;
}

static void list_put(struct piece_list *list, const struct train_data *d,
                     const struct piece *p, enum role role)
{
    if (list->at) list->at[list->count] = *p;
    list->count++;
    list->tokens += p->count;
    for (uint32_t i = p->target_from; i < p->target_until; i++)
        list->targets += piece_wants(d, p, i, role);
}

/* All pieces of a role; with list->at NULL only counts them. */
static void list_pieces(struct train_data *d, uint64_t window, enum role role,
                        struct piece_list *list)
{
    list->count = 0;
    list->tokens = list->targets = 0;
    for (uint32_t u = 0; u < d->log->users; u++) {
        uint64_t events = d->log->user_start[u + 1] - d->log->user_start[u];
        for (uint64_t j = 0; j == 0 || (j + 1) * window < events; j++) {
            uint64_t until = (j + 2) * window;
            struct piece p;
            if (until > events) until = events;
            if (piece_cut(d, u, j * window, j ? (j + 1) * window : 0, until,
                          role, &p))
                list_put(list, d, &p, role);
        }
    }
}

static enum rc make_pieces(struct train_data *d, uint32_t window,
                           enum role role, struct piece_list *list,
                           struct err *e)
{
    list_pieces(d, window, role, list);
    list->at = malloc((list->count + 1) * sizeof *list->at);
    if (!list->at) return ERR(e, RC_STOP, "training: no memory");
    list_pieces(d, window, role, list);
    return RC_OK;
}

/* Each row is counted once more than it came, so none is impossible. */
static enum rc count_marginal(struct train_data *d, uint32_t f, uint32_t rows,
                              struct err *e)
{
    float *out = d->marginal[f] = calloc(rows + 1, sizeof *out);
    uint64_t *counts = calloc(rows + 1, sizeof *counts), all = rows;
    if (!out || !counts) {
        free(counts);
        return ERR(e, RC_STOP, "training: no memory");
    }
    for (uint64_t r = 0; r < d->log->rows; r++) {
        if (d->role[r] != ROLE_TRAIN) continue;
        counts[d->tokens[r].row[f]]++;
        all++;
    }
    for (uint32_t i = 0; i < rows; i++)
        out[i] = (float)-log((double)(counts[i] + 1) / (double)all);
    free(counts);
    return RC_OK;
}

static enum rc count_marginals(struct train_data *d, const struct tokeniser *t,
                               struct err *e)
{
    for (uint32_t f = 0; f < t->field_count; f++)
        if (t->field[f].predicted && t->field[f].kind != FIELD_ITEM)
            TRY(count_marginal(d, f, t->field[f].rows, e));
    return RC_OK;
}

static bool piece_has_label(const struct train_data *d, const struct piece *p)
{
    for (uint32_t i = p->target_from; i < p->target_until; i++)
        if (piece_wants(d, p, i, ROLE_TRAIN) && d->label[p->row + i] >= 0)
            return true;
    return false;
}

static enum rc choose_labelled(struct train_data *d, struct err *e)
{
    d->labelled.at = malloc((d->train.count + 1) * sizeof *d->labelled.at);
    if (!d->labelled.at) return ERR(e, RC_STOP, "training: no memory");
    for (uint32_t i = 0; i < d->train.count; i++)
        if (piece_has_label(d, &d->train.at[i]))
            list_put(&d->labelled, d, &d->train.at[i], ROLE_TRAIN);
    return RC_OK;
}

enum rc data_new(struct train_data **out, const struct train_log *log,
                 const struct train_options *o, const struct tokeniser *t,
                 struct err *e)
{
    struct train_data *d = calloc(1, sizeof *d);
    enum rc rc;
    *out = NULL;
    if (!d) return ERR(e, RC_STOP, "training: no memory");
    d->log = log;
    d->tokens = malloc((log->rows + 1) * sizeof *d->tokens);
    d->role = malloc(log->rows + 1);
    d->label = malloc(log->rows + 1);
    if (!d->tokens || !d->role || !d->label) {
        data_free(d);
        return ERR(e, RC_STOP, "training: no memory for %llu rows",
                   (unsigned long long)log->rows);
    }
    for (uint64_t r = 0; r < log->rows; r++)
        tokenise(t, &log->events[r], &d->tokens[r]);
    data_roles(log, o, d->role);
    data_labels(d, o);
    rc = count_marginals(d, t, e);
    if (rc == RC_OK) rc = make_pieces(d, o->window, ROLE_TRAIN, &d->train, e);
    if (rc == RC_OK)
        rc = make_pieces(d, o->window, ROLE_VALIDATE, &d->validate, e);
    if (rc == RC_OK && o->pretrain_epochs > 0) rc = choose_labelled(d, e);
    if (rc == RC_OK)
        *out = d;
    else
        data_free(d);
    return rc;
}

void data_free(struct train_data *d)
{
    if (!d) return;
    free(d->tokens);
    free(d->role);
    free(d->label);
    free(d->train.at);
    free(d->validate.at);
    free(d->labelled.at);
    for (uint32_t f = 0; f < FIELDS_MAX; f++)
        free(d->marginal[f]);
    free(d);
}
