/* replay_state.h - where a replay's rows come from and go to: snapshots.
 *
 * Threads  open, finish, close: the caller's. replay_state_end: every
 *          worker's, at its end. */
#ifndef MILLRACE_REPLAY_STATE_H
#define MILLRACE_REPLAY_STATE_H

#include "config.h"
#include "mapping.h"
#include "snapshot.h"
#include "state.h"

struct replay_state_options {
    const struct config *config;
    const struct schema *reader; /* NULL: the file's own */
    const struct model *model;   /* NULL: none */
    const char *topic;           /* of the log */
    const char *snapshot, *out;  /* NULL: none */
    uint32_t partitions; /* of the topic that out is for; 0: the log's */
    uint32_t workers;
    bool files; /* the log is in files */
};

struct replay_state;
/* fields: enum train_field bits of the mapping. */
enum rc replay_state_open(struct replay_state **out,
                          const struct replay_state_options *o, uint32_t fields,
                          struct err *e) MUST_USE;
const struct snapshot *replay_state_base(const struct replay_state *r);

/* A worker's own, for worker_options.at_end. */
struct replay_share {
    struct replay_state *state;
    uint32_t index;
};
enum rc replay_state_end(void *share, struct state *st, struct err *e) MUST_USE;
/* Once every worker has ended: writes what they gave. */
enum rc replay_state_finish(struct replay_state *r, struct err *e) MUST_USE;
void replay_state_close(struct replay_state *r); /* r may be NULL */

#endif
