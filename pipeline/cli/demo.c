#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "collect_log.h"
#include "demo_live.h"
#include "demo_quality.h"
#include "demo_screen.h"
#include "log.h"
#include "mock_cluster.h"
#include "schemas.h"

enum {
    PATH_BYTES = 4096,
    DAY_MS = 86400000,
    PARTITIONS = 4,
    EPOCHS = 6,
    THREADS_MAX = 4,
    FILES_OPEN_MAX = 16,
    EVENTS_PER_USER = 90,
    EVENTS_MIN = 12000,
    EVENTS_DEFAULT = 90000,
    EVENTS_MAX = 200000, /* their history fits into the cluster */
};
static const double HISTORY_SHARE = 2.0 / 3;
static const double PACED_RATE = 300, PACED_SECONDS = 12;

struct demo {
    struct cli cli;
    const char *keep; /* NULL: the folder is removed at the end */
    char dir[PATH_BYTES];
    char events[PATH_BYTES], labels[PATH_BYTES], model[PATH_BYTES],
        conf[PATH_BYTES], scores[PATH_BYTES], lists[PATH_BYTES];
    struct demo_screen screen;
    struct demo_stream stream;
    struct mock_cluster *cluster;
    struct config *config;
    struct demo_live *live;
    struct demo_quality quality;
    struct train_progress trained; /* as of its last epoch */
    double train_seconds, fold_seconds, full_seconds;
    uint64_t paced_until; /* events up to here were sent at PACED_RATE */
    double p50_ms, p99_ms;
};

static volatile int stopped;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

/* ---- the folder ---- */

