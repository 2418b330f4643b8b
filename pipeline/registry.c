#include "registry.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "log.h"
#include "registry_fetch.h"
#include "schema_canonical.h"
#include "schema_dir.h"

enum {
    SLOTS = 2 * REGISTRY_KEYS_MAX,
    PAUSE_MS_MIN = 100, /* after the first failure, then twice that, ... */
    PAUSE_MS_MAX = 10000,
    LOG_PERIOD_MS = 10000,
    WHY_BYTES = 256,
};

/* A key that somebody asked for. */
struct entry {
    struct schema_key key;
    bool used;
    bool far; /* WAIT: not on this disk, so the registry must say */
    enum registry_state state;
    struct schema *schema; /* FOUND */
    uint64_t fingerprint;  /* of the schema */
    int64_t until_ms;      /* ABSENT */
    char why[WHY_BYTES];   /* ABSENT */
};

struct registry {
    const struct config *config;
    struct registry_http *http; /* NULL: schemas.dir only */
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; /* all below */
    pthread_cond_t wanted, answered;
    struct entry entries[REGISTRY_KEYS_MAX];
    uint32_t slots[SLOTS]; /* index + 1 of an entry; 0: free */
    uint32_t count, waiting, next;
    size_t bytes;
    bool stop;
    atomic_uint answers;

    /* The thread's own: */
    uint32_t failures; /* of the registry, in a row */
    int64_t quiet_until_ms, logged_ms;
};

int64_t registry_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct timespec deadline(int64_t at_ms)
{
    return (struct timespec){.tv_sec = at_ms / 1000,
                             .tv_nsec = at_ms % 1000 * 1000000};
}

/* --- the table, under the mutex ----------------------------------------- */

/* The slot of key, or the free one where it belongs. */
static uint32_t slot_of(const struct registry *r, struct schema_key key)
{
    uint32_t at = (uint32_t)(schema_key_hash(key) % SLOTS);
    while (r->slots[at] &&
           !schema_key_equal(r->entries[r->slots[at] - 1].key, key))
        at = (at + 1) % SLOTS;
    return at;
}

static void index_again(struct registry *r)
{
    memset(r->slots, 0, sizeof r->slots);
    for (uint32_t i = 0; i < r->count; i++)
        r->slots[slot_of(r, r->entries[i].key)] = i + 1;
}

/* Absent keys make room for new ones. */
static void forget_absent(struct registry *r)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->count; i++)
        if (r->entries[i].state != REGISTRY_ABSENT)
            r->entries[kept++] = r->entries[i];
    r->count = kept;
    index_again(r);
}

/* NULL: the table is full of schemas and of keys that wait. */
static struct entry *entry_of(struct registry *r, struct schema_key key)
{
    uint32_t slot = slot_of(r, key);
    if (r->slots[slot]) return &r->entries[r->slots[slot] - 1];
    if (r->count == REGISTRY_KEYS_MAX) {
        forget_absent(r);
        if (r->count == REGISTRY_KEYS_MAX) return NULL;
        slot = slot_of(r, key);
    }
    r->entries[r->count] = (struct entry){.key = key};
    r->slots[slot] = ++r->count;
    return &r->entries[r->count - 1];
}

static void want(struct registry *r, struct entry *entry)
{
    entry->used = true;
    entry->far = false;
    entry->state = REGISTRY_WAIT;
    r->waiting++;
    (void)pthread_cond_signal(&r->wanted);
}

static void answer(struct registry *r, struct entry *entry,
                   enum registry_state state)
{
    if (entry->used && entry->state == REGISTRY_WAIT) r->waiting--;
    entry->used = true;
    entry->state = state;
    (void)atomic_fetch_add(&r->answers, 1);
    if (r->waiting == 0) (void)pthread_cond_broadcast(&r->answered);
}

