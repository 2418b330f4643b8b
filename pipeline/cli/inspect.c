/* inspect - a user, an event, an item, a model, a store: what is there, as
 * people read it. */
#include "inspect.h"

#include <string.h>
#include <time.h>

#include "model.h"

static const char SYNOPSIS[] =
    "inspect user ID | event ID | item ID | model DIR | store DIR [options]";
static const char ABOUT[] =
    "user   one user's row: offsets, windows, newest events, and with "
    "model.dir the\n"
    "       segment; from state.dir "
    "(also while a\n"
    "       process runs), or by folding a log\n"
    "event  one event of a log: its score, and every reason for it, whatever "
    "the\n"
    "       threshold\n"
    "item   how often the model of model.dir saw it, and which items are like "
    "it\n"
    "model  what a model directory holds, and for which data it was made\n"
    "store  the families of a state.dir: where each stands; --verify reads "
    "every row";

const char *inspect_time(int64_t time_ms, char out[INSPECT_TIME_BYTES])
{
    int64_t ms = (time_ms % 1000 + 1000) % 1000;
    time_t seconds = (time_t)((time_ms - ms) / 1000);
    struct tm parts;
    size_t used = 0;
    if (gmtime_r(&seconds, &parts))
        used = strftime(out, INSPECT_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    if (used == 0)
        (void)snprintf(out, INSPECT_TIME_BYTES, "%lld ms", (long long)time_ms);
    else if (used + 6 <= INSPECT_TIME_BYTES)
        (void)snprintf(out + used, INSPECT_TIME_BYTES - used, ".%03dZ",
                       (int)ms);
    return out;
}

/* --- a model ----------------------------------------------------------- */

static void print_model(const struct model_info *info, const char *dir)
{
    (void)printf("model     %s\n", dir);
    (void)printf("hash      %s\n", info->hash);
    (void)printf("kernels   %s on this machine\n", info->family);
    (void)printf("context   %u to %u events (history.events >= %u)\n",
                 info->window, 2 * info->window, 2 * info->window);
    (void)printf("shape     %u layers, %u wide\n", info->layers, info->width);
    (void)printf("items     %u\n", info->items);
    (void)printf("segments  %u\n", info->segments);
    (void)printf("features  %u, hash %016llx\n", info->features,
                 (unsigned long long)info->feature_hash);
    (void)printf("amounts   in 1/%u\n", info->amount_scale);
    (void)printf("fraud     %s\n", info->has_fraud
                                       ? "trained with labels"
                                       : "no head: trained without labels");
    (void)printf("more      %s/model_card.md\n", dir);
}

int inspect_model(struct inspect *in, const char *dir)
{
    const struct model_info *info;
    struct model *model;
    struct err e;
    char hash[32];
    if (model_open(&model, dir, &e) != RC_OK)
        return cli_fail(&in->cli, EXIT_FAILED, &e);
    info = model_info(model);
    (void)snprintf(hash, sizeof hash, "%016llx",
                   (unsigned long long)info->feature_hash);
    if (in->cli.json)
        cli_print_json(json_pack(
            "{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:b}",
            "directory", dir, "hash", info->hash, "kernel_family", info->family,
            "window", (int)info->window, "width", (int)info->width, "layers",
            (int)info->layers, "items", (int)info->items, "segments",
            (int)info->segments, "features", (int)info->features,
            "feature_hash", hash, "amount_scale", (int)info->amount_scale,
            "has_fraud", info->has_fraud));
    else
        print_model(info, dir);
    model_free(model);
    return EXIT_OK;
}

/* --- the command ------------------------------------------------------- */

static int parse(struct inspect *in, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"log", "FILE", CLI_TEXTS, &in->logs,
         "user: fold these container files instead of reading state.dir; "
         "event: where it is"},
        {"labels", "FILE", CLI_TEXTS, &in->labels,
         "user, event: labels of that log's events (record Label)"},
        {"events", "N", CLI_U32, &in->events,
         "user: newest events shown (default 20; --json: all); item: "
         "nearest items"},
        {"catalogue", "FILE", CLI_TEXT, &in->catalogue,
         "item: what this file of CatalogueItem records says of it"},
        {"verify", NULL, CLI_FLAG, &in->verify,
         "store: read every row and its checksum"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = SYNOPSIS,
        .about = ABOUT,
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace inspect user u17 --config shop.conf "
                   "--log events.avro",
    };
    return cli_parse(&in->cli, &usage, argc, argv);
}

static int run(struct inspect *in)
{
    const char *kind = in->cli.arg_count > 0 ? in->cli.args[0] : "";
    const char *what;
    if (strcmp(kind, "user") != 0 && strcmp(kind, "model") != 0 &&
        strcmp(kind, "store") != 0 && strcmp(kind, "item") != 0 &&
        strcmp(kind, "event") != 0)
        return cli_complain(&in->cli, EXIT_USAGE,
                            "inspect what? user ID, event ID, item ID, model "
                            "DIR or store DIR");
    if (in->cli.arg_count != 2)
        return cli_complain(
            &in->cli, EXIT_USAGE, "%s: give one %s", kind,
            strcmp(kind, "model") == 0 || strcmp(kind, "store") == 0 ? "DIR"
                                                                     : "ID");
    what = in->cli.args[1];
    if (strcmp(kind, "model") == 0) return inspect_model(in, what);
    if (strcmp(kind, "store") == 0) return inspect_store(in, what);
    in->config = cli_config(&in->cli);
    if (!in->config) return EXIT_CONFIG;
    if (strcmp(kind, "event") == 0) return inspect_event(in, what);
    return strcmp(kind, "item") == 0 ? inspect_item(in, what)
                                     : inspect_user(in, what);
}

int command_inspect(int argc, char **argv)
{
    struct inspect in = {.events = 20};
    int status = parse(&in, argc, argv);
    if (status != CLI_GO) return status;
    status = run(&in);
    config_free(in.config);
    return status;
}
