/* log_reader.h - partitions read from given offsets, outside of any group:
 * a changelog that is restored or followed, one record of an input by which
 * its log is known again.
 *
 * Read     Committed records only, in offset order within a partition.
 * End      What a partition holds has been read: told each time its end is
 *          reached, also if nothing was there. What a compaction removed
 *          before that had a newer record, which was read as well.
 * Memory   A record is lent until the next call of log_reader_next.
 * Threads  One thread.
 * Errors   RC_AGAIN: ask again. RC_STOP: rights, unknown topics, an offset
 *          outside the log. */
#ifndef MILLRACE_LOG_READER_H
#define MILLRACE_LOG_READER_H

#include "batch.h"
#include "kafka_client.h"

enum { LOG_READER_PARTITIONS_MAX = 4096 };

struct log_reader;
/* few: single records are wanted, so fetches are small. */
enum rc log_reader_open(struct log_reader **out, const struct config *c,
                        const char *topic, bool few, struct err *e) MUST_USE;
void log_reader_close(struct log_reader *r);
uint32_t log_reader_partitions(const struct log_reader *r); /* of the topic */

/* Where the committed part of a partition begins and ends. */
enum rc log_reader_ends(struct log_reader *r, int32_t partition, int64_t *start,
                        int64_t *end, struct err *e) MUST_USE;

/* Reads a partition from an offset on, beside those it reads already. */
enum rc log_reader_add(struct log_reader *r, int32_t partition, int64_t offset,
                       struct err *e) MUST_USE;
void log_reader_remove(struct log_reader *r, int32_t partition);

enum log_reader_found { LOG_READER_NOTHING, LOG_READER_RECORD, LOG_READER_END };
/* Waits up to wait_ms. RECORD: all of *out is set but headers. END: its
 * partition and the offset of the end. */
enum rc log_reader_next(struct log_reader *r, uint32_t wait_ms,
                        enum log_reader_found *found, struct record *out,
                        struct err *e) MUST_USE;

/* The hash of the record at an offset, 0 if there is none. The reader reads
 * nothing else. */
enum rc log_reader_hash(struct log_reader *r, int32_t partition, int64_t offset,
                        uint64_t *hash, struct err *e) MUST_USE;

#endif