static void answer_absent(struct registry *r, struct entry *entry,
                          const char *why)
{
    entry->until_ms = registry_now_ms() + r->config->schemas_retry;
    (void)snprintf(entry->why, sizeof entry->why, "%.*s",
                   (int)sizeof entry->why - 1, why);
    answer(r, entry, REGISTRY_ABSENT);
}

/* takes schema */
static void answer_found(struct registry *r, struct entry *entry,
                         struct schema *schema)
{
    size_t bytes = schema_json(schema).len;
    struct err e;
    if (bytes > REGISTRY_BYTES_MAX - r->bytes) {
        schema_free(schema);
        answer_absent(r, entry, "the schemas in use take too much memory");
        return;
    }
    if (schema_fingerprint(schema, &entry->fingerprint, &e) != RC_OK) {
        schema_free(schema);
        answer_absent(r, entry, e.text);
        return;
    }
    r->bytes += bytes;
    entry->schema = schema;
    answer(r, entry, REGISTRY_FOUND);
}

/* --- looking a key up: the thread --------------------------------------- */

/* A fingerprint that a schema in memory has. Under the mutex; the copy is
 * the caller's. */
static enum rc find_print(struct registry *r, uint64_t fingerprint,
                          struct schema **out, struct err *e)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const struct entry *entry = &r->entries[i];
        if (entry->state == REGISTRY_FOUND && entry->schema &&
            entry->fingerprint == fingerprint)
            return schema_parse(out, schema_json(entry->schema), e);
    }
    return RC_OK;
}

static enum rc find_near_print(struct registry *r, uint64_t fingerprint,
                               struct schema **out, struct err *e)
{
    enum rc rc;
    (void)pthread_mutex_lock(&r->mutex);
    rc = find_print(r, fingerprint, out, e);
    (void)pthread_mutex_unlock(&r->mutex);
    if (rc != RC_OK) return rc;
    if (!*out) *out = schema_dir_search(r->config->schemas_dir, fingerprint);
    if (*out) return RC_OK;
    return ERR(e, RC_SKIP,
               "neither input.schema nor a file in schemas.dir has this "
               "fingerprint");
}

/* What this host knows. *far: nothing, but the registry may. */
static enum rc look_near(struct registry *r, struct schema_key key,
                         struct schema **out, bool *far, struct err *e)
{
    enum rc rc;
    *out = NULL;
    *far = false;
    if (key.kind == SCHEMA_FINGERPRINT)
        return find_near_print(r, key.low, out, e);
    rc = schema_dir_read(out, r->config->schemas_dir, key, e);
    if (*out) return RC_OK;
    *far = r->http != NULL; /* also for a file that is damaged */
    if (rc != RC_OK) return RC_SKIP;
    return ERR(e, RC_SKIP, "schemas.dir has no such file");
}

static void keep(const struct registry *r, struct schema_key key,
                 struct slice text)
{
    struct err e;
    if (schema_dir_write(r->config->schemas_dir, key, text, &e) != RC_OK)
        LOG(WARN, "SCHEMAKEEP", "%s; a restart will ask the registry again",
            e.text);
}

/* RC_AGAIN: it did not say. */
static enum rc look_far(struct registry *r, struct schema_key key,
                        struct schema **out, int64_t *retry_ms, struct err *e)
{
    char *text;
    size_t len;
    *out = NULL;
    TRY(registry_fetch(r->http, key, &text, &len, retry_ms, e));
    if (schema_parse(out, slice_of(text, len), e) == RC_OK)
        keep(r, key, slice_of(text, len));
    free(text);
    return *out ? RC_OK : RC_SKIP;
}

