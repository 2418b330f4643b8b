/* wrappers.c - the program's calls that fault points and sabotage hang on.
 * Each __wrap_X stands for X in the program's own objects (-Wl,--wrap=X). */
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "admit.h"
#include "faults.h"
#include "producer.h"
#include "restore.h"
#include "sink_kafka.h"
#include "stage_users.h"
#include "worker.h"

enum { SLOW_STOP_S = 6 };

/* Of this thread's worker, as last seen. */
static _Thread_local struct state *the_state;
static _Thread_local rd_kafka_t *the_consumer;
static _Thread_local const char *the_group;

static enum rc failed(struct err *e, const char *what)
{
    return ERR(e, RC_AGAIN, "%s: failed on command", what);
}

static rd_kafka_error_t *call_failed(const char *what)
{
    return rd_kafka_error_new(RD_KAFKA_RESP_ERR__FAIL, "%s: failed on command",
                              what);
}

/* --- state --------------------------------------------------------------- */

enum rc __real_state_open_partition(struct state *st, uint32_t input,
                                    int32_t id, const struct partition_log *log,
                                    struct partition **out, struct err *e);
enum rc __wrap_state_open_partition(struct state *st, uint32_t input,
                                    int32_t id, const struct partition_log *log,
                                    struct partition **out, struct err *e);
enum rc __wrap_state_open_partition(struct state *st, uint32_t input,
                                    int32_t id, const struct partition_log *log,
                                    struct partition **out, struct err *e)
{
    enum rc rc;
    if (fault_at(FAULT_opening)) return failed(e, "opening");
    rc = __real_state_open_partition(st, input, id, log, out, e);
    if (rc == RC_OK && sabotaged(SABOTAGE_no_fold))
        (*out)->checkpoint = (*out)->next = (*out)->committed;
    return rc;
}

void __real_state_restored(struct partition *p);
void __wrap_state_restored(struct partition *p);
void __wrap_state_restored(struct partition *p)
{
    __real_state_restored(p);
    if (sabotaged(SABOTAGE_no_fold)) p->checkpoint = p->next = p->committed;
}

enum rc __real_restore_step(struct restore *r, uint32_t wait_ms,
                            struct partition *const **done, uint32_t *count,
                            struct err *e);
enum rc __wrap_restore_step(struct restore *r, uint32_t wait_ms,
                            struct partition *const **done, uint32_t *count,
                            struct err *e);
enum rc __wrap_restore_step(struct restore *r, uint32_t wait_ms,
                            struct partition *const **done, uint32_t *count,
                            struct err *e)
{
    enum rc rc = __real_restore_step(r, wait_ms, done, count, e);
    if (rc == RC_OK && fault_at(FAULT_restoring)) return failed(e, "restoring");
    return rc;
}

enum rc __real_state_close_partition(struct state *st, struct partition *p,
                                     bool keep, struct err *e);
enum rc __wrap_state_close_partition(struct state *st, struct partition *p,
                                     bool keep, struct err *e);
enum rc __wrap_state_close_partition(struct state *st, struct partition *p,
                                     bool keep, struct err *e)
{
    (void)fault_at(FAULT_handing_over);
    return __real_state_close_partition(st, p, keep, e);
}

void __real_state_committed(struct state *st);
void __wrap_state_committed(struct state *st);
void __wrap_state_committed(struct state *st)
{
    (void)fault_at(FAULT_after_commit);
    __real_state_committed(st);
}

void __real_state_rewind(struct state *st);
void __wrap_state_rewind(struct state *st);
void __wrap_state_rewind(struct state *st)
{
    if (!sabotaged(SABOTAGE_no_rewind)) __real_state_rewind(st);
}

void __real_stage_users_apply(struct stage_users *s, struct state *st,
                              struct batch *b);
void __wrap_stage_users_apply(struct stage_users *s, struct state *st,
                              struct batch *b);
void __wrap_stage_users_apply(struct stage_users *s, struct state *st,
                              struct batch *b)
{
    bool folds = false;
    the_state = st;
    for (uint32_t i = 0; i < b->count; i++) {
        folds |= b->events[i].fold;
        if (sabotaged(SABOTAGE_folds_speak)) b->events[i].fold = false;
    }
    __real_stage_users_apply(s, st, b);
    if (folds) (void)fault_at(FAULT_folding);
}

