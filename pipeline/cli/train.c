#include "train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "collect_log.h"
#include "progress.h"
#include "train_search.h"

enum { COMMAND_BYTES = 2048, NOTE_BYTES = 160 };

struct command {
    struct cli cli;
    struct config *config;
    struct train_options o;
    struct cli_texts label_paths;
    const char *out, *topic;
    int64_t from_ms, validate_from_ms, until_ms, fraud_from_ms;
    int64_t label_delay_ms, validate_for_ms;
    /* Read as doubles, kept as floats by train_options. */
    double learning_rate, weight_decay, dropout, clip_norm, fraud_weight,
        average, temperature, good_share, minutes_max;
    bool kv_f32;
    uint32_t search;
    uint64_t memory_bytes;
    char command[COMMAND_BYTES];

    struct labels *labels;
    struct collect_log *log;
    const struct train_log *rows; /* of log */
    struct progress progress;
    char *table;       /* of the search, for the card */
    double reported_s; /* when the last JSON line of a step was printed */
};

/* --- command line ------------------------------------------------------- */

/* Three quarters of the machine's memory. */
static uint64_t default_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || size <= 0) return UINT64_C(1) << 30;
    return (uint64_t)pages * (uint64_t)size / 4 * 3;
}

static void set_defaults(struct command *c)
{
    train_options_default(&c->o);
    c->from_ms = c->o.from_ms;
    c->validate_from_ms = c->o.validate_from_ms;
    c->until_ms = c->o.until_ms;
    c->fraud_from_ms = c->o.fraud_from_ms;
    c->label_delay_ms = INT64_C(7) * 86400000;
    c->learning_rate = (double)c->o.learning_rate;
    c->weight_decay = (double)c->o.weight_decay;
    c->dropout = (double)c->o.dropout;
    c->clip_norm = (double)c->o.clip_norm;
    c->fraud_weight = (double)c->o.fraud_weight;
    c->average = (double)c->o.average;
    c->temperature = (double)c->o.temperature;
    c->o.layers = c->o.width = c->o.heads = c->o.ffn = c->o.window = 0;
    c->o.item_buckets = c->o.fraud_heads = c->o.fraud_width = 0;
    c->good_share = (double)c->o.good_share;
    c->memory_bytes = default_memory();
}

/* A shape that was not given is that of the model to go on from; without one,
 * the default. */
static void keep_shape(struct train_options *o)
{
    struct train_options shape;
    train_options_default(&shape);
    if (o->from) return;
    if (!o->layers) o->layers = shape.layers;
    if (!o->width) o->width = shape.width;
    if (!o->heads) o->heads = shape.heads;
    if (!o->ffn) o->ffn = shape.ffn;
    if (!o->window) o->window = shape.window;
    if (!o->item_buckets) o->item_buckets = shape.item_buckets;
    if (!o->fraud_heads) o->fraud_heads = shape.fraud_heads;
    if (!o->fraud_width) o->fraud_width = shape.fraud_width;
}

static void keep_options(struct command *c)
{
    keep_shape(&c->o);
    c->o.from_ms = c->from_ms;
    c->o.validate_from_ms = c->validate_from_ms;
    c->o.until_ms = c->until_ms;
    c->o.fraud_from_ms = c->fraud_from_ms;
    c->o.label_delay_ms = c->label_delay_ms;
    c->o.learning_rate = (float)c->learning_rate;
    c->o.weight_decay = (float)c->weight_decay;
    c->o.dropout = (float)c->dropout;
    c->o.clip_norm = (float)c->clip_norm;
    c->o.fraud_weight = (float)c->fraud_weight;
    c->o.average = (float)c->average;
    c->o.temperature = (float)c->temperature;
    c->o.good_share = (float)c->good_share;
    c->o.seconds_max = c->minutes_max * 60;
    c->o.kv_bf16 = !c->kv_f32;
    c->o.command = c->command;
}

/* The command as it was given, for the model card. */
static void keep_command(struct command *c, int argc, char **argv)
{
    size_t used = (size_t)snprintf(c->command, sizeof c->command, "millrace");
    for (int i = 0; i < argc && used < sizeof c->command - 1; i++) {
        int more = snprintf(c->command + used, sizeof c->command - used, " %s",
                            argv[i]);
        if (more > 0) used += (size_t)more;
    }
}

