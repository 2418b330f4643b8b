#include "config_value.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INCLUDE_BYTES_MAX = 65536, ENTRIES_MAX = 1024 };

char *config_keep(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    assert(copy);
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

/* ------------------------------------------------------------- numbers */

/* Decimal digits at *p, which moves behind them. */
static bool read_digits(const char **p, uint64_t *out)
{
    const char *at = *p;
    uint64_t n = 0;
    for (; isdigit((unsigned char)*at); at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (n > (UINT64_MAX - digit) / 10) return false;
        n = n * 10 + digit;
    }
    if (at == *p) return false;
    *p = at;
    *out = n;
    return true;
}

struct unit {
    const char *name;
    uint64_t times;
};

/* "30s": digits, then one of the units; a bare 0 needs none. */
static bool read_with_unit(const char *text, const struct unit *units,
                           uint64_t limit, uint64_t *out)
{
    uint64_t n;
    if (!read_digits(&text, &n)) return false;
    if (n == 0 && !*text) {
        *out = 0;
        return true;
    }
    for (; units->name; units++)
        if (strcmp(text, units->name) == 0) {
            if (n > limit / units->times) return false;
            *out = n * units->times;
            return true;
        }
    return false;
}

bool config_read_duration(const char *text, int64_t *out_ms)
{
    static const struct unit UNITS[] = {{"ms", 1},       {"s", 1000},
                                        {"m", 60000},    {"h", 3600000},
                                        {"d", 86400000}, {NULL, 0}};
    uint64_t ms;
    if (!read_with_unit(text, UNITS, INT64_MAX, &ms)) return false;
    *out_ms = (int64_t)ms;
    return true;
}

bool config_read_size(const char *text, uint64_t *out)
{
    static const struct unit UNITS[] = {{"", 1},
                                        {"KiB", 1024},
                                        {"MiB", 1048576},
                                        {"GiB", 1073741824},
                                        {NULL, 0}};
    return read_with_unit(text, UNITS, UINT64_MAX, out);
}

static bool read_double(const char *text, double *out)
{
    char *end;
    /* strtod also takes "nan", "0x1p3" and leading blanks. */
    if (strspn(text, "+-.0123456789eE") != strlen(text)) return false;
    *out = strtod(text, &end);
    return *text && !*end && isfinite(*out);
}

static bool read_whole(const char *text, uint64_t limit, uint64_t *out)
{
    return read_digits(&text, out) && !*text && *out <= limit;
}

/* ---------------------------------------------------------------- lists */

static void list_free(struct text_list *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        free(l->at[i]);
    free(l->at);
    *l = (struct text_list){0};
}

/* "a, b,c" -> its entries without blanks around them; "" has none. An empty
 * entry, or more than ENTRIES_MAX, is false. */
static bool list_split(const char *text, struct text_list *out)
{
    *out = (struct text_list){0};
    if (!*text) return true;
    for (;;) {
        size_t len = strcspn(text, ",");
        const char *from = text, *to = text + len;
        while (from < to && isspace((unsigned char)*from))
            from++;
        while (to > from && isspace((unsigned char)to[-1]))
            to--;
        if (from == to || out->count == ENTRIES_MAX) break;
        out->at = realloc(out->at, (out->count + 1) * sizeof *out->at);
        assert(out->at);
        out->at[out->count++] = config_keep(from, (size_t)(to - from));
        if (!text[len]) return true;
        text += len + 1;
    }
    list_free(out);
    return false;
}

/* Ascending, all above zero. */
static bool durations_read(const struct text_list *texts,
                           struct duration_list *out)
{
    *out = (struct duration_list){.count = texts->count};
    out->at_ms = calloc(texts->count + 1, sizeof *out->at_ms);
    assert(out->at_ms);
    for (uint32_t i = 0; i < texts->count; i++)
        if (!config_read_duration(texts->at[i], &out->at_ms[i]) ||
            out->at_ms[i] <= (i ? out->at_ms[i - 1] : 0)) {
            free(out->at_ms);
            *out = (struct duration_list){0};
            return false;
        }
    return true;
}

/* --------------------------------------------------------------- choice */

static bool read_choice(const char *choices, const char *text, uint32_t *out)
{
    size_t len = strlen(text);
    uint32_t index = 0;
    for (const char *at = choices;; index++) {
        size_t n = strcspn(at, "|");
        if (n == len && strncmp(at, text, n) == 0) {
            *out = index;
            return true;
        }
        if (!at[n]) return false;
        at += n + 1;
    }
}

/* ---------------------------------------------------------- the options */

union value {
    bool b;
    uint64_t u;
    int64_t i;
    double d;
    uint32_t choice;
    struct text_list list;
    struct duration_list durations;
};

static bool in_range(const struct config_option *o, double value)
{
    return value >= o->min && (o->max == 0 || value <= o->max);
}

static bool read_durations(const struct config_option *o, const char *text,
                           struct duration_list *out)
{
    struct text_list texts;
    bool good = false;
    if (!list_split(text, &texts)) return false;
    if (in_range(o, texts.count)) good = durations_read(&texts, out);
    list_free(&texts);
    return good;
}

/* Whether text is a value of o, and which. Texts are not copied. */
static bool read_value(const struct config_option *o, const char *text,
                       union value *v)
{
    switch (o->type) {
    case CONFIG_BOOL:
        v->b = strcmp(text, "true") == 0;
        return v->b || strcmp(text, "false") == 0;
    case CONFIG_U32:
        return read_whole(text, UINT32_MAX, &v->u) && in_range(o, (double)v->u);
    case CONFIG_U64:
        return read_whole(text, UINT64_MAX, &v->u) && in_range(o, (double)v->u);
    case CONFIG_F64:
        return read_double(text, &v->d) && in_range(o, v->d);
    case CONFIG_DURATION:
        return config_read_duration(text, &v->i) && in_range(o, (double)v->i);
    case CONFIG_SIZE:
        return config_read_size(text, &v->u) && in_range(o, (double)v->u);
    case CONFIG_STR:
    case CONFIG_PATH:
        return true;
    case CONFIG_CHOICE:
        return read_choice(o->choices, text, &v->choice);
    case CONFIG_DURATIONS:
        return read_durations(o, text, &v->durations);
    case CONFIG_LIST:
        if (!list_split(text, &v->list)) return false;
        if (in_range(o, v->list.count)) return true;
        list_free(&v->list);
        return false;
    }
    return false;
}

static void store_value(struct config *c, const struct config_option *o,
                        const char *text, const union value *v)
{
    void *field = (char *)c + o->at;
    switch (o->type) {
    case CONFIG_BOOL:
        *(bool *)field = v->b;
        return;
    case CONFIG_U32:
        *(uint32_t *)field = (uint32_t)v->u;
        return;
    case CONFIG_SIZE:
    case CONFIG_U64:
        *(uint64_t *)field = v->u;
        return;
    case CONFIG_F64:
        *(double *)field = v->d;
        return;
    case CONFIG_DURATION:
        *(int64_t *)field = v->i;
        return;
    case CONFIG_CHOICE:
        *(uint32_t *)field = v->choice;
        return;
    case CONFIG_STR:
    case CONFIG_PATH:
        *(char **)field = config_keep(text, strlen(text));
        return;
    case CONFIG_LIST:
        *(struct text_list *)field = v->list;
        return;
    case CONFIG_DURATIONS:
        *(struct duration_list *)field = v->durations;
        return;
    }
}

enum rc config_value_parse(struct config *c, const struct config_option *o,
                           const char *text, bool secret, struct err *e)
{
    union value v = {0};
    char range[128];

    if (read_value(o, text, &v)) {
        config_value_free(c, o);
        store_value(c, o, text, &v);
        return RC_OK;
    }
    config_range_text(o, range, sizeof range);
    return ERR(e, RC_SKIP, "'%s' is not allowed; give %s%s%s",
               secret ? "********" : text, config_type_text(o->type),
               *range ? ": " : "", range);
}

void config_value_free(struct config *c, const struct config_option *o)
{
    void *field = (char *)c + o->at;
    switch (o->type) {
    case CONFIG_STR:
    case CONFIG_PATH:
        free(*(char **)field);
        *(char **)field = NULL;
        return;
    case CONFIG_LIST:
        list_free(field);
        return;
    case CONFIG_DURATIONS:
        free(((struct duration_list *)field)->at_ms);
        *(struct duration_list *)field = (struct duration_list){0};
        return;
    case CONFIG_BOOL:
    case CONFIG_U32:
    case CONFIG_U64:
    case CONFIG_F64:
    case CONFIG_DURATION:
    case CONFIG_SIZE:
    case CONFIG_CHOICE:
        return;
    }
}

/* ------------------------------------------------------- ${...} in text */

enum rc config_file_text(const char *path, size_t bytes_max, char **out,
                         struct err *e)
{
    FILE *file = fopen(path, "re");
    char *text;
    size_t len;

    *out = NULL;
    if (!file)
        return ERR(e, RC_SKIP, "cannot open %s: %s", path, strerror(errno));
    text = malloc(bytes_max + 2);
    assert(text);
    errno = 0;
    len = fread(text, 1, bytes_max + 1, file);
    if (ferror(file))
        (void)ERR(e, RC_SKIP, "cannot read %s: %s", path, strerror(errno));
    else if (len > bytes_max)
        (void)ERR(e, RC_SKIP, "%s is longer than %zu bytes", path, bytes_max);
    else if (memchr(text, 0, len))
        (void)ERR(e, RC_SKIP, "%s holds a zero byte; it must be text", path);
    else
        *out = config_keep(text, len);
    free(text);
    (void)fclose(file);
    return *out ? RC_OK : e->rc;
}

char *config_path_join(const char *folder, const char *path)
{
    size_t len = strlen(folder), size = len + strlen(path) + 2;
    char *joined;
    if (len == 0 || *path == '/' || !*path)
        return config_keep(path, strlen(path));
    joined = malloc(size);
    assert(joined);
    (void)snprintf(joined, size, "%s/%s", folder, path);
    return joined;
}

static enum rc read_reference_file(const char *path, const char *folder,
                                   char **out, struct err *e)
{
    char *joined = config_path_join(folder, path);
    enum rc rc = config_file_text(joined, INCLUDE_BYTES_MAX, out, e);
    size_t len;
    free(joined);
    if (rc != RC_OK) return rc;
    len = strlen(*out);
    while (len > 0 && ((*out)[len - 1] == '\n' || (*out)[len - 1] == '\r'))
        (*out)[--len] = 0;
    return RC_OK;
}

/* What "file:PATH" or "env:NAME" stands for. */
static enum rc read_reference(const char *name, const char *folder, char **out,
                              struct err *e)
{
    *out = NULL;
    if (strncmp(name, "env:", 4) == 0) {
        const char *value = getenv(name + 4);
        if (!value)
            return ERR(e, RC_SKIP, "environment variable %s is not set",
                       name + 4);
        *out = config_keep(value, strlen(value));
        return RC_OK;
    }
    if (strncmp(name, "file:", 5) == 0)
        return read_reference_file(name + 5, folder, out, e);
    return ERR(e, RC_SKIP,
               "${%s} is neither ${file:PATH} nor ${env:NAME}; write $${ for "
               "a plain ${",
               name);
}

/* Appends len bytes to *text, which has *used. */
static void append(char **text, size_t *used, const char *from, size_t len)
{
    *text = realloc(*text, *used + len + 1);
    assert(*text);
    memcpy(*text + *used, from, len);
    *used += len;
    (*text)[*used] = 0;
}

enum rc config_value_expand(const char *text, const char *folder, char **out,
                            bool *secret, struct err *e)
{
    char *made = config_keep("", 0);
    size_t used = 0;

    *out = NULL;
    for (;;) {
        const char *mark = strstr(text, "${"), *end;
        char *name, *value;
        enum rc rc;
        if (!mark) break;
        if (mark > text && mark[-1] == '$') {
            append(&made, &used, text, (size_t)(mark - 1 - text));
            append(&made, &used, "${", 2);
            text = mark + 2;
            continue;
        }
        append(&made, &used, text, (size_t)(mark - text));
        end = strchr(mark, '}');
        if (!end) {
            free(made);
            return ERR(e, RC_SKIP,
                       "'${' without '}'; write $${ for a plain ${");
        }
        name = config_keep(mark + 2, (size_t)(end - mark - 2));
        rc = read_reference(name, folder, &value, e);
        free(name);
        if (rc != RC_OK) {
            free(made);
            return rc;
        }
        *secret = true;
        append(&made, &used, value, strlen(value));
        free(value);
        text = end + 1;
    }
    append(&made, &used, text, strlen(text));
    *out = made;
    return RC_OK;
}
