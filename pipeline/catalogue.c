#include "catalogue.h"

#include <pthread.h>
#include <stdatomic.h>

#include "map64.h"

enum { CHUNK_ENTRIES = 1024 };

struct chunk {
    uint64_t number;
    _Atomic uint32_t count; /* entries that shelves may read */
    _Atomic(struct chunk *) next;
    struct catalogue_entry at[CHUNK_ENTRIES];
};

struct catalogue {
    catalogue_plan_fn *plan;
    void *user;
    uint32_t items_max;
    pthread_mutex_t mutex; /* of all but what shelves read of chunks */
    struct chunk *first, *last;
    struct shelf *shelves;
    /* The newest entry of every item, for shelves to come. */
    struct map64 places; /* item -> index in table */
    struct catalogue_entry *table;
    uint32_t table_count, table_room;
    uint32_t available;
    _Atomic int64_t offset;
};

static struct chunk *chunk_new(uint64_t number)
{
    struct chunk *k = calloc(1, sizeof *k);
    if (k) k->number = number;
    return k;
}

enum rc catalogue_new(struct catalogue **out, uint32_t items_max,
                      catalogue_plan_fn *plan, void *user, struct err *e)
{
    struct catalogue *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c) c->first = c->last = chunk_new(0);
    if (!c || !c->first) {
        free(c);
        return ERR(e, RC_STOP, "catalogue: no memory");
    }
    c->plan = plan;
    c->user = user;
    c->items_max = items_max;
    atomic_store(&c->offset, CATALOGUE_NONE);
    (void)pthread_mutex_init(&c->mutex, NULL);
    *out = c;
    return RC_OK;
}

void catalogue_free(struct catalogue *c)
{
    if (!c) return;
    assert(!c->shelves);
    for (struct chunk *k = c->first, *next; k; k = next) {
        next = atomic_load(&k->next);
        free(k);
    }
    map64_fini(&c->places);
    free(c->table);
    (void)pthread_mutex_destroy(&c->mutex);
    free(c);
}

/* --- adding ------------------------------------------------------------- */

/* Items that are gone leave the table. False: no memory. */
static bool drop_gone(struct catalogue *c)
{
    uint32_t kept = 0;
    bool made;
    map64_fini(&c->places);
    for (uint32_t i = 0; i < c->table_count; i++) {
        if (!c->table[i].available) continue;
        c->table[kept] = c->table[i];
        if (!map64_put(&c->places, c->table[kept].item, kept, &made))
            return false;
        kept++;
    }
    c->table_count = kept;
    return true;
}

static bool make_room(struct catalogue *c)
{
    uint32_t room = c->table_room ? 2 * c->table_room : CHUNK_ENTRIES;
    void *bigger;
    if (c->table_count < c->table_room) return true;
    if (c->available <= c->table_count / 2 && c->table_count > 0)
        return drop_gone(c);
    bigger = realloc(c->table, room * sizeof *c->table);
    if (!bigger) return false;
    c->table = bigger;
    c->table_room = room;
    return true;
}

static enum rc put_in_table(struct catalogue *c,
                            const struct catalogue_entry *entry, struct err *e)
{
    uint64_t *place;
    bool made = false, was;
    if (!make_room(c) ||
        !(place = map64_put(&c->places, entry->item, c->table_count, &made)))
        return ERR(e, RC_STOP, "catalogue: no memory");
    if (made) c->table[c->table_count++] = (struct catalogue_entry){0};
    was = c->table[*place].available;
    c->table[*place] = *entry;
    c->available += entry->available;
    c->available -= was;
    if (c->available <= c->items_max) return RC_OK;
    return ERR(e, RC_STOP,
               "catalogue: more than %u items are available; raise "
               "catalogue.items.max",
               c->items_max);
}

static enum rc put_in_log(struct catalogue *c,
                          const struct catalogue_entry *entry, struct err *e)
{
    struct chunk *k = c->last;
    uint32_t count = atomic_load_explicit(&k->count, memory_order_relaxed);
    if (count == CHUNK_ENTRIES) {
        struct chunk *more = chunk_new(k->number + 1);
        if (!more) return ERR(e, RC_STOP, "catalogue: no memory");
        atomic_store_explicit(&k->next, more, memory_order_release);
        c->last = k = more;
        count = 0;
    }
    k->at[count] = *entry;
    atomic_store_explicit(&k->count, count + 1, memory_order_release);
    return RC_OK;
}

/* Chunks that every shelf is beyond. With a plan all are kept. */
static void drop_chunks(struct catalogue *c)
{
    uint64_t least = c->last->number;
    if (c->plan) return;
    for (struct shelf *s = c->shelves; s; s = s->next) {
        uint64_t at = atomic_load_explicit(&s->at, memory_order_acquire);
        if (at < least) least = at;
    }
    while (c->first->number < least) {
        struct chunk *k = c->first;
        c->first = atomic_load_explicit(&k->next, memory_order_relaxed);
        free(k);
    }
}

