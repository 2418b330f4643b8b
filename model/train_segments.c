#include "train_segments.h"

#include <stdlib.h>

enum { SEGMENT_KEY = 0x7367 };

struct pass {
    const struct train_shared *shared;
    struct lane **lanes;
    struct piece *pieces; /* (users) the context of each one's last event */
    const struct piece **list;
    uint32_t *group; /* (groups + 1) the first piece of each */
    uint32_t users, groups;
    float *states; /* (users, D) */
};

/* The context in which serving would read the user's last training event.
 * Without targets, a piece wants its last hidden state alone. */
static bool last_context(const struct train_shared *s, uint32_t user,
                         struct piece *out)
{
    const struct train_log *log = s->data->log;
    uint64_t first = log->user_start[user], at = log->user_start[user + 1];
    uint64_t n, start, window = s->m->params.config.window;
    while (at > first && s->data->role[at - 1] != ROLE_TRAIN)
        at--;
    if (at == first) return false;
    n = at - 1 - first;
    start = n / window == 0 ? 0 : (n / window - 1) * window;
    *out = (struct piece){
        .row = first + start, .count = (uint32_t)(n - start + 1), .user = user};
    out->target_from = out->target_until = out->count;
    return true;
}

/* Users, evenly chosen, and groups of them that fit a lane. */
static void gather(struct pass *p)
{
    uint32_t users = p->shared->data->log->users;
    uint32_t step = users / TRAIN_SEGMENT_USERS + 1;
    uint32_t tokens_max = p->lanes[0]->tokens_max, tokens = tokens_max;
    for (uint32_t u = 0; u < users; u += step) {
        struct piece *piece = &p->pieces[p->users];
        if (!last_context(p->shared, u, piece)) continue;
        if (tokens + piece->count > tokens_max) {
            p->group[p->groups++] = p->users;
            tokens = 0;
        }
        tokens += piece->count;
        p->list[p->users++] = piece;
    }
    p->group[p->groups] = p->users;
}

static void forward_group(void *user, uint32_t task, uint32_t thread)
{
    const struct pass *p = user;
    struct lane *l = p->lanes[thread];
    size_t d = p->shared->m->params.config.width;
    uint32_t from = p->group[task], count = p->group[task + 1] - from;
    lane_forward(l, p->list + from, count, ROLE_TRAIN, (struct dropout){0});
    for (size_t i = 0; i < count * d; i++)
        p->states[from * d + i] = (float)l->hidden[i];
}

enum rc train_segments(const struct train_shared *shared, struct lane **lanes,
                       struct team *team, struct segments *out, struct err *e)
{
    struct pass p = {.shared = shared, .lanes = lanes};
    const struct train_options *o = shared->o;
    size_t most = TRAIN_SEGMENT_USERS + 1;
    uint32_t width = shared->m->params.config.width;
    bool ok;
    p.pieces = calloc(most, sizeof *p.pieces);
    p.list = calloc(most, sizeof *p.list);
    p.group = calloc(most + 1, sizeof *p.group);
    p.states = malloc(most * width * sizeof *p.states);
    ok = p.pieces && p.list && p.group && p.states;
    if (ok) {
        gather(&p);
        team_run(team, p.groups, forward_group, &p);
        segments_fini(out);
        ok = segments_find(out, p.states, p.users, width, o->segments,
                           o->seed + SEGMENT_KEY);
    }
    free(p.pieces);
    free((void *)p.list);
    free(p.group);
    free(p.states);
    return ok ? RC_OK : ERR(e, RC_STOP, "training: no memory for segments");
}
