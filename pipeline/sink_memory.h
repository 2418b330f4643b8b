/* sink_memory.h - outputs kept in memory, for tests and for commands that
 * read what they made.
 *
 * Commit   A message counts once its commit succeeded; abort forgets those
 *          since the last commit. Committed offsets go to the array that a
 *          memory source reads, so the two together behave like a broker.
 * Failure  sink_memory_fail makes a send or a commit to come return
 *          RC_AGAIN, once; sink_memory_fail_aborts the next aborts.
 * Memory   Everything is taken at the start; a full sink is RC_STOP.
 * Threads  One worker thread. */
#ifndef MILLRACE_SINK_MEMORY_H
#define MILLRACE_SINK_MEMORY_H

#include "sink.h"
#include "source_memory.h"

/* committed may be NULL: then offsets are not kept. */
enum rc sink_memory_new(struct sink **out, uint32_t messages_max,
                        size_t bytes_max, struct committed *committed,
                        uint32_t partitions, struct err *e) MUST_USE;

/* Committed messages, in the order in which they were sent. */
uint32_t sink_memory_count(const struct sink *k);
const struct message *sink_memory_at(const struct sink *k, uint32_t i);

/* The sends-th call of send from now and the commits-th of commit fail;
 * 0: none does. */
void sink_memory_fail(struct sink *k, uint32_t sends, uint32_t commits);
/* So many aborts to come fail. */
void sink_memory_fail_aborts(struct sink *k, uint32_t aborts);
uint64_t sink_memory_commits(const struct sink *k);

#endif
