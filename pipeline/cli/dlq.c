/* dlq.c - millrace dlq list | show | redrive: dead letters and their way
 * back. What is read and sent is redrive.c's; here is what is printed. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "dlq_tally.h"
#include "progress.h"
#include "record_json.h"
#include "redrive.h"

enum { TIMES_MAX = 3 };

struct dlq {
    struct cli cli;
    struct config *config;
    const char *verb;
    const char *reason, *to;
    uint32_t partition; /* NO_PARTITION: any */
    int64_t since_ms, until_ms;
    uint64_t max;
    uint32_t times_max;
    bool dry_run, yes, force;
    struct progress progress;
    /* show */
    struct record_json *records;
    bool one; /* the letter at this place of the topic */
    int32_t at_partition;
    int64_t at_offset;
    uint64_t shown;
};

enum { NO_PARTITION = UINT32_MAX };

static struct redrive_filter filter_of(const struct dlq *q)
{
    return (struct redrive_filter){
        .reason = q->reason,
        .partition = q->partition == NO_PARTITION ? -1 : (int32_t)q->partition,
        .since_ms = q->since_ms,
        .until_ms = q->until_ms,
    };
}

static void show_progress(void *user, uint64_t done, uint64_t all)
{
    struct dlq *q = user;
    q->progress.total = (double)all;
    progress_update(&q->progress, (double)done, NULL);
}

static void start_progress(struct dlq *q, const char *what)
{
    progress_start(&q->progress, what, "records", 0);
}

/* ------------------------------------------------------------------ list */

struct listing {
    struct dlq *q;
    struct dlq_tally tally;
};

static void list_progress(void *user, uint64_t done, uint64_t all)
{
    show_progress(((struct listing *)user)->q, done, all);
}

static enum rc list_one(void *user, const struct record *r,
                        const struct dead_letter *d, bool marked, struct err *e)
{
    struct listing *l = user;
    struct redrive_filter filter = filter_of(l->q);
    (void)r;
    if (!d) {
        l->tally.foreign++;
        return RC_OK;
    }
    if (!redrive_wants(&filter, d)) return RC_OK;
    return dlq_tally_add(&l->tally, d, marked, e);
}

static int list(struct dlq *q)
{
    struct listing l = {.q = q};
    const struct redrive_scan scan = {.config = q->config,
                                      .look = list_one,
                                      .progress = list_progress,
                                      .user = &l};
    struct err e;
    enum rc rc;
    start_progress(q, "dlq list");
    rc = redrive_read(&scan, &e);
    progress_end(&q->progress);
    if (rc == RC_OK && q->cli.json)
        cli_print_json(dlq_tally_json(&l.tally, q->config->dead_letters_topic));
    else if (rc == RC_OK)
        dlq_tally_print(&l.tally, q->config->dead_letters_topic);
    dlq_tally_fini(&l.tally);
    return rc == RC_OK ? EXIT_OK : cli_fail(&q->cli, EXIT_FAILED, &e);
}

/* ------------------------------------------------------------------ show */

static enum rc show_one(void *user, const struct record *r,
                        const struct dead_letter *d, bool marked, struct err *e)
{
    struct dlq *q = user;
    struct redrive_filter filter = filter_of(q);
    (void)marked;
    if (q->one &&
        (r->partition != q->at_partition || r->offset != q->at_offset))
        return RC_OK;
    if (!q->one && (!d || !redrive_wants(&filter, d))) return RC_OK;
    if (q->max > 0 && q->shown >= q->max) return RC_OK;
    q->shown++;
    return record_json_print(q->records, r, e);
}

