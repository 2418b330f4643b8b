#include "generate.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "feed.h"
#include "generate_row.h"
#include "progress.h"

enum { MS_PER_DAY = 86400000, PROGRESS_EVERY = 1024 };

struct command {
    struct cli cli;
    struct generate_options o;
    const char *to, *labels_to, *topic, *labels_topic, *codec;
    uint32_t schema_id, label_schema_id;
    double rate; /* events/s; 0: as fast as it goes */
    struct config *config;
    struct generate_rows *rows;
    struct generator *events, *labels; /* the same stream, read twice */
    struct feed *event_feed, *label_feed;
    struct generated_label label; /* the next one */
    bool label_waits;
    uint64_t kinds[FRAUD_KINDS];
    int64_t first_ms, last_ms;
    uint64_t event_count, label_count;
    uint64_t bytes;
    double seconds;
};

/* Ctrl-C ends the stream as if it had no more events. */
static volatile sig_atomic_t stopped;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static int check_arguments(const struct command *c)
{
    if (c->cli.arg_count > 0)
        return cli_complain(&c->cli, EXIT_USAGE, "what is '%s'?",
                            c->cli.args[0]);
    if (!c->to == !c->topic)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give one of --to FILE and --topic NAME");
    if (c->labels_to && c->labels_topic)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give one of --labels-to and --labels-topic");
    if (c->rate < 0)
        return cli_complain(&c->cli, EXIT_USAGE, "--rate %g is below zero",
                            c->rate);
    return CLI_GO;
}

