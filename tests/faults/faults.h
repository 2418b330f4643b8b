/* faults.h - where the program can be made to fail, and how it can be broken.
 *
 * millrace_faults is the program as it is, linked with wrappers (-Wl,--wrap)
 * around calls between its own objects. The program's sources know nothing of
 * them, and `millrace` has none.
 *
 * MILLRACE_FAULT=POINT:N:ACTION[,...]
 *     When POINT is passed for the N-th time, by any thread:
 *     kill   SIGKILL
 *     stop   SIGSTOP; a test wakes it
 *     error  the call fails, the first time and not again
 * MILLRACE_SABOTAGE=NAME
 *     Breaks one rule all the time, so that a test can show that it would
 *     see it.
 *
 * Threads  Any thread. */
#ifndef MILLRACE_TESTS_FAULTS_H
#define MILLRACE_TESTS_FAULTS_H

#include <stdbool.h>

/* One event's way, in order; names as in MILLRACE_FAULT. */
#define FAULT_POINTS(X)                                                        \
    X(opening)        /* a partition is about to be placed */                  \
    X(restoring)      /* some rows were taken from the changelog */            \
    X(folding)        /* a batch below the committed offset was applied */     \
    X(before_produce) /* an output is about to be sent */                      \
    X(after_send)     /* all outputs of a commit are sent */                   \
    X(after_offsets)  /* offsets are in the transaction */                     \
    X(committing)     /* some microseconds into the commit's call */           \
    X(commit_answer)  /* the commit is done, its answer is not yet read */     \
    X(after_commit)   /* the commit is known */                                \
    X(before_store)   /* rows are about to be written */                       \
    X(after_store)    /* rows are written */                                   \
    X(handing_over)   /* a partition is about to be let go */

#define SABOTAGES(X)                                                           \
    X(store_first)      /* I2: rows are stored before the commit */            \
    X(checkpoint_ahead) /* I2: a checkpoint beyond the rows written */         \
    X(unacknowledged)   /* I1: offsets before the outputs are acknowledged */  \
    X(offsets_outside)  /* I1: offsets before the transaction's end */         \
    X(plain_producer)   /* I1: exactly once without a transaction */           \
    X(applied_twice)    /* I3: a redelivered event counts again */             \
    X(folds_speak)      /* I3: what is folded is sent again */                 \
    X(no_fold)          /* I3: a new owner begins at the committed offset */   \
    X(rows_unsent)      /* the changelog's markers come without their rows */  \
    X(no_rewind)        /* I3: after a failure it goes on as if nothing was */ \
    X(unfenced)         /* the group's generation is left out of commits */    \
    X(flipped_row)      /* a bit of every tenth row is not as encoded */       \
    X(slow_stop)        /* SIGTERM is not obeyed in time */

#define FAULT_ENUM(name)    FAULT_##name,
#define SABOTAGE_ENUM(name) SABOTAGE_##name,
enum fault_point { FAULT_POINTS(FAULT_ENUM) FAULT_COUNT };
enum sabotage { SABOTAGES(SABOTAGE_ENUM) SABOTAGE_COUNT };

/* Passes a point. True if the call there is to fail. */
bool fault_at(enum fault_point point);

bool sabotaged(enum sabotage what);

#endif