#define TRAIN_OPTIONS                                                          \
    {"out", "DIR", CLI_TEXT, &c->out, "the model directory to make"},          \
        {"topic", "NAME", CLI_TEXT, &c->topic, "a topic instead of files"},    \
        {"labels", "FILE", CLI_TEXTS, &c->label_paths,                         \
         "labels, beside those of role.label"},                                \
        {"from", "DIR", CLI_TEXT, &c->o.from,                                  \
         "go on from this model: its shape and ids stay, new ids are added"},  \
        {"learn-from", "TIME", CLI_TIME, &c->from_ms,                          \
         "learn from events from here on; earlier ones are context"},          \
        {"validate-from", "TIME", CLI_TIME, &c->validate_from_ms,              \
         "validate on events from here on (default: the last tenth)"},         \
        {"until", "TIME", CLI_TIME, &c->until_ms,                              \
         "leave out events from here"},                                        \
    {                                                                          \
        "leave-one-out", NULL, CLI_FLAG, &c->o.leave_one_out,                  \
            "keep each user's last event for the test, validate on the one "   \
            "before"                                                           \
    }

static const struct cli_usage *usage_of(struct command *c)
{
    static struct cli_option options[CLI_OPTIONS_MAX];
    static struct cli_usage usage;
    const struct cli_option all[] = {
        TRAIN_OPTIONS,
        {"fraud-from", "TIME", CLI_TIME, &c->fraud_from_ms,
         "learn fraud from events from here on"},
        {"fraud-span", "TIME", CLI_SPAN, &c->o.fraud_span_ms,
         "and only from so long before the last whose label is known"},
        {"label-delay", "TIME", CLI_SPAN, &c->label_delay_ms,
         "labels are known after this long, and an event without one is good "
         "(default 7d)"},
        {"known-span", "TIME", CLI_SPAN, &c->o.known_span_ms,
         "validate without users who had a fraud known by the day, up to so "
         "long before the validation"},
        {"refit", NULL, CLI_FLAG, &c->o.refit,
         "when validation has chosen, learn again from all before --until"},
        {"epochs", "N", CLI_U32, &c->o.epochs_max, "at most (default 20)"},
        {"pretrain-epochs", "N", CLI_U32, &c->o.pretrain_epochs,
         "of them, first, on the next event alone; the rest on users with a "
         "label (default 0: all on all)"},
        {"patience", "N", CLI_U32, &c->o.patience,
         "epochs without a gain before it stops (default 3)"},
        {"minutes", "N", CLI_F64, &c->minutes_max,
         "stop after the epoch that passes this"},
        {"window", "W", CLI_U32, &c->o.window,
         "context: W to 2 W events (default 50)"},
        {"width", "D", CLI_U32, &c->o.width, "of a state (default 64)"},
        {"layers", "N", CLI_U32, &c->o.layers, "(default 2)"},
        {"heads", "N", CLI_U32, &c->o.heads, "of attention (default 2)"},
        {"ffn", "N", CLI_U32, &c->o.ffn, "inner width (default 256)"},
        {"items-max", "N", CLI_U32, &c->o.items_max,
         "most items in the vocabulary (default 1000000)"},
        {"item-buckets", "N", CLI_U32, &c->o.item_buckets,
         "hashed rows for other items (default 64)"},
        {"batch-tokens", "N", CLI_U32, &c->o.batch_tokens,
         "of one step (default: 32 contexts, 1024 to 16384 tokens)"},
        {"negatives", "N", CLI_U32, &c->o.negatives,
         "sampled items in the loss; 0: all (default: all up to 4096, else "
         "1024)"},
        {"learning-rate", "R", CLI_F64, &c->learning_rate, "(default 0.002)"},
        {"weight-decay", "R", CLI_F64, &c->weight_decay, "(default 0.01)"},
        {"dropout", "R", CLI_F64, &c->dropout,
         "(default: 0.1 to 0.5, the more the fewer events an item has)"},
        {"average", "R", CLI_F64, &c->average,
         "kept in a step of the weights' average, which becomes the model; 0: "
         "the weights themselves (default 0.999)"},
        {"temperature", "R", CLI_F64, &c->temperature,
         "an item's score is a cosine over this; 0: a product (default: 0.1, "
         "with labels 0)"},
        {"clip-norm", "R", CLI_F64, &c->clip_norm, "(default 1)"},
        {"warmup-steps", "N", CLI_U32, &c->o.warmup_steps, "(default 100)"},
        {"fraud-heads", "N", CLI_U32, &c->o.fraud_heads,
         "whose mean is the probability (default 4)"},
        {"fraud-width", "N", CLI_U32, &c->o.fraud_width, "(default 32)"},
        {"fraud-weight", "R", CLI_F64, &c->fraud_weight,
         "of its loss in the whole; 0: none (default 1)"},
        {"segments", "K", CLI_U32, &c->o.segments,
         "groups of users; 0: none (default 8)"},
        {"good-share", "R", CLI_F64, &c->good_share,
         "of good events in an epoch's fraud loss (default 1)"},
        {"cache-f32", NULL, CLI_FLAG, &c->kv_f32,
         "cached keys and values in 4 bytes instead of 2"},
        {"search", "N", CLI_U32, &c->search,
         "try N settings on the validation, these first; train with the best"},
        {"seed", "N", CLI_U64, &c->o.seed, "(default 1)"},
        {"threads", "N", CLI_U32, &c->o.threads,
         "(default 2); the model does not depend on it"},
        {"memory", "SIZE", CLI_SIZE, &c->memory_bytes,
         "most the log may take (default: 3/4 of the machine's)"},
        {0},
    };
    _Static_assert(sizeof all <= sizeof options, "raise CLI_OPTIONS_MAX");
    memcpy(options, all, sizeof all);
    usage = (struct cli_usage){
        .synopsis = "train behaviour [options] --out DIR FILE...",
        .about = "Trains the behaviour transformer on a log (Avro container "
                 "files or a topic) and\nwrites a model directory. The log is "
                 "folded by the code that serves it. The same\nlog, options "
                 "and build give the same model.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace train behaviour --config shop.conf --out model "
                   "--validate-from 2026-02-15 events.avro",
    };
    return &usage;
}

