/* snapshot - a consistent state as of one commit, into a folder.
 *
 * Where a process has the store of state.dir open, it makes the snapshot
 * itself, asked through admin.listen; else the store is read from here. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "model.h"
#include "snapshot_call.h"
#include "stages.h"
#include "store.h"

enum {
    READER_MEMORY_BYTES = 16 << 20,
    PATH_BYTES = 4096,
    ANSWER_BYTES_MAX = 1 << 20,
    ASK_S_MAX = 3600, /* a large state takes its time to be written */
};

struct command {
    struct cli cli;
    struct config *config;
    const char *out, *show;
};

static int parse(struct command *c, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"out", "DIR", CLI_TEXT, &c->out, "the folder to be made"},
        {"show", "DIR", CLI_TEXT, &c->show,
         "say what a snapshot holds, once every checksum was looked at"},
        {0},
    };
    const struct cli_usage usage = {
        .synopsis = "snapshot --out DIR | --show DIR [options]",
        .about =
            "Writes every user's row as of one commit of each partition into a "
            "folder, with\noffsets and checksums: to start a host from "
            "(state.snapshot), a replay (replay\n--snapshot) or a rollback. A "
            "running process makes it without pausing; it needs\nadmin.token. "
            "A stopped one's state.dir is read as it is.",
        .uses = CLI_CONFIG | CLI_JSON,
        .options = options,
        .example = "millrace snapshot --out snapshot-monday "
                   "--config shop.conf",
    };
    int status = cli_parse(&c->cli, &usage, argc, argv);
    if (status != CLI_GO) return status;
    if (c->cli.arg_count == 0 && !c->out != !c->show) return CLI_GO;
    return cli_complain(&c->cli, EXIT_USAGE, "give --out DIR or --show DIR");
}

/* --- of a running process ---------------------------------------------- */

/* RocksDB's own lock. */
static bool is_running(const char *state_dir)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_BYTES];
    bool held;
    int fd;
    (void)snprintf(path, sizeof path, "%s/rocksdb/LOCK", state_dir);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    held = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (fd >= 0) (void)close(fd);
    return held;
}

struct answer {
    char text[ANSWER_BYTES_MAX];
    size_t len;
};

static size_t on_bytes(char *bytes, size_t one, size_t count, void *user)
{
    struct answer *a = user;
    size_t len = one * count;
    if (len > sizeof a->text - a->len) return 0;
    memcpy(a->text + a->len, bytes, len);
    a->len += len;
    return len;
}

static CURLcode post(const char *url, const char *token, const char *body,
                     struct answer *a)
{
    char bearer[PATH_BYTES];
    struct curl_slist *headers = NULL;
    CURL *curl = curl_easy_init();
    CURLcode code = CURLE_FAILED_INIT;
    (void)snprintf(bearer, sizeof bearer, "Authorization: Bearer %s", token);
    headers = curl_slist_append(headers, bearer);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    if (curl && headers) {
        (void)curl_easy_setopt(curl, CURLOPT_URL, url);
        (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
        (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)ASK_S_MAX);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, a);
        code = curl_easy_perform(curl);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return code;
}

/* {"done": true, "result": ...} or {"done": false, "error": text}. */
static enum rc read_answer(const struct answer *a, json_t **out, struct err *e)
{
    json_t *json = json_loadb(a->text, a->len, 0, NULL);
    const char *error = json_string_value(json_object_get(json, "error"));
    *out = NULL;
    if (json_is_true(json_object_get(json, "done")))
        *out = json_incref(json_object_get(json, "result"));
    else
        (void)ERR(e, RC_STOP, "%s",
                  error ? error : "the process gave no answer that is one");
    json_decref(json);
    return *out ? RC_OK : RC_STOP;
}

/* ":9464" listens everywhere, so also here. */
static enum rc ask(const struct command *c, const char *dir, json_t **out,
                   struct err *e)
{
    const char *listen = c->config->admin_listen;
    char url[PATH_BYTES], *body;
    json_t *json = json_pack("{s:s}", "directory", dir);
    struct answer *a = calloc(1, sizeof *a);
    CURLcode code;
    enum rc rc;
    body = json ? json_dumps(json, 0) : NULL;
    json_decref(json);
    if (!a || !body) {
        free(a);
        free(body);
        return ERR(e, RC_STOP, "no memory");
    }
    (void)snprintf(url, sizeof url, "http://%s%s/snapshot",
                   listen[0] == ':' ? "127.0.0.1" : "", listen);
    code = post(url, c->config->admin_token, body, a);
    rc = code == CURLE_OK
             ? read_answer(a, out, e)
             : ERR(e, RC_STOP,
                   "a process uses %s, but %s does not answer: "
                   "%s; is it its admin.listen?",
                   c->config->state_dir, url, curl_easy_strerror(code));
    free(a);
    free(body);
    return rc;
}

static enum rc of_running(const struct command *c, json_t **out, struct err *e)
{
    char here[PATH_BYTES / 2], dir[PATH_BYTES];
    if (!c->config->admin_listen[0] || !c->config->admin_token[0])
        return ERR(e, RC_STOP,
                   "a process uses %s; to ask it for a snapshot, admin.listen "
                   "and admin.token must be set, as it has them",
                   c->config->state_dir);
    if (c->out[0] == '/')
        (void)snprintf(dir, sizeof dir, "%s", c->out);
    else if (!getcwd(here, sizeof here))
        return ERR(e, RC_STOP, "%s: %s", c->out, strerror(errno));
    else
        (void)snprintf(dir, sizeof dir, "%s/%s", here, c->out);
    return ask(c, dir, out, e);
}

