#include "replay.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "catalogue_read.h"
#include "cli.h"
#include "progress.h"
#include "reason_budget.h"
#include "replay_report.h"
#include "stages.h"
#include "verify_report.h"

enum { LOOK_EVERY_MS = 20, PAGE_FILES_MAX = 256 };

struct command {
    struct cli cli;
    struct config *config;
    struct model *model;
    struct metrics *metrics;
    struct labels *labels;
    struct logged_lists *logged;
    const char *logged_path;
    bool logged_topic;
    struct verify *verify; /* NULL: no record was given */
    struct cli_texts verify_paths;
    bool verify_topics;
    struct replay *replay;
    struct replay_options o;
    struct watch_options watch;
    struct evaluate_options evaluate;
    bool intervals;
    struct cli_texts label_paths;
    struct replay_report report;
    const char *page;    /* where the report goes, or NULL */
    const char *compare; /* another model's directory, or NULL */
    const char *const *words;
    uint32_t word_count;
    const char *catalogue_path;
    struct catalogue *catalogue; /* NULL: all items are available */
    const char *topic;
    uint32_t partition; /* UINT32_MAX: all */
    uint64_t from_offset, until_offset;
    int64_t known_from_ms;
};

/* Ctrl-C gives up; partly written files go away with it. */
static volatile sig_atomic_t stopped;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static int check_arguments(struct command *c)
{
    if (!c->topic && c->cli.arg_count == 0)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give container files or --topic NAME");
    if (c->topic && c->cli.arg_count > 0)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give files or --topic, not both");
    if (c->o.to_topics &&
        (c->o.fraud_path || c->o.recommendations_path || c->o.profiles_path))
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give files for scores or --to-topics, not both");
    if (c->logged_path && c->logged_topic)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give --off-policy or --off-policy-topic, not "
                            "both");
    if (c->o.to_topics && c->logged_topic)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "--off-policy-topic reads the topic that "
                            "--to-topics writes; give one of them");
    if (c->o.to_topics && c->verify_topics)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "--verify-topics reads the topics that "
                            "--to-topics writes; give one of them");
    if (c->o.snapshot && c->from_offset > 0)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "--snapshot says where to begin; leave "
                            "--from-offset out");
    if (c->o.state_partitions > 0 && !c->o.state_out)
        return cli_complain(&c->cli, EXIT_USAGE,
                            "--state-partitions is of --state-out; give both");
    if (c->o.workers > REPLAY_WORKERS_MAX)
        return cli_complain(&c->cli, EXIT_USAGE, "--workers %u is more than %d",
                            c->o.workers, REPLAY_WORKERS_MAX);
    return CLI_GO;
}

/* The options, in the order of --help. */
struct option_list {
    struct cli_option at[CLI_OPTIONS_MAX];
    uint32_t count;
};

static void add_options(struct option_list *l, const struct cli_option *more,
                        size_t bytes)
{
    uint32_t count = (uint32_t)(bytes / sizeof *more);
    assert(l->count + count < CLI_OPTIONS_MAX);
    memcpy(l->at + l->count, more, bytes);
    l->count += count;
}

static void add_outputs(struct option_list *l, struct command *c)
{
    const struct cli_option options[] = {
        {"fraud-to", "FILE", CLI_TEXT, &c->o.fraud_path,
         "fraud scores to this Avro file"},
        {"recommendations-to", "FILE", CLI_TEXT, &c->o.recommendations_path,
         "recommendations to this Avro file"},
        {"profiles-to", "FILE", CLI_TEXT, &c->o.profiles_path,
         "users' profiles to this Avro file"},
        {"features", "FILE", CLI_TEXT, &c->o.features_path,
         "what the fraud head saw of every event, with its label, to this "
         "Avro file"},
        {"to-topics", NULL, CLI_FLAG, &c->o.to_topics,
         "outputs to the topics of the configuration"},
        {"codec", "NAME", CLI_TEXT, &c->o.codec,
         "of files: null, deflate or zstandard (default)"},
        {"workers", "N", CLI_U32, &c->o.workers,
         "threads, each with a share of the users (default: workers)"},
    };
    add_options(l, options, sizeof options);
}

