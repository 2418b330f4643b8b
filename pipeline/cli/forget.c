/* forget - a user, out of all that follows the input topic.
 *
 * Order    Look first: is the topic keyed by user, where would the record
 *          go. Then write it, a key without a value, and wait until the
 *          group has committed it and this host's store has neither row nor
 *          bytes of the user. What is not reached is said. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "forget.h"
#include "group_offsets.h"
#include "kafka_client.h"
#include "partition.h"
#include "producer.h"
#include "progress.h"
#include "receipt.h"
#include "snapshot.h"
#include "stages.h"
#include "store.h"

enum { LOOK_EVERY_MS = 200, DEFAULT_WAIT_MS = 60000, NO_PARTITION = -1 };

struct command {
    struct cli cli;
    struct config *config;
    struct slice user;
    const char *verify; /* a receipt, or NULL */
    struct cli_texts snapshots;
    uint32_t removed; /* rows, from the snapshots; with --verify: found there */
    uint32_t partition_given;
    int64_t wait_ms;
    bool yes, dry_run;

    rd_kafka_t *rk;
    struct group_offset *offsets; /* (partitions) */
    uint32_t partitions;
    struct receipt receipt;
    struct forget_look look;
    struct forget_copy copy; /* looked at once the rest is done */
    bool committed;          /* the group has gone past the record */
};

/* --- command line ------------------------------------------------------ */

static int check_arguments(struct command *c)
{
    if (c->cli.arg_count != 1 || c->cli.args[0][0] == '\0')
        return cli_complain(&c->cli, EXIT_USAGE, "give one user id");
    c->user = slice_str(c->cli.args[0]);
    if (c->verify || c->yes || c->dry_run || isatty(STDIN_FILENO))
        return CLI_GO;
    return cli_complain(&c->cli, EXIT_USAGE,
                        "there is no terminal to ask on; give --yes or "
                        "--dry-run");
}

static int parse(struct command *c, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"partition", "N", CLI_U32, &c->partition_given,
         "where the user's events are, if producers do not use murmur2"},
        {"wait", "TIME", CLI_SPAN, &c->wait_ms,
         "how long to wait until it is done (default 1m)"},
        {"snapshot", "DIR", CLI_TEXTS, &c->snapshots,
         "take the user out of this snapshot too (may be given again)"},
        {"verify", "RECEIPT", CLI_TEXT, &c->verify,
         "look again for what an earlier receipt is about; exit 4 if "
         "something is found"},
        {"yes", NULL, CLI_FLAG, &c->yes, "do not ask"},
        {"dry-run", NULL, CLI_FLAG, &c->dry_run,
         "say what would be done, change nothing"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "forget [options] USER",
        .about =
            "Writes a record without a value under the user's id to "
            "input.topic, and waits until\nthe group has committed it and "
            "state.dir holds nothing of the user. Every host that\nfolds the "
            "topic does the same. Prints a receipt (JSON) on stdout: keep it. "
            "Not\nreached: the topic's own records, outputs already written, "
            "models trained before.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace forget u17 --dry-run "
                   "--config shop.conf",
    };
    int status;
    c->partition_given = UINT32_MAX;
    c->wait_ms = DEFAULT_WAIT_MS;
    status = cli_parse(&c->cli, &usage, argc, argv);
    return status != CLI_GO ? status : check_arguments(c);
}

/* --- before ------------------------------------------------------------ */

static enum rc ask_cluster(struct command *c, struct err *e)
{
    const char *topic = stages_topic(c->config, STAGE_USERS, INPUT_EVENTS);
    rd_kafka_conf_t *conf;
    TRY(kafka_conf_new(&conf, c->config, KAFKA_ADMIN, NULL, NULL, e));
    TRY(kafka_client_new(&c->rk, conf, KAFKA_ADMIN, e));
    TRY(kafka_topic_partitions(c->rk, topic, &c->partitions, e));
    c->offsets = calloc(c->partitions, sizeof *c->offsets);
    if (!c->offsets)
        return ERR(e, RC_STOP, "no memory for %u partitions", c->partitions);
    return group_offsets_read(c->rk, c->config->group_id, topic, c->offsets,
                              c->partitions, e);
}

static enum rc choose_partition(struct command *c, struct err *e)
{
    struct receipt *r = &c->receipt;
    bool given = c->partition_given != UINT32_MAX;
    if (given && c->partition_given >= c->partitions)
        return ERR(
            e, RC_STOP, "--partition %u: topic %s has %u", c->partition_given,
            stages_topic(c->config, STAGE_USERS, INPUT_EVENTS), c->partitions);
    r->partition = given ? (int32_t)c->partition_given
                         : partition_of(c->user, c->partitions);
    return RC_OK;
}