static bool is_directory(const char *path)
{
    struct stat at;
    return stat(path, &at) == 0 && S_ISDIR(at.st_mode);
}

static int parse(struct command *c, int argc, char **argv)
{
    int status;
    set_defaults(c);
    keep_command(c, argc, argv);
    if (argc > 1 && strcmp(argv[1], "behaviour") == 0) {
        argv[1] = argv[0];
        argc--;
        argv++;
    } else if (argc > 1 && argv[1][0] != '-') {
        (void)fprintf(stderr,
                      "millrace train: no model '%s'; there is: "
                      "millrace train behaviour\n",
                      argv[1]);
        return EXIT_USAGE;
    }
    status = cli_parse(&c->cli, usage_of(c), argc, argv);
    if (status != CLI_GO) return status;
    if (!c->out) return cli_complain(&c->cli, EXIT_USAGE, "give --out DIR");
    if (!c->topic == (c->cli.arg_count == 0))
        return cli_complain(&c->cli, EXIT_USAGE,
                            "give container files or --topic NAME");
    if (c->o.from && !is_directory(c->o.from))
        return cli_complain(&c->cli, EXIT_USAGE,
                            "--from %s is not a model directory; the time to "
                            "learn from is --learn-from",
                            c->o.from);
    if (c->search > SEARCH_TRIALS_MAX)
        return cli_complain(&c->cli, EXIT_USAGE, "--search %u, at most %d",
                            c->search, SEARCH_TRIALS_MAX);
    keep_options(c);
    return CLI_GO;
}

/* --- the log ------------------------------------------------------------ */

