#include "catalogue_read.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "container.h"
#include "framing.h"
#include "hash.h"
#include "log.h"
#include "log_reader.h"
#include "schemas.h"

/* Places of the fields in schemas/catalogue.avsc, the record itself left out;
 * each of the last two is a union and its value. */
enum { FIELD_ITEM, FIELD_AVAILABLE, FIELD_CATEGORY, DATUMS = 6 };

enum {
    READ_WAIT_MS = 100,     /* how soon a stop is noticed */
    SILENCE_MS_MAX = 60000, /* of a topic that is read to its end */
    AGAIN_MS = 5000,
};

/* A decoded record; its texts are lent by the value. */
struct item {
    struct slice id, category; /* category empty: none */
    bool available;
};

/* One plain datum. RC_SKIP: it is no item. */
static enum rc decode(struct item *out, const struct decoder *d,
                      struct slice value, struct err *e)
{
    struct datum at[1 + DATUMS], *fields = at + 1;
    struct tape tape = {.at = at, .max = 1 + DATUMS};
    TRY(decoder_decode(d, value, &tape, e));
    *out = (struct item){.id = fields[FIELD_ITEM].s,
                         .available = fields[FIELD_AVAILABLE].i != 0};
    if (fields[FIELD_CATEGORY + 1].kind == DATUM_STRING)
        out->category = fields[FIELD_CATEGORY + 1].s;
    if (out->id.len == 0) return ERR(e, RC_SKIP, "an item without item_id");
    return RC_OK;
}

typedef enum rc take_fn(void *user, const struct item *item, int64_t offset,
                        struct err *e);

/* A take_fn; user is a struct catalogue. */
static enum rc add_item(void *user, const struct item *item, int64_t offset,
                        struct err *e)
{
    const struct catalogue_entry entry = {
        .offset = offset,
        .item = hash64(item->id),
        .category = hash64(item->category),
        .available = item->available,
    };
    return catalogue_add(user, &entry, e);
}

/* --- a file ------------------------------------------------------------- */

static enum rc take_records(struct container_reader *r, const struct decoder *d,
                            take_fn *take, void *user, struct err *e)
{
    for (int64_t i = 0;; i++) {
        struct slice value;
        struct item item;
        bool ended = false;
        enum rc rc;
        TRY(container_next(r, &value, &ended, e));
        if (ended) return RC_OK;
        rc = decode(&item, d, value, e);
        if (rc == RC_OK) rc = take(user, &item, i, e);
        if (rc == RC_OK) continue;
        (void)err_context(e, "item %lld", (long long)i);
        return e->rc = RC_STOP;
    }
}

static enum rc read_file(const char *path, take_fn *take, void *user,
                         struct err *e)
{
    struct container_reader *r = NULL;
    struct schema *reader = NULL;
    struct decoder *d = NULL;
    enum rc rc = schema_parse(&reader, schemas_get("catalogue"), e);
    if (rc == RC_OK) rc = container_open(&r, path, e);
    if (rc == RC_OK) rc = decoder_compile(&d, container_schema(r), reader, e);
    if (rc == RC_OK) rc = take_records(r, d, take, user, e);
    decoder_free(d);
    if (r) container_close(r);
    schema_free(reader);
    return rc == RC_OK ? rc : err_context(e, "catalogue %s", path);
}

enum rc catalogue_read_file(struct catalogue *c, const char *path,
                            struct err *e)
{
    return read_file(path, add_item, c, e);
}

struct look_up {
    struct slice id;
    struct catalogue_item *out;
};

/* A take_fn; user is a struct look_up. */
static enum rc compare(void *user, const struct item *item, int64_t offset,
                       struct err *e)
{
    const struct look_up *l = user;
    (void)offset;
    (void)e;
    if (!slice_equal(item->id, l->id)) return RC_OK;
    *l->out =
        (struct catalogue_item){.found = true, .available = item->available};
    (void)snprintf(l->out->category, sizeof l->out->category, "%.*s",
                   (int)item->category.len, (const char *)item->category.ptr);
    return RC_OK;
}

