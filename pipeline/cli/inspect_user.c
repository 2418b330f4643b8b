/* inspect_user - one user's row, from the store or by folding a log through
 * the same worker as run and replay. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inspect_log.h"
#include "model.h"
#include "shapes.h"
#include "stages.h"
#include "store.h"
#include "user_row.h"

enum {
    READER_MEMORY_BYTES = 16 << 20,
    NAME_BYTES = 128,
    SCORER_BYTES = 1 << 20
};

struct subject {
    struct inspect *in;
    struct slice user;
    struct model *model; /* NULL: items have no names */

    /* From the store: */
    struct schema *reader;
    struct mapping *mapping;
    struct store *store;
    struct history own_history;
    struct windows *own_windows;
    struct history_shape own_history_shape;
    struct feature_shape own_features;

    /* By a fold: */
    struct inspect_log log;

    /* What was found; history NULL: nothing. */
    char from[STORE_NAME_MAX + 16];
    const struct history *history;
    const struct windows *windows;
    const struct history_shape *history_shape;
    const struct windows_shape *windows_shape;

    int32_t segment; /* by the model; -1: none */
};

/* --- from the store ---------------------------------------------------- */

static enum rc decode_row(struct subject *s, const char *family,
                          struct slice row, struct err *e)
{
    s->own_windows = windows_new(&s->own_features.user);
    if (user_row_decode(&s->own_history_shape, &s->own_features.user, s->user,
                        row, &s->own_history, s->own_windows, e) != RC_OK)
        return err_context(e, "state of %s", family);
    (void)snprintf(s->from, sizeof s->from, "store, %s", family);
    s->history = &s->own_history;
    s->windows = s->own_windows;
    s->history_shape = &s->own_history_shape;
    s->windows_shape = &s->own_features.user;
    return RC_OK;
}

/* A user is in one partition; which one, the producer decided. */
static enum rc look_into_family(void *user, const char *name,
                                const struct family_meta *meta, bool found,
                                struct err *e)
{
    struct subject *s = user;
    char start[STORE_NAME_MAX];
    uint8_t *row;
    size_t size;
    enum rc rc;
    (void)meta;
    (void)snprintf(start, sizeof start, "users/%s/",
                   stages_topic(s->in->config, STAGE_USERS, INPUT_EVENTS));
    if (s->history || !found || strncmp(name, start, strlen(start)) != 0)
        return RC_OK;
    TRY(store_find_row(s->store, name, s->user, &row, &size, e));
    if (!row) return RC_OK;
    rc = decode_row(s, name, slice_of(row, size), e);
    free(row);
    return rc;
}

static enum rc find_in_store(struct subject *s, struct err *e)
{
    const struct config *c = s->in->config;
    const struct store_options o = {.dir = c->state_dir,
                                    .memory_bytes = READER_MEMORY_BYTES,
                                    .read_only = true};
    if (!c->input_schema[0])
        return ERR(e, RC_STOP,
                   "input.schema is not set; it says which fields rows hold");
    TRY(schema_read(&s->reader, c->input_schema, e));
    TRY(mapping_new(&s->mapping, c, s->reader, NULL, e));
    shapes_init(&s->own_history_shape, &s->own_features, c,
                mapping_fields(s->mapping));
    history_init(&s->own_history);
    TRY(store_open(&s->store, &o, e));
    return store_each_family(s->store, look_into_family, s, e);
}

/* --- by folding a log -------------------------------------------------- */

static enum rc find_in_log(struct subject *s, struct err *e)
{
    const bool never = false;
    struct partition *p;
    struct user_state *us;
    struct state *st;
    TRY(inspect_log_open(&s->log, s->in, (struct worker_options){0}, e));
    TRY(inspect_log_fold(&s->log, &never, e));
    st = worker_state(s->log.worker);
    if (state_partitions(st, &p, 1) == 0) return RC_OK;
    TRY(state_peek(st, p, s->user, &us, e));
    if (!us) return RC_OK;
    (void)snprintf(s->from, sizeof s->from, "the log given");
    s->history = &us->history;
    s->windows = us->windows;
    s->history_shape = state_history_shape(st);
    s->windows_shape = state_windows_shape(st);
    return RC_OK;
}

/* --- by the model ------------------------------------------------------ */

