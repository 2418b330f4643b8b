/* reload.h - a new configuration and model for workers that go on scoring.
 *
 * Read     The configuration, from where it was read at start. Changed START
 *          keys are refused by name: nothing is half applied.
 * Loaded   The model of model.dir is read and checked on the thread of the
 *          caller, and each worker's memory for it is taken. The same model
 *          again is kept, with its contexts.
 * Warmed   Users whose context is cached get one under the new model, for up
 *          to reload.warm.
 * Swapped  Each worker goes over to it between two batches. From then on its
 *          outputs carry the new hashes; the old model is freed once the
 *          last worker has let go of it.
 * Failed   Up to the swap anything may fail: what served before serves on.
 * Memory   While it warms, model and model.cache exist twice.
 * Threads  reload_run: any thread but a worker's, one at a time; it lowers
 *          that thread's priority. reload_begin: one of its own. new, free:
 *          one thread, before the workers start and after they ended. */
#ifndef MILLRACE_RELOAD_H
#define MILLRACE_RELOAD_H

#include <jansson.h>

#include "config.h"
#include "handover.h"
#include "metrics.h"
#include "schema_type.h"

/* Reads and checks the configuration anew, as a start would. */
typedef enum rc reload_read_fn(void *user, struct config **out, struct err *e);

struct reload_options {
    const struct config *config; /* of the start; lent until reload_free */
    struct model *model;         /* of the start; taken; NULL: none */
    const struct schema *reader; /* lent */
    struct catalogue *catalogue; /* lent; NULL: none */
    struct metrics *metrics;     /* lent */
    const atomic_bool *stop;     /* the workers are to end: so is a reload */
    uint32_t workers;
    reload_read_fn *read;
    void *user;
};

struct reload;
/* model is taken only where it goes well. */
enum rc reload_new(struct reload **out, const struct reload_options *o,
                   struct err *e) MUST_USE;
/* Waits for a reload that was begun. */
void reload_free(struct reload *r);

/* Before a worker begins, and when it begins again after handover_end: its
 * own handover, and what it is to serve with. Waits for a reload that runs,
 * which does not wait for it. */
struct handover *reload_join(struct reload *r, uint32_t worker,
                             const struct config **config,
                             struct model **model);

/* RC_SKIP: the configuration or the model is not fit; RC_AGAIN: another one
 * runs, or the workers are to end. *result says what is in force. */
enum rc reload_run(struct reload *r, json_t **result, struct err *e) MUST_USE;
/* The same on a thread of its own; the log says how it went. */
void reload_begin(struct reload *r);

/* What is in force, lent for the call. Waits for a reload that runs. */
typedef void reload_look_fn(void *user, const struct config *c,
                            const struct model *model);
void reload_look(struct reload *r, reload_look_fn *fn, void *user);

/* drain.timeout as of the last reload. Any thread. */
int64_t reload_drain_ms(const struct reload *r);

#endif
