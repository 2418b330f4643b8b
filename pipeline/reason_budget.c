#include "reason_budget.h"

#include <assert.h>
#include <string.h>

#include "hash.h"

enum { SECOND_MS = 1000 };

uint32_t reason_lanes(uint32_t per_second)
{
    uint32_t lanes = REASON_LANES_MAX;
    while (per_second > 0 && lanes > per_second)
        lanes /= 2;
    return lanes;
}

uint32_t reason_lane(struct slice user, uint32_t lanes)
{
    assert(lanes > 0);
    return (uint32_t)(hash_mix(hash64(user)) % lanes);
}

static int64_t second_of(int64_t time_ms)
{
    return time_ms / SECOND_MS - (time_ms % SECOND_MS < 0);
}

bool reason_budget_take(struct reason_budget *b, uint32_t per_second,
                        struct slice user, int64_t time_ms)
{
    uint32_t lanes = reason_lanes(per_second);
    uint32_t lane = reason_lane(user, lanes);
    uint32_t most = per_second / lanes + (lane < per_second % lanes);
    int64_t second = second_of(time_ms);
    if (!b->begun || second != b->second) {
        memset(b, 0, sizeof *b);
        b->begun = true;
        b->second = second;
    }
    if (b->used[lane] >= most) return false;
    b->used[lane]++;
    return true;
}
