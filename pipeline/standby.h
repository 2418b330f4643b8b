/* standby.h - copies of partitions that other processes own, kept up to date
 * from the changelog ahead of need.
 *
 * Who      Without an assignor of its own, the group's members are asked for:
 *          each names its process (its client.id or group.instance.id holds
 *          the instance id). Every process ranks all but a partition's owner
 *          by a hash of instance and partition; the first standby.replicas
 *          hold a copy. All see the same members, so all agree; while a
 *          rebalance is under way nothing new is begun.
 * Hand-over  A copy holds its family of the store. A worker that is assigned
 *          the partition asks for the family, and gets it at once.
 * Errors   A copy that cannot go on is given up and begun again later: nobody
 *          depends on it. The log says why, code STANDBY.
 * Threads  One of its own. start and stop: one thread. */
#ifndef MILLRACE_STANDBY_H
#define MILLRACE_STANDBY_H

#include "config.h"
#include "metrics.h"
#include "store.h"

enum { STANDBY_INSTANCES_MAX = 1024, STANDBY_INSTANCE_BYTES = 64 };

struct standby;
struct standby_options {
    const struct config *config; /* lent until stop, as are all of these */
    struct store *store;
    struct metrics *metrics;
};
enum rc standby_start(struct standby **out, const struct standby_options *o,
                      struct err *e) MUST_USE;
/* Writes what is read and lets go of every family. */
void standby_stop(struct standby *s);

/* The processes of a group, and who of them owns each partition. */
struct standby_group {
    char instances[STANDBY_INSTANCES_MAX][STANDBY_INSTANCE_BYTES];
    uint32_t count;
    int32_t *owners; /* (partitions) index of an instance; -1: nobody */
    uint32_t partitions;
};
/* Does `own` hold a copy of this partition? */
bool standby_holds(const struct standby_group *g, const char *own,
                   int32_t partition, uint32_t replicas);

#endif
