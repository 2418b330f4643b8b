/* reset - a group's offsets, this host's state and the changelog, together.
 *
 * Order    The store is opened first, which a running process holds, so that
 *          nothing is changed under one. Then the offsets, which Kafka refuses
 *          while the group has members on any host, then the changelog, then
 *          the state. Killed in between, they do not fit each other, and the
 *          next start says so and names this command. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "changelog_clear.h"
#include "cli.h"
#include "group_offsets.h"
#include "kafka_client.h"
#include "store.h"

enum reset_to { TO_NOTHING, TO_EARLIEST, TO_LATEST, TO_COMMITTED };

struct command {
    struct cli cli;
    struct config *config;
    const char *to_text;
    enum reset_to to;
    bool yes, dry_run;
    rd_kafka_t *rk;
    struct store *store;          /* NULL: this host has none */
    struct group_offset *offsets; /* (partitions) */
    int64_t *targets;             /* (partitions) */
    uint32_t partitions;
    uint32_t dropped;
    uint64_t cleared; /* rows of the changelog */
};

/* --- command line ------------------------------------------------------ */

static int read_to(struct command *c)
{
    static const char *const NAMES[] = {"", "earliest", "latest", "committed"};
    if (!c->to_text) return CLI_GO;
    for (int i = TO_EARLIEST; i <= TO_COMMITTED; i++)
        if (strcmp(c->to_text, NAMES[i]) == 0) c->to = (enum reset_to)i;
    if (c->to != TO_NOTHING) return CLI_GO;
    return cli_complain(&c->cli, EXIT_USAGE,
                        "--to %s: it takes earliest, latest or committed",
                        c->to_text);
}

static int parse(struct command *c, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"to", "WHERE", CLI_TEXT, &c->to_text,
         "earliest: score the log again; latest: begin at its end with an "
         "empty state; committed: keep the offsets, fold the state anew "
         "(default: as if the group had never run)"},
        {"yes", NULL, CLI_FLAG, &c->yes, "do not ask"},
        {"dry-run", NULL, CLI_FLAG, &c->dry_run,
         "say what would be done, change nothing"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "reset [options]",
        .about =
            "Resets the group's offsets in input.topic, this host's state in "
            "state.dir and\nthe rows in changelog.topic, together. Stop every "
            "`millrace run` of the group "
            "first. Each host that holds state\nof the group needs it too. "
            "Outputs made before stay; those of events that are\nscored again "
            "come a second time.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace reset --dry-run --to committed "
                   "--set kafka.bootstrap.servers=127.0.0.1:19092 \\\n"
                   "    --set input.topic=events",
    };
    int status = cli_parse(&c->cli, &usage, argc, argv);
    if (status != CLI_GO) return status;
    if (c->cli.arg_count > 0)
        return cli_complain(&c->cli, EXIT_USAGE, "takes no argument '%s'",
                            c->cli.args[0]);
    status = read_to(c);
    if (status != CLI_GO || c->yes || c->dry_run) return status;
    if (isatty(STDIN_FILENO)) return CLI_GO;
    return cli_complain(&c->cli, EXIT_USAGE,
                        "there is no terminal to ask on; give --yes or "
                        "--dry-run");
}

/* --- what is there ----------------------------------------------------- */

static enum rc open_store(struct command *c, struct err *e)
{
    const struct store_options o = {
        .dir = c->config->state_dir,
        .memory_bytes = c->config->state_store_memory,
        .read_only = c->dry_run,
    };
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/rocksdb/CURRENT",
                   c->config->state_dir);
    /* Where a state is to begin at an offset, a store is made to say so. */
    if (access(path, F_OK) != 0 && (c->dry_run || c->to == TO_NOTHING))
        return RC_OK;
    return store_open(&c->store, &o, e);
}

static enum rc ask_cluster(struct command *c, struct err *e)
{
    const char *topic = c->config->input_topic;
    rd_kafka_conf_t *conf;
    TRY(kafka_conf_new(&conf, c->config, KAFKA_ADMIN, NULL, NULL, e));
    TRY(kafka_client_new(&c->rk, conf, KAFKA_ADMIN, e));
    TRY(kafka_topic_partitions(c->rk, topic, &c->partitions, e));
    c->offsets = calloc(c->partitions, sizeof *c->offsets);
    c->targets = calloc(c->partitions, sizeof *c->targets);
    if (!c->offsets || !c->targets)
        return ERR(e, RC_STOP, "no memory for %u partitions", c->partitions);
    return group_offsets_read(c->rk, c->config->group_id, topic, c->offsets,
                              c->partitions, e);
}

/* -1: the group will not have committed. */
static void choose_targets(struct command *c)
{
    for (uint32_t i = 0; i < c->partitions; i++) {
        const struct group_offset *at = &c->offsets[i];
        switch (c->to) {
        case TO_NOTHING:
            c->targets[i] = -1;
            break;
        case TO_EARLIEST:
            c->targets[i] = at->log_start;
            break;
        case TO_LATEST:
            c->targets[i] = at->log_end;
            break;
        case TO_COMMITTED:
            c->targets[i] = at->committed;
            break;
        }
    }
}

/* --- doing it ---------------------------------------------------------- */

/* Where the state of a partition begins: at its end for --to latest, else
 * where the log does. */
