#include "collect.h"

#include "hash.h"
#include "map64.h"

enum {
    ROWS_FIRST = 4096,
    NAME_BYTES_MAX = 1024, /* a longer item id gets no name */
    NAME_BLOCK_BYTES = 1 << 20,
};

struct name_block {
    struct name_block *next;
    size_t used;
    uint8_t bytes[NAME_BLOCK_BYTES];
};

struct collect {
    struct collect_options o;
    uint32_t features;   /* F */
    struct map64 users;  /* partition and user -> index of its sequence */
    uint64_t user_count; /* sequences: one that expired makes way for a new */
    uint64_t *user_rows; /* (users_room) rows kept of each */
    size_t users_room;

    uint64_t rows, rows_room;
    struct past_event *events; /* (rows_room) */
    float *feature_rows;       /* (rows_room, F) */
    int8_t *labels;            /* (rows_room) */
    int8_t *labels_until;      /* the same */
    uint32_t *row_user;        /* (rows_room) */
    uint64_t *user_start;      /* (users + 1), by collect_finish */

    struct map64 named; /* item hash -> index in names */
    struct train_name *names;
    size_t names_room;
    struct name_block *blocks;
    uint64_t labelled, labelled_until, unnamed;

    char (*feature_texts)[FEATURE_NAME_BYTES];
    const char **feature_names;
};

static enum rc name_features(struct collect *c, struct err *e)
{
    c->feature_texts = calloc(c->features + 1, sizeof *c->feature_texts);
    c->feature_names = calloc(c->features + 1, sizeof(char *));
    if (!c->feature_texts || !c->feature_names)
        return ERR(e, RC_STOP, "collecting the log: no memory");
    for (uint32_t f = 0; f < c->features; f++)
        c->feature_names[f] = feature_row_name(
            c->o.features, f, c->feature_texts[f], FEATURE_NAME_BYTES);
    return RC_OK;
}

enum rc collect_new(struct collect **out, const struct collect_options *o,
                    struct err *e)
{
    struct collect *c = calloc(1, sizeof *c);
    if (!c) return ERR(e, RC_STOP, "collecting the log: no memory");
    c->o = *o;
    c->features = feature_row_count(o->features);
    if (name_features(c, e) != RC_OK) {
        collect_free(c);
        return e->rc;
    }
    *out = c;
    return RC_OK;
}

void collect_free(struct collect *c)
{
    if (!c) return;
    map64_fini(&c->users);
    map64_fini(&c->named);
    while (c->blocks) {
        struct name_block *next = c->blocks->next;
        free(c->blocks);
        c->blocks = next;
    }
    free(c->user_rows);
    free(c->events);
    free(c->feature_rows);
    free(c->labels);
    free(c->labels_until);
    free(c->row_user);
    free(c->user_start);
    free(c->names);
    free(c->feature_texts);
    free(c->feature_names);
    free(c);
}

/* --- growing ------------------------------------------------------------ */

/* *array of size bytes each, for room elements; false: no memory. */
static bool resize(void *array, size_t room, size_t size)
{
    void **at = array;
    void *bigger = realloc(*at, (room ? room : 1) * (size ? size : 1));
    if (!bigger) return false;
    *at = bigger;
    return true;
}

static size_t row_bytes(const struct collect *c)
{
    return sizeof *c->events + c->features * sizeof(float) +
           2 * sizeof *c->labels + sizeof *c->row_user;
}

static enum rc grow_rows(struct collect *c, struct err *e)
{
    uint64_t room = c->rows_room ? c->rows_room * 2 : ROWS_FIRST;
    uint64_t most = c->o.bytes_max / row_bytes(c);
    if (room > most) room = most;
    if (room > UINT32_MAX) room = UINT32_MAX;
    if (room <= c->rows)
        return ERR(e, RC_STOP,
                   "collecting the log: %llu events of %zu bytes fill the "
                   "%zu MiB allowed; give a shorter log (--until) or more "
                   "(--memory)",
                   (unsigned long long)c->rows, row_bytes(c),
                   c->o.bytes_max >> 20);
    if (!resize(&c->events, room, sizeof *c->events) ||
        !resize(&c->feature_rows, room, c->features * sizeof(float)) ||
        !resize(&c->labels, room, sizeof *c->labels) ||
        !resize(&c->labels_until, room, sizeof *c->labels_until) ||
        !resize(&c->row_user, room, sizeof *c->row_user))
        return ERR(e, RC_STOP, "collecting the log: no memory for %llu events",
                   (unsigned long long)room);
    c->rows_room = room;
    return RC_OK;
}

