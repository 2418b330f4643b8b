#include "standby.h"

#include <pthread.h>
#include <stdlib.h>

#include "changelog_copy.h"
#include "hash.h"
#include "log.h"
#include "log_reader.h"
#include "restore.h"
#include "stages.h"

enum {
    REFRESH_MS = 2000,     /* how soon a change of the group is seen */
    ANSWER_WAIT_MS = 3000, /* a worker may want a family meanwhile */
    READ_WAIT_MS = 20,     /* how soon a worker that wants a family gets it */
    READ_RECORDS = 256,
};

struct held {
    int32_t partition;
    struct changelog_copy copy;
};

struct standby {
    struct standby_options o;
    pthread_t thread;
    atomic_bool stop;
    rd_kafka_t *admin;
    struct restore *looker;
    struct log_reader *reader;
    uint32_t partitions; /* of the changelog */
    struct standby_group group;
    struct held *held; /* (partitions), count of them */
    uint32_t count;
};

/* --- who holds what ---------------------------------------------------- */

static uint64_t rank_of(const char *instance, int32_t partition)
{
    return hash_mix(hash64(slice_str(instance)) ^
                    hash_mix((uint64_t)partition));
}

bool standby_holds(const struct standby_group *g, const char *own,
                   int32_t partition, uint32_t replicas)
{
    uint64_t mine = rank_of(own, partition);
    int32_t owner = g->owners[partition];
    uint32_t before = 0;
    bool member = false;
    if (owner < 0) return false;
    for (uint32_t i = 0; i < g->count; i++) {
        bool me = strcmp(g->instances[i], own) == 0;
        if ((int32_t)i == owner) {
            if (me) return false;
            continue;
        }
        member |= me;
        before += !me && rank_of(g->instances[i], partition) > mine;
    }
    return member && before < replicas;
}

/* "GROUP.users.INSTANCE.WORKER": the index of INSTANCE; -1: another's. */
static int32_t instance_of(struct standby *s, const char *id)
{
    struct standby_group *g = &s->group;
    char start[STORE_NAME_MAX], name[STANDBY_INSTANCE_BYTES];
    size_t len = (size_t)snprintf(start, sizeof start, "%s.users.",
                                  s->o.config->group_id);
    const char *end;
    if (!id || len >= sizeof start || strncmp(id, start, len) != 0) return -1;
    end = strchr(id + len, '.');
    if (!end || (size_t)(end - id) - len >= sizeof name) return -1;
    (void)snprintf(name, sizeof name, "%.*s", (int)((size_t)(end - id) - len),
                   id + len);
    for (uint32_t i = 0; i < g->count; i++)
        if (strcmp(g->instances[i], name) == 0) return (int32_t)i;
    if (g->count == STANDBY_INSTANCES_MAX) return -1;
    (void)snprintf(g->instances[g->count], sizeof name, "%s", name);
    return (int32_t)g->count++;
}

static void take_member(struct standby *s,
                        const rd_kafka_MemberDescription_t *m)
{
    const rd_kafka_MemberAssignment_t *assignment =
        rd_kafka_MemberDescription_assignment(m);
    const rd_kafka_topic_partition_list_t *parts =
        rd_kafka_MemberAssignment_partitions(assignment);
    const char *id = rd_kafka_MemberDescription_group_instance_id(m);
    int32_t at =
        instance_of(s, id ? id : rd_kafka_MemberDescription_client_id(m));
    for (int i = 0; at >= 0 && parts && i < parts->cnt; i++) {
        const rd_kafka_topic_partition_t *p = &parts->elems[i];
        if (strcmp(p->topic,
                   stages_topic(s->o.config, STAGE_USERS, INPUT_EVENTS)) == 0 &&
            p->partition >= 0 && (uint32_t)p->partition < s->partitions)
            s->group.owners[p->partition] = at;
    }
}

/* settled: no rebalance is under way, and group says who owns what. */
static enum rc read_answer(struct standby *s, rd_kafka_event_t *answer,
                           bool *settled, struct err *e)
{
    const rd_kafka_ConsumerGroupDescription_t **groups;
    size_t count;
    if (!answer)
        return ERR(e, RC_AGAIN, "no answer about the group in %d s",
                   ANSWER_WAIT_MS / 1000);
    if (rd_kafka_event_error(answer))
        return ERR(e, RC_AGAIN, "asking about the group: %s",
                   rd_kafka_event_error_string(answer));
    groups = rd_kafka_DescribeConsumerGroups_result_groups(
        rd_kafka_event_DescribeConsumerGroups_result(answer), &count);
    *settled = count == 1 &&
               !rd_kafka_ConsumerGroupDescription_error(groups[0]) &&
               rd_kafka_ConsumerGroupDescription_state(groups[0]) ==
                   RD_KAFKA_CONSUMER_GROUP_STATE_STABLE;
    if (!*settled) return RC_OK;
    s->group.count = 0;
    for (uint32_t i = 0; i < s->partitions; i++)
        s->group.owners[i] = -1;
    count = rd_kafka_ConsumerGroupDescription_member_count(groups[0]);
    for (size_t i = 0; i < count; i++)
        take_member(s, rd_kafka_ConsumerGroupDescription_member(groups[0], i));
    return RC_OK;
}