/* Where redelivered and repeated events are told from new ones. */
enum verdict __real_admit_judge(const struct admit *a,
                                const struct history_shape *s,
                                const struct history *h, int64_t offset,
                                const struct past_event *ev, uint32_t *place);
enum verdict __wrap_admit_judge(const struct admit *a,
                                const struct history_shape *s,
                                const struct history *h, int64_t offset,
                                const struct past_event *ev, uint32_t *place);
enum verdict __wrap_admit_judge(const struct admit *a,
                                const struct history_shape *s,
                                const struct history *h, int64_t offset,
                                const struct past_event *ev, uint32_t *place)
{
    if (sabotaged(SABOTAGE_applied_twice)) return VERDICT_APPLY;
    return __real_admit_judge(a, s, h, offset, ev, place);
}

bool __real_history_apply(const struct history_shape *s, struct history *h,
                          int64_t offset, struct past_event *ev);
bool __wrap_history_apply(const struct history_shape *s, struct history *h,
                          int64_t offset, struct past_event *ev);
bool __wrap_history_apply(const struct history_shape *s, struct history *h,
                          int64_t offset, struct past_event *ev)
{
    if (sabotaged(SABOTAGE_applied_twice) && offset <= h->applied_offset)
        h->applied_offset = offset - 1;
    return __real_history_apply(s, h, offset, ev);
}

/* Below RocksDB's own checksums, so that only ours can tell. */
void __real_store_writes_row(struct store_writes *w, struct family *f,
                             struct slice key, struct slice row);
void __wrap_store_writes_row(struct store_writes *w, struct family *f,
                             struct slice key, struct slice row);
void __wrap_store_writes_row(struct store_writes *w, struct family *f,
                             struct slice key, struct slice row)
{
    static atomic_uint rows;
    if (sabotaged(SABOTAGE_flipped_row) && atomic_fetch_add(&rows, 1) % 10 == 9)
        ((uint8_t *)(uintptr_t)row.ptr)[row.len / 2] ^= 16;
    __real_store_writes_row(w, f, key, row);
}

enum rc __real_store_write(struct store *s, struct store_writes *w,
                           struct family *f, const struct family_meta *meta,
                           struct err *e);
enum rc __wrap_store_write(struct store *s, struct store_writes *w,
                           struct family *f, const struct family_meta *meta,
                           struct err *e);
enum rc __wrap_store_write(struct store *s, struct store_writes *w,
                           struct family *f, const struct family_meta *meta,
                           struct err *e)
{
    struct family_meta ahead = *meta;
    enum rc rc;
    if (fault_at(FAULT_before_store))
        return ERR(e, RC_STOP, "before_store: failed on command");
    if (sabotaged(SABOTAGE_checkpoint_ahead)) ahead.checkpoint = ahead.applied;
    rc = __real_store_write(s, w, f, &ahead, e);
    (void)fault_at(FAULT_after_store);
    return rc;
}

/* --- outputs ------------------------------------------------------------- */

enum rc __real_sink_kafka_open(struct sink **out,
                               const struct sink_kafka_options *o,
                               struct err *e);
enum rc __wrap_sink_kafka_open(struct sink **out,
                               const struct sink_kafka_options *o,
                               struct err *e);
enum rc __wrap_sink_kafka_open(struct sink **out,
                               const struct sink_kafka_options *o,
                               struct err *e)
{
    struct sink_kafka_options plain = *o;
    the_group = o->config->group_id;
    if (sabotaged(SABOTAGE_plain_producer)) plain.transactional_id = NULL;
    return __real_sink_kafka_open(out, &plain, e);
}

enum rc __real_producer_send(struct producer *p, uint32_t topic,
                             const struct message *m, struct err *e);
enum rc __wrap_producer_send(struct producer *p, uint32_t topic,
                             const struct message *m, struct err *e);
