#include "framing.h"

#include <stdlib.h>

enum {
    ID_BYTES = 5,    /* magic byte 0, id u32be */
    GUID_BYTES = 17, /* magic byte 1, GUID */
    SINGLE_BYTES = 10,
};

struct framing {
    struct registry *registry;
    bool confluent, single; /* both false: plain */
    struct decoder *plain;
    struct writers *writers;
};

bool framing_names_schemas(const struct config *c)
{
    if (c->input_format == FORMAT_AUTO)
        return c->schemas_dir && *c->schemas_dir;
    return c->input_format != FORMAT_PLAIN;
}

static enum rc framing_fill(struct framing *f, const struct config *c,
                            const struct schema *reader, struct err *e)
{
    bool names = framing_names_schemas(c);
    f->confluent = names && c->input_format != FORMAT_SINGLE_OBJECT;
    f->single = names && c->input_format != FORMAT_CONFLUENT;
    if (c->input_format == FORMAT_CONFLUENT &&
        !(c->schemas_dir && *c->schemas_dir))
        return ERR(e, RC_STOP,
                   "input.format = confluent needs schemas.dir, the folder "
                   "that holds, or with registry.url will hold, ID.avsc for "
                   "each schema id");
    TRY(decoder_compile(&f->plain, reader, reader, e));
    return names ? writers_new(&f->writers, f->registry, reader, e) : RC_OK;
}

enum rc framing_new(struct framing **out, const struct config *c,
                    struct registry *registry, const struct schema *reader,
                    struct err *e)
{
    struct framing *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) return ERR(e, RC_STOP, "out of memory for decoders");
    f->registry = registry;
    if (framing_fill(f, c, reader, e) != RC_OK) {
        framing_free(f);
        return RC_STOP;
    }
    *out = f;
    return RC_OK;
}

enum rc framing_read_plain(struct framing *f, const struct schema *writer,
                           const struct schema *reader, struct err *e)
{
    struct decoder *plain;
    TRY(decoder_compile(&plain, writer, reader, e));
    decoder_free(f->plain);
    f->plain = plain;
    f->confluent = f->single = false;
    return RC_OK;
}

void framing_free(struct framing *f)
{
    if (!f) return;
    decoder_free(f->plain);
    writers_free(f->writers);
    free(f);
}

/* --- a message ---------------------------------------------------------- */

static uint64_t big_endian(const uint8_t *p, uint32_t bytes)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < bytes; i++)
        n = n << 8 | p[i];
    return n;
}

/* The key that stands at the front of s, and how long it is; 0: none. */
static size_t confluent_key(struct slice s, struct schema_key *key)
{
    if (s.len >= ID_BYTES && s.ptr[0] == 0) {
        *key = schema_key_id((uint32_t)big_endian(s.ptr + 1, 4));
        return ID_BYTES;
    }
    if (s.len >= GUID_BYTES && s.ptr[0] == 1) {
        *key = (struct schema_key){.kind = SCHEMA_GUID,
                                   .high = big_endian(s.ptr + 1, 8),
                                   .low = big_endian(s.ptr + 9, 8)};
        return GUID_BYTES;
    }
    return 0;
}

static size_t single_key(struct slice s, struct schema_key *key)
{
    if (s.len < SINGLE_BYTES || s.ptr[0] != 0xc3 || s.ptr[1] != 0x01) return 0;
    *key = (struct schema_key){
        .kind = SCHEMA_FINGERPRINT,
        .low = __builtin_bswap64(big_endian(s.ptr + 2, 8)),
    };
    return SINGLE_BYTES;
}

/* The last of that name counts. */
static const struct header *value_header(const struct record *r)
{
    static const struct slice NAME = {(const uint8_t *)FRAMING_VALUE_HEADER,
                                      sizeof FRAMING_VALUE_HEADER - 1};
    for (uint32_t i = r->header_count; i > 0; i--)
        if (slice_equal(r->headers[i - 1].name, NAME))
            return &r->headers[i - 1];
    return NULL;
}

static struct framed look_up(struct framing *f, struct schema_key key,
                             struct slice avro)
{
    struct framed out = {.avro = avro};
    switch (writers_get(f->writers, key, &out.decoder)) {
    case WRITERS_FOUND:
        break;
    case WRITERS_WAIT:
        out.waits = true;
        break;
    case WRITERS_ABSENT:
        out.fault = "there is no schema by the key that it names; the log "
                    "says which (SCHEMA)";
        break;
    case WRITERS_UNFIT:
        out.fault = "its schema cannot be read as input.schema; the log says "
                    "why (SCHEMAFIT)";
        break;
    }
    return out;
}

static struct framed unframed(const char *fault)
{
    return (struct framed){.fault = fault};
}

struct framed framing_look(struct framing *f, const struct record *r)
{
    const struct header *header = f->confluent ? value_header(r) : NULL;
    struct slice value = r->value;
    struct schema_key key;
    size_t used;
    if (!f->confluent && !f->single)
        return (struct framed){.decoder = f->plain, .avro = value};
    if (header) {
        used = confluent_key(header->value, &key);
        if (used == 0 || used != header->value.len)
            return unframed("its header " FRAMING_VALUE_HEADER
                            " is neither an id nor a GUID");
        return look_up(f, key, value);
    }
    used = f->single ? single_key(value, &key) : 0;
    if (used == 0 && f->confluent) used = confluent_key(value, &key);
    if (used == 0)
        return unframed("it does not begin as input.format says: it names no "
                        "schema");
    return look_up(f, key, slice_of(value.ptr + used, value.len - used));
}

enum rc framing_require(struct framing *f, const struct record *r,
                        struct framed *out, struct err *e)
{
    *out = framing_look(f, r);
    if (out->waits) {
        (void)framing_await(f, FRAMING_WAIT_MS_MAX);
        *out = framing_look(f, r);
    }
    if (out->waits)
        return ERR(e, RC_AGAIN,
                   "partition %d, offset %lld: no schema registry answered "
                   "for %d s; the log says why (REGISTRY)",
                   r->partition, (long long)r->offset,
                   FRAMING_WAIT_MS_MAX / 1000);
    if (!out->decoder) return ERR(e, RC_SKIP, "%s", out->fault);
    return RC_OK;
}

bool framing_await(struct framing *f, uint32_t wait_ms)
{
    return registry_await(f->registry, wait_ms);
}

uint32_t framing_answers(const struct framing *f)
{
    return f->registry ? registry_answers(f->registry) : 0;
}
