#include "reason_text.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_TEXT_BYTES = 32, WINDOW_TEXT_BYTES = 48 };

enum unit {
    MONEY,
    TIMES,
    LOG_TIMES,
    DEVIATIONS,
    COUNT,
    SHARE,
    SECONDS,
    HOUR,
    FLAG,
    NUMBER
};

/* In a sentence %v is the value, %e whose it is, %w the window, %n the
 * feature's name. A flag has two, for yes and for no. */
static const struct kind {
    const char *name; /* without item_ before and the window after it */
    enum unit unit;
    const char *high, *low; /* codes, against what is usual */
    const char *sentence;
} KINDS[] = {
    {"amount", MONEY, "AMOUNT_HIGH", "AMOUNT_LOW", "amount %v"},
    {"amount_log_ratio", LOG_TIMES, "AMOUNT_ABOVE_OWN_PAST",
     "AMOUNT_BELOW_OWN_PAST", "amount %v times the %e's mean of all before"},
    {"amount_ratio", TIMES, "AMOUNT_ABOVE_OWN_MEAN", "AMOUNT_BELOW_OWN_MEAN",
     "amount %v times the %e's mean of %w"},
    {"amount_z", DEVIATIONS, "AMOUNT_FAR_ABOVE_OWN_MEAN",
     "AMOUNT_FAR_BELOW_OWN_MEAN", "amount %v from the %e's mean of %w"},
    {"amount_ratio_mean", TIMES, "AMOUNT_ABOVE_LATEST_MEAN",
     "AMOUNT_BELOW_LATEST_MEAN", "amount %v times the mean of the %e's latest"},
    {"amount_z_mean", DEVIATIONS, "AMOUNT_FAR_ABOVE_LATEST_MEAN",
     "AMOUNT_FAR_BELOW_LATEST_MEAN",
     "amount %v from the mean of the %e's "
     "latest"},
    {"amount_ratio_median", TIMES, "AMOUNT_ABOVE_LATEST_MEDIAN",
     "AMOUNT_BELOW_LATEST_MEDIAN",
     "amount %v times the median of the %e's latest"},
    {"amount_z_median", DEVIATIONS, "AMOUNT_FAR_ABOVE_LATEST_MEDIAN",
     "AMOUNT_FAR_BELOW_LATEST_MEDIAN",
     "amount %v from the median of the %e's latest"},
    {"amount_mean", MONEY, "OWN_MEAN_HIGH", "OWN_MEAN_LOW",
     "mean amount of the %e in %w: %v"},
    {"amount_sum", MONEY, "OWN_SUM_HIGH", "OWN_SUM_LOW",
     "amounts of the %e in %w together: %v"},
    {"amount_deviation", MONEY, "OWN_SPREAD_HIGH", "OWN_SPREAD_LOW",
     "deviation of the %e's amounts in %w: %v"},
    {"gap_s", SECONDS, "LONG_SINCE_LAST_EVENT", "SHORT_SINCE_LAST_EVENT",
     "%v since the %e's last event"},
    {"hour", HOUR, "HOUR_LATE", "HOUR_EARLY", "at %v UTC"},
    {"is_weekend", FLAG, "ON_WEEKEND", "ON_WORKDAY",
     "on a weekend|on a working day"},
    {"is_night", FLAG, "AT_NIGHT", "BY_DAY", "at night|by day"},
    {"events_total", COUNT, "MANY_EVENTS_EVER", "FEW_EVENTS_EVER",
     "events of the %e so far: %v"},
    {"count", COUNT, "MANY_EVENTS", "FEW_EVENTS", "events of the %e in %w: %v"},
    {"distinct_items", COUNT, "MANY_ITEMS", "FEW_ITEMS",
     "different items of the %e in %w: %v"},
    {"distinct_users", COUNT, "MANY_USERS", "FEW_USERS",
     "different users of the %e in %w: %v"},
    {"fraud_mature", COUNT, "MANY_LABELS_DUE", "FEW_LABELS_DUE",
     "events of the %e, in %w up to the label delay: %v"},
    {"fraud_rate", SHARE, "FRAUD_RATE_HIGH", "FRAUD_RATE_LOW",
     "%v of the %e's events were frauds, in %w up to the label delay"},
    {"fraud_latest_1", FLAG, "LATEST_WAS_FRAUD", "LATEST_WAS_GOOD",
     "the %e's latest known event was a fraud|the %e's latest known event was "
     "good"},
    {"fraud_latest_3", SHARE, "LATEST_THREE_FRAUD", "LATEST_THREE_GOOD",
     "%v of the %e's latest three known events were frauds"},
    {"fraud_run_length", COUNT, "FRAUD_RUN_LONG", "FRAUD_RUN_SHORT",
     "frauds of the %e in a row: %v"},
    {"fraud_run_age_s", SECONDS, "FRAUD_RUN_OLD", "FRAUD_RUN_NEW",
     "%v since the %e's run of frauds began"},
    {"fraud_since_first_s", SECONDS, "FIRST_FRAUD_LONG_AGO",
     "FIRST_FRAUD_RECENT", "%v since the %e's first fraud"},
    {"fraud_since_last_s", SECONDS, "LAST_FRAUD_LONG_AGO", "LAST_FRAUD_RECENT",
     "%v since the %e's last fraud"},
    {"fraud_good_since_last", COUNT, "MANY_GOOD_SINCE_FRAUD",
     "FEW_GOOD_SINCE_FRAUD", "good events of the %e since its last fraud: %v"},
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static const struct kind ANY_NUMBER = {"", NUMBER, "NUMBER_HIGH", "NUMBER_LOW",
                                       "%n: %v"};

/* Of what is not a feature; %v is how many events, or how long ago. */
static const struct part {
    const char *code, *feature, *sentence;
} PARTS[REASON_PARTS] = {
    [REASON_EVENT] = {"EVENT_ITSELF", "event",
                      "the event's own fields, without what came before"},
    [REASON_LAST_EVENT] = {"LAST_EVENT", "past.last",
                           "the user's event before, %v earlier"},
    [REASON_LAST_HOUR] = {"EVENTS_LAST_HOUR", "past.hour",
                          "events before that, within an hour: %v"},
    [REASON_LAST_DAY] = {"EVENTS_LAST_DAY", "past.day",
                         "events before those, within a day: %v"},
    [REASON_LAST_WEEK] = {"EVENTS_LAST_WEEK", "past.week",
                          "events before those, within a week: %v"},
    [REASON_OLDER] = {"EVENTS_OLDER", "past.older", "older events: %v"},
    [REASON_OTHER] = {"OTHER", "other", "smaller reasons together: %v"},
};

/* --- a feature's name --------------------------------------------------- */

struct reading {
    const struct kind *kind;
    bool of_item;
    char window[WINDOW_TEXT_BYTES]; /* in words; "" without one */
};

/* "7d" as "7 days"; false where it is no length. */
static bool read_window(const char *text, char out[WINDOW_TEXT_BYTES])
{
    static const struct {
        const char *unit, *word;
    } UNITS[] = {{"d", "day"},
                 {"h", "hour"},
                 {"m", "minute"},
                 {"s", "second"},
                 {"ms", "millisecond"}};
    char *end;
    unsigned long long n;
    if (!isdigit((unsigned char)*text)) return false;
    n = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++)
        if (strcmp(end, UNITS[i].unit) == 0) {
            (void)snprintf(out, WINDOW_TEXT_BYTES, "%llu %s%s", n,
                           UNITS[i].word, n == 1 ? "" : "s");
            return true;
        }
    return false;
}