enum rc catalogue_look_up(struct catalogue_item *out, const char *path,
                          const char *item, struct err *e)
{
    struct look_up l = {slice_str(item), out};
    *out = (struct catalogue_item){0};
    return read_file(path, compare, &l, e);
}

/* --- a topic ------------------------------------------------------------ */

struct catalogue_follow {
    struct catalogue *catalogue;
    const struct config *config;
    struct metrics *metrics; /* NULL: nobody counts */
    struct schema *reader;
    struct registry *registry; /* NULL: values name no schema */
    struct framing *framing;
    struct log_reader *log; /* NULL: to be opened again */
    int64_t next;           /* offset to read */
    pthread_t thread;
    bool started;
    bool following; /* by that thread: it may wait for ever */
    atomic_bool stop;
};

static enum rc open_log(struct catalogue_follow *f, struct err *e)
{
    const char *topic = f->config->catalogue_topic;
    int64_t start, end;
    TRY(log_reader_open(&f->log, f->config, topic, false, e));
    if (log_reader_partitions(f->log) != 1)
        return ERR(e, RC_STOP,
                   "it has %u partitions; a catalogue has one, so that its "
                   "records have one order",
                   log_reader_partitions(f->log));
    if (f->next < 0) {
        TRY(log_reader_ends(f->log, 0, &start, &end, e));
        f->next = start;
    }
    return log_reader_add(f->log, 0, f->next, e);
}

static void close_log(struct catalogue_follow *f)
{
    if (f->log) log_reader_close(f->log);
    f->log = NULL;
}

static void count(struct catalogue_follow *f, enum metrics_process_total t)
{
    if (f->metrics) metrics_count(f->metrics, t);
}

static enum rc add_message(struct catalogue_follow *f, const struct record *r,
                           struct err *e)
{
    struct framed framed;
    struct item item;
    if (!r->value.ptr) {
        struct catalogue_entry gone = {.offset = r->offset,
                                       .item = hash64(r->key)};
        if (gone.item == 0) return ERR(e, RC_SKIP, "neither key nor value");
        return catalogue_add(f->catalogue, &gone, e);
    }
    TRY(framing_require(f->framing, r, &framed, e));
    TRY(decode(&item, framed.decoder, framed.avro, e));
    return add_item(f->catalogue, &item, r->offset, e);
}

static enum rc take_message(struct catalogue_follow *f, const struct record *r,
                            struct err *e)
{
    enum rc rc = add_message(f, r, e);
    if (rc == RC_SKIP) {
        count(f, TOTAL_catalogue_bad);
        LOG(WARN, "BADITEM", "topic=%s offset=%lld: %s",
            f->config->catalogue_topic, (long long)r->offset, e->text);
        rc = RC_OK;
    }
    if (rc != RC_OK) return rc;
    count(f, TOTAL_catalogue_records);
    f->next = r->offset + 1;
    return RC_OK;
}

/* A schema that is still to come is waited for: who skips keeps no order. */
static enum rc take_in_time(struct catalogue_follow *f, const struct record *r,
                            struct err *e)
{
    enum rc rc;
    do
        rc = take_message(f, r, e);
    while (rc == RC_AGAIN && f->following && !atomic_load(&f->stop));
    if (rc == RC_AGAIN && !f->following) return e->rc = RC_STOP;
    return rc;
}

/* One message, if there is one. *ended: all that the topic holds was read. */
static enum rc step(struct catalogue_follow *f, bool *nothing, bool *ended,
                    struct err *e)
{
    enum log_reader_found found;
    struct record r;
    TRY(log_reader_next(f->log, READ_WAIT_MS, &found, &r, e));
    *nothing = found == LOG_READER_NOTHING;
    *ended = found == LOG_READER_END;
    return found == LOG_READER_RECORD ? take_in_time(f, &r, e) : RC_OK;
}