static enum rc ask_group(struct standby *s, bool *settled, struct err *e)
{
    const char *groups[] = {s->o.config->group_id};
    rd_kafka_queue_t *queue = rd_kafka_queue_new(s->admin);
    rd_kafka_event_t *answer;
    enum rc rc;
    rd_kafka_DescribeConsumerGroups(s->admin, groups, 1, NULL, queue);
    answer = rd_kafka_queue_poll(queue, ANSWER_WAIT_MS);
    rc = read_answer(s, answer, settled, e);
    if (answer) rd_kafka_event_destroy(answer);
    rd_kafka_queue_destroy(queue);
    return rc;
}

/* --- one copy ---------------------------------------------------------- */

static struct held *find(struct standby *s, int32_t partition)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->held[i].partition == partition) return &s->held[i];
    return NULL;
}

/* What was read and not written is read again by whoever comes next. */
static void let_go(struct standby *s, struct held *at)
{
    struct changelog_copy *c = &at->copy;
    struct err e;
    log_reader_remove(s->reader, at->partition);
    c->meta.released_ms = store_now_ms();
    if (store_put_meta(s->o.store, c->family, &c->meta, &e) != RC_OK)
        LOG(WARN, "STANDBY", "%s", e.text);
    store_release(s->o.store, c->family);
    changelog_copy_fini(c);
    *at = s->held[--s->count];
}

/* A copy of the same rows goes on; anything else is begun anew. */
static enum rc begin_copy(struct standby *s, struct held *at, struct family *f,
                          struct family_meta *m, bool found,
                          const struct changelog_end *end, struct err *e)
{
    bool go_on = found && !m->unsent &&
                 strcmp(m->cluster_id, end->marker.cluster_id) == 0 &&
                 strcmp(m->shape, end->marker.shape) == 0 &&
                 m->changelog_next >= end->start &&
                 m->changelog_next <= end->end;
    if (!go_on) {
        *m = end->marker;
        m->checkpoint = 0; /* nothing yet */
        m->seen_offset = -1;
        m->stream_ms = INT64_MIN;
        m->changelog_next = end->start;
    }
    m->released_ms = 0;
    TRY(changelog_copy_begin(&at->copy, s->o.store, f, m, !go_on, end->end, e));
    at->copy.marker = end->marker;
    at->copy.marked = true;
    return log_reader_add(s->reader, at->partition, at->copy.next, e);
}

static enum rc hold(struct standby *s, int32_t partition, struct err *e)
{
    const struct config *c = s->o.config;
    char name[STORE_NAME_MAX];
    struct held *at = &s->held[s->count];
    struct changelog_end end;
    struct family_meta meta;
    struct family *f;
    bool found;
    enum rc rc;
    TRY(restore_look(s->looker, partition, s->partitions, &end, e));
    if (!end.marked) return RC_OK; /* nothing to copy yet */
    TRY(store_family_name(name, "users",
                          stages_topic(c, STAGE_USERS, INPUT_EVENTS), partition,
                          e));
    rc = store_acquire(s->o.store, name, &f, &meta, &found, e);
    if (rc == RC_AGAIN) return RC_OK; /* a worker has it after all */
    if (rc != RC_OK) return rc;
    *at = (struct held){.partition = partition};
    rc = begin_copy(s, at, f, &meta, found, &end, e);
    if (rc != RC_OK) {
        if (at->copy.writes) changelog_copy_fini(&at->copy);
        store_release(s->o.store, f);
        return rc;
    }
    s->count++;
    LOG(INFO, "STANDBY", "partition=%d follows from %lld of %lld", partition,
        (long long)at->copy.next, (long long)at->copy.end);
    return RC_OK;
}

/* --- all of them ------------------------------------------------------- */

static void let_go_where(struct standby *s, bool wanted_only)
{
    for (uint32_t i = s->count; i-- > 0;) {
        struct held *at = &s->held[i];
        bool wanted = store_wanted(s->o.store, at->copy.family);
        if (!wanted &&
            (wanted_only ||
             standby_holds(&s->group, store_instance(s->o.store), at->partition,
                           s->o.config->standby_replicas)))
            continue;
        LOG(INFO, "STANDBY", "partition=%d let go%s", at->partition,
            wanted ? ", a worker takes it" : "");
        let_go(s, at);
    }
}

static enum rc refresh(struct standby *s, struct err *e)
{
    bool settled = false;
    TRY(ask_group(s, &settled, e));
    if (!settled) return RC_OK;
    let_go_where(s, false);
    for (uint32_t i = 0; i < s->partitions; i++)
        if (!find(s, (int32_t)i) &&
            standby_holds(&s->group, store_instance(s->o.store), (int32_t)i,
                          s->o.config->standby_replicas))
            TRY(hold(s, (int32_t)i, e));
    restore_rest(s->looker);
    return RC_OK;
}

