#include "generate_row.h"

#include <assert.h>
#include <stdlib.h>

#include "hash.h"
#include "row.h"
#include "schemas.h"

enum { ID_DIGITS = 6, CATEGORIES = 16 };

static const char *const CATEGORY[CATEGORIES] = {
    "groceries", "fashion", "electronics", "books",  "garden", "toys",
    "sports",    "music",   "travel",      "beauty", "office", "pets",
    "health",    "games",   "kitchen",     "fuel"};

/* The common part of both records, then what each has of its own. */
enum field {
    EVENT_ID,
    USER_ID,
    ITEM_ID,
    TIME,
    AMOUNT,
    CATEGORY_NAME,
    CHANNEL,
    TYPE,
    LABEL,
    LABELLED_AT,
    FIELDS
};
static const char *const FIELD[FIELDS] = {
    "event_id", "user_id", "item_id", "time",  "amount",
    "category", "channel", "type",    "label", "labelled_at"};

struct generate_rows {
    uint64_t seed;
    struct schema *schemas[2];
    struct row *rows[2]; /* events, labels */
    int32_t fields[2][FIELDS];
    char event_id[GENERATE_ID_BYTES], user[GENERATE_ID_BYTES],
        item[GENERATE_ID_BYTES];
};

static const char *const CHANNELS[] = {"web", "app", "store", "phone"};
static const char *const TYPES[] = {"view", "cart", "buy", "payment"};

static void number_id(char prefix, uint32_t number, char *out)
{
    uint32_t digits = 1;
    for (uint32_t rest = number; rest >= 10; rest /= 10)
        digits++;
    if (digits < ID_DIGITS) digits = ID_DIGITS;
    out[0] = prefix;
    out[digits + 1] = '\0';
    for (uint32_t at = digits; at > 0; at--, number /= 10)
        out[at] = (char)('0' + number % 10);
}

void generate_user_id(uint32_t user, char out[GENERATE_ID_BYTES])
{
    number_id('u', user, out);
}

void generate_item_id(uint32_t item, char out[GENERATE_ID_BYTES])
{
    number_id('i', item, out);
}

void generate_event_id(uint64_t seed, uint64_t number,
                       char out[GENERATE_ID_BYTES])
{
    uint64_t bits = draw(seed, 2, number);
    for (int i = 0; i < 36; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            *out++ = '-';
            continue;
        }
        *out++ = "0123456789abcdef"[bits & 15];
        bits = i == 17 ? draw(seed, 3, number) : bits >> 4;
    }
    *out = '\0';
}

static enum rc open_row(struct generate_rows *g, int which, const char *name,
                        struct err *e)
{
    TRY(schema_parse(&g->schemas[which], schemas_get(name), e));
    TRY(row_new(&g->rows[which], g->schemas[which], e));
    for (int i = 0; i < FIELDS; i++)
        g->fields[which][i] = row_find(g->rows[which], FIELD[i]);
    return RC_OK;
}

enum rc generate_rows_new(struct generate_rows **out, uint64_t seed,
                          struct err *e)
{
    enum rc rc;
    struct generate_rows *g = calloc(1, sizeof *g);
    if (!g) return ERR(e, RC_STOP, "no memory for generated records");
    g->seed = seed;
    rc = open_row(g, 0, "transaction", e);
    if (rc == RC_OK) rc = open_row(g, 1, "label", e);
    if (rc != RC_OK) {
        generate_rows_free(g);
        return rc;
    }
    *out = g;
    return RC_OK;
}

void generate_rows_free(struct generate_rows *g)
{
    if (!g) return;
    for (int i = 0; i < 2; i++) {
        row_free(g->rows[i]);
        schema_free(g->schemas[i]);
    }
    free(g);
}

const struct schema *generate_event_schema(const struct generate_rows *g)
{
    return g->schemas[0];
}

const struct schema *generate_label_schema(const struct generate_rows *g)
{
    return g->schemas[1];
}

/* Our own schemas take every value that the generator makes. */
static void put_text(struct generate_rows *g, int which, enum field f,
                     const char *text)
{
    bool fits = row_put_text(g->rows[which], (uint32_t)g->fields[which][f],
                             slice_str(text));
    assert(fits);
}

static void put_long(struct generate_rows *g, int which, enum field f,
                     int64_t value)
{
    bool fits =
        row_put_long(g->rows[which], (uint32_t)g->fields[which][f], value);
    assert(fits);
}

static void put_common(struct generate_rows *g, int which,
                       const struct generated *ev)
{
    generate_event_id(g->seed, ev->number, g->event_id);
    generate_user_id(ev->user, g->user);
    generate_item_id(ev->item, g->item);
    put_text(g, which, EVENT_ID, g->event_id);
    put_text(g, which, USER_ID, g->user);
    put_text(g, which, ITEM_ID, g->item);
    put_long(g, which, TIME, ev->time_ms);
}

enum rc generate_event(struct generate_rows *g, const struct generated *ev,
                       struct slice *key, struct slice *value, struct err *e)
{
    bool fits = row_put_double(g->rows[0], (uint32_t)g->fields[0][AMOUNT],
                               (double)ev->amount_cents / 100);
    assert(fits);
    put_common(g, 0, ev);
    put_text(g, 0, CATEGORY_NAME, CATEGORY[ev->group % CATEGORIES]);
    put_text(g, 0, CHANNEL, CHANNELS[ev->channel]);
    put_text(g, 0, TYPE, TYPES[ev->type]);
    *key = slice_str(g->user);
    return row_encode(g->rows[0], value, e);
}

enum rc generate_label(struct generate_rows *g,
                       const struct generated_label *label, struct slice *key,
                       struct slice *value, struct err *e)
{
    put_common(g, 1, &label->event);
    put_long(g, 1, LABEL, label->fraud);
    put_long(g, 1, LABELLED_AT, label->labelled_at_ms);
    *key = slice_str(g->user);
    return row_encode(g->rows[1], value, e);
}
