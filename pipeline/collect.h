/* collect.h - a log, as the worker folds it, in the shape that training
 * reads (train.h).
 *
 * Rows     One for each applied event: what the history stored, the feature
 *          row, the label. In the end they are put in order of users, each
 *          user's from event 0 on without a gap.
 * Until    Events at or after until_ms are not kept, nor what comes after
 *          them of the same user.
 * Labels   Of the event itself (role.label), known once the delay has
 *          passed, else of the label files. Events before known_ms have
 *          what was known then; training must not know more. Later events,
 *          and labels_until, have what was known at until_ms.
 * Names    Texts of items, as they first came, up to names_max; what is
 *          beyond has no name and cannot be recommended.
 * Memory   Grows with the log; refused with a message beyond bytes_max.
 * Threads  One thread. */
#ifndef MILLRACE_COLLECT_H
#define MILLRACE_COLLECT_H

#include "batch.h"
#include "feature_row.h"
#include "labels.h"
#include "train.h"

struct collect_options {
    const struct feature_shape *features; /* that the rows hold */
    const struct labels *labels;          /* NULL: none but the events' own */
    int64_t until_ms, known_ms;
    int64_t label_delay_ms; /* after which silence is good (labels.h) */
    uint32_t names_max;
    size_t bytes_max;
};

struct collect;
enum rc collect_new(struct collect **out, const struct collect_options *o,
                    struct err *e) MUST_USE;
void collect_free(struct collect *c);

/* A worker_observe_fn; user is a struct collect. */
enum rc collect_batch(void *user, const struct batch *b, struct err *e);

/* Puts rows in order and fills the counts, rows and names of *out, which
 * stay the collection's. No batch may follow. */
enum rc collect_finish(struct collect *c, struct train_log *out,
                       struct err *e) MUST_USE;
uint64_t collect_rows(const struct collect *c);
uint64_t collect_labelled(const struct collect *c);
uint64_t collect_unnamed(const struct collect *c);

#endif
