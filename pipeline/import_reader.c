#include "import_reader.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "import_csv.h"

enum {
    BUFFER_BYTES = 2 * IMPORT_RECORD_MAX,
    SAMPLE_LINES = 100,
    FAULT_BYTES = 256,
};

struct import_reader {
    struct import_reader_options o;
    uint8_t *buffer; /* BUFFER_BYTES */
    size_t at, end;
    bool text_ended;
    bool skipping;  /* the rest of a line that was too long */
    uint64_t line;  /* of buffer[at] */
    char **columns; /* (column_count) names */
    uint32_t column_count;
    struct cell cells[IMPORT_COLUMNS_MAX];
    struct csv csv;
    json_t *json;            /* of the last record; cells point into it */
    struct slice user, rest; /* of a list line: what is still to come */
    int64_t position;
    uint64_t list_line;
    char fault[FAULT_BYTES];
};

/* ---- bytes ---- */

static enum rc fill(struct import_reader *r, struct err *e)
{
    size_t got;
    if (r->at > 0 && r->end == BUFFER_BYTES) {
        memmove(r->buffer, r->buffer + r->at, r->end - r->at);
        r->end -= r->at;
        r->at = 0;
    }
    assert(r->end < BUFFER_BYTES); /* callers give up at IMPORT_RECORD_MAX */
    TRY(r->o.read(r->o.user, r->buffer + r->end, BUFFER_BYTES - r->end, &got,
                  e));
    r->end += got;
    r->text_ended = got == 0;
    return RC_OK;
}

static struct slice unread(const struct import_reader *r)
{
    return slice_of(r->buffer + r->at, r->end - r->at);
}

/* Bytes of the first line that is unread, its end included; 0: not whole. */
static size_t line_bytes(const struct import_reader *r)
{
    const uint8_t *from = r->buffer + r->at;
    const uint8_t *to = memchr(from, '\n', r->end - r->at);
    if (to) return (size_t)(to - from) + 1;
    return r->text_ended ? r->end - r->at : 0;
}

static void take(struct import_reader *r, struct import_record *out,
                 size_t bytes, uint64_t lines)
{
    out->line = r->line;
    out->raw = slice_of(r->buffer + r->at, bytes);
    r->at += bytes;
    r->line += lines;
}

/* Gives up on the first unread line: the next record begins after it. */
static void reject_line(struct import_reader *r, struct import_record *out,
                        const char *fault)
{
    size_t bytes = line_bytes(r);
    out->fault = fault;
    r->skipping = bytes == 0;
    take(r, out, bytes ? bytes : r->end - r->at, bytes ? 1 : 0);
}

/* Past the rest of a line that was too long. */
static enum rc skip(struct import_reader *r, struct err *e)
{
    while (r->skipping) {
        size_t bytes = line_bytes(r);
        if (bytes == 0 && !r->text_ended) {
            r->at = r->end = 0;
            TRY(fill(r, e));
            continue;
        }
        r->at += bytes;
        r->line++;
        r->skipping = false;
    }
    return RC_OK;
}

static struct slice trim_line(struct slice s)
{
    while (s.len > 0 && (s.ptr[s.len - 1] == '\n' || s.ptr[s.len - 1] == '\r'))
        s.len--;
    return s;
}

/* The next line that is not blank. True: out is set (a fault if too long). */
static enum rc next_line(struct import_reader *r, struct import_record *out,
                         bool *ended, struct err *e)
{
    for (;;) {
        size_t bytes;
        TRY(skip(r, e));
        bytes = line_bytes(r);
        if (bytes == 0 && r->text_ended) {
            *ended = true;
            return RC_OK;
        }
        if (bytes > IMPORT_RECORD_MAX ||
            (bytes == 0 && r->end - r->at > IMPORT_RECORD_MAX)) {
            reject_line(r, out, "is longer than 1 MiB");
            return RC_OK;
        }
        if (bytes == 0) {
            TRY(fill(r, e));
            continue;
        }
        take(r, out, bytes, 1);
        out->raw = trim_line(out->raw);
        if (out->raw.len > 0) return RC_OK;
    }
}

/* ---- CSV ---- */

static void csv_cells(struct import_reader *r, struct import_record *out)
{
    if (r->csv.count != r->column_count) {
        (void)snprintf(r->fault, sizeof r->fault,
                       "has %u columns where there should be %u", r->csv.count,
                       r->column_count);
        out->fault = r->fault;
        return;
    }
    for (uint32_t i = 0; i < r->csv.count; i++)
        r->cells[i] = (struct cell){.kind = CELL_TEXT, .text = r->csv.cells[i]};
    out->cells = r->cells;
    out->count = r->csv.count;
}

