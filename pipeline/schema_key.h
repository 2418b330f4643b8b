/* schema_key.h - what a message names its writer's schema by.
 *
 * ID           A number that a schema registry gave: u32.
 * GUID         A registry's newer name for the same: 16 bytes.
 * FINGERPRINT  CRC-64-AVRO of the schema itself (single-object encoding).
 *
 * A file in schemas.dir is TEXT.avsc, where TEXT is schema_key_text; a
 * fingerprint names no file, the files are searched for it.
 * Threads  Plain values. */
#ifndef MILLRACE_SCHEMA_KEY_H
#define MILLRACE_SCHEMA_KEY_H

#include <inttypes.h>
#include <stdio.h>

#include "hash.h"

enum schema_key_kind { SCHEMA_ID, SCHEMA_GUID, SCHEMA_FINGERPRINT };
enum { SCHEMA_GUID_BYTES = 16, SCHEMA_KEY_TEXT_BYTES = 40 };

struct schema_key {
    enum schema_key_kind kind;
    uint64_t high, low; /* high: of a GUID only */
};

static inline struct schema_key schema_key_id(uint32_t id)
{
    return (struct schema_key){.kind = SCHEMA_ID, .low = id};
}

static inline bool schema_key_equal(struct schema_key a, struct schema_key b)
{
    return a.kind == b.kind && a.high == b.high && a.low == b.low;
}

static inline uint64_t schema_key_hash(struct schema_key k)
{
    return hash_mix(hash_mix(k.high ^ (uint64_t)k.kind) ^ k.low);
}

/* "17", "89791762-2336-186f-9674-299b90a8e2c5", "d3c3...16 digits". */
static inline void schema_key_text(struct schema_key k,
                                   char out[SCHEMA_KEY_TEXT_BYTES])
{
    size_t size = SCHEMA_KEY_TEXT_BYTES;
    switch (k.kind) {
    case SCHEMA_ID:
        (void)snprintf(out, size, "%" PRIu64, k.low);
        break;
    case SCHEMA_GUID:
        (void)snprintf(out, size, "%08x-%04x-%04x-%04x-%04x%08x",
                       (unsigned)(k.high >> 32),
                       (unsigned)(k.high >> 16 & 0xffff),
                       (unsigned)(k.high & 0xffff), (unsigned)(k.low >> 48),
                       (unsigned)(k.low >> 32 & 0xffff), (unsigned)k.low);
        break;
    case SCHEMA_FINGERPRINT:
        (void)snprintf(out, size, "%016" PRIx64, k.low);
        break;
    }
}

#endif
