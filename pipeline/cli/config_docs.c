#include "config_docs.h"

#include "config.h"
#include "metrics.h"

enum { RANGE_BYTES = 128 };

/* In a table's cell a bar would end it. */
static void put_cell(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') (void)fputc('\\', to);
        (void)fputc(*text, to);
    }
}

static void put_section(FILE *to, const char *title)
{
    (void)fprintf(to,
                  "\n## %s\n\n| option | value | default | what it does |\n"
                  "| --- | --- | --- | --- |\n",
                  title);
}

static void put_option(FILE *to, const struct config_option *o)
{
    char range[RANGE_BYTES];
    config_range_text(o, range, sizeof range);
    (void)fprintf(to, "| `%s` | %s", o->key, config_type_text(o->type));
    if (*range) {
        (void)fputs(": ", to);
        put_cell(to, range);
    }
    (void)fprintf(to, " | %s%s%s | ", *o->text ? "`" : "", o->text,
                  *o->text ? "`" : "");
    put_cell(to, o->help);
    (void)fprintf(to, " |\n");
}

void config_docs_options(FILE *to)
{
    (void)fputs(
        "# Options\n\n"
        "Made from `config/options.def` by `millrace config docs options`; do "
        "not edit.\n"
        "[README.md](README.md) says how to write a configuration, "
        "[example.conf](example.conf) is one.\n\n"
        "A value comes from `--set key=value`, else from the environment "
        "(`workers` is `MILLRACE_WORKERS`,\n"
        "`state.dir` is `MILLRACE_STATE_DIR`), else from the file, else it is "
        "the default. `millrace config explain KEY`\n"
        "says where it came from.\n",
        to);
#define SECTION(title) put_section(to, title);
#define OPT(field, key, type, default_, min, max, when, help)                  \
    put_option(to, &CONFIG_OPTIONS[OPTION_##field]);
#include "../config/options.def"
#undef OPT
#undef SECTION
    (void)fputs(
        "\n## Kafka\n\n"
        "| option | what it does |\n| --- | --- |\n"
        "| `kafka.PROPERTY` | A property of librdkafka for every client, as "
        "its CONFIGURATION.md names it: `kafka.bootstrap.servers`, "
        "`kafka.security.protocol`, `kafka.sasl.username`. |\n"
        "| `kafka.consumer.PROPERTY` | The same for consumers alone. |\n"
        "| `kafka.producer.PROPERTY` | The same for producers alone. |\n\n"
        "`group.id`, `group.instance.id`, `transactional.id`, "
        "`isolation.level`, `enable.auto.commit` and\n"
        "`enable.auto.offset.store` cannot be given: what millrace promises "
        "rests on them.\n",
        to);
}

/* Labels of a row, and what its kind adds. */
static void put_metric(FILE *to, const char *name, const char *type,
                       const char *labels, const char *more, const char *help)
{
    (void)fprintf(to, "| `%s` | %s | ", name, type);
    put_cell(to, labels);
    (void)fprintf(to, "%s%s | ", *labels && *more ? ", " : "", more);
    put_cell(to, help);
    (void)fputs(" |\n", to);
}

static void put_lists(FILE *to)
{
    (void)fputs("\nSteps, in the order of the spine: ", to);
    for (uint32_t s = 0; s < STEPS_COUNT; s++)
        (void)fprintf(to, "%s`%s`", s ? ", " : "", step_name(s));
    (void)fputs(".\nReasons of dead letters: ", to);
    for (uint32_t r = BAD_NONE + 1; r < BAD_REASONS; r++)
        (void)fprintf(to, "%s`%s`", r > BAD_NONE + 1 ? ", " : "",
                      bad_reason_name(r));
    (void)fputs(
        ".\n\nBesides these: `millrace_build_info` (version), "
        "`millrace_model_info` (hash and kernel family of the\n"
        "model that scores), `process_resident_memory_bytes`, "
        "`millrace_memory_budget_bytes`, "
        "`process_cpu_seconds_total` and\n`process_start_time_seconds`.\n",
        to);
}

void config_docs_metrics(FILE *to)
{
    (void)fputs(
        "# Metrics\n\n"
        "Made from `config/metrics.def` by `millrace config docs metrics`; do "
        "not edit.\n\n"
        "`GET /metrics` on `admin.listen` gives them in Prometheus' text "
        "format. Times are in seconds. `GET /livez` is 200\n"
        "while every worker's loop turns, `GET /readyz` once partitions are "
        "assigned, folded and being scored; both say\nwhy not as JSON.\n\n"
        "| metric | type | labels | what it says, what to do |\n"
        "| --- | --- | --- | --- |\n",
        to);
#define COUNTER(field, name, labels, help)                                     \
    put_metric(to, name, "counter", labels, "worker", help);
#define GAUGE(field, name, labels, help)                                       \
    put_metric(to, name, "gauge", labels, "worker", help);
#define STEPS(name, help) put_metric(to, name, "histogram", "", "step", help);
#define HISTOGRAM(field, name, help)                                           \
    put_metric(to, name, "histogram", "", "", help);
#define REASONS(name, help) put_metric(to, name, "counter", "", "reason", help);
#define TOTAL(field, name, labels, help)                                       \
    put_metric(to, name, "counter", labels, "", help);
#include "../config/metrics.def"
#undef COUNTER
#undef GAUGE
#undef STEPS
#undef HISTOGRAM
#undef REASONS
#undef TOTAL
    put_lists(to);
}