/* The next record into r->csv; out gets its place, or a fault. */
static enum rc csv_record(struct import_reader *r, struct import_record *out,
                          bool *ended, struct err *e)
{
    for (;;) {
        enum csv_result result;
        TRY(skip(r, e));
        if (r->at == r->end && r->text_ended) {
            *ended = true;
            return RC_OK;
        }
        result = csv_parse(&r->csv, unread(r), r->text_ended);
        if (result == CSV_RUNAWAY) {
            reject_line(r, out, "has a quote that never closes");
            return RC_OK;
        }
        if (result == CSV_MORE && r->end - r->at > IMPORT_RECORD_MAX) {
            reject_line(r, out,
                        "is longer than 1 MiB, or has a quote that "
                        "never closes");
            return RC_OK;
        }
        if (result == CSV_MORE) {
            TRY(fill(r, e));
            continue;
        }
        take(r, out, r->csv.used, r->csv.lines);
        out->raw = trim_line(out->raw);
        if (result == CSV_FAULT) out->fault = r->csv.fault;
        if (out->fault || out->raw.len > 0) return RC_OK;
    }
}

static enum rc next_csv(struct import_reader *r, struct import_record *out,
                        bool *ended, struct err *e)
{
    TRY(csv_record(r, out, ended, e));
    if (!*ended && !out->fault) csv_cells(r, out);
    return RC_OK;
}

static bool add_column(struct import_reader *r, struct slice name)
{
    char *copy;
    if (r->column_count == IMPORT_COLUMNS_MAX) return false;
    copy = strndup((const char *)name.ptr, name.len);
    if (!copy) return false;
    r->columns[r->column_count++] = copy;
    return true;
}

static enum rc csv_header(struct import_reader *r, struct err *e)
{
    struct import_record record = {0};
    bool ended = false;
    while (r->end < 3 && !r->text_ended)
        TRY(fill(r, e));
    if (r->end >= 3 && memcmp(r->buffer, "\xef\xbb\xbf", 3) == 0) r->at = 3;
    if (r->o.columns) return RC_OK;
    TRY(csv_record(r, &record, &ended, e));
    if (ended)
        return ERR(e, RC_STOP, "the text is empty; not even a header is there");
    if (record.fault)
        return ERR(e, RC_STOP,
                   "line %llu, the header, %s; give the names by "
                   "--columns if there is none",
                   (unsigned long long)record.line, record.fault);
    for (uint32_t i = 0; i < r->csv.count; i++)
        if (!add_column(r, r->csv.cells[i]))
            return ERR(e, RC_STOP, "no memory for column %u", i + 1);
    return RC_OK;
}

/* ---- JSON lines ---- */

static const json_t *json_at(const json_t *object, const char *path)
{
    const json_t *value = json_object_get(object, path);
    const char *dot = strchr(path, '.');
    char head[256];
    if (value || !dot || (size_t)(dot - path) >= sizeof head) return value;
    memcpy(head, path, (size_t)(dot - path));
    head[dot - path] = '\0';
    return json_at(json_object_get(object, head), dot + 1);
}

static struct cell json_cell(const json_t *value)
{
    if (json_is_string(value))
        return (struct cell){.kind = CELL_TEXT,
                             .text = slice_of(json_string_value(value),
                                              json_string_length(value))};
    if (json_is_integer(value))
        return (struct cell){.kind = CELL_LONG, .i = json_integer_value(value)};
    if (json_is_real(value))
        return (struct cell){.kind = CELL_DOUBLE, .d = json_real_value(value)};
    if (json_is_boolean(value))
        return (struct cell){.kind = CELL_BOOLEAN, .i = json_is_true(value)};
    if (json_is_array(value) || json_is_object(value))
        return (struct cell){.kind = CELL_OTHER};
    return (struct cell){.kind = CELL_NONE};
}

static enum rc next_json(struct import_reader *r, struct import_record *out,
                         bool *ended, struct err *e)
{
    json_error_t error;
    TRY(next_line(r, out, ended, e));
    if (*ended || out->fault) return RC_OK;
    json_decref(r->json);
    r->json = json_loadb((const char *)out->raw.ptr, out->raw.len,
                         JSON_ALLOW_NUL, &error);
    if (!r->json) {
        (void)snprintf(r->fault, sizeof r->fault, "is not JSON: %s",
                       error.text);
        out->fault = r->fault;
        return RC_OK;
    }
    if (!json_is_object(r->json)) {
        out->fault = "is not a JSON object";
        return RC_OK;
    }
    for (uint32_t i = 0; i < r->column_count; i++)
        r->cells[i] = json_cell(json_at(r->json, r->columns[i]));
    out->cells = r->cells;
    out->count = r->column_count;
    return RC_OK;
}

/* ---- sequences ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The first word of *s, which then begins after it; empty: none left. */
static struct slice next_word(struct slice *s)
{
    const uint8_t *at = s->ptr, *end = s->ptr + s->len, *from;
    while (at < end && is_blank(*at))
        at++;
    from = at;
    while (at < end && !is_blank(*at))
        at++;
    *s = slice_of(at, (size_t)(end - at));
    return slice_of(from, (size_t)(at - from));
}