/* The user's row says best where the user's events are. */
static enum rc check_store(struct command *c, struct err *e)
{
    const struct config *g = c->config;
    TRY(forget_look(&c->look, g->state_dir,
                    stages_topic(g, STAGE_USERS, INPUT_EVENTS), c->user,
                    NO_PARTITION, INT64_MAX, e));
    if (c->look.held == 0 || c->look.partition == c->receipt.partition)
        return RC_OK;
    return ERR(e, RC_STOP,
               "the store in %s has this user in partition %d, the record "
               "would go to %d; if that is right, give --partition %d",
               g->state_dir, c->look.partition, c->receipt.partition,
               c->look.partition);
}

static enum rc prepare(struct command *c, struct err *e)
{
    const struct config *g = c->config;
    struct forget_topic t = {.config = g};
    struct receipt *r = &c->receipt;
    if (c->user.len > g->user_bytes_max)
        return ERR(e, RC_STOP, "the id is longer than user.bytes.max (%u)",
                   g->user_bytes_max);
    TRY(ask_cluster(c, e));
    TRY(choose_partition(c, e));
    t.partition = r->partition;
    t.partitions = c->partitions;
    t.log_end = c->offsets[r->partition].log_end;
    t.any_partition = c->partition_given != UINT32_MAX;
    TRY(forget_check(&t, e));
    TRY(check_store(c, e));
    (void)snprintf(r->topic, sizeof r->topic, "%s",
                   stages_topic(g, STAGE_USERS, INPUT_EVENTS));
    (void)snprintf(r->group, sizeof r->group, "%s", g->group_id);
    return receipt_seal(r, c->user, e);
}

static bool confirmed(const struct command *c)
{
    char answer[16];
    if (c->yes) return true;
    (void)fprintf(stderr,
                  "All that is known of %s will be gone, by a record in topic "
                  "%s, partition %d.\nType yes to go on: ",
                  c->cli.args[0], c->receipt.topic, c->receipt.partition);
    return fgets(answer, sizeof answer, stdin) && strcmp(answer, "yes\n") == 0;
}

/* --- doing it ---------------------------------------------------------- */

static enum rc write_record(struct command *c, struct err *e)
{
    const char *topic = stages_topic(c->config, STAGE_USERS, INPUT_EVENTS);
    const struct producer_options o = {
        .config = c->config, .topics = &topic, .topic_count = 1};
    const struct message m = {.key = c->user};
    struct producer *p;
    enum rc rc;
    TRY(producer_open(&p, &o, e));
    rc = producer_put(p, 0, c->receipt.partition, &m, &c->receipt.offset, e);
    producer_close(p);
    c->receipt.time_ms = store_now_ms();
    return rc;
}

/* On this host, in store and changelog. */
static bool erased(const struct command *c)
{
    return c->look.held == 0 && !c->look.pending && !c->copy.held;
}

static bool done(const struct command *c)
{
    return c->committed && erased(c);
}

static enum rc look_at_state(struct command *c, struct err *e)
{
    const struct receipt *r = &c->receipt;
    TRY(forget_look(&c->look, c->config->state_dir, r->topic, c->user,
                    r->partition, r->offset, e));
    return forget_look_copy(&c->copy, c->config, c->user, r->partition,
                            r->offset, e);
}

static enum rc look_again(struct command *c, struct err *e)
{
    const struct receipt *r = &c->receipt;
    TRY(group_offsets_read(c->rk, r->group, r->topic, c->offsets, c->partitions,
                           e));
    c->committed = c->offsets[r->partition].committed > r->offset;
    /* All of the changelog's partition is read, so not before it can be. */
    return c->committed ? look_at_state(c, e) : RC_OK;
}

/* Waiting is given up after wait_ms; what fails meanwhile may work later. */
static enum rc wait_until_done(struct command *c, struct err *e)
{
    const struct timespec pause = {.tv_nsec = LOOK_EVERY_MS * 1000000};
    struct progress p;
    enum rc rc;
    progress_start(&p, "forgetting", "ms", (double)c->wait_ms);
    for (;;) {
        double waited_ms = progress_seconds(&p) * 1000;
        rc = look_again(c, e);
        if ((rc == RC_OK && done(c)) || waited_ms >= (double)c->wait_ms) break;
        progress_update(&p, waited_ms, NULL);
        (void)nanosleep(&pause, NULL);
    }
    progress_end(&p);
    return rc;
}

/* A snapshot is rewritten without the user, or only looked at. */
static enum rc see_snapshots(struct command *c, bool remove, struct err *e)
{
    for (uint32_t i = 0; i < c->snapshots.count; i++) {
        const char *dir = c->snapshots.at[i];
        uint32_t rows;
        TRY(remove ? snapshot_forget(dir, c->user, &rows, e)
                   : snapshot_count(dir, c->user, &rows, e));
        c->removed += rows;
    }
    return RC_OK;
}

/* --- words ------------------------------------------------------------- */

static const char *store_word(const struct command *c)
{
    if (!c->look.store) return "none on this host";
    if (c->look.held > 0) return "still there";
    if (c->look.pending) return "deleted, bytes still in its files";
    return c->look.returned ? "erased; the user has come back since" : "erased";
}

static const char *copy_word(const struct command *c)
{
    if (!c->config->changelog_topic[0]) return "none";
    if (!c->copy.topic) return "not looked at";
    if (c->copy.held) return "still there";
    return c->copy.older ? "erased; older values until it is compacted"
                         : "erased";
}