static void add_measures(struct option_list *l, struct command *c)
{
    const struct cli_option options[] = {
        {"labels", "FILE", CLI_TEXTS, &c->label_paths,
         "labels to measure with, beside those of role.label"},
        {"evaluate-from", "TIME", CLI_TIME, &c->evaluate.from_ms,
         "measure events from this time on"},
        {"evaluate-until", "TIME", CLI_TIME, &c->evaluate.until_ms,
         "measure events before this time"},
        {"known-fraud-from", "TIME", CLI_TIME, &c->known_from_ms,
         "leave out users with a fraud since this time that is known by the "
         "day of the event"},
        {"label-delay", "TIME", CLI_SPAN, &c->evaluate.known_delay_ms,
         "how long a fraud may stay unknown; after it an event that no file "
         "of --labels names is good (default 7d)"},
        {"reviews", "N", CLI_U32, &c->evaluate.reviews,
         "how many a day a team looks at, for the value found (default 100)"},
        {"intervals", NULL, CLI_FLAG, &c->intervals,
         "95 % intervals too (--report and --compare have them anyway)"},
        {"leave-one-out", NULL, CLI_FLAG, &c->watch.leave_one_out,
         "rank each user's last item among all items"},
        {"rank-all", NULL, CLI_FLAG, &c->watch.rank_all,
         "rank next items among all too, not only in the lists made"},
        {"baselines", NULL, CLI_FLAG, &c->watch.baselines,
         "measure simpler ways on the same events beside the model; one "
         "worker"},
        {"off-policy", "FILE", CLI_TEXT, &c->logged_path,
         "lists of a run that explored (recommendations with propensities): "
         "what the lists of this replay would have earned"},
        {"off-policy-topic", NULL, CLI_FLAG, &c->logged_topic,
         "the same with output.recommendations.topic"},
        {"compare", "DIR", CLI_TEXT, &c->compare,
         "measure this model over the same log too, and the differences"},
        {"report", "FILE", CLI_TEXT, &c->page,
         "what was measured, as one HTML page"},
    };
    add_options(l, options, sizeof options);
}

static void add_inputs(struct option_list *l, struct command *c)
{
    const struct cli_option options[] = {
        {"verify", "FILE", CLI_TEXTS, &c->verify_paths,
         "compare with the outputs of a recorded run; exit 4 if they differ, "
         "3 if the replay begins neither at offset 0 nor with --snapshot"},
        {"verify-topics", NULL, CLI_FLAG, &c->verify_topics,
         "the same with the output topics of the configuration"},
        {"catalogue", "FILE", CLI_TEXT, &c->catalogue_path,
         "which items may be listed (records CatalogueItem) instead of "
         "catalogue.topic"},
        {"snapshot", "DIR", CLI_TEXT, &c->o.snapshot,
         "begin with the rows of this snapshot, and where it ends"},
        {"state-out", "DIR", CLI_TEXT, &c->o.state_out,
         "write the rows at the end as a snapshot"},
        {"state-partitions", "N", CLI_U32, &c->o.state_partitions,
         "of --state-out: for a new topic of N partitions, from its first "
         "record on (default: for this log, as it goes on)"},
        {"topic", "NAME", CLI_TEXT, &c->topic,
         "replay this topic instead of files"},
        {"partition", "N", CLI_U32, &c->partition, "only this partition"},
        {"from-offset", "N", CLI_U64, &c->from_offset,
         "of the topic (default: its start)"},
        {"until-offset", "N", CLI_U64, &c->until_offset,
         "of the topic (default: its end)"},
    };
    add_options(l, options, sizeof options);
}

static void set_defaults(struct command *c)
{
    c->evaluate = evaluate_options_default();
    c->evaluate.known_delay_ms = INT64_C(7) * 86400000;
    c->known_from_ms = INT64_MIN;
    c->partition = UINT32_MAX;
    c->o.codec = "zstandard";
    c->until_offset = UINT64_MAX;
}

static int parse(struct command *c, int argc, char **argv)
{
    struct option_list options = {0};
    const struct cli_usage usage = {
        .synopsis = "replay [options] FILE...",
        .about =
            "Scores a log again: Avro container files, one log in the order "
            "given, or a range\nof a topic. The same spine as `run`, from an "
            "empty state. Without model.dir it\nfolds and counts. Where labels "
            "are known it measures; where items are, it ranks.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options.at,
        .example = "millrace replay --config shop.conf --set model.dir=model "
                   "--fraud-to scores.avro events.avro",
    };
    int status;
    set_defaults(c);
    add_outputs(&options, c);
    add_measures(&options, c);
    add_inputs(&options, c);
    c->words = (const char *const *)argv;
    c->word_count = (uint32_t)argc;
    status = cli_parse(&c->cli, &usage, argc, argv);
    return status != CLI_GO ? status : check_arguments(c);
}