/* Where the user stands after the newest event kept. */
static enum rc find_segment(struct subject *s, struct err *e)
{
    static const float NONE[FEATURES_MAX]; /* only the fraud head reads them */
    const struct history *h = s->history;
    struct scorer_limits limits = {
        .context_bytes_max = SCORER_BYTES, .events_max = 1, .k_max = 1};
    struct context *context = NULL;
    struct score_request request = {
        .context = &context, .n = h->events_total - 1, .features = NONE};
    struct past_event *events;
    struct scorer *scorer;
    struct score score;
    s->segment = -1;
    if (!s->model || model_info(s->model)->segments == 0 || h->count == 0)
        return RC_OK;
    TRY(scorer_new(&scorer, s->model, limits, e));
    request.event_count = scorer_events_needed(scorer, NULL, request.n);
    request.events = events = calloc(request.event_count, sizeof *events);
    if (events && request.event_count <= h->count) {
        history_copy(s->history_shape, h, request.event_count, 0, events);
        scorer_score(scorer, &request, &score, 1);
        s->segment = model_segment(s->model, score.hidden);
    }
    free(events);
    scorer_free(scorer);
    return RC_OK;
}

/* --- printing ---------------------------------------------------------- */

static const char *item_name(const struct subject *s, uint64_t hash,
                             char out[NAME_BYTES])
{
    int32_t index = s->model && hash ? model_item_index(s->model, hash) : -1;
    struct slice name = slice_of(NULL, 0);
    if (index >= 0) name = model_item_name(s->model, (uint32_t)index);
    if (name.len > 0)
        (void)snprintf(out, NAME_BYTES, "%.*s", (int)name.len,
                       (const char *)name.ptr);
    else if (hash)
        (void)snprintf(out, NAME_BYTES, "#%016llx", (unsigned long long)hash);
    else
        (void)snprintf(out, NAME_BYTES, "-");
    return out;
}

static json_t *hash_json(uint64_t hash)
{
    return hash ? json_sprintf("%016llx", (unsigned long long)hash)
                : json_null();
}

static json_t *event_json(const struct subject *s, uint64_t n,
                          const struct past_event *ev)
{
    char name[NAME_BYTES];
    bool has_amount = !(ev->flags & PAST_NO_AMOUNT);
    double scale = s->history_shape->amount_scale;
    json_t *numbers = json_array(), *categories = json_array();
    for (uint32_t i = 0; i < s->history_shape->numbers; i++)
        (void)json_array_append_new(numbers,
                                    cli_json_real((double)ev->number[i]));
    for (uint32_t i = 0; i < s->history_shape->categoricals; i++)
        (void)json_array_append_new(categories, hash_json(ev->categorical[i]));
    return json_pack(
        "{s:I, s:I, s:I, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:o, "
        "s:o}",
        "n", (json_int_t)n, "time_ms", (json_int_t)ev->time_ms, "gap_ms",
        (json_int_t)ev->gap_ms, "amount",
        cli_json_real(has_amount ? (double)ev->amount / scale : NAN),
        "amount_log_ratio",
        cli_json_real(has_amount ? (double)ev->amount_log_ratio : NAN), "item",
        item_name(s, ev->item, name), "item_hash", hash_json(ev->item),
        "event_id_hash", hash_json(ev->event_id), "type_hash",
        hash_json(ev->type), "category_hash", hash_json(ev->category),
        "channel_hash", hash_json(ev->channel), "late",
        (ev->flags & PAST_LATE) != 0, "numbers", numbers, "category_hashes",
        categories);
}

static json_t *windows_json(const struct subject *s,
                            const struct windows_view *view)
{
    const struct windows_shape *ws = s->windows_shape;
    json_t *windows = json_array();
    for (uint32_t i = 0; ws->has_time && i < ws->count; i++) {
        char name[32];
        (void)json_array_append_new(
            windows,
            json_pack("{s:s, s:I, s:I, s:o}", "length",
                      windows_length_name(ws->length_ms[i], name, sizeof name),
                      "count", (json_int_t)view->window[i].count, "amounts",
                      (json_int_t)view->window[i].amount_count, "amount_sum",
                      cli_json_real(view->window[i].amount_sum)));
    }
    return windows;
}

static void print_json(const struct subject *s, const struct windows_view *view,
                       const struct past_event *events)
{
    const struct history *h = s->history;
    json_t *list = json_array();
    for (uint32_t i = 0; i < h->count; i++)
        (void)json_array_append_new(
            list, event_json(s, h->events_total - h->count + i, &events[i]));
    cli_print_json(json_pack(
        "{s:s%, s:s, s:o, s:I, s:I, s:I, s:I, s:i, s:i, s:o, s:o}", "user",
        (const char *)s->user.ptr, s->user.len, "from", s->from, "segment",
        s->segment < 0 ? json_null() : json_integer(s->segment), "events_total",
        (json_int_t)h->events_total, "events_kept", (json_int_t)h->count,
        "applied_offset", (json_int_t)h->applied_offset, "newest_time_ms",
        (json_int_t)h->newest_time_ms, "window_events_kept", (int)view->kept,
        "window_tiles", (int)view->tiles, "windows", windows_json(s, view),
        "events", list));
}

