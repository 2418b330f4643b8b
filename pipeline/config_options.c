/* config_options.c - the list of options as a table, and its names. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "config.h"

enum { KEY_BYTES_MAX = 128 };

#define RANGE_NUMBER(low, high)     .min = (low), .max = (high)
#define RANGE_BOOL                  RANGE_NUMBER
#define RANGE_U32                   RANGE_NUMBER
#define RANGE_U64                   RANGE_NUMBER
#define RANGE_F64                   RANGE_NUMBER
#define RANGE_STR                   RANGE_NUMBER
#define RANGE_PATH                  RANGE_NUMBER
#define RANGE_DURATION              RANGE_NUMBER
#define RANGE_SIZE                  RANGE_NUMBER
#define RANGE_LIST                  RANGE_NUMBER
#define RANGE_DURATIONS             RANGE_NUMBER
#define RANGE_CHOICE(texts, unused) .choices = (texts)
#define WHEN_START                  false
#define WHEN_LIVE                   true

const struct config_option CONFIG_OPTIONS[OPTION_COUNT] = {
#define SECTION(title)
#define OPT(field, key_, type_, default_, min_, max_, when_, help_)            \
    [OPTION_##field] = {.key = (key_),                                         \
                        .type = CONFIG_##type_,                                \
                        .text = (default_),                                    \
                        RANGE_##type_(min_, max_),                             \
                        .live = WHEN_##when_,                                  \
                        .help = (help_),                                       \
                        .at = offsetof(struct config, field)},
#include "../config/options.def"
#undef OPT
#undef SECTION
};

const struct config_option *config_find(const char *key)
{
    for (uint32_t i = 0; i < OPTION_COUNT; i++)
        if (strcmp(CONFIG_OPTIONS[i].key, key) == 0) return &CONFIG_OPTIONS[i];
    return NULL;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, changes and swaps of neighbours that make b of a
 * (restricted Damerau-Levenshtein). Both shorter than KEY_BYTES_MAX. */
static uint32_t edits(const char *a, const char *b)
{
    uint32_t rows[3][KEY_BYTES_MAX + 1];
    uint32_t *before = rows[0], *last = rows[1], *now = rows[2];
    size_t na = strlen(a), nb = strlen(b);

    for (uint32_t j = 0; j <= nb; j++)
        last[j] = j;
    for (uint32_t i = 1; i <= na; i++) {
        uint32_t *spare = before;
        now[0] = i;
        for (uint32_t j = 1; j <= nb; j++) {
            now[j] = least(least(last[j], now[j - 1]) + 1,
                           last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        before = last;
        last = now;
        now = spare;
    }
    return last[nb];
}

const struct config_option *config_nearest(const char *key)
{
    const struct config_option *best = NULL;
    uint32_t best_edits;
    size_t length = strlen(key);

    if (length >= KEY_BYTES_MAX) return NULL;
    best_edits = (uint32_t)(length < 6 ? 2 : length / 3) + 1;
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        uint32_t n = edits(key, CONFIG_OPTIONS[i].key);
        if (n < best_edits) {
            best_edits = n;
            best = &CONFIG_OPTIONS[i];
        }
    }
    return best;
}

void config_env_name(const char *key, char *out, size_t size)
{
    int used = snprintf(out, size, "MILLRACE_%s", key);
    assert(used > 0 && (size_t)used < size);
    for (; *out; out++)
        *out = *out == '.' ? '_' : (char)toupper((unsigned char)*out);
}

const char *config_type_text(enum config_type type)
{
    switch (type) {
    case CONFIG_BOOL:
        return "true or false";
    case CONFIG_U32:
    case CONFIG_U64:
        return "a whole number";
    case CONFIG_F64:
        return "a number";
    case CONFIG_STR:
        return "text";
    case CONFIG_PATH:
        return "a path";
    case CONFIG_DURATION:
        return "a duration (ms, s, m, h, d)";
    case CONFIG_SIZE:
        return "a size (bytes, KiB, MiB, GiB)";
    case CONFIG_LIST:
        return "a list, comma separated";
    case CONFIG_DURATIONS:
        return "durations, ascending, comma separated";
    case CONFIG_CHOICE:
        return "a choice";
    }
    assert(!"a config type without a text");
    return "";
}

/* 250 -> "250ms", 3000 -> "3s": the largest unit that divides. */
static void duration_text(double ms, char *out, size_t size)
{
    static const struct {
        int64_t ms;
        const char *unit;
    } UNITS[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}};
    int64_t left = (int64_t)ms;
    for (size_t i = 0; left > 0 && i < sizeof UNITS / sizeof UNITS[0]; i++)
        if (left % UNITS[i].ms == 0) {
            (void)snprintf(out, size, "%lld%s", (long long)(left / UNITS[i].ms),
                           UNITS[i].unit);
            return;
        }
    (void)snprintf(out, size, "%lld%s", (long long)left, left ? "ms" : "");
}

static void size_text(double bytes, char *out, size_t size)
{
    static const char *const UNITS[] = {"", "KiB", "MiB", "GiB"};
    uint64_t left = (uint64_t)bytes;
    size_t unit = 0;
    while (left > 0 && left % 1024 == 0 && unit < 3) {
        left /= 1024;
        unit++;
    }
    (void)snprintf(out, size, "%llu%s", (unsigned long long)left, UNITS[unit]);
}

static void limit_text(enum config_type type, double limit, char *out,
                       size_t size)
{
    if (type == CONFIG_DURATION)
        duration_text(limit, out, size);
    else if (type == CONFIG_SIZE)
        size_text(limit, out, size);
    else
        (void)snprintf(out, size, "%.10g", limit);
}

void config_range_text(const struct config_option *o, char *out, size_t size)
{
    char low[32], high[32];
    *out = 0;
    switch (o->type) {
    case CONFIG_CHOICE:
        (void)snprintf(out, size, "%s", o->choices);
        return;
    case CONFIG_LIST:
    case CONFIG_DURATIONS:
        (void)snprintf(out, size, "at most %.0f", o->max);
        return;
    case CONFIG_BOOL:
    case CONFIG_STR:
    case CONFIG_PATH:
        return;
    case CONFIG_U32:
    case CONFIG_U64:
    case CONFIG_F64:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
        break;
    }
    limit_text(o->type, o->min, low, sizeof low);
    limit_text(o->type, o->max, high, sizeof high);
    if (o->max > 0)
        (void)snprintf(out, size, "%s to %s", low, high);
    else
        (void)snprintf(out, size, "at least %s", low);
}

bool config_is_secret(const char *key)
{
    static const char *const PARTS[] = {
        "password",  "passwd",     "secret",
        "token",     "key.pem",    "sasl.jaas",
        "user.info", "credential", "oauthbearer.config",
    };
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++)
        if (strcasestr(key, PARTS[i])) return true;
    return false;
}

const char *property_shown(const struct property *p)
{
    return p->secret && *p->value ? "********" : p->value;
}
