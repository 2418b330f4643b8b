#include "import_map.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "import_time.h"
#include "iso_time.h"
#include "utf8.h"

enum {
    JOINED_MAX = 4,
    NUMBER_BYTES_MAX = 64,
    SHOWN_BYTES = 40,
    SCRATCH_BYTES = 2 * IMPORT_RECORD_MAX,
    COLUMNS_SHOWN_BYTES = 400,
};

enum time_form { TIME_NONE, TIME_COUNT, TIME_ISO, TIME_PATTERN };

struct rule {
    bool used;
    char *text; /* the rule's own copy; the pointers below lead into it */
    const char *columns[JOINED_MAX];
    int32_t cells[JOINED_MAX]; /* their indexes; -1: not bound */
    uint32_t column_count;
    const char *constant, *null_text, *default_text, *strip, *pattern;
    bool position;
    double times, by; /* scale: times / by */
    enum time_form time;
    int64_t units_per_ms; /* of TIME_COUNT: 1000 for us, else 1 */
    int64_t unit_ms;      /* 1000 for s, else 1 */
    int64_t origin_ms;
};

struct import_map {
    struct row *row;
    struct rule rules[ROW_FIELDS_MAX]; /* one for each field */
    uint8_t *scratch;                  /* of one record's changed texts */
    size_t scratch_used;
};

enum rc import_map_new(struct import_map **out, struct row *row, struct err *e)
{
    struct import_map *m = calloc(1, sizeof *m);
    if (m) m->scratch = malloc(SCRATCH_BYTES);
    if (!m || !m->scratch) {
        import_map_free(m);
        return ERR(e, RC_STOP, "no memory for a mapping");
    }
    m->row = row;
    *out = m;
    return RC_OK;
}

void import_map_free(struct import_map *m)
{
    if (!m) return;
    for (uint32_t i = 0; i < ROW_FIELDS_MAX; i++)
        free(m->rules[i].text);
    free(m->scratch);
    free(m);
}

/* ---- rules ---- */

/* Cuts the text at the first mark, which goes to *mark ('\0' at the end), and
 * returns the piece before; *text moves on. Backslashes are taken out. */
static char *cut(char **text, const char *marks, char *mark)
{
    char *piece = *text, *to = *text, *at = *text;
    while (*at && !strchr(marks, *at)) {
        if (*at == '\\' && at[1]) at++;
        *to++ = *at++;
    }
    *mark = *at;
    *text = *at ? at + 1 : at;
    *to = '\0';
    return piece;
}

static bool read_number(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && isfinite(*out) && *out != 0;
}

/* "X" or "X/Y". 0.01 is taken as 1/100, which gives rounder numbers. */
static bool read_scale(struct rule *rule, const char *value)
{
    char text[NUMBER_BYTES_MAX];
    char *slash;
    if (strlen(value) >= sizeof text) return false;
    strcpy(text, value);
    slash = strchr(text, '/');
    rule->by = 1;
    if (slash) {
        *slash = '\0';
        return read_number(text, &rule->times) &&
               read_number(slash + 1, &rule->by);
    }
    if (!read_number(text, &rule->times)) return false;
    if (fabs(rule->times) < 1 &&
        fabs(1 / rule->times - rint(1 / rule->times)) < 1e-9) {
        rule->by = rint(1 / rule->times);
        rule->times = 1;
    }
    return true;
}

static void set_count(struct rule *rule, int64_t unit_ms, int64_t units_per_ms)
{
    rule->time = TIME_COUNT;
    rule->unit_ms = unit_ms;
    rule->units_per_ms = units_per_ms;
}

/* An option that has a value. */
static bool take_valued(struct rule *rule, const char *name, const char *value)
{
    if (strcmp(name, "const") == 0)
        rule->constant = value;
    else if (strcmp(name, "null") == 0)
        rule->null_text = value;
    else if (strcmp(name, "default") == 0)
        rule->default_text = value;
    else if (strcmp(name, "strip") == 0)
        rule->strip = value;
    else if (strcmp(name, "scale") == 0)
        return read_scale(rule, value);
    else if (strcmp(name, "origin") == 0)
        return iso_time_parse(slice_str(value), &rule->origin_ms);
    else if (strcmp(name, "strptime") == 0) {
        rule->time = TIME_PATTERN;
        rule->pattern = value;
    } else
        return false;
    return true;
}