/* Some kinds have a window and some have none. */
static bool is_named(const struct kind *k, const char *name, size_t length,
                     bool has_window)
{
    return strlen(k->name) == length && strncmp(k->name, name, length) == 0 &&
           has_window == (strstr(k->sentence, "%w") != NULL);
}

static void read_name(const char *name, struct reading *out)
{
    const char *start = name, *last;
    size_t length;
    *out = (struct reading){.kind = &ANY_NUMBER};
    if (strncmp(start, "item_", 5) == 0) {
        out->of_item = true;
        start += 5;
    }
    length = strlen(start);
    last = strrchr(start, '_');
    if (last && read_window(last + 1, out->window))
        length = (size_t)(last - start);
    for (size_t i = 0; i < KIND_COUNT; i++)
        if (is_named(&KINDS[i], start, length, *out->window))
            out->kind = &KINDS[i];
    if (out->kind == &ANY_NUMBER) out->of_item = false;
}

/* --- numbers ------------------------------------------------------------ */

static void put_seconds(double s, char out[NUMBER_TEXT_BYTES])
{
    if (s < 120)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.0f s", s);
    else if (s < 7200)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.0f min", s / 60);
    else if (s < 172800)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.1f h", s / 3600);
    else
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.1f days", s / 86400);
}

static void put_number(enum unit unit, double x, char out[NUMBER_TEXT_BYTES])
{
    if (isnan(x))
        (void)snprintf(out, NUMBER_TEXT_BYTES, "none");
    else if (unit == MONEY)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.2f", x);
    else if (unit == TIMES || unit == LOG_TIMES)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.3g",
                       unit == TIMES ? x : exp(x));
    else if (unit == DEVIATIONS)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%+.1f deviations", x);
    else if (unit == COUNT)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.0f", x);
    else if (unit == SHARE)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.3g %%", 100 * x);
    else if (unit == SECONDS)
        put_seconds(x, out);
    else if (unit == HOUR)
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.0f h", x);
    else
        (void)snprintf(out, NUMBER_TEXT_BYTES, "%.6g", x);
}