static struct topic_range range_of(const struct command *c)
{
    return (struct topic_range){
        .topic = c->topic,
        .partition = c->partition == UINT32_MAX ? -1 : (int32_t)c->partition,
        .from = (int64_t)c->from_offset,
        .until = c->until_offset == UINT64_MAX ? -1 : (int64_t)c->until_offset,
    };
}

/* A run of the users stage is verified: it took its labels as they came, and
 * each of its scores says up to which. */
static bool follows_labels(const struct command *c)
{
    const struct config *o = c->config;
    return (c->verify_topics || c->verify_paths.count > 0) && c->topic &&
           c->label_paths.count == 0 && *o->labels_users_topic &&
           strcmp(c->topic, stages_topic(o, STAGE_USERS, INPUT_EVENTS)) == 0;
}

static const char *labels_topic(const struct command *c)
{
    return follows_labels(c) ? c->config->labels_users_topic
                             : c->config->labels_topic;
}

/* The configuration and the command line, put together. */
static void fill_options(struct command *c)
{
    c->o.config = c->config;
    c->o.model = c->model;
    c->o.metrics = c->metrics;
    c->o.paths = (const char *const *)c->cli.args;
    c->o.path_count = c->cli.arg_count;
    c->o.range = range_of(c);
    c->o.verify = c->verify;
    c->evaluate.intervals = c->intervals || c->page || c->compare;
    c->o.catalogue = c->catalogue;
    c->watch.model = c->model;
    c->o.labels.labels = c->labels;
    if (follows_labels(c)) {
        c->o.labels.known = verify_label_offset;
        c->o.labels.known_user = c->verify;
    }
    c->watch.labels = c->labels;
    c->watch.label_delay_ms = c->evaluate.known_delay_ms;
    c->watch.from_ms = c->evaluate.from_ms;
    c->watch.until_ms = c->evaluate.until_ms;
    c->watch.list_seen = c->config->recommend_seen;
    c->watch.popularity = c->o.workers == 1;
    c->watch.intervals = c->evaluate.intervals;
    c->watch.drift = c->page || c->watch.baselines;
    c->watch.logged = c->logged;
    c->watch.scale = c->config->role_amount_scale;
    c->evaluate.leave_out_known = c->known_from_ms != INT64_MIN;
    c->evaluate.known_from_ms = c->known_from_ms;
    if (c->model || c->o.features_path) c->o.watch = &c->watch;
}

static enum rc open_record(struct command *c, struct err *e)
{
    const struct topic_range range = range_of(c);
    if (c->verify_paths.count == 0 && !c->verify_topics) return RC_OK;
    if (!c->model)
        return ERR(e, RC_STOP, "verifying needs a model: set model.dir");
    TRY(verify_new(&c->verify, c->config, c->model, e));
    TRY(verify_begin(c->verify, c->topic ? &range : NULL, c->o.snapshot, e));
    for (uint32_t i = 0; i < c->verify_paths.count; i++)
        TRY(verify_read_file(c->verify, c->verify_paths.at[i], e));
    if (c->verify_topics) TRY(verify_read_topics(c->verify, e));
    if (verify_recorded(c->verify) > 0) return RC_OK;
    return ERR(e, RC_STOP, "there is no recorded output to verify");
}

/* A recorded run says as of which record each of its lists was made; without
 * one it is the newest. */
static enum rc open_catalogue(struct command *c, struct err *e)
{
    const struct config *o = c->config;
    if (!c->catalogue_path && !o->catalogue_topic[0]) return RC_OK;
    TRY(catalogue_new(&c->catalogue, o->catalogue_items_max,
                      c->verify ? verify_catalogue_offset : NULL, c->verify,
                      e));
    if (c->catalogue_path)
        return catalogue_read_file(c->catalogue, c->catalogue_path, e);
    return catalogue_read_topic(c->catalogue, o, e);
}

/* What cannot be done without a model. */
static enum rc check_model_less(const struct command *c, struct err *e)
{
    const char *what = c->compare                          ? "--compare"
                       : c->watch.leave_one_out            ? "--leave-one-out"
                       : c->watch.baselines                ? "--baselines"
                       : c->logged_path || c->logged_topic ? "--off-policy"
                                                           : NULL;
    if (!what) return RC_OK;
    return ERR(e, RC_STOP, "%s needs a model: set model.dir", what);
}