static enum rc read_to_end(struct catalogue_follow *f, struct err *e)
{
    int64_t silent_ms = 0;
    bool nothing = false, ended = false;
    while (!ended) {
        enum rc rc = step(f, &nothing, &ended, e);
        if (rc == RC_STOP) return rc;
        silent_ms = rc == RC_AGAIN || nothing ? silent_ms + READ_WAIT_MS : 0;
        if (silent_ms > SILENCE_MS_MAX)
            return ERR(e, RC_STOP,
                       "not read to its end: nothing came for %d s at offset "
                       "%lld",
                       SILENCE_MS_MAX / 1000, (long long)f->next);
    }
    return RC_OK;
}

static enum rc open_all(struct catalogue_follow *f, struct err *e)
{
    const struct config *c = f->config;
    TRY(schema_parse(&f->reader, schemas_get("catalogue"), e));
    if (framing_names_schemas(c))
        TRY(registry_open(&f->registry, c, f->reader, e));
    TRY(framing_new(&f->framing, c, f->registry, f->reader, e));
    TRY(open_log(f, e));
    return read_to_end(f, e);
}

static void close_all(struct catalogue_follow *f)
{
    close_log(f);
    framing_free(f->framing);
    registry_close(f->registry);
    schema_free(f->reader);
}

enum rc catalogue_read_topic(struct catalogue *c, const struct config *config,
                             struct err *e)
{
    struct catalogue_follow f = {
        .catalogue = c, .config = config, .next = CATALOGUE_NONE};
    enum rc rc = open_all(&f, e);
    close_all(&f);
    return rc == RC_OK
               ? rc
               : err_context(e, "catalogue.topic %s", config->catalogue_topic);
}

/* --- following ---------------------------------------------------------- */

static void wait_ms(struct catalogue_follow *f, int64_t ms)
{
    const struct timespec pause = {.tv_nsec = READ_WAIT_MS * 1000000L};
    for (; ms > 0 && !atomic_load(&f->stop); ms -= READ_WAIT_MS)
        (void)nanosleep(&pause, NULL);
}

static void *follow(void *user)
{
    struct catalogue_follow *f = user;
    f->following = true;
    while (!atomic_load(&f->stop)) {
        struct err e;
        bool nothing, ended;
        enum rc rc = f->log ? RC_OK : open_log(f, &e);
        if (rc == RC_OK) rc = step(f, &nothing, &ended, &e);
        if (rc != RC_STOP && f->log) continue;
        LOG(ERROR, "CATALOGUE",
            "topic=%s offset=%lld: not followed, lists go on as of this "
            "offset; tried again: %s",
            f->config->catalogue_topic, (long long)f->next, e.text);
        close_log(f);
        wait_ms(f, AGAIN_MS);
    }
    return NULL;
}

enum rc catalogue_follow(struct catalogue_follow **out, struct catalogue *c,
                         const struct config *config, struct metrics *metrics,
                         struct err *e)
{
    struct catalogue_follow *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) return ERR(e, RC_STOP, "catalogue: no memory");
    f->catalogue = c;
    f->config = config;
    f->metrics = metrics;
    f->next = CATALOGUE_NONE;
    if (open_all(f, e) != RC_OK) {
        catalogue_unfollow(f);
        return err_context(e, "catalogue.topic %s", config->catalogue_topic);
    }
    LOG(INFO, "CATALOGUE", "topic=%s offset=%lld available=%u",
        config->catalogue_topic, (long long)catalogue_offset(c),
        catalogue_available(c));
    f->started = pthread_create(&f->thread, NULL, follow, f) == 0;
    if (!f->started) {
        catalogue_unfollow(f);
        return ERR(e, RC_STOP, "catalogue: the system gives no thread");
    }
    *out = f;
    return RC_OK;
}

void catalogue_unfollow(struct catalogue_follow *f)
{
    if (!f) return;
    atomic_store(&f->stop, true);
    if (f->started) (void)pthread_join(f->thread, NULL);
    close_all(f);
    free(f);
}