/* --- names -------------------------------------------------------------- */

static bool copy_text(struct collect *c, struct slice in, struct slice *out)
{
    struct name_block *b = c->blocks;
    if (!b || in.len > NAME_BLOCK_BYTES - b->used) {
        b = malloc(sizeof *b);
        if (!b) return false;
        b->next = c->blocks;
        b->used = 0;
        c->blocks = b;
    }
    memcpy(b->bytes + b->used, in.ptr, in.len);
    *out = slice_of(b->bytes + b->used, in.len);
    b->used += in.len;
    return true;
}

static enum rc keep_name(struct collect *c, uint64_t hash, struct slice text,
                         struct err *e)
{
    bool made;
    struct train_name *name;
    if (hash == 0 || map64_get(&c->named, hash)) return RC_OK;
    if (c->named.count >= c->o.names_max || text.len > NAME_BYTES_MAX) {
        c->unnamed++;
        return RC_OK;
    }
    if (c->named.count == c->names_room) {
        size_t room = c->names_room ? c->names_room * 2 : ROWS_FIRST;
        if (!resize(&c->names, room, sizeof *c->names))
            return ERR(e, RC_STOP, "collecting the log: no memory for names");
        c->names_room = room;
    }
    name = &c->names[c->named.count];
    name->hash = hash;
    if (!copy_text(c, text, &name->text) ||
        !map64_put(&c->named, hash, c->named.count, &made))
        return ERR(e, RC_STOP, "collecting the log: no memory for names");
    return RC_OK;
}

/* --- rows --------------------------------------------------------------- */

static enum rc user_index(struct collect *c, const struct record *r,
                          struct slice user, bool anew, uint32_t *out,
                          struct err *e)
{
    uint64_t hash = hash64(user);
    uint64_t key =
        r->partition ? hash_mix(hash ^ (uint64_t)r->partition) : hash;
    bool made;
    uint64_t *index = map64_put(&c->users, key ? key : 1, c->user_count, &made);
    if (index && anew) *index = c->user_count;
    if (index && *index == c->user_count) {
        c->user_count++;
        made = true;
    }
    if (index && made && *index == c->users_room) {
        size_t room = c->users_room ? c->users_room * 2 : ROWS_FIRST;
        if (!resize(&c->user_rows, room, sizeof *c->user_rows)) index = NULL;
        c->users_room = room;
    }
    if (!index || c->user_count > UINT32_MAX)
        return ERR(e, RC_STOP, "collecting the log: no memory for %llu users",
                   (unsigned long long)c->user_count);
    if (made) c->user_rows[*index] = 0;
    *out = (uint32_t)*index;
    return RC_OK;
}

/* What is known of the event at a time. Its own label is the truth, known
 * once the delay has passed. */
static int8_t label_at(const struct collect *c, const struct event *ev,
                       int64_t known_ms)
{
    int64_t delay_ms = c->o.label_delay_ms;
    if (ev->label == LABEL_UNKNOWN)
        return labels_find(c->o.labels, ev->past.event_id, ev->time_ms,
                           known_ms, delay_ms);
    if (known_ms == INT64_MAX) return ev->label;
    return known_ms >= INT64_MIN + delay_ms && ev->time_ms < known_ms - delay_ms
               ? ev->label
               : LABEL_UNKNOWN;
}

