/* worker_inside.h - what worker.c (a batch through the spine) and
 * worker_assign.c (which partitions, from where) share. */
#ifndef MILLRACE_WORKER_INSIDE_H
#define MILLRACE_WORKER_INSIDE_H

#include <time.h>

#include "chain.h"
#include "enrichment.h"
#include "outputs.h"
#include "restore.h"
#include "serving.h"
#include "stage_items.h"
#include "stages.h"
#include "worker.h"

enum { PARTITIONS_MAX = 4096 }; /* of one worker */

struct worker {
    struct worker_options o;
    struct stage *stage;
    struct serving *serving; /* model and policy, the users stage; NULL: this
                                is another */
    struct admit admit;      /* the rows'; no reload changes it */
    struct state *state;
    struct outputs *outputs;
    struct restore *restore; /* NULL: there is no changelog */
    struct chain *chain;     /* the items stage in front; NULL: none */
    struct enrichment_reader *enrichment; /* it was there before; NULL: no */
    struct batch batch;

    struct partition *partitions[PARTITIONS_MAX]; /* owned */
    struct source_position positions[STAGE_INPUTS * PARTITIONS_MAX];
    uint32_t partition_count;
    bool folding;     /* some partition is below its committed offset */
    uint32_t held;    /* inputs of partitions that wait */
    uint32_t answers; /* as mapping_answers said before the batch */

    uint64_t since_commit; /* records gone through since the last commit */
    int64_t committed_at_ms;
    uint32_t failures; /* rewinds since a commit went well */
    uint64_t batch_from_ns, step_from_ns;
};

static inline int64_t now_ms(void)
{
    return (int64_t)(metrics_now_ns() / 1000000);
}

static inline void pause_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

enum worker_phase worker_phase(const struct worker *w);
/* After partitions came, went or moved: counts and gauges. */
void worker_look(struct worker *w);
/* Puts where p is read next into w->positions[n]; returns n + 1. */
uint32_t worker_put_position(struct worker *w, uint32_t n,
                             const struct partition *p, uint32_t input);

/* Outputs and the offsets of their inputs become final together (I1). */
enum rc worker_commit(struct worker *w, struct err *e) MUST_USE;

/* What the source says of assignments, between two batches (I7). */
enum rc worker_take_changes(struct worker *w, struct err *e) MUST_USE;
/* Rows that have come from the changelog: their partitions are read. */
enum rc worker_restore(struct worker *w, struct err *e) MUST_USE;
/* What was sent is taken back; the log is read again (I3). */
enum rc worker_rewind(struct worker *w, struct err *e) MUST_USE;
/* Revoked (c), or the end of the run (NULL): commit, write, let go. */
enum rc worker_hand_over(struct worker *w, const struct source_change *c,
                         struct err *e) MUST_USE;

#endif