static bool take_plain(struct rule *rule, const char *name)
{
    if (strcmp(name, "position") == 0)
        rule->position = true;
    else if (strcmp(name, "epoch_s") == 0)
        set_count(rule, 1000, 1);
    else if (strcmp(name, "epoch_ms") == 0)
        set_count(rule, 1, 1);
    else if (strcmp(name, "epoch_us") == 0)
        set_count(rule, 1, 1000);
    else if (strcmp(name, "iso8601") == 0)
        rule->time = TIME_ISO;
    else
        return false;
    return true;
}

static bool take_option(struct rule *rule, char *option)
{
    char *equals = strchr(option, '=');
    if (!equals) return take_plain(rule, option);
    *equals = '\0';
    if (take_valued(rule, option, equals + 1)) return true;
    *equals = '=';
    return false;
}

static enum rc read_rule(struct rule *rule, char *at, const char *shown,
                         struct err *e)
{
    char mark;
    do {
        char *column = cut(&at, "+:", &mark);
        if (!*column) continue;
        if (rule->column_count == JOINED_MAX)
            return ERR(e, RC_STOP, "rule '%s' joins more than %d columns",
                       shown, JOINED_MAX);
        rule->columns[rule->column_count++] = column;
    } while (mark == '+');
    while (mark) {
        char *option = cut(&at, ",", &mark);
        if (!take_option(rule, option))
            return ERR(e, RC_STOP,
                       "rule '%s': option '%s' is not one, or has "
                       "a bad value; see millrace import --help",
                       shown, option);
    }
    if ((rule->column_count > 0) + (rule->constant != NULL) + rule->position !=
        1)
        return ERR(e, RC_STOP,
                   "rule '%s' needs one of a column, const=TEXT "
                   "and position",
                   shown);
    return RC_OK;
}

static enum rc no_field(const struct import_map *m, const char *name,
                        struct err *e)
{
    char fields[COLUMNS_SHOWN_BYTES] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < row_field_count(m->row) && used < sizeof fields;
         i++)
        used += (size_t)snprintf(fields + used, sizeof fields - used, "%s%s",
                                 i ? ", " : "", row_field(m->row, i)->name);
    return ERR(e, RC_STOP, "the schema has no field '%s'; it has %s", name,
               fields);
}

enum rc import_map_add(struct import_map *m, const char *rule, struct err *e)
{
    struct rule *to;
    struct rule fresh = {.times = 1, .by = 1, .used = true};
    char *at, *field, mark;
    int32_t index;
    for (int i = 0; i < JOINED_MAX; i++)
        fresh.cells[i] = -1;
    fresh.text = strdup(rule);
    if (!fresh.text) return ERR(e, RC_STOP, "no memory for rule '%s'", rule);
    at = fresh.text;
    field = cut(&at, "=", &mark);
    index = row_find(m->row, field);
    if (mark != '=' || index < 0) {
        enum rc rc =
            mark != '=' ? ERR(e, RC_STOP, "rule '%s' is not FIELD=COLUMN", rule)
                        : no_field(m, field, e);
        free(fresh.text);
        return rc;
    }
    to = &m->rules[index];
    free(to->text); /* a later rule takes the place of an earlier one */
    *to = fresh;
    return read_rule(to, at, rule, e);
}

static enum rc bind_column(struct import_map *m, struct import_reader *r,
                           struct rule *rule, uint32_t field, uint32_t i,
                           struct err *e)
{
    char columns[COLUMNS_SHOWN_BYTES];
    rule->cells[i] = import_reader_column(r, rule->columns[i]);
    if (rule->cells[i] >= 0) return RC_OK;
    import_reader_columns(r, columns, sizeof columns);
    return ERR(e, RC_STOP,
               "field '%s' is to come from column '%s', which is "
               "not there; the columns are: %s",
               row_field(m->row, field)->name, rule->columns[i], columns);
}

