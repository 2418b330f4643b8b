#include "writers.h"

#include <stdlib.h>

#include "hash.h"
#include "log.h"

enum { SLOTS = 2 * WRITERS_MAX };

struct slot {
    uint32_t id;
    struct decoder *decoder; /* NULL: free */
};
struct unknown {
    uint32_t id;
    bool used;
};
struct writers {
    const char *dir;
    const struct schema *reader;
    uint32_t count, last; /* slot of the last id: nearly always the next */
    struct slot slots[SLOTS];
    struct unknown unknown[WRITERS_UNKNOWN_MAX]; /* by hash; newest stays */
};

enum rc writers_new(struct writers **out, const char *dir,
                    const struct schema *reader, struct err *e)
{
    struct writers *w = calloc(1, sizeof *w);
    *out = w;
    if (!w) return ERR(e, RC_STOP, "%s: out of memory", dir);
    w->dir = dir;
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

static enum rc load(const struct writers *w, uint32_t id, struct decoder **out,
                    struct err *e)
{
    char path[4096];
    struct schema *writer = NULL;
    enum rc rc;
    if (w->count == WRITERS_MAX)
        return ERR(e, RC_STOP, "more than %d schema ids", WRITERS_MAX);
    if (snprintf(path, sizeof path, "%s/%u.avsc", w->dir, id) >=
        (int)sizeof path)
        return ERR(e, RC_STOP, "schemas.dir is too long a path");
    TRY(schema_read(&writer, path, e));
    rc = decoder_compile(out, writer, w->reader, e);
    schema_free(writer);
    return rc == RC_OK ? RC_OK : err_context(e, "%s", path);
}

/* The slot of id, or the free one where it belongs. */
static uint32_t slot_of(const struct writers *w, uint32_t id)
{
    uint32_t at = (uint32_t)hash_mix(id) % SLOTS;
    while (w->slots[at].decoder && w->slots[at].id != id)
        at = (at + 1) % SLOTS;
    return at;
}

const struct decoder *writers_get(struct writers *w, uint32_t id)
{
    struct unknown *unknown;
    struct slot *slot = &w->slots[w->last];
    struct err e;
    if (slot->decoder && slot->id == id) return slot->decoder;
    w->last = slot_of(w, id);
    slot = &w->slots[w->last];
    if (slot->decoder) return slot->decoder;
    unknown = &w->unknown[hash_mix(id) % WRITERS_UNKNOWN_MAX];
    if (unknown->used && unknown->id == id) return NULL;
    if (load(w, id, &slot->decoder, &e) == RC_OK) {
        slot->id = id;
        w->count++;
        return slot->decoder;
    }
    *unknown = (struct unknown){.id = id, .used = true};
    LOG(WARN, "SCHEMAID", "id=%u %s", id, e.text);
    return NULL;
}
