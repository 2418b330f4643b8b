/* source_memory.h - records that already lie in memory, as a source.
 *
 * Order    Records are given as they stand, those of partitions that are not
 *          assigned left out. Every (input, partition) that occurs is
 *          assigned at the start, from the committed offsets given.
 * Changes  source_memory_change records an assignment change for when a
 *          number of records has been given, as a broker's callback would:
 *          a poll that meets it stops gathering (I7).
 * Finite   It has ended when every assigned record has been given and no
 *          change is left.
 * Memory   Records and what they point to are lent until source_close.
 * Threads  One worker thread. */
#ifndef MILLRACE_SOURCE_MEMORY_H
#define MILLRACE_SOURCE_MEMORY_H

#include "source.h"

/* Next offset to read by the group; what a sink commits is put here. */
struct committed {
    uint32_t input;
    int32_t partition;
    int64_t offset; /* -1: never */
};

/* committed: one for each partition of the records, lent; read whenever
 * partitions are assigned. */
enum rc source_memory_new(struct source **out, const struct record *records,
                          uint32_t count, const struct committed *committed,
                          uint32_t partitions, struct err *e) MUST_USE;

/* After `given` records in all, the partitions are revoked or lost, then
 * assigned again. Up to SOURCE_MEMORY_CHANGES may wait, in order. */
enum { SOURCE_MEMORY_CHANGES = 16 };
void source_memory_change(struct source *s, enum source_change_kind kind,
                          uint64_t given);
/* Records that go back in offset are given too, as a log never does. */
void source_memory_repeats(struct source *s);
/* Records given so far, those given again included. */
uint64_t source_memory_given(const struct source *s);

#endif