/* The registry failed: leave it alone for a while. */
static void back_off(struct registry *r, struct schema_key key,
                     int64_t retry_ms, const struct err *e)
{
    char name[SCHEMA_KEY_TEXT_BYTES];
    int64_t now = registry_now_ms(), wait_ms = PAUSE_MS_MIN;
    for (uint32_t i = 0; i < r->failures && wait_ms < PAUSE_MS_MAX; i++)
        wait_ms *= 2;
    if (wait_ms > PAUSE_MS_MAX) wait_ms = PAUSE_MS_MAX;
    if (retry_ms > wait_ms) wait_ms = retry_ms;
    r->quiet_until_ms = now + wait_ms;
    schema_key_text(key, name);
    if (r->failures++ == 0 || now - r->logged_ms >= LOG_PERIOD_MS) {
        r->logged_ms = now;
        LOG(WARN, "REGISTRY",
            "schema=%s failures=%u next_ms=%lld: %s; its messages wait", name,
            r->failures, (long long)wait_ms, e->text);
    }
}

static void recovered(struct registry *r)
{
    if (r->failures > 0)
        LOG(INFO, "REGISTRY", "answers again failures=%u", r->failures);
    r->failures = 0;
    r->quiet_until_ms = 0;
}

/* The outcome of a look-up, into the table. Under the mutex. */
static void settle(struct registry *r, struct schema_key key, enum rc rc,
                   struct schema *schema, const struct err *e)
{
    char name[SCHEMA_KEY_TEXT_BYTES];
    struct entry *entry = entry_of(r, key);
    assert(entry); /* it waits, and what waits is not forgotten */
    if (rc == RC_OK) {
        answer_found(r, entry, schema);
        return;
    }
    schema_key_text(key, name);
    LOG(WARN, "SCHEMA", "schema=%s is not to be had: %s", name, e->text);
    answer_absent(r, entry, e->text);
}

/* The next key that waits, in turn, near or far; NULL: none. */
static const struct entry *next_wanted(struct registry *r, bool far)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const struct entry *entry = &r->entries[(r->next + i) % r->count];
        if (entry->state != REGISTRY_WAIT || entry->far != far) continue;
        r->next = (uint32_t)(entry - r->entries) + 1;
        return entry;
    }
    return NULL;
}

/* Sleeps until a key is wanted that may be looked up: on the disk at once,
 * in a registry that failed after a while. Under the mutex. NULL: it is time
 * to stop. */
static const struct entry *await_work(struct registry *r)
{
    while (!r->stop) {
        const struct entry *entry = next_wanted(r, false);
        if (entry) return entry;
        entry = next_wanted(r, true);
        if (!entry) {
            (void)pthread_cond_wait(&r->wanted, &r->mutex);
        } else if (registry_now_ms() >= r->quiet_until_ms) {
            return entry;
        } else {
            struct timespec at = deadline(r->quiet_until_ms);
            (void)pthread_cond_timedwait(&r->wanted, &r->mutex, &at);
        }
    }
    return NULL;
}

/* One look-up, with the mutex given back meanwhile. */
static void work(struct registry *r, struct schema_key key, bool far)
{
    struct schema *schema;
    int64_t retry_ms = 0;
    bool is_far = false;
    struct err e;
    enum rc rc;
    (void)pthread_mutex_unlock(&r->mutex);
    rc = far ? look_far(r, key, &schema, &retry_ms, &e)
             : look_near(r, key, &schema, &is_far, &e);
    (void)pthread_mutex_lock(&r->mutex);
    if (is_far) {
        entry_of(r, key)->far = true;
    } else if (rc == RC_AGAIN) {
        if (!r->stop) back_off(r, key, retry_ms, &e);
    } else {
        if (far) recovered(r);
        settle(r, key, rc, schema, &e);
    }
}

static void *thread_main(void *arg)
{
    struct registry *r = arg;
    const struct entry *entry;
    (void)pthread_mutex_lock(&r->mutex);
    while ((entry = await_work(r)) != NULL)
        work(r, entry->key, entry->far);
    (void)pthread_mutex_unlock(&r->mutex);
    return NULL;
}

/* --- any thread --------------------------------------------------------- */