enum rc import_map_bind(struct import_map *m, struct import_reader *r,
                        struct err *e)
{
    for (uint32_t f = 0; f < row_field_count(m->row); f++) {
        const struct row_field *about = row_field(m->row, f);
        struct rule *rule = &m->rules[f];
        for (uint32_t i = 0; i < rule->column_count; i++)
            TRY(bind_column(m, r, rule, f, i, e));
        if (rule->used) continue;
        *rule = (struct rule){.times = 1, .by = 1, .column_count = 1};
        rule->columns[0] = about->name;
        rule->cells[0] = import_reader_column(r, about->name);
        rule->used = rule->cells[0] >= 0;
        if (rule->used || about->nullable || about->has_default) continue;
        TRY(bind_column(m, r, rule, f, 0, e));
    }
    return RC_OK;
}

/* ---- values ---- */

/* Room for text that lives until the next record; NULL: none left. */
static uint8_t *take_scratch(struct import_map *m, size_t bytes)
{
    uint8_t *at = m->scratch + m->scratch_used;
    if (bytes > SCRATCH_BYTES - m->scratch_used) return NULL;
    m->scratch_used += bytes;
    return at;
}

/* A number as text, as it would stand in a CSV. */
static bool print_number(struct import_map *m, struct cell *c)
{
    char text[NUMBER_BYTES_MAX];
    int bytes;
    uint8_t *at;
    if (c->kind == CELL_BOOLEAN)
        bytes = snprintf(text, sizeof text, "%s", c->i ? "true" : "false");
    else if (c->kind == CELL_LONG)
        bytes = snprintf(text, sizeof text, "%lld", (long long)c->i);
    else
        bytes = snprintf(text, sizeof text, "%.17g", c->d);
    at = take_scratch(m, (size_t)bytes);
    if (!at) return false;
    memcpy(at, text, (size_t)bytes);
    *c = (struct cell){.kind = CELL_TEXT, .text = slice_of(at, (size_t)bytes)};
    return true;
}

static bool join_cells(struct import_map *m, const struct rule *rule,
                       const struct import_record *in, struct cell *out)
{
    uint8_t *from = m->scratch + m->scratch_used;
    *out = (struct cell){.kind = CELL_TEXT};
    for (uint32_t i = 0; i < rule->column_count; i++) {
        struct cell c = in->cells[rule->cells[i]];
        uint8_t *at = i > 0 ? take_scratch(m, 1) : from;
        if (!at) return false;
        if (i > 0) *at = ' ';
        if (c.kind == CELL_NONE || c.kind == CELL_OTHER) continue;
        if (c.kind != CELL_TEXT) {
            if (!print_number(m, &c)) return false;
            continue; /* it stands in its place already */
        }
        at = take_scratch(m, c.text.len);
        if (!at) return false;
        memcpy(at, c.text.ptr, c.text.len);
    }
    out->text = slice_of(from, (size_t)(m->scratch + m->scratch_used - from));
    return true;
}

static bool strip_text(struct import_map *m, const char *chars, struct cell *c)
{
    uint8_t *at = take_scratch(m, c->text.len), *to = at;
    if (!at) return false;
    for (size_t i = 0; i < c->text.len; i++)
        if (c->text.ptr[i] == '\0' || !strchr(chars, c->text.ptr[i]))
            *to++ = c->text.ptr[i];
    c->text = slice_of(at, (size_t)(to - at));
    return true;
}

static bool is_null(const struct rule *rule, const struct cell *c)
{
    if (c->kind == CELL_NONE) return true;
    if (c->kind != CELL_TEXT) return false;
    return c->text.len == 0 ||
           (rule->null_text &&
            slice_equal(c->text, slice_str(rule->null_text)));
}