static void print_windows(const struct subject *s,
                          const struct windows_view *view)
{
    const struct windows_shape *ws = s->windows_shape;
    char at[INSPECT_TIME_BYTES];
    if (!ws->has_time || ws->count == 0) return;
    (void)printf("\nwindows up to %s (%u exact events, %u tiles)\n",
                 inspect_time(view->newest_time_ms, at), view->kept,
                 view->tiles);
    (void)printf("%8s  %10s  %14s  %14s\n", "length", "events", "amount sum",
                 "mean");
    for (uint32_t i = 0; i < ws->count; i++) {
        char name[32];
        double mean =
            view->window[i].amount_sum / (double)view->window[i].amount_count;
        (void)printf("%8s  %10llu  %14.2f  %14.2f\n",
                     windows_length_name(ws->length_ms[i], name, sizeof name),
                     (unsigned long long)view->window[i].count,
                     view->window[i].amount_sum, mean);
    }
}

static void print_event(const struct subject *s, uint64_t n,
                        const struct past_event *ev)
{
    char at[INSPECT_TIME_BYTES], name[NAME_BYTES], amount[32] = "-", gap[32];
    if (!(ev->flags & PAST_NO_AMOUNT))
        (void)snprintf(amount, sizeof amount, "%.2f",
                       (double)ev->amount / s->history_shape->amount_scale);
    if (ev->gap_ms < 0)
        (void)snprintf(gap, sizeof gap, "first");
    else
        (void)snprintf(gap, sizeof gap, "%.1f", (double)ev->gap_ms / 1000);
    (void)printf("%8llu  %-24s  %12s  %12s  %8.3f  %s%s\n",
                 (unsigned long long)n, inspect_time(ev->time_ms, at), gap,
                 amount, (double)ev->amount_log_ratio,
                 item_name(s, ev->item, name),
                 ev->flags & PAST_LATE ? "  late" : "");
}

static void print_text(const struct subject *s, const struct windows_view *view,
                       const struct past_event *events)
{
    const struct history *h = s->history;
    uint32_t shown = h->count < s->in->events ? h->count : s->in->events;
    (void)printf("user     %.*s\n", (int)s->user.len,
                 (const char *)s->user.ptr);
    (void)printf("from     %s\n", s->from);
    (void)printf("events   %llu ever, the newest %u kept\n",
                 (unsigned long long)h->events_total, h->count);
    (void)printf("applied  up to offset %lld\n", (long long)h->applied_offset);
    if (s->segment >= 0)
        (void)printf("segment  %d of %u\n", s->segment,
                     model_info(s->model)->segments);
    print_windows(s, view);
    (void)printf("\nthe newest %u events\n", shown);
    (void)printf("%8s  %-24s  %12s  %12s  %8s  %s\n", "n", "time", "gap s",
                 "amount", "ln ratio", "item");
    for (uint32_t i = h->count - shown; i < h->count; i++)
        print_event(s, h->events_total - h->count + i, &events[i]);
}

static enum rc print(const struct subject *s, struct err *e)
{
    const struct history *h = s->history;
    struct past_event *events = calloc(h->count, sizeof *events);
    struct windows_view view;
    if (!events) return ERR(e, RC_STOP, "no memory for %u events", h->count);
    history_copy(s->history_shape, h, h->count, 0, events);
    windows_look(s->windows_shape, s->windows, &view);
    if (s->in->cli.json)
        print_json(s, &view, events);
    else
        print_text(s, &view, events);
    free(events);
    return RC_OK;
}

/* --- all together ------------------------------------------------------ */

static void close_all(struct subject *s)
{
    inspect_log_close(&s->log);
    history_fini(&s->own_history_shape, &s->own_history);
    windows_free(&s->own_features.user, s->own_windows);
    store_close(s->store);
    if (s->mapping) mapping_free(s->mapping);
    schema_free(s->reader);
    if (s->model) model_free(s->model);
}

int inspect_user(struct inspect *in, const char *user)
{
    struct subject s = {.in = in, .user = slice_str(user)};
    struct err e;
    enum rc rc = RC_OK;
    int status = EXIT_OK;
    if (in->config->model_dir[0])
        rc = model_open(&s.model, in->config->model_dir, &e);
    if (rc == RC_OK)
        rc = in->logs.count > 0 ? find_in_log(&s, &e) : find_in_store(&s, &e);
    if (rc == RC_OK && s.history) rc = find_segment(&s, &e);
    if (rc == RC_OK && s.history) rc = print(&s, &e);
    if (rc != RC_OK)
        status = cli_fail(&in->cli, EXIT_FAILED, &e);
    else if (!s.history)
        status = cli_complain(&in->cli, EXIT_FAILED, "no user %s in %s", user,
                              in->logs.count > 0 ? "the log given"
                                                 : in->config->state_dir);
    close_all(&s);
    return status;
}