enum registry_state registry_get(struct registry *r, struct schema_key key,
                                 const struct schema **schema,
                                 int64_t *until_ms, struct err *why)
{
    enum registry_state state = REGISTRY_WAIT;
    struct entry *entry;
    *schema = NULL;
    (void)pthread_mutex_lock(&r->mutex);
    entry = entry_of(r, key);
    if (entry && (!entry->used || (entry->state == REGISTRY_ABSENT &&
                                   entry->until_ms <= registry_now_ms())))
        want(r, entry);
    if (entry) {
        state = entry->state;
        *schema = entry->schema;
        *until_ms = entry->until_ms;
    }
    if (state == REGISTRY_ABSENT) (void)ERR(why, RC_SKIP, "%s", entry->why);
    (void)pthread_mutex_unlock(&r->mutex);
    return state;
}

uint32_t registry_answers(const struct registry *r)
{
    return atomic_load(&r->answers);
}

bool registry_await(struct registry *r, uint32_t wait_ms)
{
    struct timespec until = deadline(registry_now_ms() + wait_ms);
    bool done;
    (void)pthread_mutex_lock(&r->mutex);
    while (r->waiting > 0 &&
           pthread_cond_timedwait(&r->answered, &r->mutex, &until) == 0)
        continue;
    done = r->waiting == 0;
    (void)pthread_mutex_unlock(&r->mutex);
    return done;
}

/* --- open, close -------------------------------------------------------- */

/* Conditions that wait by the monotonic clock. */
static bool sync_init(struct registry *r)
{
    pthread_condattr_t clock;
    if (pthread_condattr_init(&clock) != 0) return false;
    return pthread_condattr_setclock(&clock, CLOCK_MONOTONIC) == 0 &&
           pthread_mutex_init(&r->mutex, NULL) == 0 &&
           pthread_cond_init(&r->wanted, &clock) == 0 &&
           pthread_cond_init(&r->answered, &clock) == 0 &&
           pthread_condattr_destroy(&clock) == 0;
}

/* The reader's own schema is known by its fingerprint. */
static enum rc know_reader(struct registry *r, const struct schema *reader,
                           struct err *e)
{
    struct schema_key key = {.kind = SCHEMA_FINGERPRINT};
    struct schema *copy;
    if (!reader) return RC_OK;
    TRY(schema_fingerprint(reader, &key.low, e));
    TRY(schema_parse(&copy, schema_json(reader), e));
    answer_found(r, entry_of(r, key), copy);
    return RC_OK;
}

static enum rc open_parts(struct registry *r, const struct schema *reader,
                          struct err *e)
{
    TRY(know_reader(r, reader, e));
    if (r->config->registry_url.count > 0)
        TRY(registry_http_open(&r->http, r->config, e));
    if (pthread_create(&r->thread, NULL, thread_main, r) != 0)
        return ERR(e, RC_STOP, "registry: no thread");
    r->started = true;
    return RC_OK;
}

enum rc registry_open(struct registry **out, const struct config *c,
                      const struct schema *reader, struct err *e)
{
    struct registry *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r || !sync_init(r)) {
        free(r);
        return ERR(e, RC_STOP, "registry: no memory");
    }
    r->config = c;
    if (open_parts(r, reader, e) != RC_OK) {
        registry_close(r);
        return e->rc;
    }
    *out = r;
    return RC_OK;
}

void registry_close(struct registry *r)
{
    if (!r) return;
    if (r->started) {
        (void)pthread_mutex_lock(&r->mutex);
        r->stop = true;
        (void)pthread_cond_signal(&r->wanted);
        (void)pthread_mutex_unlock(&r->mutex);
        if (r->http) registry_http_stop(r->http);
        (void)pthread_join(r->thread, NULL);
    }
    registry_http_close(r->http);
    for (uint32_t i = 0; i < r->count; i++)
        schema_free(r->entries[i].schema);
    (void)pthread_cond_destroy(&r->wanted);
    (void)pthread_cond_destroy(&r->answered);
    (void)pthread_mutex_destroy(&r->mutex);
    free(r);
}
