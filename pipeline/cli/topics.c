/* topics - every topic that a configuration needs, printed or created.
 *
 * The state is a fold over the events, so by default they are kept for ever;
 * recommendations and profiles are compacted to the newest of each user.
 * Outputs get their timestamps from the broker's clock: they are sent with
 * their event's time, and those of an old log would be deleted as soon as they
 * are written, or cut into a segment for every week of it. A catalogue is
 * compacted and has one partition, whose order is the order of what lists saw.
 * A changelog is compacted; what it says of rows that are gone is kept for as
 * long as a host may be away (state.keep). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "kafka_client.h"
#include "sink_kafka.h"
#include "stages.h"

enum {
    TOPICS_MAX = 16,
    CREATE_WAIT_MS = 30000,
    KNOWN_PAUSE_MS = 50,
    SETTINGS_MAX = 4,
    DAY_MS = 86400000,
    /* Lists of that time can be made again, as of what they saw. */
    CATALOGUE_LAG_MS = 7 * DAY_MS,
    VALUE_BYTES = 32,
};

enum topic_use {
    TOPIC_EVENTS,
    TOPIC_LABELS,
    TOPIC_CATALOGUE,
    TOPIC_OUTPUT,
    TOPIC_LISTS,
    TOPIC_ROWS
};

struct topic {
    const char *name, *option;
    enum topic_use use;
    const char *status;  /* "exists", "missing", "created", "unknown" */
    uint32_t partitions; /* as they are, or as they would be created */
    char retention[VALUE_BYTES], bytes[VALUE_BYTES];
    struct kafka_setting settings[SETTINGS_MAX]; /* ends with key NULL */
};

struct command {
    struct cli cli;
    struct config *config;
    uint32_t partitions, replicas;
    int64_t retention_ms;
    bool create;
    const char *principal;
    struct topic topics[TOPICS_MAX];
    uint32_t count;
};

/* ---- the list --------------------------------------------------------- */

static bool is_compacted(const struct topic *t)
{
    return t->use == TOPIC_LISTS || t->use == TOPIC_ROWS ||
           t->use == TOPIC_CATALOGUE;
}

static void add_settings(const struct command *c, struct topic *t)
{
    int64_t keep_ms =
        c->config->state_keep > DAY_MS ? c->config->state_keep : DAY_MS;
    uint64_t message_bytes =
        c->config->changelog_row_bytes_max + SINK_KAFKA_ROW_EXTRA_BYTES;
    struct kafka_setting *s = t->settings;

    if (t->use == TOPIC_LISTS || t->use == TOPIC_OUTPUT)
        *s++ =
            (struct kafka_setting){"message.timestamp.type", "LogAppendTime"};
    if (is_compacted(t))
        *s++ = (struct kafka_setting){"cleanup.policy", "compact"};
    if (t->use == TOPIC_CATALOGUE) {
        (void)snprintf(t->retention, sizeof t->retention, "%lld",
                       (long long)CATALOGUE_LAG_MS);
        *s++ = (struct kafka_setting){"min.compaction.lag.ms", t->retention};
    }
    if (t->use == TOPIC_ROWS) {
        (void)snprintf(t->retention, sizeof t->retention, "%lld",
                       (long long)keep_ms);
        *s++ = (struct kafka_setting){"delete.retention.ms", t->retention};
        (void)snprintf(t->bytes, sizeof t->bytes, "%llu",
                       (unsigned long long)message_bytes);
        *s++ = (struct kafka_setting){"max.message.bytes", t->bytes};
    }
    if (is_compacted(t)) return;
    *s++ = (struct kafka_setting){"cleanup.policy", "delete"};
    if (t->use == TOPIC_OUTPUT)
        (void)snprintf(t->retention, sizeof t->retention, "%lld",
                       (long long)c->retention_ms);
    else
        (void)snprintf(t->retention, sizeof t->retention, "-1");
    *s++ = (struct kafka_setting){"retention.ms", t->retention};
}