static enum rc make_paths(struct demo *d, struct err *e)
{
    const struct {
        char *to;
        const char *name;
    } paths[] = {
        {d->events, "events.avro"},
        {d->labels, "labels.avro"},
        {d->model, "model"},
        {d->conf, "demo.conf"},
        {d->scores, "fraud-scores.avro"},
        {d->lists, "recommendations.avro"},
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (snprintf(paths[i].to, PATH_BYTES, "%s/%s", d->dir, paths[i].name) >=
            PATH_BYTES)
            return ERR(e, RC_STOP, "'%s' is too long a path", d->dir);
    return RC_OK;
}

static enum rc make_folder(struct demo *d, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    if (d->keep) {
        if (mkdir(d->keep, 0777) != 0)
            return ERR(e, RC_STOP,
                       "making folder '%s': %s; --keep "
                       "takes one that does not exist yet",
                       d->keep, strerror(errno));
        if (!realpath(d->keep, d->dir))
            return ERR(e, RC_STOP, "folder '%s': %s", d->keep, strerror(errno));
    } else {
        (void)snprintf(d->dir, sizeof d->dir, "%s/millrace-demo-XXXXXX",
                       tmp && *tmp ? tmp : "/tmp");
        if (!mkdtemp(d->dir))
            return ERR(e, RC_STOP, "making folder '%s': %s", d->dir,
                       strerror(errno));
    }
    return make_paths(d, e);
}

static int remove_one(const char *path, const struct stat *about, int flag,
                      struct FTW *ftw)
{
    (void)about;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static void remove_folder(const struct demo *d)
{
    if (!d->keep && d->dir[0])
        (void)nftw(d->dir, remove_one, FILES_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
}

/* ---- configuration ---- */

static const char CONF[] =
    "# What `millrace demo` ran with. Offline, with the files beside it:\n"
    "#   millrace replay --config demo.conf events.avro\n"
    "input.topic  = events\n"
    "input.schema = transaction.avsc\n"
    "input.format = plain\n"
    "role.user     = user_id\n"
    "role.event_id = event_id\n"
    "role.item     = item_id\n"
    "role.time     = time\n"
    "role.amount   = amount\n"
    "role.type     = type\n"
    "role.category = category\n"
    "role.channel  = channel\n"
    "windows = 1h,1d,7d\n"
    "output.fraud.topic           = fraud-scores\n"
    "output.recommendations.topic = recommendations\n"
    "dead.letters.topic           = dead-letters\n"
    "output.format  = plain\n"
    "recommend.seen = true\n"
    "group.id  = millrace-demo\n"
    "delivery  = at_least_once\n"
    "state.dir = state\n"
    "model.dir = model\n"
    "admin.listen =\n"
    "# The in-process cluster answers a waiting fetch only when its time is\n"
    "# up; a real broker does so at once, and needs no such line.\n"
    "kafka.consumer.fetch.wait.max.ms = 2\n";

static enum rc write_text(const char *dir, const char *name, struct slice text,
                          struct err *e)
{
    char path[2 * PATH_BYTES];
    FILE *to;
    bool failed;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    to = fopen(path, "w");
    if (!to) return ERR(e, RC_STOP, "'%s': %s", path, strerror(errno));
    failed = fwrite(text.ptr, 1, text.len, to) != text.len;
    failed |= fclose(to) != 0;
    if (!failed) return RC_OK;
    return ERR(e, RC_STOP, "'%s': %s", path, strerror(errno));
}

static enum rc make_config(struct demo *d, struct err *e)
{
    char servers[PATH_BYTES];
    const char *sets[] = {servers};
    TRY(write_text(d->dir, "transaction.avsc", schemas_get("transaction"), e));
    TRY(write_text(d->dir, "demo.conf", slice_str(CONF), e));
    (void)snprintf(servers, sizeof servers, "kafka.bootstrap.servers=%s",
                   mock_cluster_servers(d->cluster));
    return config_load(&d->config, d->conf, sets, 1, e);
}

static enum rc start_cluster(struct demo *d, struct err *e)
{
    static const char *const TOPICS[] = {"events", "fraud-scores",
                                         "recommendations", "dead-letters"};
    TRY(mock_cluster_start(&d->cluster, 1, e));
    for (size_t i = 0; i < sizeof TOPICS / sizeof *TOPICS; i++)
        TRY(mock_cluster_topic(d->cluster, TOPICS[i], PARTITIONS, e));
    return make_config(d, e);
}

/* ---- 1: the stream ---- */

static enum rc make_stream(struct demo *d, struct err *e)
{
    struct generate_options *o = &d->stream.o;
    demo_screen_step(&d->screen, 1, "A stream to learn from");
    o->users = (uint32_t)(o->events / EVENTS_PER_USER);
    o->items = o->users;
    o->days = 45;
    o->fraud_rate = 0.015;
    o->label_delay_ms = INT64_C(3) * DAY_MS;
    TRY(demo_stream_make(&d->stream, d->events, d->labels, HISTORY_SHARE, e));
    demo_screen_say(
        &d->screen, "%llu events of %u shoppers and %u items over %.0f days",
        (unsigned long long)d->stream.count, o->users, o->items, o->days);
    demo_screen_say(&d->screen,
                    "%llu of them are fraud, in four ways; labels come 3 days "
                    "late",
                    (unsigned long long)d->stream.frauds);
    return RC_OK;
}

/* ---- 2: the model ---- */

static void give_up(const struct demo *d)
{
    remove_folder(d);
    (void)fputs("\nmillrace demo: interrupted\n", stderr);
    _exit(EXIT_FAILED);
}

static void on_training(void *user, const struct train_progress *p)
{
    struct demo *d = user;
    if (stopped) give_up(d); /* training has no other way out */
    if (p->epoch_end) {
        d->trained = *p;
        demo_screen_say(&d->screen,
                        "epoch %u of %u: loss %.2f; unseen days: next item "
                        "among 10 %.0f %%, fraud average precision %.2f",
                        p->epoch, EPOCHS, p->loss, p->validation_hit_rate * 100,
                        p->validation_average_precision);
        return;
    }
    demo_screen_status(
        &d->screen, "epoch %u, step %u of %u: loss %.2f, %.0f events/s",
        p->epoch, p->step, p->steps_per_epoch, p->loss, p->tokens_per_second);
}

static struct train_options training(const struct demo *d)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct train_options o;
    train_options_default(&o);
    o.epochs_max = EPOCHS;
    o.batch_tokens = 1024;
    o.learning_rate = 0.003f;
    o.warmup_steps = 40;
    o.until_ms = d->stream.split_ms;
    o.validate_from_ms = d->stream.split_ms - INT64_C(3) * DAY_MS;
    o.label_delay_ms = d->stream.o.label_delay_ms;
    o.threads = cores < 1             ? 1
                : cores > THREADS_MAX ? THREADS_MAX
                                      : (uint32_t)cores;
    o.command = "millrace demo";
    return o;
}

static enum rc train_on(struct demo *d, const struct labels *labels,
                        struct err *e)
{
    const struct train_options o = training(d);
    const char *paths[] = {d->events};
    const struct collect_log_options collect = {
        .config = d->config,
        .paths = paths,
        .path_count = 1,
        .labels = labels,
        .until_ms = o.until_ms,
        .known_ms = o.validate_from_ms,
        .names_max = o.items_max,
        .bytes_max = (size_t)1 << 30,
    };
    struct collect_log *log;
    enum rc rc;
    TRY(collect_log_read(&log, &collect, e));
    rc =
        train_behaviour(collect_log_rows(log), &o, d->model, on_training, d, e);
    collect_log_free(log);
    return rc;
}

static enum rc train(struct demo *d, struct err *e)
{
    const char *paths[] = {d->labels};
    struct labels *labels;
    uint64_t started_ns = metrics_now_ns();
    enum rc rc;
    demo_screen_step(&d->screen, 2,
                     "A model, trained on the first %.0f days, on this machine",
                     d->stream.o.days * HISTORY_SHARE);
    TRY(labels_read(&labels, paths, 1, e));
    rc = train_on(d, labels, e);
    labels_free(labels);
    d->train_seconds = (double)(metrics_now_ns() - started_ns) * 1e-9;
    return rc;
}

/* ---- 3 and 4: live ---- */

static void on_result(void *user, const struct demo_result *r)
{
    struct demo *d = user;
    demo_screen_result(&d->screen, r);
}

static void on_fold(void *user, uint64_t sent, uint64_t done)
{
    struct demo *d = user;
    demo_screen_status(&d->screen, "%llu of %llu events folded",
                       (unsigned long long)done, (unsigned long long)sent);
}

static void on_tick(void *user, uint64_t sent, uint64_t received)
{
    struct demo *d = user;
    if (!d->live) {
        on_fold(user, sent, received);
        return;
    }
    demo_screen_status(&d->screen, "%llu events in, %llu scored and back",
                       (unsigned long long)sent, (unsigned long long)received);
}

static enum rc start_live(struct demo *d, struct err *e)
{
    const struct demo_live_options o = {
        .stream = &d->stream,
        .cluster = d->cluster,
        .config = d->config,
        .result = on_result,
        .tick = on_tick,
        .user = d,
        .stopped = &stopped,
    };
    uint64_t started_ns = metrics_now_ns();
    demo_screen_step(&d->screen, 3, "A Kafka cluster within this process");
    demo_screen_say(&d->screen,
                    "librdkafka's own, at least once; it keeps 5 MB of a "
                    "partition, so at most");
    demo_screen_say(&d->screen, "%d events are under way at a time",
                    DEMO_UNDER_WAY);
    TRY(demo_live_open(&d->live, &o, e));
    TRY(demo_live_fold(d->live, e));
    d->fold_seconds = (double)(metrics_now_ns() - started_ns) * 1e-9;
    demo_screen_say(&d->screen,
                    "the worker folded %llu events of history, as after a "
                    "restart, in %.1f s",
                    (unsigned long long)d->stream.split, d->fold_seconds);
    return RC_OK;
}

static enum rc run_paced(struct demo *d, struct err *e)
{
    struct demo_screen *s = &d->screen;
    uint64_t count = (uint64_t)(PACED_RATE * PACED_SECONDS);
    double seconds;
    demo_screen_step(s, 4, "Live: %.0f events a second; here are some of them",
                     PACED_RATE);
    d->paced_until = d->stream.split + count;
    if (d->paced_until > d->stream.count) d->paced_until = d->stream.count;
    s->latency_max = (uint32_t)count;
    s->latencies_ms = calloc(count, sizeof *s->latencies_ms);
    if (!s->latencies_ms) return ERR(e, RC_STOP, "no memory");
    s->threshold = d->config->fraud_threshold;
    s->showing = true;
    demo_screen_say(s, "(anomaly 0.97: odder than 97 %% of what is normal; "
                       "times in ms from send to receipt)");
    TRY(demo_live_run(d->live, d->stream.split, d->paced_until, PACED_RATE,
                      &seconds, e));
    s->showing = false;
    d->p50_ms = demo_screen_latency_ms(s, 0.5);
    d->p99_ms = demo_screen_latency_ms(s, 0.99);
    demo_screen_say(s,
                    "from the producer's call to the consumer's receipt: "
                    "half within %.1f ms, 99 %% within %.1f ms",
                    d->p50_ms, d->p99_ms);
    return RC_OK;
}

static uint64_t full_events(const struct demo *d)
{
    return d->stream.count - d->paced_until;
}

static enum rc run_full(struct demo *d, struct err *e)
{
    demo_screen_step(&d->screen, 5, "Live: as fast as it goes");
    TRY(demo_live_run(d->live, d->paced_until, d->stream.count, 0,
                      &d->full_seconds, e));
    demo_screen_say(&d->screen,
                    "%llu events in %.1f s: %.0f a second, each with a fraud "
                    "score, an anomaly",
                    (unsigned long long)full_events(d), d->full_seconds,
                    (double)full_events(d) / d->full_seconds);
    demo_screen_say(&d->screen, "and ten recommendations, with one worker "
                                "beside producer, cluster and reader");
    return demo_live_stop(d->live, e);
}

/* ---- 6: quality ---- */

static double hit_rate(const struct ranking *r)
{
    return ranking_hit_rate(r, 2); /* RANKING_K[2] is 10 */
}

static enum rc measure(struct demo *d, struct err *e)
{
    const struct demo_quality_options o = {
        .stream = &d->stream,
        .config = d->config,
        .events_path = d->events,
        .scores_path = d->scores,
        .lists_path = d->lists,
    };
    const struct demo_quality *q = &d->quality;
    demo_screen_step(&d->screen, 6,
                     "How good was it, on days that training did not see?");
    TRY(demo_quality_measure(&d->quality, &o, e));
    demo_screen_say(&d->screen,
                    "fraud      average precision %.3f (by chance %.3f), AUC "
                    "%.3f",
                    q->fraud.average_precision, q->fraud.base_rate,
                    q->fraud.auc_roc);
    demo_screen_say(&d->screen,
                    "anomaly    average precision %.3f, AUC %.3f, without any "
                    "label",
                    q->anomaly.average_precision, q->anomaly.auc_roc);
    demo_screen_say(&d->screen,
                    "next item  among the ten recommended %.1f %%, among the "
                    "ten most popular %.1f %%",
                    hit_rate(&q->next.model) * 100,
                    hit_rate(&q->next.popular) * 100);
    demo_screen_say(&d->screen,
                    "replay     of the same log in %.1f s: %llu of %llu live "
                    "scores and %llu lists came",
                    q->replay_seconds, (unsigned long long)q->equal_scores,
                    (unsigned long long)q->compared,
                    (unsigned long long)q->equal_lists);
    demo_screen_say(&d->screen, "           out the same, bit for bit");
    if (q->equal_scores == q->compared && q->equal_lists == q->compared)
        return RC_OK;
    return ERR(e, RC_STOP,
               "the replay's scores differ from the live "
               "ones; please report this");
}

/* ---- the end ---- */

static void say_next(struct demo *d)
{
    struct demo_screen *s = &d->screen;
    demo_screen_step(s, 7, "What to try next");
    if (d->keep) {
        demo_screen_say(s, "millrace replay --config %s --labels %s %s",
                        d->conf, d->labels, d->events);
        demo_screen_say(s, "millrace cat %s | head", d->scores);
        demo_screen_say(s, "millrace inspect user u000011 --config %s",
                        d->conf);
    } else {
        demo_screen_say(s, "millrace demo --keep demo   # and look at its "
                           "files: millrace cat demo/events.avro | head");
    }
    demo_screen_say(s, "millrace import --help      # your own CSV or JSON "
                       "lines, then train and replay");
    demo_screen_say(s, "./ops/kafka up              # a real broker, then "
                       "millrace topics and millrace run");
    demo_screen_say(s, "README.md                   # connect your own topics "
                       "and schema");
}

static json_t *scores_json(const struct evaluate_result *r)
{
    return json_pack("{s:o, s:o, s:o}", "average_precision",
                     cli_json_real(r->average_precision), "auc_roc",
                     cli_json_real(r->auc_roc), "base_rate",
                     cli_json_real(r->base_rate));
}

static void print_json(const struct demo *d)
{
    const struct demo_quality *q = &d->quality;
    json_t *stream = json_pack(
        "{s:I, s:I, s:I, s:I}", "events", (json_int_t)d->stream.count,
        "history", (json_int_t)d->stream.split, "frauds",
        (json_int_t)d->stream.frauds, "labels", (json_int_t)d->stream.labels);
    json_t *live =
        json_pack("{s:o, s:o, s:o, s:I, s:o, s:o}", "paced_events_per_second",
                  cli_json_real(PACED_RATE), "p50_ms", cli_json_real(d->p50_ms),
                  "p99_ms", cli_json_real(d->p99_ms), "full_speed_events",
                  (json_int_t)full_events(d), "full_speed_events_per_second",
                  cli_json_real((double)full_events(d) / d->full_seconds),
                  "fold_seconds", cli_json_real(d->fold_seconds));
    json_t *quality = json_pack(
        "{s:o, s:o, s:o, s:o}", "fraud", scores_json(&q->fraud), "anomaly",
        scores_json(&q->anomaly), "hr_at_10",
        cli_json_real(hit_rate(&q->next.model)), "popularity_hr_at_10",
        cli_json_real(hit_rate(&q->next.popular)));
    json_t *replay =
        json_pack("{s:I, s:I, s:I, s:o}", "compared", (json_int_t)q->compared,
                  "equal_scores", (json_int_t)q->equal_scores, "equal_lists",
                  (json_int_t)q->equal_lists, "seconds",
                  cli_json_real(q->replay_seconds));
    cli_print_json(json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o}", "stream", stream, "train_seconds",
        cli_json_real(d->train_seconds), "live", live, "quality", quality,
        "replay", replay, "seconds",
        cli_json_real((double)metrics_now_ns() * 1e-9 - d->screen.started_s)));
}

