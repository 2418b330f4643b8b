/* tiny_log.h - a made-up log with something to learn in it, for tests of
 * training: users walk through the items in steps of their own, pay about the
 * same each time, and frauds are payments far above that. */
#ifndef MILLRACE_TESTS_TINY_LOG_H
#define MILLRACE_TESTS_TINY_LOG_H

#include "train.h"

enum { TINY_ITEMS = 60, TINY_FEATURES = 3, TINY_HOUR_MS = 3600000 };

struct tiny_log {
    struct train_log log;
    struct past_event *events;
    float *features;
    int8_t *labels;
    uint64_t *user_start;
};

/* Event k of every user is at hour k, so times cut all users alike. */
void tiny_log_init(struct tiny_log *t, uint32_t users, uint64_t seed);
void tiny_log_fini(struct tiny_log *t);

#endif