static enum rc take(struct standby *s, enum log_reader_found found,
                    const struct record *r, struct err *e)
{
    const struct config *c = s->o.config;
    struct held *at = find(s, r->partition);
    struct changelog_record record;
    if (!at) return RC_OK;
    if (found == LOG_READER_END)
        return changelog_copy_end(&at->copy, r->offset, e);
    TRY(changelog_decode(&record, c->changelog_topic, r, c->user_bytes_max, e));
    if (record.kind != CHANGELOG_MARKER)
        metrics_count(s->o.metrics, TOTAL_standby_rows);
    return changelog_copy_take(&at->copy, &record, r->offset, e);
}

static enum rc read_some(struct standby *s, struct err *e)
{
    for (uint32_t i = 0; i < READ_RECORDS; i++) {
        enum log_reader_found found;
        struct record r;
        TRY(log_reader_next(s->reader, i == 0 ? READ_WAIT_MS : 0, &found, &r,
                            e));
        if (found == LOG_READER_NOTHING) break;
        TRY(take(s, found, &r, e));
    }
    return RC_OK;
}

static void wait_ms(struct standby *s, uint32_t ms)
{
    const struct timespec step = {.tv_nsec = READ_WAIT_MS * 1000000L};
    for (; ms > READ_WAIT_MS && !atomic_load(&s->stop); ms -= READ_WAIT_MS)
        (void)nanosleep(&step, NULL);
}

/* --- the thread -------------------------------------------------------- */

static enum rc open_clients(struct standby *s, struct err *e)
{
    const struct config *c = s->o.config;
    const struct restore_options looker = {
        .config = c,
        .changelog = c->changelog_topic,
        .topic = stages_topic(c, STAGE_USERS, INPUT_EVENTS),
        .key_bytes_max = c->user_bytes_max};
    rd_kafka_conf_t *conf;
    if (!s->admin) {
        TRY(kafka_conf_new(&conf, c, KAFKA_ADMIN, NULL, NULL, e));
        TRY(kafka_client_new(&s->admin, conf, KAFKA_ADMIN, e));
    }
    if (!s->looker) TRY(restore_new(&s->looker, &looker, e));
    if (s->reader) return RC_OK;
    TRY(log_reader_open(&s->reader, c, c->changelog_topic, false, e));
    s->partitions = s->group.partitions = log_reader_partitions(s->reader);
    s->group.owners = calloc(s->partitions, sizeof *s->group.owners);
    s->held = calloc(s->partitions, sizeof *s->held);
    if (s->held && s->group.owners) return RC_OK;
    return ERR(e, RC_STOP, "standby: no memory for %u partitions",
               s->partitions);
}

static enum rc follow(struct standby *s, struct err *e)
{
    uint64_t next_ns = 0;
    TRY(open_clients(s, e));
    while (!atomic_load(&s->stop)) {
        if (metrics_now_ns() >= next_ns) {
            TRY(refresh(s, e));
            next_ns = metrics_now_ns() + REFRESH_MS * UINT64_C(1000000);
        }
        if (s->count == 0)
            wait_ms(s, 5 * READ_WAIT_MS);
        else
            TRY(read_some(s, e));
        let_go_where(s, true);
    }
    return RC_OK;
}

static void give_up(struct standby *s)
{
    while (s->count > 0)
        let_go(s, &s->held[s->count - 1]);
    free(s->held);
    free(s->group.owners);
    s->held = NULL;
    s->group.owners = NULL;
    log_reader_close(s->reader);
    s->reader = NULL;
    restore_free(s->looker);
    s->looker = NULL;
    if (s->admin) rd_kafka_destroy(s->admin);
    s->admin = NULL;
}

static void *standby_main(void *arg)
{
    struct standby *s = arg;
    struct err e;
    while (!atomic_load(&s->stop)) {
        if (follow(s, &e) != RC_OK)
            LOG(WARN, "STANDBY",
                "copies are let go, and begun again when brokers answer: %s",
                e.text);
        give_up(s);
        if (!atomic_load(&s->stop)) wait_ms(s, REFRESH_MS);
    }
    return NULL;
}

enum rc standby_start(struct standby **out, const struct standby_options *o,
                      struct err *e)
{
    struct standby *s = calloc(1, sizeof *s);
    if (!s) return ERR(e, RC_STOP, "standby: no memory");
    s->o = *o;
    if (pthread_create(&s->thread, NULL, standby_main, s) != 0) {
        free(s);
        return ERR(e, RC_STOP, "standby: no thread");
    }
    *out = s;
    return RC_OK;
}

void standby_stop(struct standby *s)
{
    if (!s) return;
    atomic_store(&s->stop, true);
    (void)pthread_join(s->thread, NULL);
    free(s);
}