/* --- sentences ---------------------------------------------------------- */

struct filling {
    const char *value, *entity, *window, *name;
};

static const char *filler(const struct filling *f, char key)
{
    switch (key) {
    case 'v':
        return f->value;
    case 'e':
        return f->entity;
    case 'w':
        return f->window;
    default:
        return f->name;
    }
}

/* Appends up to the end of the sentence or its '|'; what is too long is
 * cut. */
static void fill_in(const char *sentence, const struct filling *f,
                    char out[REASON_TEXT_BYTES])
{
    size_t used = 0;
    for (; *sentence && *sentence != '|'; sentence++) {
        const char one[] = {*sentence, 0}, *add = one;
        if (*sentence == '%') add = filler(f, *++sentence);
        used +=
            (size_t)snprintf(out + used, REASON_TEXT_BYTES - used, "%s", add);
        if (used >= REASON_TEXT_BYTES) return;
    }
}

static void append_usual(enum unit unit, double usual,
                         char out[REASON_TEXT_BYTES])
{
    char number[NUMBER_TEXT_BYTES];
    size_t used = strlen(out);
    if (unit == FLAG) return;
    put_number(unit, usual, number);
    (void)snprintf(out + used, REASON_TEXT_BYTES - used, "; usually %s",
                   number);
}

/* AMOUNT_RATIO_MISSING: the name without its window. */
static void missing_code(const char *name, char out[REASON_CODE_BYTES])
{
    char window[WINDOW_TEXT_BYTES];
    const char *last = strrchr(name, '_');
    size_t length = strlen(name), most = REASON_CODE_BYTES - sizeof "_MISSING";
    if (last && read_window(last + 1, window)) length = (size_t)(last - name);
    if (length > most) length = most;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        out[i] = (char)(isalnum(c) && c < 128 ? toupper(c) : '_');
    }
    (void)snprintf(out + length, REASON_CODE_BYTES - length, "_MISSING");
}

static void missing_feature(const struct reason *r, const char *name,
                            const struct reading *is, struct reason_words *out)
{
    if (is->kind == &ANY_NUMBER)
        (void)snprintf(out->code, sizeof out->code, "NUMBER_MISSING");
    else
        missing_code(name, out->code);
    (void)snprintf(out->text, sizeof out->text, "%s has no value", name);
    append_usual(is->kind->unit, (double)r->usual, out->text);
}

/* Where there usually is none, any value is high. */
static bool is_low(const struct reason *r, enum unit unit)
{
    return unit == FLAG ? r->value == 0 : r->value < r->usual;
}

static void feature_text(const struct reason *r, const char *name,
                         struct reason_words *out)
{
    char number[NUMBER_TEXT_BYTES];
    const char *sentence;
    struct reading is;
    bool low;
    read_name(name, &is);
    (void)snprintf(out->feature, sizeof out->feature, "%s", name);
    if (isnan(r->value)) {
        missing_feature(r, name, &is, out);
        return;
    }
    put_number(is.kind->unit, (double)r->value, number);
    low = is_low(r, is.kind->unit);
    sentence = is.kind->sentence;
    if (is.kind->unit == FLAG && low) sentence = strchr(sentence, '|') + 1;
    (void)snprintf(out->code, sizeof out->code, "%s%s",
                   is.of_item ? "ITEM_" : "",
                   low ? is.kind->low : is.kind->high);
    fill_in(sentence,
            &(struct filling){number, is.of_item ? "item" : "user", is.window,
                              name},
            out->text);
    append_usual(is.kind->unit, (double)r->usual, out->text);
}

void reason_text(const struct reason *r, const char *name,
                 struct reason_words *out)
{
    enum unit unit = r->part == REASON_LAST_EVENT ? SECONDS : COUNT;
    const struct part *p = &PARTS[r->part];
    char number[NUMBER_TEXT_BYTES];
    *out = (struct reason_words){.code = ""};
    if (r->part == REASON_FEATURE) {
        feature_text(r, name, out);
        return;
    }
    (void)snprintf(out->code, sizeof out->code, "%s", p->code);
    (void)snprintf(out->feature, sizeof out->feature, "%s", p->feature);
    if (r->part == REASON_LAST_EVENT && isnan(r->value)) {
        (void)snprintf(out->text, sizeof out->text, "the user's event before");
        return;
    }
    put_number(unit, (double)r->value, number);
    fill_in(p->sentence, &(struct filling){.value = number}, out->text);
}
