#include "label.h"

#include "schemas.h"

/* Places of the fields in schemas/label.avsc; a test holds them to it. */
enum {
    FIELD_EVENT_ID,
    FIELD_USER,
    FIELD_ITEM,
    FIELD_TIME,
    FIELD_LABEL,
    FIELD_LABELLED_AT,
    FIELDS
};
_Static_assert(LABEL_DATUMS == 1 + FIELDS, "a record and its fields");

enum { NUMBER_BYTES_MAX = 10 };

enum rc label_schema(struct schema **out, struct err *e)
{
    return schema_parse(out, schemas_get("label"), e);
}

enum rc label_decode(const struct decoder *d, struct slice avro,
                     struct label *out, struct err *e)
{
    struct datum at[LABEL_DATUMS], *fields = at + 1;
    struct tape tape = {.at = at, .max = LABEL_DATUMS};
    TRY(decoder_decode(d, avro, &tape, e));
    *out = (struct label){
        .event_id = fields[FIELD_EVENT_ID].s,
        .user = fields[FIELD_USER].s,
        .item = fields[FIELD_ITEM].s,
        .time_ms = fields[FIELD_TIME].i,
        .fraud = fields[FIELD_LABEL].i != 0,
        .labelled_at_ms = fields[FIELD_LABELLED_AT].i,
    };
    if (out->event_id.len == 0)
        return ERR(e, RC_SKIP, "a label without event_id");
    return RC_OK;
}

size_t label_bytes_max(const struct label *l)
{
    return (size_t)FIELDS * NUMBER_BYTES_MAX + l->event_id.len + l->user.len +
           l->item.len;
}

static struct datum text(struct slice s)
{
    return (struct datum){.kind = DATUM_STRING, .span = 1, .s = s};
}

static struct datum number(enum datum_kind kind, int64_t i)
{
    return (struct datum){.kind = (uint8_t)kind, .span = 1, .i = i};
}

enum rc label_encode(const struct schema *s, const struct label *l,
                     uint8_t *out, size_t size, size_t *used, struct err *e)
{
    struct datum at[LABEL_DATUMS] = {
        {.kind = DATUM_RECORD, .count = FIELDS, .span = LABEL_DATUMS},
        text(l->event_id),
        text(l->user),
        text(l->item),
        number(DATUM_LONG, l->time_ms),
        number(DATUM_INT, l->fraud),
        number(DATUM_LONG, l->labelled_at_ms),
    };
    const struct tape tape = {
        .at = at, .max = LABEL_DATUMS, .count = LABEL_DATUMS};
    return encoder_encode(s, &tape, out, size, used, e);
}