static void add(struct command *c, const char *name, const char *option,
                enum topic_use use)
{
    struct topic *t = &c->topics[c->count];

    if (!*name) return;
    for (uint32_t i = 0; i < c->count; i++)
        if (strcmp(c->topics[i].name, name) == 0) return;
    *t = (struct topic){.name = name,
                        .option = option,
                        .use = use,
                        .status = "unknown",
                        .partitions =
                            use == TOPIC_CATALOGUE ? 1 : c->partitions};
    add_settings(c, t);
    c->count++;
}

static void make_list(struct command *c)
{
    const struct config *o = c->config;
    add(c, o->input_topic, "input.topic", TOPIC_EVENTS);
    if (stages_has(o, STAGE_ROUTE) && stages_has(o, STAGE_ITEMS))
        add(c, o->items_topic, "items.topic", TOPIC_EVENTS);
    if (stages_has(o, STAGE_ROUTE) || stages_has(o, STAGE_ITEMS))
        add(c, o->enriched_topic, "enriched.topic", TOPIC_EVENTS);
    add(c, o->labels_topic, "labels.topic", TOPIC_LABELS);
    if (stages_has(o, STAGE_ITEMS))
        add(c, o->labels_items_topic, "labels.items.topic", TOPIC_LABELS);
    add(c, o->labels_users_topic, "labels.users.topic", TOPIC_LABELS);
    add(c, o->catalogue_topic, "catalogue.topic", TOPIC_CATALOGUE);
    add(c, o->output_fraud_topic, "output.fraud.topic", TOPIC_OUTPUT);
    add(c, o->output_recommendations_topic, "output.recommendations.topic",
        TOPIC_LISTS);
    add(c, o->output_profile_topic, "output.profile.topic", TOPIC_LISTS);
    add(c, o->dead_letters_topic, "dead.letters.topic", TOPIC_OUTPUT);
    add(c, o->changelog_topic, "changelog.topic", TOPIC_ROWS);
    if (stages_has(o, STAGE_ITEMS))
        add(c, o->changelog_items_topic, "changelog.items.topic", TOPIC_ROWS);
}

/* ---- the cluster ------------------------------------------------------ */

static enum rc look_up(struct command *c, rd_kafka_t *rk, struct err *e)
{
    for (uint32_t i = 0; i < c->count; i++) {
        struct topic *t = &c->topics[i];
        enum rc rc = kafka_topic_partitions(rk, t->name, &t->partitions, e);
        if (rc == RC_AGAIN) return rc;
        t->status = rc == RC_OK ? "exists" : "missing";
    }
    return RC_OK;
}

static enum rc fill_request(const struct command *c, const struct topic *t,
                            rd_kafka_NewTopic_t **out, struct err *e)
{
    char text[KAFKA_ERROR_BYTES];

    *out = rd_kafka_NewTopic_new(t->name, (int)t->partitions,
                                 c->replicas ? (int)c->replicas : -1, text,
                                 sizeof text);
    if (!*out) return ERR(e, RC_STOP, "creating topic '%s': %s", t->name, text);
    for (const struct kafka_setting *s = t->settings; s->key; s++)
        (void)rd_kafka_NewTopic_set_config(*out, s->key, s->value);
    return RC_OK;
}

static enum rc read_answer(struct topic *t, rd_kafka_event_t *answer,
                           struct err *e)
{
    const rd_kafka_topic_result_t **results;
    const rd_kafka_CreateTopics_result_t *result;
    size_t count;
    rd_kafka_resp_err_t error;

