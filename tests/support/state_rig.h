/* state_rig.h - a log of random events and a worker of a few lines that takes
 * it through recall, apply, commit and checkpoint: what the tests of rows and
 * store share. */
#ifndef MILLRACE_TESTS_STATE_RIG_H
#define MILLRACE_TESTS_STATE_RIG_H

#include "state.h"

enum { BATCH = 32, USERS = 60, PARTITION = 3 };

struct rig {
    char dir[256];
    struct store *store;
    struct state *st;
    struct partition *p;
    struct batch b;
    uint32_t users;
    bool forgets; /* the log has tombstones */
    char names[BATCH][32];
    bool jumps; /* the log is not read from its start, once */
    struct partition_log log;
    struct state_options options;
    struct err e;
};

void rig_event(struct rig *r, int64_t offset, uint32_t slot, struct event *ev);
void rig_init(struct rig *r, const char *dir);
enum rc rig_open_store(struct rig *r);
enum rc rig_open_partition(struct rig *r);
void rig_open(struct rig *r);
void rig_crash(struct rig *r);
void rig_fini(struct rig *r);
void rig_forget(struct rig *r, uint32_t i);
/* RC_STOP where a row is damaged. */
enum rc rig_try_apply(struct rig *r, uint32_t count);
void rig_apply(struct rig *r, uint32_t count);
void rig_commit(struct rig *r);
enum rc rig_try_run(struct rig *r, int64_t end, bool checkpoints);
void rig_run(struct rig *r, int64_t end, bool checkpoints);
void rig_checkpoint_all(struct rig *r);
uint8_t *rig_row(struct rig *r, uint32_t user, size_t *size);
void rig_folded(struct rig *r, int64_t end);
void rig_shell(const char *format, const char *a, const char *b);
/* A folder that RocksDB has open, as a crash would leave it. */
void rig_copy(const char *from, const char *to);
int rig_make_dir(void **state);
int rig_remove_dir(void **state);
void rig_stops(enum rc rc, struct rig *r, const char *words);
void rig_refused(struct rig *r, const char *words);
void rig_assert_stream(struct rig *r);

#endif