static enum rc begin_states(struct command *c, struct err *e)
{
    char name[STORE_NAME_MAX];
    for (uint32_t i = 0; i < c->partitions; i++) {
        if (c->targets[i] < 0) continue;
        TRY(store_family_name(name, "users", c->config->input_topic, (int32_t)i,
                              e));
        TRY(store_begin_at(
            c->store, name, c->partitions,
            c->to == TO_LATEST ? c->targets[i] : c->offsets[i].log_start, e));
    }
    return RC_OK;
}

static enum rc change(struct command *c, struct err *e)
{
    const char *group = c->config->group_id, *topic = c->config->input_topic;
    bool changelog = c->config->changelog_topic[0] != '\0';
    if (c->to == TO_NOTHING)
        TRY(group_offsets_delete(c->rk, group, topic, c->partitions, e));
    else if (c->to != TO_COMMITTED || changelog)
        /* Also where they stay: it is refused while the group is at work. */
        TRY(group_offsets_set(c->rk, group, topic, c->targets, c->partitions,
                              e));
    if (changelog) TRY(changelog_clear(c->config, &c->cleared, e));
    if (!c->store) return RC_OK;
    TRY(store_drop_topic(c->store, "users", topic, &c->dropped, e));
    return begin_states(c, e);
}

/* --- words ------------------------------------------------------------- */

static void put_offset(char *out, size_t size, int64_t offset)
{
    if (offset < 0)
        (void)snprintf(out, size, "never");
    else
        (void)snprintf(out, size, "%lld", (long long)offset);
}

static void print_plan(const struct command *c, FILE *to)
{
    (void)fprintf(to, "group %s, topic %s, state in %s\n", c->config->group_id,
                  c->config->input_topic,
                  c->store ? c->config->state_dir : "(none on this host)");
    (void)fprintf(to, "%9s  %14s  %14s  %14s  %14s\n", "partition", "log start",
                  "log end", "committed", "becomes");
    for (uint32_t i = 0; i < c->partitions; i++) {
        char committed[32], target[32];
        put_offset(committed, sizeof committed, c->offsets[i].committed);
        put_offset(target, sizeof target, c->targets[i]);
        (void)fprintf(to, "%9u  %14lld  %14lld  %14s  %14s\n", i,
                      (long long)c->offsets[i].log_start,
                      (long long)c->offsets[i].log_end, committed, target);
    }
}

static json_t *offset_json(int64_t offset)
{
    return offset < 0 ? json_null() : json_integer(offset);
}

static void print_json(const struct command *c)
{
    json_t *partitions = json_array();
    for (uint32_t i = 0; i < c->partitions; i++)
        (void)json_array_append_new(
            partitions,
            json_pack("{s:i, s:o, s:o, s:o, s:o}", "partition", (int)i,
                      "log_start", json_integer(c->offsets[i].log_start),
                      "log_end", json_integer(c->offsets[i].log_end),
                      "committed", offset_json(c->offsets[i].committed),
                      "becomes", offset_json(c->targets[i])));
    cli_print_json(json_pack(
        "{s:s, s:s, s:b, s:i, s:I, s:o}", "group", c->config->group_id, "topic",
        c->config->input_topic, "changed", !c->dry_run, "families_dropped",
        (int)c->dropped, "changelog_rows_cleared", (json_int_t)c->cleared,
        "partitions", partitions));
}

static bool confirmed(const struct command *c)
{
    char answer[16];
    if (c->yes || c->dry_run) return true;
    print_plan(c, stderr);
    (void)fprintf(stderr, "State and offsets as they are now will be gone. "
                          "Type yes to go on: ");
    return fgets(answer, sizeof answer, stdin) && strcmp(answer, "yes\n") == 0;
}

static void print_result(const struct command *c)
{
    if (c->cli.json) {
        print_json(c);
        return;
    }
    print_plan(c, stdout);
    if (c->dry_run)
        (void)printf("dry run: nothing was changed\n");
    else
        (void)printf("done: %u families of state dropped, %llu rows of the "
                     "changelog cleared, offsets %s\n",
                     c->dropped, (unsigned long long)c->cleared,
                     c->to == TO_NOTHING     ? "deleted"
                     : c->to == TO_COMMITTED ? "kept"
                                             : "set");
}

/* --- the command ------------------------------------------------------- */

static int carry_out(struct command *c)
{
    struct err e;
    enum rc rc;
    if (!c->config->input_topic[0])
        return cli_complain(&c->cli, EXIT_CONFIG,
                            "input.topic is not set: whose offsets?");
    rc = open_store(c, &e);
    if (rc == RC_OK) rc = ask_cluster(c, &e);
    if (rc != RC_OK) return cli_fail(&c->cli, EXIT_FAILED, &e);
    choose_targets(c);
    if (!confirmed(c))
        return cli_complain(&c->cli, EXIT_FAILED,
                            "not confirmed; nothing was changed");
    if (!c->dry_run && change(c, &e) != RC_OK)
        return cli_fail(&c->cli, EXIT_FAILED, &e);
    print_result(c);
    return EXIT_OK;
}

int command_reset(int argc, char **argv)
{
    struct command c = {0};
    int status = parse(&c, argc, argv);
    if (status != CLI_GO) return status;
    c.config = cli_config(&c.cli);
    if (!c.config) return EXIT_CONFIG;
    status = carry_out(&c);
    store_close(c.store);
    if (c.rk) rd_kafka_destroy(c.rk);
    free(c.offsets);
    free(c.targets);
    config_free(c.config);
    return status;
}
