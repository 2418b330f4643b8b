#include "logged_lists.h"

#include <stdlib.h>

#include "container.h"
#include "map64.h"
#include "schemas.h"

enum {
    PLACES_FIRST = 4096,
    DATUMS_MAX = 1 << 16, /* of one record; lists are far shorter */
    /* On the tape of schemas/recommendations.avsc: the record itself, user,
     * event, time, then the list; each of its places is a record of three. */
    ITEMS_AT = 4,
    ITEM_DATUMS = 4,
};

struct list {
    uint64_t first;
    uint32_t count;
};

struct logged_lists {
    struct map64 at; /* place of the event -> index in lists */
    struct list *lists;
    uint64_t list_room;
    struct logged_place *places;
    uint64_t place_count, place_room;
};

static uint64_t event_key(int64_t partition, int64_t offset)
{
    uint64_t key = draw(0, (uint64_t)partition, (uint64_t)offset);
    return key ? key : 1;
}

static bool add_place(struct logged_lists *l, const struct datum *item)
{
    if (l->place_count == l->place_room) {
        uint64_t room = l->place_room ? l->place_room * 2 : PLACES_FIRST;
        void *bigger = realloc(l->places, room * sizeof *l->places);
        if (!bigger) return false;
        l->places = bigger;
        l->place_room = room;
    }
    l->places[l->place_count++] = (struct logged_place){
        .item = hash64(item[1].s), .propensity = item[3].d};
    return true;
}

static bool add_list(struct logged_lists *l, const struct tape *t)
{
    const struct datum *items = &t->at[ITEMS_AT];
    const struct datum *tail = &t->at[t->count - 2];
    struct list list = {l->place_count, items->count};
    bool made;
    uint64_t *index =
        map64_put(&l->at, event_key(tail[0].i, tail[1].i), l->at.count, &made);
    if (!index) return false;
    if (made && *index == l->list_room) {
        uint64_t room = l->list_room ? l->list_room * 2 : PLACES_FIRST;
        void *bigger = realloc(l->lists, room * sizeof *l->lists);
        if (!bigger) return false;
        l->lists = bigger;
        l->list_room = room;
    }
    l->lists[*index] = list;
    for (uint32_t k = 0; k < list.count; k++)
        if (!add_place(l, items + 1 + (size_t)k * ITEM_DATUMS)) return false;
    return true;
}

static enum rc read_lists(struct logged_lists *l, struct container_reader *r,
                          const struct decoder *d, struct tape *t,
                          struct err *e)
{
    for (;;) {
        struct slice value;
        bool ended = false;
        TRY(container_next(r, &value, &ended, e));
        if (ended) return RC_OK;
        TRY(decoder_decode(d, value, t, e));
        if (!add_list(l, t))
            return ERR(e, RC_STOP, "no memory for %zu lists", l->at.count);
    }
}

static enum rc read_file(struct logged_lists *l, const char *path,
                         struct err *e)
{
    struct tape tape = {.max = DATUMS_MAX};
    struct container_reader *r = NULL;
    struct schema *reader = NULL;
    struct decoder *d = NULL;
    enum rc rc = container_open(&r, path, e);
    if (rc != RC_OK) return rc;
    tape.at = calloc(tape.max, sizeof *tape.at);
    if (!tape.at) rc = ERR(e, RC_STOP, "no memory");
    if (rc == RC_OK)
        rc = schema_parse(&reader, schemas_get("recommendations"), e);
    if (rc == RC_OK) rc = decoder_compile(&d, container_schema(r), reader, e);
    if (rc == RC_OK) rc = read_lists(l, r, d, &tape, e);
    decoder_free(d);
    schema_free(reader);
    free(tape.at);
    container_close(r);
    if (rc == RC_OK) return RC_OK;
    (void)err_context(e, "%s: recommendations", path);
    return RC_STOP;
}

enum rc logged_lists_read(struct logged_lists **out, const char *path,
                          struct err *e)
{
    struct logged_lists *l = calloc(1, sizeof *l);
    if (!l) return ERR(e, RC_STOP, "%s: no memory", path);
    if (read_file(l, path, e) != RC_OK) {
        logged_lists_free(l);
        return RC_STOP;
    }
    *out = l;
    return RC_OK;
}

void logged_lists_free(struct logged_lists *l)
{
    if (!l) return;
    map64_fini(&l->at);
    free(l->lists);
    free(l->places);
    free(l);
}

uint64_t logged_lists_count(const struct logged_lists *l)
{
    return l->at.count;
}

const struct logged_place *logged_lists_find(const struct logged_lists *l,
                                             int32_t partition, int64_t offset,
                                             uint32_t *count)
{
    const uint64_t *index = map64_get(&l->at, event_key(partition, offset));
    if (!index) return NULL;
    *count = l->lists[*index].count;
    return l->places + l->lists[*index].first;
}
