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
#include "stages.h"
#include "store.h"

enum reset_to { TO_NOTHING, TO_EARLIEST, TO_LATEST, TO_COMMITTED };

/* One topic that the stage reads. */
struct input {
    const char *topic;
    struct group_offset *offsets; /* (partitions) */
    int64_t *targets;             /* (partitions) */
    uint32_t partitions;
};

struct command {
    struct cli cli;
    struct config *config;
    const char *to_text;
    enum reset_to to;
    bool yes, dry_run;
    rd_kafka_t *rk;
    struct store *store; /* NULL: this host has none */
    const char *stage_text;
    enum stage_id stage;
    char group[STAGES_GROUP_BYTES];
    struct input inputs[STAGE_INPUTS]; /* events, and labels if they come */
    uint32_t input_count;
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

static int read_stage(struct command *c)
{
    if (!c->stage_text) return CLI_GO;
    while (c->stage < STAGES &&
           strcmp(stages_name(c->stage), c->stage_text) != 0)
        c->stage++;
    if (c->stage < STAGES) return CLI_GO;
    return cli_complain(&c->cli, EXIT_USAGE,
                        "--stage %s: it takes users, items or route",
                        c->stage_text);
}

static int parse(struct command *c, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"to", "WHERE", CLI_TEXT, &c->to_text,
         "earliest: score the log again; latest: begin at its end with an "
         "empty state; committed: keep the offsets, fold the state anew "
         "(default: as if the group had never run)"},
        {"stage", "NAME", CLI_TEXT, &c->stage_text,
         "users (default), items or route"},
        {"yes", NULL, CLI_FLAG, &c->yes, "do not ask"},
        {"dry-run", NULL, CLI_FLAG, &c->dry_run,
         "say what would be done, change nothing"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "reset [options]",
        .about =
            "Resets a stage's offsets in its topics, its state on this host "
            "(state.dir) and\nthe rows in its changelog, together. Stop every "
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
    status = read_stage(c);
    if (status != CLI_GO) return status;
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

static enum rc ask_input(struct command *c, struct input *in, struct err *e)
{
    TRY(kafka_topic_partitions(c->rk, in->topic, &in->partitions, e));
    in->offsets = calloc(in->partitions, sizeof *in->offsets);
    in->targets = calloc(in->partitions, sizeof *in->targets);
    if (!in->offsets || !in->targets)
        return ERR(e, RC_STOP, "no memory for %u partitions", in->partitions);
    return group_offsets_read(c->rk, c->group, in->topic, in->offsets,
                              in->partitions, e);
}

static enum rc ask_cluster(struct command *c, struct err *e)
{
    rd_kafka_conf_t *conf;
    TRY(kafka_conf_new(&conf, c->config, KAFKA_ADMIN, NULL, NULL, e));
    TRY(kafka_client_new(&c->rk, conf, KAFKA_ADMIN, e));
    (void)stages_group(c->config, c->stage, c->group);
    for (uint32_t k = 0; k < STAGE_INPUTS; k++) {
        const char *topic = stages_topic(c->config, c->stage, k);
        if (!*topic) continue;
        c->inputs[c->input_count].topic = topic;
        TRY(ask_input(c, &c->inputs[c->input_count++], e));
    }
    return RC_OK;
}

/* -1: the group will not have committed. */
static int64_t target_of(const struct command *c, const struct group_offset *at)
{
    switch (c->to) {
    case TO_EARLIEST:
        return at->log_start;
    case TO_LATEST:
        return at->log_end;
    case TO_COMMITTED:
        return at->committed;
    default:
        return -1;
    }
}

static void choose_targets(struct command *c)
{
    for (uint32_t k = 0; k < c->input_count; k++)
        for (uint32_t i = 0; i < c->inputs[k].partitions; i++)
            c->inputs[k].targets[i] = target_of(c, &c->inputs[k].offsets[i]);
}

/* --- doing it ---------------------------------------------------------- */

/* Where the state of a partition begins: at its end for --to latest, else
 * where the log does. */
static enum rc begin_states(struct command *c, struct err *e)
{
    const struct input *in = &c->inputs[INPUT_EVENTS];
    char name[STORE_NAME_MAX];
    for (uint32_t i = 0; i < in->partitions; i++) {
        if (in->targets[i] < 0) continue;
        TRY(store_family_name(name, stages_name(c->stage), in->topic,
                              (int32_t)i, e));
        TRY(store_begin_at(
            c->store, name, in->partitions,
            c->to == TO_LATEST ? in->targets[i] : in->offsets[i].log_start, e));
    }
    return RC_OK;
}

static enum rc change_offsets(struct command *c, const struct input *in,
                              bool changelog, struct err *e)
{
    if (c->to == TO_NOTHING)
        return group_offsets_delete(c->rk, c->group, in->topic, in->partitions,
                                    e);
    if (c->to == TO_COMMITTED && !changelog) return RC_OK;
    /* Also where they stay: it is refused while the group is at work. */
    return group_offsets_set(c->rk, c->group, in->topic, in->targets,
                             in->partitions, e);
}

static enum rc change(struct command *c, struct err *e)
{
    const char *changelog = stages_changelog(c->config, c->stage);
    for (uint32_t k = 0; k < c->input_count; k++)
        TRY(change_offsets(c, &c->inputs[k], *changelog, e));
    if (*changelog) TRY(changelog_clear(c->config, changelog, &c->cleared, e));
    if (!c->store || c->stage == STAGE_ROUTE) return RC_OK;
    TRY(store_drop_topic(c->store, stages_name(c->stage),
                         c->inputs[INPUT_EVENTS].topic, &c->dropped, e));
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

static void print_input(const struct input *in, FILE *to)
{
    (void)fprintf(to, "%9s  %14s  %14s  %14s  %14s\n", "partition", "log start",
                  "log end", "committed", "becomes");
    for (uint32_t i = 0; i < in->partitions; i++) {
        char committed[32], target[32];
        put_offset(committed, sizeof committed, in->offsets[i].committed);
        put_offset(target, sizeof target, in->targets[i]);
        (void)fprintf(to, "%9u  %14lld  %14lld  %14s  %14s\n", i,
                      (long long)in->offsets[i].log_start,
                      (long long)in->offsets[i].log_end, committed, target);
    }
}

static void print_plan(const struct command *c, FILE *to)
{
    for (uint32_t k = 0; k < c->input_count; k++) {
        (void)fprintf(to, "group %s, topic %s, state in %s\n", c->group,
                      c->inputs[k].topic,
                      c->store ? c->config->state_dir : "(none on this host)");
        print_input(&c->inputs[k], to);
    }
}

static json_t *offset_json(int64_t offset)
{
    return offset < 0 ? json_null() : json_integer(offset);
}

static json_t *input_json(const struct input *in)
{
    json_t *partitions = json_array();
    for (uint32_t i = 0; i < in->partitions; i++)
        (void)json_array_append_new(
            partitions,
            json_pack("{s:i, s:o, s:o, s:o, s:o}", "partition", (int)i,
                      "log_start", json_integer(in->offsets[i].log_start),
                      "log_end", json_integer(in->offsets[i].log_end),
                      "committed", offset_json(in->offsets[i].committed),
                      "becomes", offset_json(in->targets[i])));
    return partitions;
}

static void print_json(const struct command *c)
{
    json_t *out = json_pack("{s:s, s:s, s:s, s:b, s:i, s:I, s:o}", "stage",
                            stages_name(c->stage), "group", c->group, "topic",
                            c->inputs[INPUT_EVENTS].topic, "changed",
                            !c->dry_run, "families_dropped", (int)c->dropped,
                            "changelog_rows_cleared", (json_int_t)c->cleared,
                            "partitions", input_json(&c->inputs[INPUT_EVENTS]));
    if (c->input_count > 1)
        (void)json_object_set_new(out, "label_partitions",
                                  input_json(&c->inputs[INPUT_LABELS]));
    cli_print_json(out);
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
    if (!*stages_topic(c->config, c->stage, INPUT_EVENTS))
        return cli_complain(&c->cli, EXIT_CONFIG,
                            "the topic that the %s stage reads is not set: "
                            "whose offsets?",
                            stages_name(c->stage));
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
    for (uint32_t k = 0; k < c.input_count; k++) {
        free(c.inputs[k].offsets);
        free(c.inputs[k].targets);
    }
    config_free(c.config);
    return status;
}