static enum rc keep_row(struct collect *c, const struct batch *b, uint32_t i,
                        struct err *e)
{
    const struct event *ev = &b->events[i];
    const struct outcome *o = &b->outcomes[i];
    uint32_t user = 0;
    TRY(user_index(c, &b->records[i], ev->user, o->expired, &user, e));
    if (ev->time_ms >= c->o.until_ms || o->n != c->user_rows[user])
        return RC_OK;
    if (c->rows == c->rows_room) TRY(grow_rows(c, e));
    c->events[c->rows] = ev->past;
    if (c->features > 0)
        memcpy(&c->feature_rows[c->rows * c->features], o->features,
               c->features * sizeof(float));
    c->labels_until[c->rows] = label_at(c, ev, c->o.until_ms);
    c->labels[c->rows] = ev->time_ms < c->o.known_ms
                             ? label_at(c, ev, c->o.known_ms)
                             : c->labels_until[c->rows];
    c->labelled += c->labels[c->rows] != LABEL_UNKNOWN;
    c->labelled_until += c->labels_until[c->rows] != LABEL_UNKNOWN;
    c->row_user[c->rows] = user;
    c->rows++;
    c->user_rows[user]++;
    return keep_name(c, ev->past.item, ev->item, e);
}

enum rc collect_batch(void *user, const struct batch *b, struct err *e)
{
    struct collect *c = user;
    for (uint32_t i = 0; i < b->count; i++)
        if (b->outcomes[i].applied) TRY(keep_row(c, b, i, e));
    return RC_OK;
}

/* --- order -------------------------------------------------------------- */

static void swap_labels(int8_t *labels, uint64_t a, uint64_t b)
{
    int8_t label = labels[a];
    labels[a] = labels[b];
    labels[b] = label;
}

static void swap_rows(struct collect *c, uint64_t a, uint64_t b)
{
    struct past_event event = c->events[a];
    c->events[a] = c->events[b];
    c->events[b] = event;
    swap_labels(c->labels, a, b);
    swap_labels(c->labels_until, a, b);
    for (uint32_t f = 0; f < c->features; f++) {
        float x = c->feature_rows[a * c->features + f];
        c->feature_rows[a * c->features + f] =
            c->feature_rows[b * c->features + f];
        c->feature_rows[b * c->features + f] = x;
    }
}

/* Puts every row where it belongs, in place: a second copy of a large log
 * would not fit. row_user becomes the row's destination first. */
static void order_rows(struct collect *c)
{
    uint64_t *next = c->user_rows; /* no longer needed as counts */
    for (size_t u = 0; u < c->user_count; u++)
        next[u] = c->user_start[u];
    for (uint64_t r = 0; r < c->rows; r++)
        c->row_user[r] = (uint32_t)next[c->row_user[r]]++;
    for (uint64_t r = 0; r < c->rows; r++)
        while (c->row_user[r] != r) {
            uint32_t to = c->row_user[r];
            swap_rows(c, r, to);
            c->row_user[r] = c->row_user[to];
            c->row_user[to] = to;
        }
}

enum rc collect_finish(struct collect *c, struct train_log *out, struct err *e)
{
    size_t users = c->user_count;
    c->user_start = calloc(users + 1, sizeof *c->user_start);
    if (!c->user_start) return ERR(e, RC_STOP, "collecting the log: no memory");
    for (size_t u = 0; u < users; u++)
        c->user_start[u + 1] = c->user_start[u] + c->user_rows[u];
    order_rows(c);
    out->features = c->features;
    out->feature_names = c->feature_names;
    out->users = (uint32_t)users;
    out->user_start = c->user_start;
    out->rows = c->rows;
    out->events = c->events;
    out->feature_rows = c->feature_rows;
    out->labels = c->labelled > 0 ? c->labels : NULL;
    out->labels_until = c->labelled_until > 0 ? c->labels_until : NULL;
    out->names = c->names;
    out->name_count = c->named.count;
    return RC_OK;
}

uint64_t collect_rows(const struct collect *c)
{
    return c->rows;
}

uint64_t collect_labelled(const struct collect *c)
{
    return c->labelled;
}

uint64_t collect_unnamed(const struct collect *c)
{
    return c->unnamed;
}