static int show(struct dlq *q)
{
    const struct record_json_options o = {
        .config = q->config, .topic = q->config->dead_letters_topic};
    const struct redrive_scan scan = {.config = q->config,
                                      .look = show_one,
                                      .progress = show_progress,
                                      .user = q};
    struct err e;
    enum rc rc;
    start_progress(q, "dlq show");
    rc = record_json_open(&q->records, &o, &e);
    if (rc == RC_OK) rc = redrive_read(&scan, &e);
    progress_end(&q->progress);
    if (rc != RC_OK) return cli_fail(&q->cli, EXIT_FAILED, &e);
    if (q->one && q->shown == 0)
        return cli_complain(&q->cli, EXIT_FAILED,
                            "no dead letter at partition %d, offset %lld of "
                            "%s",
                            q->at_partition, (long long)q->at_offset,
                            q->config->dead_letters_topic);
    return EXIT_OK;
}

/* --------------------------------------------------------------- redrive */

static const char *target(const struct dlq *q)
{
    return q->to ? q->to : q->config->input_topic;
}

static enum rc redrive_now(struct dlq *q, bool dry_run,
                           struct redrive_result *out, struct err *e)
{
    const struct redrive_options o = {
        .config = q->config,
        .filter = filter_of(q),
        .to = q->to,
        .max = q->max,
        .times_max = q->force ? UINT32_MAX : q->times_max,
        .dry_run = dry_run,
        .progress = show_progress,
        .user = q,
    };
    enum rc rc;
    start_progress(q, dry_run ? "dlq count" : "dlq redrive");
    rc = redrive_run(&o, out, e);
    progress_end(&q->progress);
    return rc;
}

static void print_result(const struct dlq *q, const struct redrive_result *r)
{
    static const char *const TEXTS[] = {
        "went before: not sent again",
        "too large for the topic, so without a value: cannot be sent",
        "came back too often: --force sends them", "beyond --max",
        "records of others: left alone"};
    const uint64_t counts[] = {r->before, r->omitted, r->too_often, r->beyond,
                               r->foreign};
    if (q->cli.json) {
        cli_print_json(json_pack(
            "{sssbsIsIsIsIsIsI}", "to", target(q), "dry_run", q->dry_run,
            "redriven", (json_int_t)r->redriven, "before",
            (json_int_t)r->before, "omitted", (json_int_t)r->omitted,
            "too_often", (json_int_t)r->too_often, "beyond_max",
            (json_int_t)r->beyond, "foreign", (json_int_t)r->foreign));
        return;
    }
    (void)printf("%s%llu dead letters to %s\n",
                 q->dry_run ? "dry run: would send " : "sent ",
                 (unsigned long long)r->redriven, target(q));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (counts[i] > 0)
            (void)printf("%10llu %s\n", (unsigned long long)counts[i],
                         TEXTS[i]);
}

/* Where nobody can be asked, --yes is the answer. */
static bool confirmed(const struct dlq *q, const struct redrive_result *plan)
{
    char answer[16];
    if (q->yes) return true;
    if (!isatty(STDIN_FILENO)) return false;
    (void)fprintf(stderr, "Send %llu dead letters to %s? Type yes to go on: ",
                  (unsigned long long)plan->redriven, target(q));
    return fgets(answer, sizeof answer, stdin) && strcmp(answer, "yes\n") == 0;
}

static int redrive(struct dlq *q)
{
    struct redrive_result result = {0};
    struct err e;
    if (!*target(q))
        return cli_complain(&q->cli, EXIT_CONFIG,
                            "input.topic is not set: give --to TOPIC");
    if (q->dry_run || !q->yes) {
        if (redrive_now(q, true, &result, &e) != RC_OK)
            return cli_fail(&q->cli, EXIT_FAILED, &e);
        if (!q->dry_run && !confirmed(q, &result))
            return cli_complain(&q->cli, EXIT_FAILED,
                                "not confirmed; nothing was sent (without a "
                                "terminal give --yes)");
    }
    if (!q->dry_run && redrive_now(q, false, &result, &e) != RC_OK) {
        (void)cli_fail(&q->cli, EXIT_FAILED, &e);
        return cli_complain(&q->cli, EXIT_FAILED,
                            "%llu were sent before; run it again for the rest",
                            (unsigned long long)result.redriven);
    }
    print_result(q, &result);
    return EXIT_OK;
}

