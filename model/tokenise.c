#include "tokenise.h"

#include <math.h>

#include "hash.h"
#include "head_layers.h"

enum {
    HOUR_MS = 3600 * 1000,
    DAY_HOURS = 24,
    WEEK_DAYS = 7,
    EPOCH_WEEKDAY = 3, /* 1970-01-01 was a Thursday; Monday is 0 */
    RATIO_STEPS = 8,   /* rows for a factor of e */
    RATIO_LIMIT = 4,   /* beyond e^4 or e^-4 all is one row */
};

void tokeniser_fini(struct tokeniser *t)
{
    for (uint32_t f = 0; f < FIELDS_MAX; f++)
        vocabulary_fini(&t->vocabulary[f]);
}

bool field_has_vocabulary(enum field_kind kind)
{
    return kind == FIELD_ITEM || kind == FIELD_TYPE || kind == FIELD_CATEGORY ||
           kind == FIELD_CHANNEL || kind == FIELD_CATEGORICAL;
}

uint32_t field_rows(enum field_kind kind, uint32_t ids, uint32_t item_buckets)
{
    static const uint32_t fixed[] = {
        [FIELD_AMOUNT_LEVEL] = AMOUNT_ROWS,
        [FIELD_AMOUNT_RATIO] = RATIO_ROWS,
        [FIELD_GAP] = GAP_ROWS,
        [FIELD_HOUR] = HOUR_ROWS,
        [FIELD_WEEKDAY] = WEEKDAY_ROWS,
        [FIELD_LATE] = LATE_ROWS,
        [FIELD_NUMBER] = NUMBER_ROWS,
    };
    if (kind == FIELD_ITEM) return ids + item_buckets + 1;
    if (field_has_vocabulary(kind)) return ids + TOKEN_BUCKETS + 1;
    return fixed[kind];
}

static uint32_t row_of_id(const struct vocabulary *v, uint64_t hash,
                          uint32_t buckets)
{
    int32_t index = vocabulary_find(v, hash);
    if (index >= 0) return (uint32_t)index;
    if (hash == 0 || buckets == 0) return v->count + buckets;
    return v->count + (uint32_t)(hash_mix(hash) % buckets);
}

/* floor(parts log2 x), the fraction taken linearly inside the octave; parts
 * is 1, 2 or 4. x > 0. */
static uint32_t log_steps(uint64_t x, uint32_t parts, uint32_t octaves)
{
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(x);
    uint64_t lead = octave >= 2 ? x >> (octave - 2) : x << (2 - octave);
    if (octave >= octaves) return parts * octaves - 1;
    return parts * octave + (uint32_t)((lead - 4) * parts / 4);
}

static uint32_t row_of_amount(const struct past_event *ev)
{
    uint64_t size =
        ev->amount < 0 ? -(uint64_t)ev->amount : (uint64_t)ev->amount;
    if (ev->flags & PAST_NO_AMOUNT) return 0;
    if (size == 0) return 1;
    if (ev->amount > 0) return 2 + log_steps(size, 4, AMOUNT_OCTAVES);
    return 2 + 4 * AMOUNT_OCTAVES + log_steps(size, 1, AMOUNT_OCTAVES);
}

static uint32_t row_of_ratio(const struct past_event *ev)
{
    float ratio = ev->amount_log_ratio;
    uint32_t step;
    if ((ev->flags & PAST_NO_AMOUNT) || isnan(ratio)) return 0;
    if (ratio < -RATIO_LIMIT) return 1;
    if (ratio >= RATIO_LIMIT) return RATIO_ROWS - 1;
    step = (uint32_t)((ratio + RATIO_LIMIT) * RATIO_STEPS);
    /* Just below the limit the sum may round up to it. */
    return 1 + (step < RATIO_ROWS - 2 ? step : RATIO_ROWS - 2);
}

static uint32_t row_of_gap(const struct past_event *ev)
{
    if ((ev->flags & PAST_NO_TIME) || ev->gap_ms < 0) return 0;
    if (ev->gap_ms == 0) return 1;
    return 2 + log_steps((uint64_t)ev->gap_ms, 2, GAP_OCTAVES);
}

/* Hours since 1970, rounded down. */
static int64_t hours_of(int64_t time_ms)
{
    return time_ms / HOUR_MS - (time_ms % HOUR_MS < 0);
}

static uint32_t row_of_hour(const struct past_event *ev)
{
    int64_t hour = hours_of(ev->time_ms) % DAY_HOURS;
    if (ev->flags & PAST_NO_TIME) return HOUR_ROWS - 1;
    return (uint32_t)(hour < 0 ? hour + DAY_HOURS : hour);
}

static uint32_t row_of_weekday(const struct past_event *ev)
{
    int64_t hours = hours_of(ev->time_ms);
    int64_t days = hours / DAY_HOURS - (hours % DAY_HOURS < 0);
    int64_t weekday = (days % WEEK_DAYS + EPOCH_WEEKDAY) % WEEK_DAYS;
    if (ev->flags & PAST_NO_TIME) return WEEKDAY_ROWS - 1;
    return (uint32_t)(weekday < 0 ? weekday + WEEK_DAYS : weekday);
}

static uint32_t row_of_number(float x, const float *border)
{
    uint32_t bin = 0;
    if (isnan(x)) return 0;
    while (bin < NUMBER_BINS - 1 && x >= border[bin])
        bin++;
    return 1 + bin;
}

static uint32_t row_of(const struct tokeniser *t, uint32_t f,
                       const struct past_event *ev)
{
    const struct behaviour_field *field = &t->field[f];
    const struct vocabulary *ids = &t->vocabulary[f];
    switch (field->kind) {
    case FIELD_ITEM:
        return row_of_id(ids, ev->item, t->item_buckets);
    case FIELD_TYPE:
        return row_of_id(ids, ev->type, TOKEN_BUCKETS);
    case FIELD_CATEGORY:
        return row_of_id(ids, ev->category, TOKEN_BUCKETS);
    case FIELD_CHANNEL:
        return row_of_id(ids, ev->channel, TOKEN_BUCKETS);
    case FIELD_CATEGORICAL:
        return row_of_id(ids, ev->categorical[field->extra], TOKEN_BUCKETS);
    case FIELD_AMOUNT_LEVEL:
        return row_of_amount(ev);
    case FIELD_AMOUNT_RATIO:
        return row_of_ratio(ev);
    case FIELD_GAP:
        return row_of_gap(ev);
    case FIELD_HOUR:
        return row_of_hour(ev);
    case FIELD_WEEKDAY:
        return row_of_weekday(ev);
    case FIELD_LATE:
        return (ev->flags & PAST_LATE) != 0;
    case FIELD_NUMBER:
        return row_of_number(ev->number[field->extra], t->border[f]);
    }
    __builtin_unreachable();
}

static void put_amounts(const struct past_event *ev, struct token *out)
{
    float ratio = ev->amount_log_ratio;
    out->amount = out->amount_ratio = TOKEN_NO_AMOUNT;
    if (ev->flags & PAST_NO_AMOUNT) return;
    out->amount = feature_signed_log(fabsf((float)ev->amount));
    if (isfinite(ratio)) out->amount_ratio = ratio;
}

void tokenise(const struct tokeniser *t, const struct past_event *ev,
              struct token *out)
{
    for (uint32_t f = 0; f < t->field_count; f++)
        out->row[f] = row_of(t, f, ev);
    out->time_ms = ev->time_ms;
    put_amounts(ev, out);
}
