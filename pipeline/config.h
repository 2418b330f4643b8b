/* config.h - the configuration: config/options.def, filled in.
 *
 * Order    flag (--set key=value) over environment (MILLRACE_KEY, dots as
 *          underscores) over file over default; where each value came from
 *          is kept for `config print`.
 * Pass     kafka.*, kafka.consumer.* and kafka.producer.* are kept as they
 *          are for librdkafka. Values may hold ${file:PATH} and ${env:NAME};
 *          keys that hold secrets are masked wherever they are printed.
 * Memory   A config owns its texts; config_free.
 * Threads  Immutable once loaded. */
#ifndef MILLRACE_CONFIG_H
#define MILLRACE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct text_list {
    char **at;
    uint32_t count;
};
struct duration_list {
    int64_t *at_ms;
    uint32_t count;
};

/* A value's origin: "default", "file.conf:12", "MILLRACE_WORKERS", "--set". */
struct property {
    char *key, *value, *origin;
};

#define CONFIG_C_BOOL bool
#define CONFIG_C_U32 uint32_t
#define CONFIG_C_U64 uint64_t
#define CONFIG_C_F64 double
#define CONFIG_C_STR char *
#define CONFIG_C_PATH char *
#define CONFIG_C_DURATION int64_t
#define CONFIG_C_SIZE uint64_t
#define CONFIG_C_LIST struct text_list
#define CONFIG_C_DURATIONS struct duration_list
#define CONFIG_C_CHOICE uint32_t

struct config {
#define SECTION(title)
#define OPT(field, key, type, default_, min, max, when, help) CONFIG_C_##type field;
#include "../config/options.def"
#undef OPT
#undef SECTION
    struct property *kafka; /* keys without the "kafka." prefix */
    uint32_t kafka_count;
    struct property *origins; /* one per option, in list order */
};

/* Values of the CHOICE options, in the order of options.def. */
enum { FORMAT_AUTO, FORMAT_CONFLUENT, FORMAT_PLAIN };
enum { UNIT_AUTO, UNIT_MS, UNIT_US, UNIT_S };
enum { OUTPUT_CONFLUENT, OUTPUT_PLAIN };
enum { RECOMMEND_EVERY, RECOMMEND_TYPES, RECOMMEND_INTERVAL, RECOMMEND_NEVER };
enum { AT_LEAST_ONCE, EXACTLY_ONCE };

/* path NULL: no file. sets: "key=value" texts of --set flags. All faults of
 * a file are found before returning; the text names the first, with line. */
enum rc config_load(struct config **out, const char *path,
                    const char *const *sets, uint32_t set_count,
                    struct err *e) MUST_USE;
void config_free(struct config *c);

#endif