/* --------------------------------------------------------------- command */

/* "show PARTITION OFFSET" */
static bool read_place(struct dlq *q)
{
    char *end[2];
    long long partition = strtoll(q->cli.args[1], &end[0], 10);
    q->at_offset = strtoll(q->cli.args[2], &end[1], 10);
    q->at_partition = (int32_t)partition;
    q->one = true;
    return !*end[0] && !*end[1] && partition >= 0 && partition <= INT32_MAX &&
           q->at_offset >= 0;
}

static int check_args(struct dlq *q)
{
    const char *verb = q->cli.arg_count > 0 ? q->cli.args[0] : "";
    bool shows = strcmp(verb, "show") == 0;
    q->verb = verb;
    if (!shows && strcmp(verb, "list") != 0 && strcmp(verb, "redrive") != 0)
        return cli_complain(&q->cli, EXIT_USAGE, "give list, show or redrive");
    if (q->cli.arg_count == 1) return CLI_GO;
    if (!shows || q->cli.arg_count != 3)
        return cli_complain(&q->cli, EXIT_USAGE,
                            "only show takes a place: PARTITION OFFSET");
    if (!read_place(q))
        return cli_complain(&q->cli, EXIT_USAGE,
                            "%s %s is no partition and offset", q->cli.args[1],
                            q->cli.args[2]);
    return CLI_GO;
}

static int parse(struct dlq *q, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"reason", "NAME", CLI_TEXT, &q->reason, "only letters with this one"},
        {"partition", "N", CLI_U32, &q->partition,
         "only letters from this partition of their source"},
        {"since", "TIME", CLI_TIME, &q->since_ms,
         "only letters of this time of the log or later"},
        {"until", "TIME", CLI_TIME, &q->until_ms, "only letters before it"},
        {"max", "N", CLI_U64, &q->max, "at most so many (show, redrive)"},
        {"to", "TOPIC", CLI_TEXT, &q->to,
         "redrive there, by their keys, instead of whence they came"},
        {"dry-run", NULL, CLI_FLAG, &q->dry_run,
         "redrive: count, send nothing"},
        {"yes", NULL, CLI_FLAG, &q->yes, "redrive: do not ask"},
        {"times", "N", CLI_U32, &q->times_max,
         "redrive: leave letters that were sent so often (default 3)"},
        {"force", NULL, CLI_FLAG, &q->force, "redrive: also those"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "dlq list | show [PARTITION OFFSET] | redrive [options]",
        .about =
            "Dead letters of dead.letters.topic.\n"
            "list     counts them by reason and by where they came from\n"
            "show     prints them as JSON lines: headers, value decoded or in "
            "hex\n"
            "redrive  sends them back as they were, each once: what went is\n"
            "         remembered in the topic itself",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace dlq redrive --reason schema_id --dry-run --config "
                   "millrace.conf",
    };
    int status = cli_parse(&q->cli, &usage, argc, argv);
    if (status != CLI_GO) return status;
    return check_args(q);
}

int command_dlq(int argc, char **argv)
{
    struct dlq q = {.partition = NO_PARTITION,
                    .since_ms = INT64_MIN,
                    .until_ms = INT64_MAX,
                    .times_max = TIMES_MAX};
    int status = parse(&q, argc, argv);
    if (status != CLI_GO) return status;
    q.config = cli_config(&q.cli);
    if (!q.config) return EXIT_CONFIG;
    if (!*q.config->dead_letters_topic)
        status =
            cli_complain(&q.cli, EXIT_CONFIG, "dead.letters.topic is not set");
    else if (strcmp(q.verb, "list") == 0)
        status = list(&q);
    else
        status = strcmp(q.verb, "show") == 0 ? show(&q) : redrive(&q);
    record_json_close(q.records);
    config_free(q.config);
    return status;
}