/* Pairs, unless one of the first lines has more than two words. */
static enum rc detect_sequence(struct import_reader *r, struct err *e)
{
    struct slice text, line;
    while (r->end < BUFFER_BYTES / 2 && !r->text_ended)
        TRY(fill(r, e));
    text = unread(r);
    r->o.format = IMPORT_PAIRS;
    for (int i = 0; i < SAMPLE_LINES && text.len > 0; i++) {
        const uint8_t *to = memchr(text.ptr, '\n', text.len);
        size_t bytes = to ? (size_t)(to - text.ptr) + 1 : text.len;
        line = slice_of(text.ptr, bytes);
        text = slice_of(text.ptr + bytes, text.len - bytes);
        (void)next_word(&line);
        (void)next_word(&line);
        if (next_word(&line).len > 0) r->o.format = IMPORT_LISTS;
    }
    return RC_OK;
}

/* Begins a line; out->fault says why it cannot. */
static void begin_list(struct import_reader *r, struct import_record *out)
{
    struct slice ahead;
    r->rest = out->raw;
    r->user = next_word(&r->rest);
    r->position = 0;
    r->list_line = out->line;
    ahead = r->rest;
    if (next_word(&ahead).len == 0)
        out->fault = "has a user, but no item";
    else if (r->o.format == IMPORT_PAIRS && next_word(&ahead).len > 0)
        out->fault = "has more than `user item`";
    if (out->fault) r->rest.len = 0;
}

static enum rc next_sequence(struct import_reader *r, struct import_record *out,
                             bool *ended, struct err *e)
{
    struct slice item = next_word(&r->rest);
    while (item.len == 0) {
        TRY(next_line(r, out, ended, e));
        if (*ended || out->fault) return RC_OK;
        begin_list(r, out);
        if (out->fault) return RC_OK;
        item = next_word(&r->rest);
    }
    out->line = r->list_line;
    out->raw = item;
    r->cells[0] = (struct cell){.kind = CELL_TEXT, .text = r->user};
    r->cells[1] = (struct cell){.kind = CELL_TEXT, .text = item};
    r->cells[2] = (struct cell){.kind = CELL_LONG, .i = r->position++};
    out->cells = r->cells;
    out->count = r->column_count;
    return RC_OK;
}

/* ---- the reader ---- */

static enum rc given_columns(struct import_reader *r, const char *names,
                             struct err *e)
{
    for (;;) {
        size_t bytes = strcspn(names, ",");
        if (!add_column(r, slice_of(names, bytes)))
            return ERR(e, RC_STOP, "more than %d columns, or no memory",
                       IMPORT_COLUMNS_MAX);
        if (!names[bytes]) return RC_OK;
        names += bytes + 1;
    }
}

static enum rc begin(struct import_reader *r, struct err *e)
{
    r->buffer = malloc(BUFFER_BYTES);
    r->csv.unquoted = malloc(BUFFER_BYTES);
    r->columns = calloc(IMPORT_COLUMNS_MAX, sizeof *r->columns);
    if (!r->buffer || !r->csv.unquoted || !r->columns)
        return ERR(e, RC_STOP, "no memory for reading text");
    switch (r->o.format) {
    case IMPORT_CSV:
        if (r->o.columns) TRY(given_columns(r, r->o.columns, e));
        return csv_header(r, e);
    case IMPORT_JSON:
        return RC_OK;
    case IMPORT_SEQUENCE:
        TRY(detect_sequence(r, e));
        break;
    case IMPORT_PAIRS:
    case IMPORT_LISTS:
        break;
    }
    return given_columns(r, "user,item,position", e);
}

enum rc import_reader_new(struct import_reader **out,
                          const struct import_reader_options *o, struct err *e)
{
    enum rc rc;
    struct import_reader *r = calloc(1, sizeof *r);
    if (!r) return ERR(e, RC_STOP, "no memory for reading text");
    r->o = *o;
    r->line = 1;
    r->csv.delimiter = o->delimiter;
    r->rest = slice_str("");
    rc = begin(r, e);
    if (rc != RC_OK) {
        import_reader_free(r);
        return rc;
    }
    *out = r;
    return RC_OK;
}

void import_reader_free(struct import_reader *r)
{
    if (!r) return;
    for (uint32_t i = 0; i < r->column_count; i++)
        free(r->columns[i]);
    free(r->columns);
    free(r->csv.unquoted);
    free(r->buffer);
    json_decref(r->json);
    free(r);
}

int32_t import_reader_column(struct import_reader *r, const char *name)
{
    for (uint32_t i = 0; i < r->column_count; i++)
        if (strcmp(r->columns[i], name) == 0) return (int32_t)i;
    if (r->o.format != IMPORT_JSON || !add_column(r, slice_str(name)))
        return -1;
    return (int32_t)r->column_count - 1;
}

void import_reader_columns(const struct import_reader *r, char *out,
                           size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < r->column_count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "",
                                 r->columns[i]);
}

enum rc import_reader_next(struct import_reader *r, struct import_record *out,
                           bool *ended, struct err *e)
{
    *out = (struct import_record){0};
    *ended = false;
    switch (r->o.format) {
    case IMPORT_CSV:
        return next_csv(r, out, ended, e);
    case IMPORT_JSON:
        return next_json(r, out, ended, e);
    default:
        return next_sequence(r, out, ended, e);
    }
}
