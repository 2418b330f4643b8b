#include "handover.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

enum { PAUSE_NS = 200000 };

struct hot_page *hot_page_new(uint32_t window, uint32_t user_bytes_max)
{
    struct hot_page *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->window = window;
    p->user_bytes_max = user_bytes_max;
    p->events = calloc((size_t)HOT_USERS * 2 * window, sizeof *p->events);
    p->keys = malloc((size_t)HOT_USERS * user_bytes_max);
    if (p->events && p->keys) return p;
    hot_page_free(p);
    return NULL;
}

void hot_page_free(struct hot_page *p)
{
    if (!p) return;
    free(p->events);
    free(p->keys);
    free(p);
}

/* --- the bringer ------------------------------------------------------- */

void handover_ask(struct handover *h, struct hot_page *page)
{
    assert(!page->last);
    atomic_store(&h->asking, true);
    atomic_store(&h->asked, page);
}

struct hot_page *handover_filled(struct handover *h)
{
    return atomic_exchange(&h->filled, NULL);
}

struct hot_page *handover_reclaim(struct handover *h)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    struct hot_page *page = atomic_exchange(&h->asked, NULL);
    /* Else the worker has it, and is filling it in this moment. */
    while (!page && !(page = handover_filled(h)))
        (void)nanosleep(&pause, NULL);
    return page;
}

void handover_asked(struct handover *h)
{
    atomic_store(&h->asking, false);
}

void handover_give(struct handover *h, struct serving *next)
{
    atomic_store(&h->next, next);
}

struct serving *handover_used(struct handover *h)
{
    bool ended = atomic_load(&h->ended);
    struct serving *used = atomic_exchange(&h->used, NULL);
    if (used || !ended) return used;
    return atomic_exchange(&h->next, NULL);
}

/* --- the worker -------------------------------------------------------- */

bool handover_busy(const struct handover *h)
{
    return atomic_load_explicit(&h->asking, memory_order_relaxed) ||
           atomic_load_explicit(&h->next, memory_order_relaxed);
}

static void copy_user(struct hot_page *page, const struct state *st,
                      const struct user_state *us)
{
    uint32_t i = page->count++;
    uint64_t n = us->history.events_total;
    struct past_event *events = &page->events[(size_t)i * 2 * page->window];
    uint8_t *key = &page->keys[(size_t)i * page->user_bytes_max];
    uint32_t count = (uint32_t)(n - history_start(n - 1, page->window));

    assert(count <= us->history.count && count <= 2 * page->window);
    assert(us->key_len <= page->user_bytes_max);
    history_copy(state_history_shape(st), &us->history, count, 0, events);
    memcpy(key, us->key, us->key_len);
    page->at[i] = (struct hot_user){
        .input = us->partition->input,
        .partition = us->partition->id,
        .hash = us->hash,
        .life = us->life,
        .events_total = n,
        .events = events,
        .event_count = count,
        .key = slice_of(key, us->key_len),
    };
}

void handover_turn(struct handover *h, struct state *st)
{
    struct hot_page *page;
    struct user_state *hot[HOT_USERS];
    uint32_t count;

    if (!atomic_load_explicit(&h->asked, memory_order_relaxed)) return;
    page = atomic_exchange(&h->asked, NULL);
    if (!page) return;
    page->count = 0;
    count = state_cached_rows(st, &page->bucket, HOT_BUCKETS, hot, HOT_USERS);
    page->last = page->bucket == 0;
    for (uint32_t i = 0; i < count; i++)
        copy_user(page, st, hot[i]);
    atomic_store(&h->filled, page);
}

struct serving *handover_take(struct handover *h)
{
    if (!atomic_load_explicit(&h->next, memory_order_relaxed)) return NULL;
    return atomic_exchange(&h->next, NULL);
}

void handover_give_back(struct handover *h, struct serving *used)
{
    atomic_store(&h->used, used);
}

void handover_begin(struct handover *h)
{
    assert(!atomic_load(&h->next) && !atomic_load(&h->used));
    atomic_store(&h->ended, false);
}

void handover_end(struct handover *h)
{
    atomic_store(&h->ended, true);
}