static enum rc open_logged(struct command *c, struct err *e)
{
    if (!c->logged_path && !c->logged_topic) return RC_OK;
    if (c->logged_topic && !c->config->output_recommendations_topic[0])
        return ERR(e, RC_STOP,
                   "--off-policy-topic: there is none; set "
                   "output.recommendations.topic");
    if (c->config->explore_rate > 0)
        return ERR(e, RC_STOP,
                   "--off-policy: this replay explores too; its best lists are "
                   "what can be valued: --set explore.rate=0");
    if (c->logged_path)
        TRY(logged_lists_read(&c->logged, c->logged_path, e));
    else
        TRY(logged_lists_read_topic(&c->logged, c->config, e));
    if (logged_lists_count(c->logged) > 0) return RC_OK;
    return ERR(e, RC_STOP, "%s: it has no list",
               c->logged_path ? c->logged_path
                              : c->config->output_recommendations_topic);
}

static enum rc open_all(struct command *c, struct err *e)
{
    /* More than there are lanes of users would have none (worker_share). */
    uint32_t workers_max = reason_lanes(c->config->reasons_per_second);
    if (c->o.workers == 0) c->o.workers = c->config->workers;
    if (c->o.workers > workers_max) c->o.workers = workers_max;
    if (c->o.features_path && c->o.workers > 1)
        return ERR(e, RC_STOP,
                   "--features needs one worker: its rows are in the order of "
                   "the log");
    if (c->config->model_dir[0])
        TRY(model_open(&c->model, c->config->model_dir, e));
    else
        TRY(check_model_less(c, e));
    if (c->watch.baselines && c->o.workers > 1)
        return ERR(e, RC_STOP,
                   "--baselines needs one worker: they learn from the whole "
                   "log in its order");
    if (c->label_paths.count > 0)
        TRY(labels_read(&c->labels, c->label_paths.at, c->label_paths.count,
                        e));
    else if (c->topic && *labels_topic(c))
        TRY(labels_read_topic(&c->labels, c->config, labels_topic(c), e));
    TRY(metrics_new(&c->metrics, c->o.workers, e));
    TRY(open_logged(c, e));
    TRY(open_record(c, e));
    TRY(open_catalogue(c, e));
    fill_options(c);
    return replay_start(&c->replay, &c->o, e);
}

static enum rc wait_for_end(struct command *c, struct err *e)
{
    const struct timespec pause = {.tv_nsec = LOOK_EVERY_MS * 1000000};
    struct progress p;
    enum rc rc;
    uint64_t done, total;
    replay_progress(c->replay, &done, &total);
    progress_start(&p, "replay", c->topic ? "events" : "bytes", (double)total);
    while (replay_running(c->replay) && !stopped) {
        replay_progress(c->replay, &done, &total);
        progress_update(&p, (double)done, NULL);
        (void)nanosleep(&pause, NULL);
    }
    c->report.seconds = progress_seconds(&p);
    progress_end(&p);
    if (stopped) return ERR(e, RC_STOP, "interrupted; nothing is written");
    rc = replay_join(c->replay, e);
    return rc;
}

/* How far from what was learned from, and what other lists had earned. */
static enum rc measure_more(struct command *c, struct watch *const *watches,
                            const struct evaluate *all, struct err *e)
{
    struct replay_report *r = &c->report;
    for (uint32_t i = 0; i < WATCH_COLUMNS; i++)
        TRY(drift_score(all, i, c->evaluate.from_ms, c->evaluate.until_ms,
                        &r->score_drift[i], e));
    TRY(watch_drift(watches, c->o.workers, &r->drift, e));
    r->off_policy = c->logged != NULL;
    if (!r->off_policy) return RC_OK;
    return watch_off_policy(watches, c->o.workers, &r->earned, &r->unmatched,
                            e);
}

static enum rc measure(struct command *c, struct err *e)
{
    struct watch *const *watches = replay_watches(c->replay);
    struct replay_report *r = &c->report;
    struct evaluate *all;
    /* Rows alone, without scores: --features needs no model. */
    if (!watches || !c->model) return RC_OK;
    r->measured = true;
    r->digest = watch_digest(watches, c->o.workers);
    r->next_popular = c->watch.popularity;
    r->reviews = c->evaluate.reviews;
    r->baselines = c->watch.baselines;
    r->intervals = c->evaluate.intervals;
    r->next_k_max = c->watch.rank_all ? UINT32_MAX : c->config->recommend_items;
    all = watch_scores(watches[0]);
    for (uint32_t w = 1; w < c->o.workers; w++)
        TRY(evaluate_merge(all, watch_scores(watches[w]), e));
    for (uint32_t i = 0; i < WATCH_COLUMNS; i++) {
        TRY(evaluate_detail(all, i, WATCH_AMOUNT, &c->evaluate, &r->scores[i],
                            &r->details[i], e));
    }
    TRY(measure_more(c, watches, all, e));
    TRY(watch_next(watches, c->o.workers, &r->next, e));
    if (!c->watch.leave_one_out) return RC_OK;
    r->left_one_out = true;
    return watch_leave_one_out(watches, c->o.workers, &r->leave_one_out, e);
}

