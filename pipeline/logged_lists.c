#include "logged_lists.h"

#include <stdlib.h>

#include "container.h"
#include "map64.h"
#include "schemas.h"
#include "topic_scan.h"

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

/* What reading needs beside the lists. */
struct reading {
    struct logged_lists *lists;
    struct schema *reader;
    struct decoder *decoder;
    struct tape tape;
};

/* writer NULL: the reader's own. */
static enum rc reading_init(struct reading *r, const struct schema *writer,
                            struct err *e)
{
    *r = (struct reading){.tape = {.max = DATUMS_MAX}};
    r->lists = calloc(1, sizeof *r->lists);
    r->tape.at = calloc(r->tape.max, sizeof *r->tape.at);
    if (!r->lists || !r->tape.at) return ERR(e, RC_STOP, "no memory");
    TRY(schema_parse(&r->reader, schemas_get("recommendations"), e));
    return decoder_compile(&r->decoder, writer ? writer : r->reader, r->reader,
                           e);
}

/* Lends the lists out, unless it failed. */
static enum rc reading_fini(struct reading *r, enum rc rc,
                            struct logged_lists **out)
{
    decoder_free(r->decoder);
    schema_free(r->reader);
    free(r->tape.at);
    if (rc == RC_OK)
        *out = r->lists;
    else
        logged_lists_free(r->lists);
    return rc;
}

static enum rc read_value(void *user, struct slice value, struct err *e)
{
    struct reading *r = user;
    TRY(decoder_decode(r->decoder, value, &r->tape, e));
    if (add_list(r->lists, &r->tape)) return RC_OK;
    return ERR(e, RC_STOP, "no memory for %zu lists", r->lists->at.count);
}

static enum rc read_values(struct reading *r, struct container_reader *from,
                           struct err *e)
{
    for (;;) {
        struct slice value;
        bool ended = false;
        TRY(container_next(from, &value, &ended, e));
        if (ended) return RC_OK;
        TRY(read_value(r, value, e));
    }
}

enum rc logged_lists_read(struct logged_lists **out, const char *path,
                          struct err *e)
{
    struct container_reader *from;
    struct reading r;
    enum rc rc = container_open(&from, path, e);
    if (rc != RC_OK) return rc;
    rc = reading_init(&r, container_schema(from), e);
    if (rc == RC_OK) rc = read_values(&r, from, e);
    container_close(from);
    if (reading_fini(&r, rc, out) == RC_OK) return RC_OK;
    (void)err_context(e, "%s: recommendations", path);
    return RC_STOP;
}

enum rc logged_lists_read_topic(struct logged_lists **out,
                                const struct config *c, struct err *e)
{
    struct reading r;
    enum rc rc = reading_init(&r, NULL, e);
    if (rc == RC_OK)
        rc = topic_scan_output(c, c->output_recommendations_topic, read_value,
                               &r, e);
    if (reading_fini(&r, rc, out) == RC_OK) return RC_OK;
    (void)err_context(e, "recommendations that were logged");
    return RC_STOP;
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