enum rc __wrap_producer_send(struct producer *p, uint32_t topic,
                             const struct message *m, struct err *e)
{
    if (fault_at(FAULT_before_produce)) return failed(e, "before_produce");
    if (sabotaged(SABOTAGE_rows_unsent) && topic == OUTPUT_CHANGELOG &&
        m->key.ptr[0] == 'u')
        return RC_OK;
    return __real_producer_send(p, topic, m, e);
}

/* At least once. */
enum rc __real_producer_flush(struct producer *p, int wait_ms, struct err *e);
enum rc __wrap_producer_flush(struct producer *p, int wait_ms, struct err *e);
enum rc __wrap_producer_flush(struct producer *p, int wait_ms, struct err *e)
{
    enum rc rc = RC_OK;
    if (!sabotaged(SABOTAGE_unacknowledged))
        rc = __real_producer_flush(p, wait_ms, e);
    if (rc == RC_OK && fault_at(FAULT_after_send))
        return failed(e, "after_send");
    return rc;
}

/* --- transactions -------------------------------------------------------- */

rd_kafka_consumer_group_metadata_t *
__real_rd_kafka_consumer_group_metadata(rd_kafka_t *rk);
rd_kafka_consumer_group_metadata_t *
__wrap_rd_kafka_consumer_group_metadata(rd_kafka_t *rk);
rd_kafka_consumer_group_metadata_t *
__wrap_rd_kafka_consumer_group_metadata(rd_kafka_t *rk)
{
    the_consumer = rk;
    if (sabotaged(SABOTAGE_unfenced))
        return rd_kafka_consumer_group_metadata_new(the_group);
    return __real_rd_kafka_consumer_group_metadata(rk);
}

typedef rd_kafka_topic_partition_list_t offsets;
rd_kafka_error_t *__real_rd_kafka_send_offsets_to_transaction(
    rd_kafka_t *rk, const offsets *list,
    const rd_kafka_consumer_group_metadata_t *group, int wait_ms);
rd_kafka_error_t *__wrap_rd_kafka_send_offsets_to_transaction(
    rd_kafka_t *rk, const offsets *list,
    const rd_kafka_consumer_group_metadata_t *group, int wait_ms);
rd_kafka_error_t *__wrap_rd_kafka_send_offsets_to_transaction(
    rd_kafka_t *rk, const offsets *list,
    const rd_kafka_consumer_group_metadata_t *group, int wait_ms)
{
    rd_kafka_error_t *error;
    struct err e;
    if (fault_at(FAULT_after_send)) return call_failed("after_send");
    if (sabotaged(SABOTAGE_offsets_outside))
        (void)rd_kafka_commit(the_consumer, list, 0);
    if (sabotaged(SABOTAGE_store_first)) {
        __real_state_committed(the_state);
        if (state_checkpoint(the_state, true, &e) != RC_OK)
            return call_failed(e.text);
    }
    error =
        __real_rd_kafka_send_offsets_to_transaction(rk, list, group, wait_ms);
    if (!error && fault_at(FAULT_after_offsets))
        return call_failed("after_offsets");
    return error;
}

rd_kafka_error_t *__real_rd_kafka_commit_transaction(rd_kafka_t *rk,
                                                     int wait_ms);
rd_kafka_error_t *__wrap_rd_kafka_commit_transaction(rd_kafka_t *rk,
                                                     int wait_ms);
rd_kafka_error_t *__wrap_rd_kafka_commit_transaction(rd_kafka_t *rk,
                                                     int wait_ms)
{
    rd_kafka_error_t *error;
    if (fault_at(FAULT_committing)) return call_failed("committing");
    error = __real_rd_kafka_commit_transaction(rk, wait_ms);
    if (!error && fault_at(FAULT_commit_answer))
        return call_failed("commit_answer");
    return error;
}

/* --- the end ------------------------------------------------------------- */

void __real_worker_free(struct worker *w);
void __wrap_worker_free(struct worker *w);
void __wrap_worker_free(struct worker *w)
{
    if (sabotaged(SABOTAGE_slow_stop)) (void)sleep(SLOW_STOP_S);
    __real_worker_free(w);
}