static enum rc run(struct demo *d, struct err *e)
{
    TRY(make_folder(d, e));
    TRY(start_cluster(d, e));
    TRY(make_stream(d, e));
    TRY(train(d, e));
    TRY(start_live(d, e));
    TRY(run_paced(d, e));
    TRY(run_full(d, e));
    TRY(measure(d, e));
    say_next(d);
    return RC_OK;
}

static void close_all(struct demo *d)
{
    demo_live_close(d->live);
    config_free(d->config);
    mock_cluster_stop(d->cluster);
    demo_stream_fini(&d->stream);
    free(d->screen.latencies_ms);
    remove_folder(d);
}

static int parse(struct demo *d, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"keep", "DIR", CLI_TEXT, &d->keep,
         "make this folder and leave stream, model and scores in it"},
        {"events", "N", CLI_U64, &d->stream.o.events,
         "of the stream, 12000 to 200000 (default 90000)"},
        {"seed", "N", CLI_U64, &d->stream.o.seed, "another stream (default 1)"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "demo [options]",
        .about = "The whole thing on this machine, in about a minute: makes a "
                 "stream, trains a\nmodel, scores events through Kafka topics "
                 "of a cluster within this process, and\nmeasures what came "
                 "out. Needs no server and leaves nothing behind.",
        .uses = CLI_JSON,
        .options = options,
        .example = "millrace demo --keep demo",
    };
    int status;
    generate_options_default(&d->stream.o);
    d->stream.o.events = EVENTS_DEFAULT;
    status = cli_parse(&d->cli, &usage, argc, argv);
    if (status != CLI_GO) return status;
    if (d->cli.arg_count > 0)
        return cli_complain(&d->cli, EXIT_USAGE, "what is '%s'?",
                            d->cli.args[0]);
    if (d->stream.o.events < EVENTS_MIN || d->stream.o.events > EVENTS_MAX)
        return cli_complain(&d->cli, EXIT_USAGE, "--events takes %d to %d",
                            EVENTS_MIN, EVENTS_MAX);
    return CLI_GO;
}

int command_demo(int argc, char **argv)
{
    struct demo *d = calloc(1, sizeof *d);
    struct sigaction action = {.sa_handler = on_signal};
    struct err e;
    int status;
    if (!d) return EXIT_FAILED;
    status = parse(d, argc, argv);
    if (status == CLI_GO) {
        (void)sigaction(SIGINT, &action, NULL);
        (void)sigaction(SIGTERM, &action, NULL);
        log_set_level(LOG_WARN);
        demo_screen_start(&d->screen, d->cli.json ? stderr : stdout);
        status = EXIT_OK;
        if (run(d, &e) == RC_OK) {
            if (d->cli.json) print_json(d);
        } else {
            demo_screen_status(&d->screen, "%s", "");
            status = cli_fail(&d->cli, EXIT_FAILED, &e);
        }
        close_all(d);
    }
    free(d);
    return status;
}