enum rc catalogue_add(struct catalogue *c, const struct catalogue_entry *entry,
                      struct err *e)
{
    enum rc rc;
    assert(entry->item != 0);
    (void)pthread_mutex_lock(&c->mutex);
    rc = put_in_table(c, entry, e);
    if (rc == RC_OK) rc = put_in_log(c, entry, e);
    if (rc == RC_OK) {
        drop_chunks(c);
        atomic_store(&c->offset, entry->offset);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return rc;
}

uint32_t catalogue_available(const struct catalogue *c)
{
    return c->available;
}

int64_t catalogue_offset(const struct catalogue *c)
{
    return atomic_load(&c->offset);
}

/* --- shelves ------------------------------------------------------------ */

static uint32_t words(const struct shelf *s)
{
    return model_info(s->model)->items / 64 + 1;
}

static void take(struct shelf *s, const struct catalogue_entry *entry)
{
    int32_t item = model_item_index(s->model, entry->item);
    uint64_t bit = UINT64_C(1) << (uint32_t)item % 64;
    s->offset = entry->offset;
    if (item < 0) return;
    s->category[item] = entry->category;
    if (entry->available)
        s->allowed[item / 64] |= bit;
    else
        s->allowed[item / 64] &= ~bit;
}

/* The next entry up to an offset, NULL: there is none. */
static const struct catalogue_entry *next_entry(struct shelf *s, int64_t until)
{
    struct chunk *k = s->chunk;
    if (s->used == CHUNK_ENTRIES) {
        struct chunk *next =
            atomic_load_explicit(&k->next, memory_order_acquire);
        if (!next) return NULL;
        s->chunk = k = next;
        s->used = 0;
        atomic_store_explicit(&s->at, k->number, memory_order_release);
    }
    if (s->used == atomic_load_explicit(&k->count, memory_order_acquire) ||
        k->at[s->used].offset > until)
        return NULL;
    return &k->at[s->used++];
}

static void go_on(struct shelf *s, int64_t until, uint32_t most)
{
    const struct catalogue_entry *entry;
    for (uint32_t i = 0; i < most && (entry = next_entry(s, until)); i++)
        take(s, entry);
}

/* As the catalogue stands: the table, and the end of the log. */
static void fill(struct shelf *s)
{
    struct catalogue *c = s->catalogue;
    for (uint32_t i = 0; i < c->table_count; i++)
        take(s, &c->table[i]);
    s->offset = atomic_load(&c->offset);
    s->chunk = c->last;
    s->used = atomic_load(&c->last->count);
}

enum rc shelf_new(struct shelf **out, struct catalogue *c,
                  const struct model *model, struct err *e)
{
    struct shelf *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return ERR(e, RC_STOP, "catalogue: no memory");
    s->catalogue = c;
    s->model = model;
    s->offset = CATALOGUE_NONE;
    s->allowed = calloc(words(s), sizeof *s->allowed);
    s->category =
        calloc((size_t)model_info(model)->items + 1, sizeof *s->category);
    if (!s->allowed || !s->category) {
        free(s->allowed);
        free(s->category);
        free(s);
        return ERR(e, RC_STOP, "catalogue: no memory for %u items",
                   model_info(model)->items);
    }
    (void)pthread_mutex_lock(&c->mutex);
    s->chunk = c->first;
    if (!c->plan) fill(s);
    atomic_store(&s->at, s->chunk->number);
    s->next = c->shelves;
    c->shelves = s;
    (void)pthread_mutex_unlock(&c->mutex);
    *out = s;
    return RC_OK;
}

void shelf_free(struct shelf *s)
{
    struct shelf **at;
    if (!s) return;
    (void)pthread_mutex_lock(&s->catalogue->mutex);
    for (at = &s->catalogue->shelves; *at != s;)
        at = &(*at)->next;
    *at = s->next;
    (void)pthread_mutex_unlock(&s->catalogue->mutex);
    free(s->allowed);
    free(s->category);
    free(s);
}

void shelf_turn(struct shelf *s)
{
    if (!s->catalogue->plan) go_on(s, INT64_MAX, SHELF_TURN_ENTRIES);
}

int64_t shelf_offset_of(const struct shelf *s, const struct record *r)
{
    const struct catalogue *c = s->catalogue;
    int64_t planned = c->plan ? c->plan(c->user, r) : CATALOGUE_UNPLANNED;
    return planned == CATALOGUE_UNPLANNED ? s->offset : planned;
}

void shelf_move(struct shelf *s, int64_t offset)
{
    struct catalogue *c = s->catalogue;
    if (offset == s->offset) return;
    assert(c->plan);
    if (offset < s->offset) {
        memset(s->allowed, 0, words(s) * sizeof *s->allowed);
        s->chunk = c->first;
        s->used = 0;
    }
    go_on(s, offset, UINT32_MAX);
    /* A compaction may have removed the record that was the newest. */
    s->offset = offset;
}