static int parse(struct command *c, int argc, char **argv)
{
    int64_t start_ms = c->o.start_ms, delay_ms = c->o.label_delay_ms;
    const struct cli_option options[] = {
        {"to", "FILE", CLI_TEXT, &c->to, "events to this Avro container file"},
        {"labels-to", "FILE", CLI_TEXT, &c->labels_to,
         "labels to this Avro container file"},
        {"topic", "NAME", CLI_TEXT, &c->topic, "events to this Kafka topic"},
        {"labels-topic", "NAME", CLI_TEXT, &c->labels_topic,
         "labels to this Kafka topic"},
        {"events", "N", CLI_U64, &c->o.events, "how many (default 1000000)"},
        {"users", "N", CLI_U32, &c->o.users, "how many (default 10000)"},
        {"items", "N", CLI_U32, &c->o.items, "how many (default 2000)"},
        {"groups", "N", CLI_U32, &c->o.groups,
         "hidden groups of items (default: one for 50 items, at most 64)"},
        {"days", "D", CLI_F64, &c->o.days,
         "about how long the stream lasts (default 60)"},
        {"start", "TIME", CLI_TIME, &start_ms,
         "when it begins (default 2026-01-01)"},
        {"fraud-rate", "R", CLI_F64, &c->o.fraud_rate,
         "share of events that are fraud (default 0.01)"},
        {"user-skew", "S", CLI_F64, &c->o.user_skew,
         "Zipf exponent of users' activity (default 0.6)"},
        {"label-delay", "TIME", CLI_SPAN, &delay_ms,
         "from an event to its label (default 7d)"},
        {"seed", "N", CLI_U64, &c->o.seed,
         "the same seed gives the same bytes (default 1)"},
        {"rate", "N", CLI_F64, &c->rate,
         "events a second (default: as fast as it goes)"},
        {"codec", "NAME", CLI_TEXT, &c->codec,
         "of files: null, deflate or zstandard (default)"},
        {"schema-id", "ID", CLI_U32, &c->schema_id,
         "put a Confluent header with this id before events in a topic"},
        {"label-schema-id", "ID", CLI_U32, &c->label_schema_id,
         "the same for labels"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "generate [options]",
        .about =
            "Writes a seeded stream of shoppers' events "
            "(schemas/transaction.avsc), with frauds\nof four kinds, and "
            "labels (schemas/label.avsc) that come days later.\nTopics need "
            "--set kafka.bootstrap.servers=HOST:PORT or a configuration.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace generate --events 100000 --users 1000 "
                   "--to events.avro --labels-to labels.avro",
    };
    int status = cli_parse(&c->cli, &usage, argc, argv);
    if (status != CLI_GO) return status;
    c->o.start_ms = start_ms;
    c->o.label_delay_ms = delay_ms;
    return check_arguments(c);
}

static enum rc open_all(struct command *c, struct err *e)
{
    const struct feed_target events = {.path = c->to,
                                       .topic = c->topic,
                                       .codec = c->codec,
                                       .config = c->config,
                                       .schema_id = c->schema_id};
    const struct feed_target labels = {.path = c->labels_to,
                                       .topic = c->labels_topic,
                                       .codec = c->codec,
                                       .config = c->config,
                                       .schema_id = c->label_schema_id};
    TRY(generator_new(&c->events, &c->o, e));
    TRY(generate_rows_new(&c->rows, c->o.seed, e));
    TRY(feed_open(&c->event_feed, &events, generate_event_schema(c->rows), e));
    if (!labels.path && !labels.topic) return RC_OK;
    TRY(generator_new(&c->labels, &c->o, e));
    TRY(feed_open(&c->label_feed, &labels, generate_label_schema(c->rows), e));
    c->label_waits = generator_next_label(c->labels, &c->label);
    return RC_OK;
}

/* Labels whose time has come by now_ms. */
static enum rc put_labels(struct command *c, int64_t now_ms, struct err *e)
{
    while (c->label_waits && c->label.labelled_at_ms <= now_ms &&
           c->label.event.number < c->event_count) {
        struct slice key, value;
        TRY(generate_label(c->rows, &c->label, &key, &value, e));
        TRY(feed_put(c->label_feed, key, value, c->label.labelled_at_ms, e));
        c->label_count++;
        c->label_waits = generator_next_label(c->labels, &c->label);
    }
    return RC_OK;
}

/* Waits until the next event is due under --rate. */
static void pace(const struct command *c, const struct progress *p)
{
    double ahead = (double)c->event_count / c->rate - progress_seconds(p);
    struct timespec t;
    if (ahead < 0.001) return;
    if (ahead > 3600) ahead = 3600;
    t.tv_sec = (time_t)ahead;
    t.tv_nsec = (long)((ahead - (double)t.tv_sec) * 1e9);
    (void)nanosleep(&t, NULL);
}

static enum rc put_events(struct command *c, struct progress *p, struct err *e)
{
    struct generated ev;
    while (!stopped && generator_next(c->events, &ev)) {
        struct slice key, value;
        if (c->rate > 0) pace(c, p);
        TRY(put_labels(c, ev.time_ms, e));
        TRY(generate_event(c->rows, &ev, &key, &value, e));
        TRY(feed_put(c->event_feed, key, value, ev.time_ms, e));
        if (c->event_count++ == 0) c->first_ms = ev.time_ms;
        c->last_ms = ev.time_ms;
        c->kinds[ev.fraud]++;
        if (c->rate > 0 || c->event_count % PROGRESS_EVERY == 0)
            progress_update(p, (double)c->event_count, NULL);
    }
    return put_labels(c, INT64_MAX, e);
}

static enum rc finish(struct feed **f, struct err *e)
{
    struct feed *taken = *f;
    *f = NULL;
    return taken ? feed_finish(taken, e) : RC_OK;
}

static enum rc run(struct command *c, struct err *e)
{
    struct progress p;
    enum rc rc;
    progress_start(&p, "generate", "events", (double)c->o.events);
    rc = open_all(c, e);
    if (rc == RC_OK) rc = put_events(c, &p, e);
    if (rc == RC_OK) {
        c->bytes = feed_bytes(c->event_feed);
        rc = finish(&c->event_feed, e);
    }
    if (rc == RC_OK) rc = finish(&c->label_feed, e);
    c->seconds = progress_seconds(&p);
    progress_end(&p);
    return rc;
}

static void report(const struct command *c)
{
    char events[CLI_HUMAN_BYTES], rate[CLI_HUMAN_BYTES], took[CLI_HUMAN_BYTES];
    uint64_t frauds = c->event_count - c->kinds[FRAUD_NONE];
    double days = (double)(c->last_ms - c->first_ms) / MS_PER_DAY;
    if (c->cli.json) {
        json_t *kinds = json_object();
        for (int kind = FRAUD_LARGE; kind < FRAUD_KINDS; kind++)
            (void)json_object_set_new(kinds,
                                      fraud_kind_name((enum fraud_kind)kind),
                                      json_integer((json_int_t)c->kinds[kind]));
        cli_print_json(json_pack(
            "{s:I, s:I, s:o, s:I, s:I, s:o, s:o, s:o}", "events",
            (json_int_t)c->event_count, "frauds", (json_int_t)frauds,
            "frauds_by_kind", kinds, "labels", (json_int_t)c->label_count,
            "event_bytes", (json_int_t)c->bytes, "days", cli_json_real(days),
            "seconds", cli_json_real(c->seconds), "events_per_second",
            cli_json_real((double)c->event_count / c->seconds)));
        return;
    }
    (void)fprintf(stderr,
                  "%s events over %.1f days in %s (%s events/s), %.0f bytes "
                  "each\n",
                  cli_human((double)c->event_count, events), days,
                  cli_human_seconds(c->seconds, took),
                  cli_human((double)c->event_count / c->seconds, rate),
                  c->event_count ? (double)c->bytes / (double)c->event_count
                                 : 0.0);
    (void)fprintf(stderr, "%llu frauds:", (unsigned long long)frauds);
    for (int kind = FRAUD_LARGE; kind < FRAUD_KINDS; kind++)
        (void)fprintf(stderr, " %llu %s%s", (unsigned long long)c->kinds[kind],
                      fraud_kind_name((enum fraud_kind)kind),
                      kind + 1 < FRAUD_KINDS ? "," : "");
    (void)fprintf(stderr, "; %llu labels written\n",
                  (unsigned long long)c->label_count);
}

int command_generate(int argc, char **argv)
{
    struct command c = {.codec = "zstandard"};
    struct sigaction action = {.sa_handler = on_signal};
    struct err e;
    int status;

    generate_options_default(&c.o);
    status = parse(&c, argc, argv);
    if (status != CLI_GO) return status;
    c.config = cli_config(&c.cli);
    if (!c.config) return EXIT_CONFIG;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    status = EXIT_OK;
    if (run(&c, &e) == RC_OK)
        report(&c);
    else
        status = cli_fail(&c.cli, EXIT_FAILED, &e);
    feed_abandon(c.event_feed);
    feed_abandon(c.label_feed);
    generator_free(c.events);
    generator_free(c.labels);
    generate_rows_free(c.rows);
    config_free(c.config);
    return status;
}
