/* partition.h - which partition a key belongs to, as Kafka's Java producer
 * says: (murmur2(key) & 0x7fffffff) % partitions.
 *
 * Everything that writes keyed messages agrees on this, so that one user's
 * events meet in one partition whoever produced them.
 * Threads  Any thread; pure functions. */
#ifndef MILLRACE_PARTITION_H
#define MILLRACE_PARTITION_H

#include "slice.h"

/* Kafka's variant of MurmurHash2 (32 bits, seed 0x9747b28c). */
uint32_t partition_murmur2(struct slice key);

/* partitions > 0. */
int32_t partition_of(struct slice key, uint32_t partitions);

#endif