    if (!answer)
        return ERR(e, RC_STOP, "creating topic '%s': no answer in %d s",
                   t->name, CREATE_WAIT_MS / 1000);
    if (rd_kafka_event_error(answer))
        return ERR(e, RC_STOP, "creating topic '%s': %s", t->name,
                   rd_kafka_event_error_string(answer));
    result = rd_kafka_event_CreateTopics_result(answer);
    results = rd_kafka_CreateTopics_result_topics(result, &count);
    error = count == 1 ? rd_kafka_topic_result_error(results[0])
                       : RD_KAFKA_RESP_ERR__BAD_MSG;
    if (error && error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        return ERR(e, RC_STOP, "creating topic '%s': %s", t->name,
                   count == 1 ? rd_kafka_topic_result_error_string(results[0])
                              : rd_kafka_err2str(error));
    t->status = error ? "exists" : "created";
    return RC_OK;
}

static enum rc create(const struct command *c, struct topic *t, rd_kafka_t *rk,
                      struct err *e)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_NewTopic_t *request = NULL;
    rd_kafka_event_t *answer = NULL;
    enum rc rc = fill_request(c, t, &request, e);

    if (rc == RC_OK) {
        rd_kafka_CreateTopics(rk, &request, 1, NULL, queue);
        answer = rd_kafka_queue_poll(queue, CREATE_WAIT_MS);
        rc = read_answer(t, answer, e);
    }
    if (answer) rd_kafka_event_destroy(answer);
    if (request) rd_kafka_NewTopic_destroy(request);
    rd_kafka_queue_destroy(queue);
    return rc;
}

/* A topic that the controller has made is not known to every broker yet, and
 * who comes after this command should find it. */
static enum rc wait_until_known(const struct topic *t, rd_kafka_t *rk,
                                struct err *e)
{
    const struct timespec pause = {.tv_nsec = KNOWN_PAUSE_MS * 1000000L};
    uint32_t partitions;
    enum rc rc;

    for (int waited_ms = 0;; waited_ms += KNOWN_PAUSE_MS) {
        rc = kafka_topic_partitions(rk, t->name, &partitions, e);
        if (rc == RC_OK || waited_ms >= CREATE_WAIT_MS) return rc;
        (void)nanosleep(&pause, NULL);
    }
}

/* Outputs get as many partitions as the events that are there. */
static enum rc ask_cluster(struct command *c, struct err *e)
{
    rd_kafka_conf_t *conf;
    rd_kafka_t *rk;
    enum rc rc;

    TRY(kafka_conf_new(&conf, c->config, KAFKA_ADMIN, NULL, NULL, e));
    TRY(kafka_client_new(&rk, conf, KAFKA_ADMIN, e));
    rc = look_up(c, rk, e);
    for (uint32_t i = 0; rc == RC_OK && i < c->count; i++) {
        struct topic *t = &c->topics[i];
        if (strcmp(t->status, "missing") != 0) continue;
        if (c->topics[0].use == TOPIC_EVENTS && t->use != TOPIC_CATALOGUE)
            t->partitions = c->topics[0].partitions;
        if (c->create) rc = create(c, t, rk, e);
        if (rc == RC_OK && c->create) rc = wait_until_known(t, rk, e);
    }
    rd_kafka_destroy(rk);
    return rc;
}

/* ---- printing --------------------------------------------------------- */

static bool is_read(const struct topic *t)
{
    return t->use == TOPIC_EVENTS || t->use == TOPIC_LABELS ||
           t->use == TOPIC_CATALOGUE;
}

static const char *operation(const struct topic *t)
{
    if (t->use == TOPIC_ROWS) return "Read --operation Write";
    return is_read(t) ? "Read" : "Write";
}

/* What run needs, in the words of kafka-acls. */
static json_t *make_acls(const struct command *c)
{
    json_t *acls = json_array();
    const char *group = c->config->group_id;

    for (uint32_t i = 0; i < c->count; i++)
        (void)json_array_append_new(
            acls, json_sprintf("--operation Describe --operation %s --topic %s",
                               operation(&c->topics[i]), c->topics[i].name));
    (void)json_array_append_new(
        acls, json_sprintf("--operation Describe --operation Read --group %s",
                           group));
    if (c->config->delivery == EXACTLY_ONCE)
        (void)json_array_append_new(
            acls, json_sprintf("--operation Describe --operation Write "
                               "--resource-pattern-type prefixed "
                               "--transactional-id %s.users.",
                               group));
    return acls;
}