/* --- of a stopped one -------------------------------------------------- */

struct stopped {
    struct store *store;
    struct snapshot_writer *writer;
    struct snapshot_info info;
    char start[STORE_NAME_MAX]; /* "users/TOPIC/" */
    int32_t partition;
    uint32_t parts;
};

static enum rc put_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    const struct stopped *s = user;
    return snapshot_put(s->writer, s->partition, key, row, e);
}

static enum rc put_family(void *user, const char *name,
                          const struct family_meta *m, bool found,
                          struct err *e)
{
    struct stopped *s = user;
    struct snapshot_part part = {.offset = m->applied,
                                 .stream_ms = m->stream_ms,
                                 .seen_offset = m->seen_offset,
                                 .seen_hash = m->seen_hash};
    if (!found || strncmp(name, s->start, strlen(s->start)) != 0) return RC_OK;
    if (m->checkpoint != m->applied)
        return ERR(e, RC_STOP,
                   "state of %s: its rows stand between offset %lld and %lld, "
                   "as a killed process leaves them; start it, and take the "
                   "snapshot while it runs or once it has ended by SIGTERM",
                   name, (long long)m->checkpoint, (long long)m->applied);
    part.partition = s->partition = (int32_t)atoi(name + strlen(s->start));
    (void)snprintf(s->info.cluster_id, sizeof s->info.cluster_id, "%s",
                   m->cluster_id);
    (void)snprintf(s->info.shape, sizeof s->info.shape, "%s", m->shape);
    s->info.partitions = m->partitions;
    s->parts++;
    TRY(snapshot_begin(s->writer, &part, e));
    return store_each_row(s->store, name, put_row, s, e);
}

static enum rc about(struct snapshot_info *out, const struct config *c,
                     struct err *e)
{
    struct schema *reader = NULL;
    struct model *model = NULL;
    enum rc rc = RC_OK;
    if (c->input_schema[0]) rc = schema_read(&reader, c->input_schema, e);
    if (rc == RC_OK && c->model_dir[0])
        rc = model_open(&model, c->model_dir, e);
    if (rc == RC_OK) snapshot_about(out, c, reader, model);
    if (model) model_free(model);
    schema_free(reader);
    return rc;
}

static enum rc write_stopped(struct stopped *s, const char *dir, struct err *e)
{
    enum rc rc;
    TRY(snapshot_create(&s->writer, dir, e));
    rc = store_each_family(s->store, put_family, s, e);
    if (rc == RC_OK && s->parts == 0)
        rc = ERR(e, RC_STOP, "the store has no state of topic %s",
                 s->info.topic);
    if (rc == RC_OK) return snapshot_finish(s->writer, &s->info, e);
    snapshot_abandon(s->writer);
    return rc;
}

static enum rc of_stopped(const struct command *c, json_t **out, struct err *e)
{
    const struct store_options o = {.dir = c->config->state_dir,
                                    .memory_bytes = READER_MEMORY_BYTES,
                                    .read_only = true};
    struct stopped s = {0};
    enum rc rc;
    (void)snprintf(s.start, sizeof s.start, "users/%s/",
                   stages_topic(c->config, STAGE_USERS, INPUT_EVENTS));
    TRY(about(&s.info, c->config, e));
    TRY(store_open(&s.store, &o, e));
    rc = write_stopped(&s, c->out, e);
    store_close(s.store);
    return rc == RC_OK ? snapshot_describe(c->out, out, e) : rc;
}

/* --- words ------------------------------------------------------------- */

static void print_text(const json_t *result)
{
    const json_t *part;
    size_t i;
    (void)printf("snapshot  %s\ntopic     %s, %lld partitions\nrows of   %s\n",
                 json_string_value(json_object_get(result, "directory")),
                 json_string_value(json_object_get(result, "topic")),
                 (long long)json_integer_value(
                     json_object_get(result, "topic_partitions")),
                 json_string_value(json_object_get(result, "shape")));
    (void)printf("%9s  %14s  %12s  %14s  %s\n", "partition", "offset", "rows",
                 "bytes", "hash of its rows");
    json_array_foreach(json_object_get(result, "partitions"), i, part)(void)
        printf(
            "%9lld  %14lld  %12lld  %14lld  %s\n",
            (long long)json_integer_value(json_object_get(part, "partition")),
            (long long)json_integer_value(json_object_get(part, "offset")),
            (long long)json_integer_value(json_object_get(part, "rows")),
            (long long)json_integer_value(json_object_get(part, "bytes")),
            json_string_value(json_object_get(part, "rows_hash")));
}

static int run(struct command *c)
{
    json_t *result = NULL;
    struct err e;
    enum rc rc;
    if (c->show) {
        rc = snapshot_describe(c->show, &result, &e);
    } else {
        c->config = cli_config(&c->cli);
        if (!c->config) return EXIT_CONFIG;
        rc = is_running(c->config->state_dir) ? of_running(c, &result, &e)
                                              : of_stopped(c, &result, &e);
    }
    if (rc != RC_OK) return cli_fail(&c->cli, EXIT_FAILED, &e);
    if (c->cli.json) {
        cli_print_json(result);
        return EXIT_OK;
    }
    print_text(result);
    json_decref(result);
    return EXIT_OK;
}

int command_snapshot(int argc, char **argv)
{
    struct command c = {0};
    int status = parse(&c, argc, argv);
    if (status != CLI_GO) return status;
    status = run(&c);
    config_free(c.config);
    return status;
}
