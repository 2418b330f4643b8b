/* catalogue.h - which items may be listed, and of what category they are, as
 * of every record of the catalogue.
 *
 * Log      Entries in the order of the catalogue's offsets. One writer adds
 *          them; each worker's shelf takes them over between two batches.
 * Shelf    Of one model: a bit for each item that may be listed, and its
 *          category, as of an offset, the newest entry it took. An item that
 *          the catalogue has no entry of, whose entry says so, or whose entry
 *          is gone, may not be listed.
 * Recorded Each list carries the offset of its shelf, so it can be made
 *          again: a replay has all entries and a plan that says as of which
 *          offset each list was made (I5).
 * Locks    A worker takes none: entries lie in chunks that only grow, and a
 *          chunk goes once every shelf is beyond it. The mutex is for the
 *          writer and for who makes or frees a shelf.
 * Memory   catalogue.items.max entries and what workers have yet to take.
 *          shelf_turn and shelf_move call no malloc.
 * Threads  add: one. shelf_new, shelf_free: any. A shelf belongs to one
 *          thread at a time. */
#ifndef MILLRACE_CATALOGUE_H
#define MILLRACE_CATALOGUE_H

#include "batch.h"

enum {
    CATALOGUE_NONE = -1,      /* offset: nothing seen */
    CATALOGUE_UNPLANNED = -2, /* offset: the plan does not say */
    SHELF_TURN_ENTRIES = 4096 /* most that one turn takes over */
};

struct catalogue_entry {
    int64_t offset;    /* grows from one to the next */
    uint64_t item;     /* hash64 of its id, not 0 */
    uint64_t category; /* hash64; 0: none */
    bool available;
};

/* As of which offset the list of an event was made. */
typedef int64_t catalogue_plan_fn(void *user, const struct record *r);

struct catalogue;
/* items_max: most available items; beyond it catalogue_add fails. plan: of a
 * replay, which keeps all entries; NULL: shelves follow the newest. */
enum rc catalogue_new(struct catalogue **out, uint32_t items_max,
                      catalogue_plan_fn *plan, void *user,
                      struct err *e) MUST_USE;
void catalogue_free(struct catalogue *c); /* no shelf is left */

enum rc catalogue_add(struct catalogue *c, const struct catalogue_entry *entry,
                      struct err *e) MUST_USE;
/* Items that may be listed. The writer's thread. */
uint32_t catalogue_available(const struct catalogue *c);
/* Of the newest entry; CATALOGUE_NONE: there is none. Any thread. */
int64_t catalogue_offset(const struct catalogue *c);

struct shelf {
    int64_t offset;     /* of the newest entry taken over */
    uint64_t *allowed;  /* (N / 64 + 1) bits of the model's items */
    uint64_t *category; /* (N) */
    struct catalogue *catalogue;
    const struct model *model;
    struct chunk *chunk; /* the next entry's */
    uint32_t used;       /* of that chunk */
    _Atomic uint64_t at; /* number of that chunk, for the writer */
    struct shelf *next;
};
/* With what there is by now, or, with a plan, with nothing yet. */
enum rc shelf_new(struct shelf **out, struct catalogue *c,
                  const struct model *model, struct err *e) MUST_USE;
void shelf_free(struct shelf *s);

/* Before a batch: takes over what was added, a part of it where it is much.
 * Nothing with a plan. */
void shelf_turn(struct shelf *s);
/* As of which offset the list of this event is made: the plan's, or, without
 * or where it does not say, the shelf's own. */
int64_t shelf_offset_of(const struct shelf *s, const struct record *r);
/* Goes on, or back, to an offset that shelf_offset_of gave. */
void shelf_move(struct shelf *s, int64_t offset);

#endif
