/* catalogue_read.h - the catalogue's records: from catalogue.topic, followed
 * or as it is now, or from a container file.
 *
 * Record   schemas/catalogue.avsc, or what resolves to it. A record without a
 *          value is an item that is gone: the key is its id.
 * Topic    One partition, compacted: the order of its offsets is the order of
 *          the catalogue. It is read to its end before anything is scored,
 *          then followed by a thread of its own.
 * File     Record i stands for offset i. Nothing can be gone in it, but
 *          available = false says the same.
 * Errors   A record that cannot be read is logged, counted and left out. A
 *          topic that cannot be followed any more is tried again every few
 *          seconds; lists go on with what is known, and carry its offset. */
#ifndef MILLRACE_CATALOGUE_READ_H
#define MILLRACE_CATALOGUE_READ_H

#include "catalogue.h"
#include "config.h"
#include "metrics.h"

/* The whole of it, as it is now. RC_STOP: among others a damaged file, a
 * topic of several partitions, one that does not come to its end. */
enum rc catalogue_read_file(struct catalogue *c, const char *path,
                            struct err *e) MUST_USE;

/* What a file says of one item last; its category cut to fit. */
struct catalogue_item {
    bool found, available;
    char category[64]; /* "": none */
};
enum rc catalogue_look_up(struct catalogue_item *out, const char *path,
                          const char *item, struct err *e) MUST_USE;

enum rc catalogue_read_topic(struct catalogue *c, const struct config *config,
                             struct err *e) MUST_USE;

/* The same, and then goes on. All is lent until catalogue_unfollow. */
struct catalogue_follow;
enum rc catalogue_follow(struct catalogue_follow **out, struct catalogue *c,
                         const struct config *config, struct metrics *metrics,
                         struct err *e) MUST_USE;
void catalogue_unfollow(struct catalogue_follow *f);

#endif
