#include "labels.h"

#include <assert.h>

#include "container.h"
#include "hash.h"
#include "map64.h"
#include "schemas.h"
#include "train.h"

/* Places of the fields in schemas/label.avsc; a test holds them to it. */
enum { FIELD_EVENT_ID = 0, FIELD_LABEL = 4, FIELD_LABELLED_AT = 5, FIELDS };

struct labels {
    struct map64 at;   /* event id -> time << 1 | label */
    int64_t newest_ms; /* when the last of them became known */
};

static enum rc keep(struct labels *l, const struct datum *fields,
                    const char *path, struct err *e)
{
    bool made, fraud = fields[FIELD_LABEL].i != 0;
    int64_t at_ms = fields[FIELD_LABELLED_AT].i;
    uint64_t key = hash64(fields[FIELD_EVENT_ID].s);
    uint64_t value = (uint64_t)at_ms << 1 | (fraud ? 1 : 0), *place;
    if (key == 0) return ERR(e, RC_STOP, "%s: a label without event_id", path);
    place = map64_put(&l->at, key, value, &made);
    if (!place) return ERR(e, RC_STOP, "%s: no memory for labels", path);
    *place = value;
    if (at_ms > l->newest_ms) l->newest_ms = at_ms;
    return RC_OK;
}

static enum rc read_records(struct labels *l, struct container_reader *r,
                            const struct decoder *d, const char *path,
                            struct err *e)
{
    struct datum at[1 + FIELDS];
    struct tape tape = {.at = at, .max = 1 + FIELDS};
    for (;;) {
        struct slice value;
        bool ended = false;
        TRY(container_next(r, &value, &ended, e));
        if (ended) return RC_OK;
        if (decoder_decode(d, value, &tape, e) != RC_OK) {
            (void)err_context(e, "%s: a label does not decode", path);
            return RC_STOP;
        }
        TRY(keep(l, at + 1, path, e));
    }
}

static enum rc read_file(struct labels *l, const char *path,
                         const struct schema *reader, struct err *e)
{
    struct container_reader *r = NULL;
    struct decoder *d = NULL;
    enum rc rc = container_open(&r, path, e);
    if (rc != RC_OK) return rc;
    rc = decoder_compile(&d, container_schema(r), reader, e);
    if (rc != RC_OK)
        (void)err_context(e,
                          "%s: not a file of labels "
                          "(schemas/label.avsc)",
                          path);
    else
        rc = read_records(l, r, d, path, e);
    decoder_free(d);
    container_close(r);
    return rc;
}

enum rc labels_read(struct labels **out, const char *const *paths,
                    uint32_t count, struct err *e)
{
    struct labels *l = calloc(1, sizeof *l);
    struct schema *reader = NULL;
    enum rc rc;
    if (!l) return ERR(e, RC_STOP, "labels: no memory");
    l->newest_ms = INT64_MIN;
    rc = schema_parse(&reader, schemas_get("label"), e);
    for (uint32_t i = 0; rc == RC_OK && i < count; i++)
        rc = read_file(l, paths[i], reader, e);
    schema_free(reader);
    if (rc != RC_OK) {
        labels_free(l);
        return rc;
    }
    *out = l;
    return RC_OK;
}

void labels_free(struct labels *l)
{
    if (!l) return;
    map64_fini(&l->at);
    free(l);
}

size_t labels_count(const struct labels *l)
{
    return l->at.count;
}

int8_t labels_find(const struct labels *l, uint64_t event_id, int64_t time_ms,
                   int64_t known_ms, int64_t delay_ms)
{
    const uint64_t *value;
    if (!l || event_id == 0) return LABEL_UNKNOWN;
    value = map64_get(&l->at, event_id);
    if (value && (int64_t)*value >> 1 < known_ms)
        return *value & 1 ? LABEL_FRAUD : LABEL_GOOD;
    if (value) return LABEL_UNKNOWN; /* it is not known yet, nor is silence */
    if (known_ms > l->newest_ms) known_ms = l->newest_ms;
    return known_ms >= INT64_MIN + delay_ms && time_ms <= known_ms - delay_ms
               ? LABEL_GOOD
               : LABEL_UNKNOWN;
}