static enum rc finish_report(struct command *c, struct err *e)
{
    c->report.metrics = c->metrics;
    c->report.model = c->model ? model_info(c->model) : NULL;
    c->report.workers = c->o.workers;
    if (!c->verify) return RC_OK;
    c->report.verified = true;
    verify_result(c->verify, &c->report.verify);
    return verify_report_first(&c->report.first, c->verify, e);
}

/* The other model over the same log, whose outputs go nowhere. The first
 * replay's rows are not needed any more. */
static enum rc replay_other(struct command *c, struct command *other,
                            struct err *e)
{
    replay_free(c->replay);
    c->replay = NULL;
    *other = *c;
    other->model = NULL;
    other->metrics = NULL;
    other->verify = NULL;
    other->report = (struct replay_report){0};
    other->o.fraud_path = other->o.recommendations_path = NULL;
    other->o.profiles_path = NULL;
    other->o.features_path = NULL;
    other->o.to_topics = false;
    TRY(model_open(&other->model, c->compare, e));
    TRY(metrics_new(&other->metrics, c->o.workers, e));
    fill_options(other);
    TRY(replay_start(&other->replay, &other->o, e));
    TRY(wait_for_end(other, e));
    TRY(measure(other, e));
    if (other->report.digest != c->report.digest)
        return ERR(e, RC_STOP,
                   "--compare: the second replay did not see the same events "
                   "and states; a topic that grows needs --until-offset, and "
                   "both models the same features");
    c->report.other = &other->report;
    return finish_report(other, e);
}

static void close_other(struct command *other)
{
    replay_free(other->replay);
    replay_report_free(&other->report);
    metrics_free(other->metrics);
    if (other->model) model_free(other->model);
}

/* The log's, the labels', the lists'. */
static uint32_t list_files(const struct command *c,
                           const char *files[PAGE_FILES_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->cli.arg_count && count < PAGE_FILES_MAX; i++)
        files[count++] = c->cli.args[i];
    for (uint32_t i = 0; i < c->label_paths.count && count < PAGE_FILES_MAX;
         i++)
        files[count++] = c->label_paths.at[i];
    if (c->logged_path && count < PAGE_FILES_MAX)
        files[count++] = c->logged_path;
    return count;
}

static enum rc write_page(struct command *c, struct err *e)
{
    const char *files[PAGE_FILES_MAX];
    const struct replay_page page = {.config = c->config,
                                     .words = c->words,
                                     .word_count = c->word_count,
                                     .files = files,
                                     .file_count = list_files(c, files)};
    return c->page ? replay_report_html(&c->report, &page, c->page, e) : RC_OK;
}

static void print(const struct command *c)
{
    if (c->cli.json)
        cli_print_json(replay_report_json(&c->report));
    else
        replay_report_print(&c->report);
}

static void close_all(struct command *c)
{
    replay_free(c->replay);
    replay_report_free(&c->report);
    catalogue_free(c->catalogue);
    verify_free(c->verify);
    metrics_free(c->metrics);
    labels_free(c->labels);
    logged_lists_free(c->logged);
    if (c->model) model_free(c->model);
    config_free(c->config);
}

int command_replay(int argc, char **argv)
{
    struct command c = {0}, other = {0};
    struct err e;
    enum rc rc;
    int status = parse(&c, argc, argv);
    if (status != CLI_GO) return status;
    c.config = cli_config(&c.cli);
    if (!c.config) return EXIT_CONFIG;
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    rc = open_all(&c, &e);
    if (rc == RC_OK) rc = wait_for_end(&c, &e);
    if (rc == RC_OK) rc = measure(&c, &e);
    if (rc == RC_OK) rc = finish_report(&c, &e);
    if (rc == RC_OK && c.compare) rc = replay_other(&c, &other, &e);
    if (rc == RC_OK) rc = write_page(&c, &e);
    if (rc == RC_OK)
        print(&c);
    else
        status =
            cli_fail(&c.cli, rc == RC_SKIP ? EXIT_CONFIG : EXIT_FAILED, &e);
    if (rc == RC_OK)
        status = replay_report_differs(&c.report) ? EXIT_DIFFERS : EXIT_OK;
    close_other(&other);
    close_all(&c);
    return status;
}