/* What the rule says stands in this record; a null cell is CELL_NONE. */
static bool find_cell(struct import_map *m, const struct rule *rule,
                      const struct import_record *in, uint64_t position,
                      struct cell *out)
{
    if (rule->constant)
        *out =
            (struct cell){.kind = CELL_TEXT, .text = slice_str(rule->constant)};
    else if (rule->position)
        *out = (struct cell){.kind = CELL_LONG, .i = (int64_t)position};
    else if (rule->column_count == 1)
        *out = in->cells[rule->cells[0]];
    else if (!join_cells(m, rule, in, out))
        return false;
    if (rule->strip && out->kind == CELL_TEXT &&
        !strip_text(m, rule->strip, out))
        return false;
    if (!rule->constant && is_null(rule, out)) {
        out->kind = CELL_NONE;
        if (rule->default_text)
            *out = (struct cell){.kind = CELL_TEXT,
                                 .text = slice_str(rule->default_text)};
    }
    return true;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t'))
        s = slice_of(s.ptr + 1, s.len - 1);
    while (s.len > 0 && (s.ptr[s.len - 1] == ' ' || s.ptr[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* A text of digits, sign, point and exponent; nothing else that strtod
 * takes: no hexadecimals, no infinities. */
static bool read_double(struct slice text, double *out)
{
    char copy[NUMBER_BYTES_MAX];
    char *end;
    text = trim(text);
    if (text.len == 0 || text.len >= sizeof copy) return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    if (strspn(copy, "0123456789+-.eE") != text.len) return false;
    *out = strtod(copy, &end);
    return !*end && isfinite(*out);
}

static bool read_long(struct slice text, int64_t *out)
{
    int64_t n = 0;
    bool negative;
    text = trim(text);
    negative = text.len > 0 && text.ptr[0] == '-';
    if (negative || (text.len > 0 && text.ptr[0] == '+'))
        text = slice_of(text.ptr + 1, text.len - 1);
    if (text.len == 0) return false;
    for (size_t i = 0; i < text.len; i++) {
        int digit = text.ptr[i] - '0';
        if (digit < 0 || digit > 9) return false;
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_sub_overflow(n, digit, &n)) /* downwards: INT64_MIN */
            return false;
    }
    if (!negative && n == INT64_MIN) return false;
    *out = negative ? n : -n;
    return true;
}

/* Whole numbers stay whole unless a scale makes them otherwise. */
static bool put_number(struct import_map *m, const struct rule *rule,
                       uint32_t field, const struct cell *c)
{
    bool scaled = rule->times != 1 || rule->by != 1;
    int64_t i = c->i;
    double d = c->d;
    bool whole = c->kind == CELL_LONG || c->kind == CELL_BOOLEAN ||
                 (c->kind == CELL_TEXT && read_long(c->text, &i));
    if (whole && !scaled) return row_put_long(m->row, field, i);
    if (whole) d = (double)i;
    if (!whole && c->kind == CELL_TEXT && !read_double(c->text, &d))
        return false;
    d = d * rule->times / rule->by;
    if (scaled && row_field(m->row, field)->kind != DATUM_DOUBLE &&
        row_field(m->row, field)->kind != DATUM_FLOAT)
        d = rint(d);
    return isfinite(d) && row_put_double(m->row, field, d);
}

static bool put_boolean(struct import_map *m, uint32_t field,
                        const struct cell *c)
{
    static const char *const WORDS[2][5] = {{"false", "no", "f", "n", "0"},
                                            {"true", "yes", "t", "y", "1"}};
    struct slice text = trim(c->text);
    if (c->kind != CELL_TEXT) return row_put_long(m->row, field, c->i);
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 5; i++)
            if (text.len == strlen(WORDS[value][i]) &&
                strncasecmp((const char *)text.ptr, WORDS[value][i],
                            text.len) == 0)
                return row_put_long(m->row, field, value);
    return false;
}

/* The time of a cell, in ms since 1970. */
static bool read_time(const struct rule *rule, struct slice text,
                      int64_t *out_ms)
{
    bool ok = false;
    text = trim(text);
    switch (rule->time) {
    case TIME_ISO:
        ok = iso_time_parse(text, out_ms);
        break;
    case TIME_PATTERN:
        ok = import_time_pattern(text, rule->pattern, out_ms);
        break;
    case TIME_COUNT:
        ok = import_time_count(text, rule->unit_ms, out_ms);
        *out_ms /= ok ? rule->units_per_ms : 1;
        break;
    case TIME_NONE:
        break;
    }
    return ok && !__builtin_add_overflow(*out_ms, rule->origin_ms, out_ms);
}

static bool put_ms(struct import_map *m, uint32_t field, int64_t ms)
{
    const char *type = row_field(m->row, field)->logical_type;
    const int64_t day_ms = 86400000;
    if (strcmp(type, "timestamp-micros") == 0)
        return !__builtin_mul_overflow(ms, 1000, &ms) &&
               row_put_long(m->row, field, ms);
    if (strcmp(type, "date") == 0)
        ms = ms >= 0 ? ms / day_ms : -((day_ms - 1 - ms) / day_ms);
    return row_put_long(m->row, field, ms);
}

static bool is_time_field(const struct row_field *about)
{
    return strncmp(about->logical_type, "timestamp-", 10) == 0 ||
           strcmp(about->logical_type, "date") == 0;
}

/* By the rule's form; without one, ISO 8601 or a number in the field's unit. */
static bool put_time(struct import_map *m, const struct rule *rule,
                     uint32_t field, struct cell c)
{
    int64_t ms;
    if (rule->time == TIME_NONE) {
        if (c.kind == CELL_TEXT && iso_time_parse(trim(c.text), &ms))
            return put_ms(m, field, ms);
        return put_number(m, rule, field, &c);
    }
    if (c.kind != CELL_TEXT && !print_number(m, &c)) return false;
    return read_time(rule, c.text, &ms) && put_ms(m, field, ms);
}

static bool put_text(struct import_map *m, uint32_t field, struct cell c)
{
    if (c.kind != CELL_TEXT && !print_number(m, &c)) return false;
    if (row_field(m->row, field)->kind != DATUM_BYTES && !utf8_valid(c.text))
        return false;
    return row_put_text(m->row, field, c.text);
}

static bool put_value(struct import_map *m, const struct rule *rule,
                      uint32_t field, struct cell c)
{
    const struct row_field *about = row_field(m->row, field);
    if (c.kind == CELL_OTHER) return false;
    if (rule->time != TIME_NONE || is_time_field(about))
        return put_time(m, rule, field, c);
    switch (about->kind) {
    case DATUM_STRING:
    case DATUM_BYTES:
    case DATUM_ENUM:
        return put_text(m, field, c);
    case DATUM_BOOLEAN:
        return put_boolean(m, field, &c);
    default:
        return put_number(m, rule, field, &c);
    }
}

static const char *kind_text(const struct row_field *about)
{
    if (is_time_field(about)) return "a time in the form of its rule";
    switch (about->kind) {
    case DATUM_STRING:
        return "UTF-8 text";
    case DATUM_ENUM:
        return "a symbol of the enum";
    case DATUM_BOOLEAN:
        return "true or false";
    case DATUM_INT:
    case DATUM_LONG:
        return "a whole number in range";
    default:
        return "a number";
    }
}

static enum rc reject(const struct import_map *m, uint32_t field, struct cell c,
                      struct err *e)
{
    const struct row_field *about = row_field(m->row, field);
    char text[SHOWN_BYTES] = "its value";
    if (c.kind == CELL_TEXT)
        (void)snprintf(text, sizeof text, "'%.*s'",
                       (int)(c.text.len < 30 ? c.text.len : 30), c.text.ptr);
    return ERR(e, RC_SKIP, "field %s: %s is not %s", about->name, text,
               kind_text(about));
}

static enum rc apply_rule(struct import_map *m, uint32_t field,
                          const struct import_record *in, uint64_t position,
                          struct err *e)
{
    const struct rule *rule = &m->rules[field];
    const struct row_field *about = row_field(m->row, field);
    struct cell c;
    if (!find_cell(m, rule, in, position, &c))
        return ERR(e, RC_SKIP, "field %s: its columns are too long together",
                   about->name);
    if (c.kind != CELL_NONE)
        return put_value(m, rule, field, c) ? RC_OK : reject(m, field, c, e);
    if (row_put_null(m->row, field) || about->has_default) return RC_OK;
    if (about->kind == DATUM_STRING &&
        row_put_text(m->row, field, slice_of(m->scratch, 0)))
        return RC_OK;
    return ERR(e, RC_SKIP, "field %s: no value, and it may not be null",
               about->name);
}

enum rc import_map_apply(struct import_map *m, const struct import_record *in,
                         uint64_t position, struct err *e)
{
    assert(!in->fault);
    m->scratch_used = 0;
    row_clear(m->row);
    for (uint32_t f = 0; f < row_field_count(m->row); f++)
        if (m->rules[f].used) TRY(apply_rule(m, f, in, position, e));
    return RC_OK;
}
