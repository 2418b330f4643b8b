#include "import_csv.h"

/* Where the parser stands. */
struct cursor {
    const uint8_t *at, *end;
    bool last;
    uint8_t *unquoted; /* free space for cells with doubled quotes */
};

static void add_cell(struct csv *c, const uint8_t *from, const uint8_t *to)
{
    if (c->count < CSV_CELLS_MAX)
        c->cells[c->count++] = slice_of(from, (size_t)(to - from));
    else
        c->fault = "has more than 1024 columns";
}

/* A cell without quotes: up to a delimiter or line end, not past it. */
static enum csv_result plain_cell(struct csv *c, struct cursor *k)
{
    const uint8_t *from = k->at, *to;
    while (k->at < k->end && *k->at != c->delimiter && *k->at != '\n')
        k->at++;
    if (k->at == k->end && !k->last) return CSV_MORE;
    to = k->at;
    if (to > from && to[-1] == '\r' && (to == k->end || *to == '\n')) to--;
    add_cell(c, from, to);
    return CSV_RECORD;
}

/* The end of a quoted cell's text: at its closing quote. */
static const uint8_t *find_closing(struct csv *c, const struct cursor *k,
                                   const uint8_t *from, bool *doubled)
{
    const uint8_t *at = from;
    *doubled = false;
    for (; at < k->end; at++) {
        if (*at == '\n') c->lines++;
        if (*at != '"') continue;
        if (at + 1 == k->end && !k->last) return NULL; /* maybe doubled */
        if (at + 1 == k->end || at[1] != '"') return at;
        *doubled = true;
        at++;
    }
    return NULL;
}

static void add_doubled(struct csv *c, struct cursor *k, const uint8_t *from,
                        const uint8_t *to)
{
    uint8_t *out = k->unquoted;
    for (; from < to; from++) {
        *out++ = *from;
        if (*from == '"') from++; /* its twin */
    }
    add_cell(c, k->unquoted, out);
    k->unquoted = out;
}

static enum csv_result quoted_cell(struct csv *c, struct cursor *k)
{
    const uint8_t *from = k->at + 1, *to;
    bool doubled;
    to = find_closing(c, k, from, &doubled);
    if (!to) return k->last ? CSV_RUNAWAY : CSV_MORE;
    if (doubled)
        add_doubled(c, k, from, to);
    else
        add_cell(c, from, to);
    k->at = to + 1;
    if (k->at < k->end && *k->at == '\r') {
        if (k->at + 1 == k->end && !k->last) return CSV_MORE;
        if (k->at + 1 == k->end || k->at[1] == '\n') k->at++;
    }
    if (k->at == k->end) return k->last ? CSV_RECORD : CSV_MORE;
    if (*k->at == '\n' || *k->at == c->delimiter) return CSV_RECORD;
    c->fault = "has text after a closing quote";
    return CSV_FAULT;
}

/* Leaves out the rest of the line, so that the next record begins well. */
static enum csv_result skip_line(struct cursor *k)
{
    while (k->at < k->end && *k->at != '\n')
        k->at++;
    if (k->at == k->end && !k->last) return CSV_MORE;
    return CSV_FAULT;
}

enum csv_result csv_parse(struct csv *c, struct slice in, bool last)
{
    struct cursor k = {.at = in.ptr,
                       .end = in.ptr + in.len,
                       .last = last,
                       .unquoted = c->unquoted};
    enum csv_result result;
    c->count = 0;
    c->lines = 0;
    c->fault = NULL;
    for (;;) {
        bool quoted = k.at < k.end && *k.at == '"';
        if (k.at == k.end && !last) return CSV_MORE;
        result = quoted ? quoted_cell(c, &k) : plain_cell(c, &k);
        if (result != CSV_RECORD || k.at == k.end || *k.at == '\n') break;
        k.at++; /* the delimiter */
    }
    if (result == CSV_FAULT) result = skip_line(&k);
    if (result == CSV_MORE || result == CSV_RUNAWAY) return result;
    if (k.at < k.end) {
        k.at++; /* the line end */
        c->lines++;
    }
    c->used = (size_t)(k.at - in.ptr);
    return c->fault ? CSV_FAULT : CSV_RECORD;
}
