#include "writers.h"

#include <stdlib.h>

#include "log.h"

enum { SLOTS = 2 * WRITERS_MAX };

struct slot {
    struct schema_key key;
    struct decoder *decoder; /* NULL: free */
};
struct unknown {
    struct schema_key key;
    enum writers_state state; /* FOUND: free */
    int64_t until_ms;
};
struct writers {
    struct registry *registry;
    const struct schema *reader;
    uint32_t count, last; /* slot of the last key: nearly always the next */
    struct slot slots[SLOTS];
    struct unknown unknown[WRITERS_UNKNOWN_MAX]; /* by hash; newest stays */
};

enum rc writers_new(struct writers **out, struct registry *registry,
                    const struct schema *reader, struct err *e)
{
    struct writers *w = calloc(1, sizeof *w);
    *out = w;
    if (!w) return ERR(e, RC_STOP, "out of memory for decoders");
    w->registry = registry;
    w->reader = reader;
    return RC_OK;
}

void writers_free(struct writers *w)
{
    if (!w) return;
    for (uint32_t i = 0; i < SLOTS; i++)
        decoder_free(w->slots[i].decoder);
    free(w);
}

/* The slot of key, or the free one where it belongs. */
static uint32_t slot_of(const struct writers *w, struct schema_key key)
{
    uint32_t at = (uint32_t)schema_key_hash(key) % SLOTS;
    while (w->slots[at].decoder && !schema_key_equal(w->slots[at].key, key))
        at = (at + 1) % SLOTS;
    return at;
}

static enum rc compile(struct writers *w, struct schema_key key,
                       const struct schema *writer, struct slot *slot,
                       struct err *e)
{
    if (w->count == WRITERS_MAX)
        return ERR(e, RC_STOP, "more than %d schemas in use", WRITERS_MAX);
    TRY(decoder_compile(&slot->decoder, writer, w->reader, e));
    slot->key = key;
    w->count++;
    return RC_OK;
}

static enum writers_state ask(struct writers *w, struct schema_key key,
                              struct slot *slot, int64_t *until_ms)
{
    const struct schema *writer;
    char name[SCHEMA_KEY_TEXT_BYTES];
    struct err e;
    switch (registry_get(w->registry, key, &writer, until_ms, &e)) {
    case REGISTRY_WAIT:
        return WRITERS_WAIT;
    case REGISTRY_ABSENT:
        return WRITERS_ABSENT;
    case REGISTRY_FOUND:
        break;
    }
    if (compile(w, key, writer, slot, &e) == RC_OK) return WRITERS_FOUND;
    *until_ms = INT64_MAX; /* neither of the two schemas will change */
    schema_key_text(key, name);
    LOG(WARN, "SCHEMAFIT", "schema=%s cannot be read as input.schema: %s", name,
        e.text);
    return WRITERS_UNFIT;
}

enum writers_state writers_get(struct writers *w, struct schema_key key,
                               const struct decoder **out)
{
    struct unknown *unknown;
    struct slot *slot = &w->slots[w->last];
    enum writers_state state;
    int64_t until_ms;
    if (!slot->decoder || !schema_key_equal(slot->key, key)) {
        w->last = slot_of(w, key);
        slot = &w->slots[w->last];
    }
    *out = slot->decoder;
    if (slot->decoder) return WRITERS_FOUND;
    if (!w->registry) return WRITERS_ABSENT;
    unknown = &w->unknown[schema_key_hash(key) % WRITERS_UNKNOWN_MAX];
    if (unknown->state != WRITERS_FOUND &&
        schema_key_equal(unknown->key, key) &&
        registry_now_ms() < unknown->until_ms)
        return unknown->state;
    state = ask(w, key, slot, &until_ms);
    *out = slot->decoder;
    if (state == WRITERS_ABSENT || state == WRITERS_UNFIT)
        *unknown = (struct unknown){key, state, until_ms};
    return state;
}
