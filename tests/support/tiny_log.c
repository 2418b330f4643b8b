#include "tiny_log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "hash.h"

enum { EVENTS_MIN = 20, EVENTS_RANGE = 40, NAME_BYTES = 16 };

static char name_text[TINY_ITEMS][NAME_BYTES];
static struct train_name names[TINY_ITEMS];

static void make_names(void)
{
    for (uint32_t i = 0; i < TINY_ITEMS; i++) {
        (void)snprintf(name_text[i], NAME_BYTES, "item-%u", i);
        names[i] = (struct train_name){hash64(slice_str(name_text[i])),
                                       slice_str(name_text[i])};
    }
}

/* Mostly the user's own step on from the item before. */
static uint32_t next_item(uint32_t item, uint64_t user, uint64_t bits)
{
    static const uint32_t steps[] = {1, 7, 13};
    if (bits % 8 == 0) return (uint32_t)(bits / 8 % TINY_ITEMS);
    return (item + steps[user % 3]) % TINY_ITEMS;
}

static void fill_user(struct tiny_log *t, uint64_t user, uint64_t seed)
{
    uint32_t item = (uint32_t)(draw(seed, user, 1) % TINY_ITEMS);
    double usual = 500 + (double)(draw(seed, user, 2) % 20000), sum = 0;
    for (uint64_t r = t->user_start[user]; r < t->user_start[user + 1]; r++) {
        uint64_t k = r - t->user_start[user], bits = draw(seed, user, 100 + k);
        bool fraud = k > 5 && draw(seed, user, 5000 + k) % 25 == 0;
        double mean = k ? sum / (double)k : usual;
        double amount =
            usual * (0.8 + 0.4 * (double)draw_unit(bits)) * (fraud ? 4 : 1);
        item = next_item(item, user, draw(seed, user, 9000 + k));
        t->events[r] = (struct past_event){
            .time_ms = (int64_t)k * TINY_HOUR_MS,
            .gap_ms = k ? TINY_HOUR_MS : -1,
            .amount = (int64_t)amount,
            .item = names[item].hash,
            .amount_log_ratio =
                k ? (float)log((amount / 100 + 1) / (mean / 100 + 1)) : 0};
        t->features[r * TINY_FEATURES] = (float)(amount / 100);
        t->features[r * TINY_FEATURES + 1] =
            k ? (float)(mean / 100) : (float)NAN;
        t->features[r * TINY_FEATURES + 2] = (float)k;
        t->labels[r] = fraud ? LABEL_FRAUD : LABEL_GOOD;
        sum += amount;
    }
}

void tiny_log_init(struct tiny_log *t, uint32_t users, uint64_t seed)
{
    static const char *const feature_names[] = {"amount", "amount_mean",
                                                "events"};
    uint64_t rows = 0;
    make_names();
    t->user_start = calloc(users + 1, sizeof *t->user_start);
    for (uint32_t u = 0; u < users; u++) {
        rows += EVENTS_MIN + draw(seed, u, 0) % EVENTS_RANGE;
        t->user_start[u + 1] = rows;
    }
    t->events = calloc(rows, sizeof *t->events);
    t->features = calloc(rows * TINY_FEATURES, sizeof *t->features);
    t->labels = calloc(rows, 1);
    for (uint32_t u = 0; u < users; u++)
        fill_user(t, u, seed);
    t->log =
        (struct train_log){.fields = TRAIN_ITEM | TRAIN_AMOUNT | TRAIN_TIME,
                           .amount_scale = 100,
                           .features = TINY_FEATURES,
                           .feature_names = feature_names,
                           .users = users,
                           .user_start = t->user_start,
                           .rows = rows,
                           .events = t->events,
                           .feature_rows = t->features,
                           .labels = t->labels,
                           .names = names,
                           .name_count = TINY_ITEMS};
}

void tiny_log_fini(struct tiny_log *t)
{
    free(t->user_start);
    free(t->events);
    free(t->features);
    free(t->labels);
}
