#include "enrichment.h"

#include <math.h>
#include <stdlib.h>

#include "bytes.h"
#include "hash.h"

enum { VERSION = 1, HEAD_BYTES = 24, NAME_BYTES = 256 };

struct enrichment_reader {
    uint32_t count;
    uint64_t names;
    float *features; /* (events_max, count) */
};

size_t enrichment_bytes(uint32_t count)
{
    return HEAD_BYTES + 4 * (size_t)count;
}

uint64_t enrichment_names(const struct windows_shape *item)
{
    char name[NAME_BYTES];
    uint64_t hash = 0;
    for (uint32_t f = 0; f < windows_features(item); f++)
        hash = hash_append(
            hash, slice_str(windows_feature_name(item, f, name, sizeof name)));
    return hash;
}

void enrichment_encode(const float *features, uint32_t count, uint64_t names,
                       int64_t label_offset, uint8_t *out)
{
    uint8_t *to = put_u32(out, VERSION); /* and three zeros */
    to = put_u32(to, count);
    to = put_i64(to, label_offset);
    to = put_u64(to, names);
    for (uint32_t f = 0; f < count; f++)
        to = put_f32(to, features[f]);
}

enum rc enrichment_reader_new(struct enrichment_reader **out,
                              const struct windows_shape *item,
                              uint32_t events_max, struct err *e)
{
    struct enrichment_reader *r = calloc(1, sizeof *r);
    if (r) {
        r->count = windows_features(item);
        r->names = enrichment_names(item);
        r->features = calloc((size_t)events_max * r->count + 1, sizeof(float));
    }
    if (!r || !r->features) {
        enrichment_reader_free(r);
        return ERR(e, RC_STOP, "items' features: no memory for batches of %u",
                   events_max);
    }
    *out = r;
    return RC_OK;
}

void enrichment_reader_free(struct enrichment_reader *r)
{
    if (!r) return;
    free(r->features);
    free(r);
}

static bool find(const struct record *r, struct slice *out)
{
    for (uint32_t h = 0; h < r->header_count; h++) {
        if (!slice_equal(r->headers[h].name, slice_str(ENRICHMENT_HEADER)))
            continue;
        *out = r->headers[h].value;
        return true;
    }
    return false;
}

/* NULL, or why not. */
static const char *decode(const struct enrichment_reader *r, struct slice in,
                          float *features, int64_t *label_offset)
{
    struct reader from = reader_of(in);
    uint32_t version = read_u32(&from), count = read_u32(&from);
    uint64_t names;
    *label_offset = read_i64(&from);
    names = read_u64(&from);
    if (from.bad || version != VERSION || *label_offset < -1)
        return "the header " ENRICHMENT_HEADER " is damaged, or of another "
               "version";
    if (count != r->count || names != r->names)
        return "the header " ENRICHMENT_HEADER " holds other features than "
               "the configuration says: give all stages the same";
    if (from.left.len != 4 * (size_t)count)
        return "the header " ENRICHMENT_HEADER " is cut short";
    for (uint32_t f = 0; f < count; f++) {
        features[f] = get_f32(from.left.ptr + 4 * (size_t)f);
        if (isinf(features[f]))
            return "the header " ENRICHMENT_HEADER " holds an infinite number";
    }
    return NULL;
}

void enrichment_read(struct enrichment_reader *r, struct batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        struct event *ev = &b->events[i];
        float *features = &r->features[(size_t)i * r->count];
        const char *fault =
            "no header " ENRICHMENT_HEADER ": the items stage has not seen it";
        struct slice in;
        if (ev->bad != BAD_NONE || ev->waits || ev->forget || ev->is_label)
            continue;
        if (find(&b->records[i], &in))
            fault = decode(r, in, features, &ev->item_label_offset);
        if (fault)
            batch_mark(b, i, BAD_ITEM, fault);
        else
            ev->item_features = features;
    }
}