static json_t *topic_json(const struct topic *t)
{
    json_t *settings = json_object();
    for (const struct kafka_setting *s = t->settings; s->key; s++)
        (void)json_object_set_new(settings, s->key, json_string(s->value));
    return json_pack("{s:s, s:s, s:s, s:i, s:o}", "topic", t->name, "option",
                     t->option, "status", t->status, "partitions",
                     (int)t->partitions, "settings", settings);
}

static void print_json(const struct command *c)
{
    json_t *topics = json_array();
    for (uint32_t i = 0; i < c->count; i++)
        (void)json_array_append_new(topics, topic_json(&c->topics[i]));
    cli_print_json(
        json_pack("{s:o, s:o}", "topics", topics, "acls", make_acls(c)));
}

static void print_text(const struct command *c)
{
    json_t *acls = make_acls(c), *acl;
    size_t i;

    for (i = 0; i < c->count; i++) {
        const struct topic *t = &c->topics[i];
        (void)printf("%-8s %-24s %3u partitions ", t->status, t->name,
                     t->partitions);
        for (const struct kafka_setting *s = t->settings; s->key; s++)
            (void)printf(" %s=%s", s->key, s->value);
        (void)printf("  (%s)\n", t->option);
    }
    (void)printf("\nWhere the cluster asks for rights, grant:\n");
    json_array_foreach(acls, i, acl)(void)
        printf("  kafka-acls --add --allow-principal %s %s\n", c->principal,
               json_string_value(acl));
    json_decref(acls);
}

/* ---- the command ------------------------------------------------------ */

static int parse(struct command *c, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"create", NULL, CLI_FLAG, &c->create, "make those that are missing"},
        {"partitions", "N", CLI_U32, &c->partitions,
         "of new topics (default 8; outputs: as many as the events have)"},
        {"replicas", "N", CLI_U32, &c->replicas,
         "of new topics (default: the broker's)"},
        {"retention", "TIME", CLI_SPAN, &c->retention_ms,
         "of new scores and dead letters (default 30d)"},
        {"principal", "NAME", CLI_TEXT, &c->principal,
         "whom the printed ACLs name (default User:millrace)"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "topics [options]",
        .about = "Prints every topic that the configuration needs, with its "
                 "settings, whether the\ncluster has it, and the ACLs that "
                 "run needs; --create makes what is missing.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace topics --create "
                   "--set kafka.bootstrap.servers=127.0.0.1:19092 \\\n"
                   "    --set input.topic=events "
                   "--set output.fraud.topic=fraud",
    };
    int status = cli_parse(&c->cli, &usage, argc, argv);

    if (status != CLI_GO) return status;
    if (c->cli.arg_count > 0)
        return cli_complain(&c->cli, EXIT_USAGE, "takes no argument '%s'",
                            c->cli.args[0]);
    if (c->partitions == 0)
        return cli_complain(&c->cli, EXIT_USAGE, "--partitions: at least 1");
    return CLI_GO;
}

static int report(struct command *c)
{
    struct err e;
    bool has_cluster =
        kafka_property(c->config, KAFKA_ADMIN, "bootstrap.servers") != NULL;

    make_list(c);
    if (c->count == 0)
        return cli_complain(&c->cli, EXIT_CONFIG,
                            "the configuration names no topic; set "
                            "input.topic and output.fraud.topic");
    if ((c->create || has_cluster) && ask_cluster(c, &e) != RC_OK)
        return cli_fail(&c->cli, EXIT_FAILED, &e);
    if (c->cli.json)
        print_json(c);
    else
        print_text(c);
    return EXIT_OK;
}

int command_topics(int argc, char **argv)
{
    struct command c = {.partitions = 8,
                        .retention_ms = INT64_C(30) * DAY_MS,
                        .principal = "User:millrace"};
    int status = parse(&c, argc, argv);

    if (status != CLI_GO) return status;
    c.config = cli_config(&c.cli);
    if (!c.config) return EXIT_CONFIG;
    status = report(&c);
    config_free(c.config);
    return status;
}
