#include "budget.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "kafka_client.h"
#include "registry.h"
#include "shapes.h"
#include "source_kafka.h"
#include "stages.h"
#include "store.h"
#include "train.h"
#include "user_row.h"

enum {
    MIB = 1 << 20,
    PROGRAM_BYTES = 64 * MIB, /* code, libraries, heap kept by malloc */
    WORKER_BYTES = 24 * MIB,  /* stacks, decoder's tape, scorer's scratch,
                                 librdkafka's tables and connections */
    EVENT_BYTES = 8 << 10,    /* of one event in a batch, but for what is added
                                 below: requests, scores, texts, messages */
    LIST_ITEM_BYTES = 512,    /* of one entry of a list, encoded twice */
    SCHEMA_COPIES = 10,       /* of a schema's text, parsed and compiled */
    ITEM_BYTES = 160, /* of the catalogue: its entries, gone ones too, and the
                         map of them */
    PATH_BYTES = 4096,
};

static void add(struct budget *b, const char *what, const char *options,
                uint64_t bytes)
{
    assert(b->count < BUDGET_LINES);
    b->lines[b->count++] = (struct budget_line){what, options, bytes};
    b->total += bytes;
}

/* Read as it is, and packed for the kernels. */
static uint64_t model_bytes(const struct config *c)
{
    char path[PATH_BYTES];
    struct stat at;
    if (!*c->model_dir) return 0;
    (void)snprintf(path, sizeof path, "%s/model.safetensors", c->model_dir);
    return stat(path, &at) == 0 ? 2 * (uint64_t)at.st_size : 0;
}

/* Of one worker, as if every field were mapped. */
static uint64_t batch_bytes(const struct config *c,
                            const struct feature_shape *features)
{
    uint64_t each = EVENT_BYTES;
    each += (uint64_t)c->history_events *
            (sizeof(struct past_event) + sizeof(uint32_t));
    each += feature_row_count(features) * sizeof(float);
    each += SOURCE_HEADERS_MAX * sizeof(struct header);
    each += (uint64_t)c->recommend_items * LIST_ITEM_BYTES;
    each += (uint64_t)c->explore_pool * sizeof(struct ranked);
    return each * c->batch_events_max + 3 * c->record_bytes_max;
}

/* Rows of one batch are held together, even where they do not fit. */
static uint64_t rows_bytes(const struct config *c, uint64_t row_bytes)
{
    uint64_t batch =
        2 * row_bytes * c->batch_events_max * c->workers * stages_running(c);
    uint64_t cache = c->state_cache + c->state_cache / 4;
    return batch > cache ? batch : cache;
}

/* Of the innermost group, or of a container, where it has the top one. */
static uint64_t group_bytes(void)
{
    static const char PATH[] = "/sys/fs/cgroup/memory.max";
    unsigned long long bytes = 0;
    FILE *file = fopen(PATH, "re");
    if (!file) return 0;
    if (fscanf(file, "%llu", &bytes) != 1) bytes = 0; /* "max" */
    (void)fclose(file);
    return bytes;
}

void budget_add_up(struct budget *b, const struct config *c)
{
    struct history_shape history;
    struct feature_shape features;
    uint64_t in = kafka_queue_bytes(c, KAFKA_CONSUMER);
    uint64_t out = kafka_queue_bytes(c, KAFKA_PRODUCER);
    uint32_t workers = stages_running(c) * c->workers;
    *b = (struct budget){.group = group_bytes()};
    shapes_init(&history, &features, c, UINT32_MAX);
    b->row_bytes = user_row_bytes_max(&history, &features.user);
    b->log_bytes = store_log_bytes_max(c->state_store_memory);
    add(b, "rows of users and items", "state.cache, batch.events.max",
        rows_bytes(c, b->row_bytes));
    add(b, "RocksDB's buffers and blocks", "state.store.memory",
        c->state_store_memory);
    add(b, "keys and values of contexts", "model.cache", c->model_cache);
    add(b, "the model", "model.dir", model_bytes(c));
    /* The next one is warmed while the present one scores. */
    add(b, "another model, while it is loaded", "model.dir, model.cache",
        model_bytes(c) + c->model_cache);
    add(b, "records that wait", "input.queue, workers, stages",
        2 * in * workers);
    /* As much again for what a message takes beside its bytes, halved. */
    add(b, "outputs under way", "output.queue, workers, stages",
        (out + out / 2) * workers);
    /* A reader of its own while partitions are taken over. */
    add(b, "rows that are restored", "input.queue, workers, stages",
        *c->changelog_topic ? 2 * in * workers : 0);
    add(b, "copies for other processes", "standby.replicas, input.queue",
        c->standby_replicas > 0 ? 2 * in : 0); /* one thread reads them */
    add(b, "schemas of the registry", "registry.url",
        c->registry_url.count > 0 ? SCHEMA_COPIES * (uint64_t)REGISTRY_BYTES_MAX
                                  : 0);
    add(b, "batches", "batch.events.max, history.events, workers",
        batch_bytes(c, &features) * workers);
    add(b, "the catalogue", "catalogue.items.max",
        *c->catalogue_topic ? (uint64_t)c->catalogue_items_max * ITEM_BYTES
                            : 0);
    add(b, "threads and tables", "workers, stages",
        (uint64_t)WORKER_BYTES * workers);
    add(b, "the program", "", PROGRAM_BYTES);
}

static unsigned long long mib(uint64_t bytes)
{
    return (unsigned long long)((bytes + MIB - 1) / MIB);
}

enum rc budget_check(const struct budget *b, const struct config *c,
                     struct err *e)
{
    if (c->memory_max == 0 || b->total <= c->memory_max) return RC_OK;
    return ERR(e, RC_STOP,
               "memory: the options ask for up to %llu MiB, memory.max is %llu "
               "MiB; lower state.cache (%llu), model.cache (%llu), "
               "output.queue (%llu for each worker) or workers (%u), or raise "
               "it. `millrace config explain memory.max` shows the sum",
               mib(b->total), mib(c->memory_max), mib(c->state_cache),
               mib(c->model_cache), mib(c->output_queue), c->workers);
}

void budget_print(const struct budget *b, FILE *to)
{
    for (uint32_t i = 0; i < b->count; i++)
        (void)fprintf(to, "  %7llu MiB  %-33s %s\n", mib(b->lines[i].bytes),
                      b->lines[i].what, b->lines[i].options);
    (void)fprintf(to, "  %7llu MiB  at most\n", mib(b->total));
    (void)fprintf(to,
                  "\n  a user's row takes up to %llu bytes; RocksDB's log "
                  "on disk up to %llu MiB\n",
                  (unsigned long long)b->row_bytes, mib(b->log_bytes));
    if (b->group)
        (void)fprintf(to, "  this process's control group has %llu MiB\n",
                      mib(b->group));
}
