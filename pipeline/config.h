/* config.h - the configuration: config/options.def, filled in.
 *
 * Order    flag (--set key=value) over environment (MILLRACE_KEY, dots as
 *          underscores) over file over default; where each value came from
 *          is kept for `config print`.
 * Pass     kafka.*, kafka.consumer.* and kafka.producer.* are kept as they
 *          are for librdkafka; the few that millrace must set itself are
 *          refused.
 * Values   May hold ${file:PATH} and ${env:NAME} ("$${" is a plain "${").
 *          Such values, and keys that name secrets, are masked wherever
 *          they are printed.
 * Paths    In a file, relative ones begin at that file's folder; from flags
 *          and environment at the working directory.
 * Memory   A config owns its texts; config_free.
 * Threads  Immutable once loaded. */
#ifndef MILLRACE_CONFIG_H
#define MILLRACE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
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

/* A value and its origin: "default", "file.conf:12", "MILLRACE_WORKERS",
 * "--set". secret: print it through property_shown only. */
struct property {
    char *key, *value, *origin;
    bool secret;
};
/* The value, or a mask. */
const char *property_shown(const struct property *p);

#define CONFIG_C_BOOL      bool
#define CONFIG_C_U32       uint32_t
#define CONFIG_C_U64       uint64_t
#define CONFIG_C_F64       double
#define CONFIG_C_STR       char *
#define CONFIG_C_PATH      char *
#define CONFIG_C_DURATION  int64_t
#define CONFIG_C_SIZE      uint64_t
#define CONFIG_C_LIST      struct text_list
#define CONFIG_C_DURATIONS struct duration_list
#define CONFIG_C_CHOICE    uint32_t

struct config {
#define SECTION(title)
#define OPT(field, key, type, default_, min, max, when, help)                  \
    CONFIG_C_##type field;
#include "../config/options.def"
#undef OPT
#undef SECTION
    struct property *kafka; /* keys without the "kafka." prefix */
    uint32_t kafka_count;
    struct property *origins; /* one per option, in list order */
};

/* Values of the CHOICE options, in the order of options.def. */
enum { FORMAT_AUTO, FORMAT_CONFLUENT, FORMAT_PLAIN, FORMAT_SINGLE_OBJECT };
enum { UNIT_AUTO, UNIT_MS, UNIT_US, UNIT_S };
enum { LATE_SCORE, LATE_SKIP, LATE_DEAD_LETTER };
enum { REPEAT_AGAIN, REPEAT_SKIP, REPEAT_REEMIT };
enum { OUTPUT_CONFLUENT, OUTPUT_PLAIN };
enum { RECOMMEND_EVERY, RECOMMEND_TYPES, RECOMMEND_INTERVAL, RECOMMEND_NEVER };
enum { AT_LEAST_ONCE, EXACTLY_ONCE };
enum { ASSIGNMENT_AUTO, ASSIGNMENT_EAGER, ASSIGNMENT_COOPERATIVE };
/* Of admin.token: too long to be guessed, short enough for a header. */
enum { ADMIN_TOKEN_BYTES_MIN = 16, ADMIN_TOKEN_BYTES_MAX = 255 };

/* path NULL: no file. sets: "key=value" texts of --set flags. All faults of
 * a file are found before returning; the text names the first, with line. */
enum rc config_load(struct config **out, const char *path,
                    const char *const *sets, uint32_t set_count,
                    struct err *e) MUST_USE;
void config_free(struct config *c);

/* The same for `config check`: every fault goes to report (text: "where:
 * key: what, and what is allowed"), and *out is always given; a faulty value
 * leaves what stood before it. Returns the number of faults. */
typedef void config_fault_fn(void *user, const char *text);
uint32_t config_check(struct config **out, const char *path,
                      const char *const *sets, uint32_t set_count,
                      config_fault_fn *report, void *user);

/* The list itself. */
enum config_type {
    CONFIG_BOOL,
    CONFIG_U32,
    CONFIG_U64,
    CONFIG_F64,
    CONFIG_STR,
    CONFIG_PATH,
    CONFIG_DURATION,
    CONFIG_SIZE,
    CONFIG_LIST,
    CONFIG_DURATIONS,
    CONFIG_CHOICE,
};
struct config_option {
    const char *key;
    enum config_type type;
    const char *text;    /* the default, as one would write it */
    double min, max;     /* max 0: no limit; lists: of their length */
    const char *choices; /* "one|two|three" of a CHOICE, else NULL */
    bool live;
    const char *help;
    size_t at; /* offset of the field in struct config */
};
enum config_index {
#define SECTION(title)
#define OPT(field, key, type, default_, min, max, when, help) OPTION_##field,
#include "../config/options.def"
#undef OPT
#undef SECTION
    OPTION_COUNT
};
extern const struct config_option CONFIG_OPTIONS[OPTION_COUNT];

/* NULL: no such option. */
const struct config_option *config_find(const char *key);
/* The option whose name is nearest to key, NULL if none is near. */
const struct config_option *config_nearest(const char *key);
/* "MILLRACE_WORKERS". */
void config_env_name(const char *key, char *out, size_t size);
/* For people: "a duration (ms, s, m, h, d)", "1 to 64". */
const char *config_type_text(enum config_type type);
void config_range_text(const struct config_option *o, char *out, size_t size);
/* True for keys whose values are never printed. */
bool config_is_secret(const char *key);

#endif
