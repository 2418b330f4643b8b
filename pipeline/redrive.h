/* redrive.h - the dead letter topic, read and sent back.
 *
 * Once     Letters go back in transactions, each with the mark of what it
 *          sent (dead_letter.h). The transactional id is taken before marks
 *          are read, so a redrive at the same time is fenced, and one that
 *          broke off is finished or undone: no letter goes twice.
 * Where    To the partition it came from, or to another topic by its key.
 * What     Key, value, time and headers are the original ones; of headers,
 *          what the source cut off (source_kafka.h) is not there any more.
 * Memory   A mark for each letter redriven so far.
 * Threads  One thread.
 * Errors   RC_AGAIN: the cluster; what is committed stays so, and another
 *          call goes on behind it. */
#ifndef MILLRACE_REDRIVE_H
#define MILLRACE_REDRIVE_H

#include "config.h"
#include "dead_letter.h"

/* Which letters; all that is given must fit. */
struct redrive_filter {
    const char *reason; /* NULL: any */
    int32_t partition;  /* of the source; -1: any */
    int64_t since_ms,
        until_ms; /* of their time in the source: [since, until) */
};
bool redrive_wants(const struct redrive_filter *f, const struct dead_letter *d);

/* Sees every record of the topic, marks left out, oldest first within a
 * partition. d NULL: not ours. marked: was redriven. */
typedef enum rc redrive_look_fn(void *user, const struct record *r,
                                const struct dead_letter *d, bool marked,
                                struct err *e);
/* How far: of how many records. */
typedef void redrive_progress_fn(void *user, uint64_t done, uint64_t all);

struct redrive_scan {
    const struct config *config;
    redrive_look_fn *look;
    redrive_progress_fn *progress; /* NULL: none */
    void *user;
};
/* Reads the whole topic twice: marks stand behind their letters. */
enum rc redrive_read(const struct redrive_scan *s, struct err *e) MUST_USE;

struct redrive_options {
    const struct config *config;
    struct redrive_filter filter;
    const char *to;     /* another topic; NULL: whence they came */
    uint64_t max;       /* letters sent; 0: no limit */
    uint32_t times_max; /* a letter redriven so often is left */
    bool dry_run;       /* count, send nothing */
    redrive_progress_fn *progress;
    void *user;
};
struct redrive_result {
    uint64_t redriven; /* or would be */
    uint64_t before;   /* already */
    uint64_t omitted;  /* their value is not here */
    uint64_t too_often;
    uint64_t beyond; /* max */
    uint64_t foreign;
};
/* *out counts also what was sent before a failure. */
enum rc redrive_run(const struct redrive_options *o, struct redrive_result *out,
                    struct err *e) MUST_USE;

#endif