static json_t *snapshot_names(const struct command *c)
{
    json_t *names = json_array();
    for (uint32_t i = 0; i < c->snapshots.count; i++)
        (void)json_array_append_new(names, json_string(c->snapshots.at[i]));
    return names;
}

static void print_receipt(const struct command *c)
{
    json_t *receipt = receipt_json(&c->receipt);
    (void)json_object_update_new(
        receipt,
        json_pack("{s:b, s:b, s:s, s:o, s:i, s:{s:s, s:s}, s:[s, s, s, s]}",
                  "complete", done(c), "committed", c->committed, "changelog",
                  copy_word(c), "snapshots", snapshot_names(c),
                  "rows_out_of_snapshots", (int)c->removed, "store",
                  "directory", c->config->state_dir, "user", store_word(c),
                  "not_reached",
                  "the input topic's own records, until its retention "
                  "or compaction removes them",
                  "outputs already written", "models trained before",
                  "stores of hosts that are not at work, snapshots that were "
                  "not given"));
    cli_print_json(receipt);
}

static int report(const struct command *c)
{
    if (!c->cli.json)
        (void)fprintf(stderr,
                      "record   topic %s, partition %d, offset %lld\n"
                      "group    %s %s\n"
                      "store    %s: %s\n"
                      "changelog %s\n",
                      c->receipt.topic, c->receipt.partition,
                      (long long)c->receipt.offset, c->receipt.group,
                      c->committed ? "has committed it" : "is not there yet",
                      c->config->state_dir, store_word(c), copy_word(c));
    print_receipt(c);
    if (done(c)) return EXIT_OK;
    return cli_complain(&c->cli, EXIT_FAILED,
                        "not complete within %lld ms; the record stays and is "
                        "followed as soon as the group reads it: look again "
                        "with --verify",
                        (long long)c->wait_ms);
}

static void print_plan(const struct command *c)
{
    cli_print_json(json_pack(
        "{s:b, s:s, s:i, s:s, s:i, s:s}", "dry_run", true, "topic",
        c->receipt.topic, "partition", (int)c->receipt.partition, "directory",
        c->config->state_dir, "rows", (int)c->look.held, "store",
        c->look.store ? "on this host" : "none on this host"));
}

/* --- the command ------------------------------------------------------- */

static int forget(struct command *c)
{
    struct err e;
    enum rc rc = prepare(c, &e);
    if (rc != RC_OK) return cli_fail(&c->cli, EXIT_FAILED, &e);
    if (c->dry_run) {
        print_plan(c);
        return EXIT_OK;
    }
    if (!confirmed(c))
        return cli_complain(&c->cli, EXIT_FAILED,
                            "not confirmed; nothing was changed");
    rc = see_snapshots(c, true, &e);
    if (rc == RC_OK) rc = write_record(c, &e);
    if (rc == RC_OK && wait_until_done(c, &e) != RC_OK)
        (void)cli_fail(&c->cli, EXIT_FAILED, &e); /* and the receipt */
    if (rc != RC_OK) return cli_fail(&c->cli, EXIT_FAILED, &e);
    return report(c);
}

static int verify(struct command *c)
{
    const struct receipt *r = &c->receipt;
    bool gone;
    struct err e;
    enum rc rc = receipt_read(&c->receipt, c->verify, &e);
    if (rc == RC_OK && !receipt_is_of(r, c->user))
        rc = ERR(&e, RC_STOP, "%s is about another user", c->verify);
    if (rc == RC_OK) rc = look_at_state(c, &e);
    if (rc == RC_OK) rc = see_snapshots(c, false, &e);
    if (rc != RC_OK) return cli_fail(&c->cli, EXIT_FAILED, &e);
    gone = erased(c) && c->removed == 0;
    cli_print_json(json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:b}", "directory",
        c->config->state_dir, "user", store_word(c), "changelog", copy_word(c),
        "rows", (int)c->look.held, "returned", (int)c->look.returned,
        "rows_in_snapshots", (int)c->removed, "verified", gone));
    if (gone) return EXIT_OK;
    return cli_complain(&c->cli, EXIT_DIFFERS,
                        "%s: %s; changelog: %s; in the snapshots given: %u "
                        "rows",
                        c->config->state_dir, store_word(c), copy_word(c),
                        c->removed);
}

int command_forget(int argc, char **argv)
{
    struct command c = {0};
    int status = parse(&c, argc, argv);
    if (status != CLI_GO) return status;
    c.config = cli_config(&c.cli);
    if (!c.config) return EXIT_CONFIG;
    if (!*stages_topic(c.config, STAGE_USERS, INPUT_EVENTS))
        status = cli_complain(&c.cli, EXIT_CONFIG,
                              "input.topic is not set: forgotten by what?");
    else
        status = c.verify ? verify(&c) : forget(&c);
    if (c.rk) rd_kafka_destroy(c.rk);
    free(c.offsets);
    config_free(c.config);
    return status;
}
