#include "byte_trie.h"

#include <assert.h>
#include <stdlib.h>

#include "hash.h"

enum { SLOTS_FIRST = 1024, NODES_FIRST = 512 };

enum rc byte_trie_init(struct byte_trie *t, uint32_t roots, struct err *e)
{
    assert(roots > 0 && roots < NODES_FIRST);
    *t = (struct byte_trie){.slot_mask = SLOTS_FIRST - 1,
                            .nodes = roots,
                            .nodes_room = NODES_FIRST};
    t->edges = calloc(SLOTS_FIRST, sizeof *t->edges);
    t->ids = malloc(NODES_FIRST * sizeof *t->ids);
    if (!t->edges || !t->ids) {
        byte_trie_fini(t);
        return ERR(e, RC_STOP, "no memory");
    }
    for (uint32_t i = 0; i < roots; i++)
        t->ids[i] = BYTE_TRIE_NONE;
    return RC_OK;
}

void byte_trie_fini(struct byte_trie *t)
{
    free(t->edges);
    free(t->ids);
    *t = (struct byte_trie){0};
}

/* The slot of an edge, or the free one where it would stand. */
static struct byte_trie_edge *find(const struct byte_trie *t, uint32_t from)
{
    uint32_t slot = (uint32_t)hash_mix(from) & t->slot_mask;
    while (t->edges[slot].to && t->edges[slot].from != from)
        slot = (slot + 1) & t->slot_mask;
    return &t->edges[slot];
}

/* At most half of the slots are ever in use. */
static enum rc grow(struct byte_trie *t, struct err *e)
{
    struct byte_trie old = *t;
    if (t->nodes == t->nodes_room) {
        int32_t *ids = realloc(t->ids, 2 * (size_t)t->nodes * sizeof *ids);
        if (!ids) return ERR(e, RC_STOP, "no memory for %u nodes", t->nodes);
        t->ids = ids;
        t->nodes_room *= 2;
    }
    if (t->nodes < (t->slot_mask + 1) / 2) return RC_OK;
    t->edges = calloc(2 * ((size_t)t->slot_mask + 1), sizeof *t->edges);
    if (!t->edges) {
        t->edges = old.edges;
        return ERR(e, RC_STOP, "no memory for %u nodes", t->nodes);
    }
    t->slot_mask = 2 * t->slot_mask + 1;
    for (uint32_t i = 0; i <= old.slot_mask; i++)
        if (old.edges[i].to) *find(t, old.edges[i].from) = old.edges[i];
    free(old.edges);
    return RC_OK;
}

enum rc byte_trie_put(struct byte_trie *t, uint32_t root, struct slice text,
                      uint32_t id, struct err *e)
{
    uint32_t node = root;
    assert(text.len > 0 && id <= INT32_MAX);
    for (size_t i = 0; i < text.len; i++) {
        uint32_t from = node << 8 | text.ptr[i];
        struct byte_trie_edge *edge = find(t, from);
        if (!edge->to) {
            if (t->nodes == BYTE_TRIE_NODES_MAX)
                return ERR(e, RC_STOP, "more than %d beginnings of texts",
                           BYTE_TRIE_NODES_MAX);
            TRY(grow(t, e));
            edge = find(t, from);
            *edge = (struct byte_trie_edge){from, t->nodes};
            t->ids[t->nodes++] = BYTE_TRIE_NONE;
        }
        node = edge->to;
    }
    t->ids[node] = (int32_t)id;
    return RC_OK;
}

size_t byte_trie_longest(const struct byte_trie *t, uint32_t root,
                         struct slice in, uint32_t *id)
{
    uint32_t node = root;
    size_t longest = 0;
    for (size_t i = 0; i < in.len; i++) {
        node = find(t, node << 8 | in.ptr[i])->to;
        if (!node) break;
        if (t->ids[node] == BYTE_TRIE_NONE) continue;
        *id = (uint32_t)t->ids[node];
        longest = i + 1;
    }
    return longest;
}