static void reading(void *user, double done, double total)
{
    struct command *c = user;
    c->progress.total = total;
    progress_update(&c->progress, done, NULL);
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Without --validate-from the newest tenth of the events validates. */
static enum rc choose_validation(struct command *c, struct err *e)
{
    int64_t *times;
    if (c->o.leave_one_out || c->o.validate_from_ms != INT64_MAX) return RC_OK;
    if (c->rows->rows == 0) return RC_OK; /* train says so */
    times = malloc(c->rows->rows * sizeof *times);
    if (!times) return ERR(e, RC_STOP, "train: no memory");
    for (uint64_t i = 0; i < c->rows->rows; i++)
        times[i] = c->rows->events[i].time_ms;
    qsort(times, c->rows->rows, sizeof *times, by_time);
    c->o.validate_from_ms = times[c->rows->rows - c->rows->rows / 10 - 1];
    free(times);
    return RC_OK;
}

static enum rc read_log(struct command *c, struct err *e)
{
    const struct topic_range range = {
        .topic = c->topic, .partition = -1, .until = -1};
    struct collect_log_options o = {
        .config = c->config,
        .paths = (const char *const *)c->cli.args,
        .path_count = c->cli.arg_count,
        .range = &range,
        .until_ms = c->until_ms,
        .known_ms = c->o.leave_one_out ? INT64_MAX : c->validate_from_ms,
        .label_delay_ms = c->label_delay_ms,
        .names_max = c->o.items_max,
        .bytes_max = c->memory_bytes,
        .progress = reading,
        .user = c,
    };
    enum rc rc;
    if (c->label_paths.count > 0)
        TRY(labels_read(&c->labels, c->label_paths.at, c->label_paths.count,
                        e));
    else if (c->topic && c->config->labels_topic[0])
        TRY(labels_read_topic(&c->labels, c->config, c->config->labels_topic,
                              e));
    o.labels = c->labels;
    progress_start(&c->progress, "reading", c->topic ? "events" : "bytes", 0);
    rc = collect_log_read(&c->log, &o, e);
    progress_end(&c->progress);
    if (rc != RC_OK) return rc;
    c->rows = collect_log_rows(c->log);
    if (collect_unnamed(collect_log_collect(c->log)) > 0)
        (void)fprintf(
            stderr,
            "millrace train: %llu events have items beyond "
            "--items-max, which get no name\n",
            (unsigned long long)collect_unnamed(collect_log_collect(c->log)));
    return choose_validation(c, e);
}

/* --- training ----------------------------------------------------------- */

static json_t *progress_json(const struct train_progress *p)
{
    return json_pack(
        "{s:s s:I s:I s:I s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o}", "event",
        p->epoch_end ? "epoch" : "step", "epoch", (json_int_t)p->epoch, "step",
        (json_int_t)p->step, "steps_per_epoch", (json_int_t)p->steps_per_epoch,
        "seconds", cli_json_real(p->seconds), "seconds_left",
        cli_json_real(p->seconds_left), "tokens_per_second",
        cli_json_real(p->tokens_per_second), "loss", cli_json_real(p->loss),
        "item_loss", cli_json_real(p->item_loss), "fraud_loss",
        cli_json_real(p->fraud_loss), "validation_loss",
        cli_json_real(p->validation_loss), "validation_hr_at_10",
        cli_json_real(p->validation_hit_rate), "validation_ndcg_at_10",
        cli_json_real(p->validation_ndcg), "validation_average_precision",
        cli_json_real(p->validation_average_precision));
}

static void say(const char *name, double x, const char *format)
{
    if (!isfinite(x)) return;
    (void)fprintf(stderr, "  %s ", name);
    (void)fprintf(stderr, format, x);
}

static void say_epoch(struct command *c, const struct train_progress *p)
{
    char tokens[CLI_HUMAN_BYTES];
    progress_end(&c->progress);
    (void)fprintf(stderr, "epoch %u", p->epoch);
    say("loss", p->loss, "%.4f");
    say("validation loss", p->validation_loss, "%.4f");
    say("HR@10", p->validation_hit_rate, "%.4f");
    say("NDCG@10", p->validation_ndcg, "%.4f");
    say("average precision", p->validation_average_precision, "%.4f");
    (void)fprintf(stderr, "  %s tokens/s\n",
                  cli_human(p->tokens_per_second, tokens));
}

static void report(void *user, const struct train_progress *p)
{
    struct command *c = user;
    char note[NOTE_BYTES];
    c->progress.total = (double)p->epochs_max * p->steps_per_epoch;
    (void)snprintf(note, sizeof note, "epoch %u  loss %.4f  %.0f tokens/s",
                   p->epoch, p->loss, p->tokens_per_second);
    progress_update(&c->progress,
                    (double)(p->epoch ? p->epoch - 1 : 0) * p->steps_per_epoch +
                        p->step,
                    note);
    if (c->cli.json && (p->epoch_end || p->seconds - c->reported_s >= 1)) {
        cli_print_json(progress_json(p));
        c->reported_s = p->seconds;
    }
    if (p->epoch_end && !c->cli.json) say_epoch(c, p);
}

static void tell_trial(void *user, uint32_t trial, const struct search_trial *t,
                       uint32_t best)
{
    struct command *c = user;
    progress_end(&c->progress);
    if (c->cli.json)
        cli_print_json(json_pack(
            "{s:s s:I s:b s:s s:f s:I s:f s:f s:f s:f s:I s:f}", "event",
            "trial", "trial", (json_int_t)trial + 1, "best",
            (int)(best == trial), "measure", t->what, "reached", t->reached,
            "epoch", (json_int_t)t->epoch, "learning_rate",
            (double)t->learning_rate, "dropout", (double)t->dropout,
            "weight_decay", (double)t->weight_decay, "fraud_weight",
            (double)t->fraud_weight, "batch_tokens",
            (json_int_t)t->batch_tokens, "seconds", t->seconds));
    else
        (void)fprintf(stderr,
                      "trial %u of %u  %s %.4f  learning rate %.3g  dropout "
                      "%.2g  weight decay %.3g  fraud weight %.3g  batch "
                      "tokens %u%s\n",
                      trial + 1, c->search, t->what, t->reached,
                      (double)t->learning_rate, (double)t->dropout,
                      (double)t->weight_decay, (double)t->fraud_weight,
                      t->batch_tokens, best == trial ? "  (best)" : "");
}

/* c->o becomes the best of the trials; their table goes to the card. */
static enum rc search(struct command *c, struct err *e)
{
    struct search_trial *trials = calloc(c->search, sizeof *trials);
    enum rc rc;
    if (!trials) return ERR(e, RC_STOP, "train: no memory");
    rc = train_search(c->rows, &c->o, c->search, trials, report, tell_trial, c,
                      e);
    if (rc == RC_OK) {
        c->table = search_table(trials, c->search);
        c->o.notes = c->table;
        if (!c->table) rc = ERR(e, RC_STOP, "train: no memory");
    }
    free(trials);
    return rc;
}

static enum rc train(struct command *c, struct err *e)
{
    enum rc rc = RC_OK;
    progress_start(&c->progress, "training", "steps", 0);
    if (c->search > 0) rc = search(c, e);
    if (rc == RC_OK) rc = train_behaviour(c->rows, &c->o, c->out, report, c, e);
    progress_end(&c->progress);
    return rc;
}

static enum rc print(struct command *c, struct err *e)
{
    struct model *m;
    const struct model_info *info;
    TRY(model_open(&m, c->out, e));
    info = model_info(m);
    if (c->cli.json)
        cli_print_json(json_pack(
            "{s:s s:s s:s s:I s:I s:I s:I s:b s:o}", "event", "done", "dir",
            c->out, "model_hash", info->hash, "events",
            (json_int_t)c->rows->rows, "users", (json_int_t)c->rows->users,
            "items", (json_int_t)info->items, "labelled",
            (json_int_t)collect_labelled(collect_log_collect(c->log)),
            "has_fraud", (int)info->has_fraud, "seconds",
            cli_json_real(progress_seconds(&c->progress))));
    else
        (void)printf("%s: model %s from %llu events of %u users, %u items%s\n"
                     "next: millrace replay --set model.dir=%s ...\n",
                     c->out, info->hash, (unsigned long long)c->rows->rows,
                     c->rows->users, info->items,
                     info->has_fraud ? ", with a fraud head" : "", c->out);
    model_free(m);
    return RC_OK;
}

static void close_all(struct command *c)
{
    free(c->table);
    collect_log_free(c->log);
    labels_free(c->labels);
    config_free(c->config);
}

int command_train(int argc, char **argv)
{
    struct command c = {0};
    struct err e;
    enum rc rc;
    int status = parse(&c, argc, argv);
    if (status != CLI_GO) return status;
    c.config = cli_config(&c.cli);
    if (!c.config) return EXIT_CONFIG;
    rc = read_log(&c, &e);
    if (rc == RC_OK) rc = train(&c, &e);
    if (rc == RC_OK) rc = print(&c, &e);
    status = rc == RC_OK ? EXIT_OK : cli_fail(&c.cli, EXIT_FAILED, &e);
    close_all(&c);
    return status;
}
