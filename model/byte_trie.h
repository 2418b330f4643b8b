/* byte_trie.h - the longest of many texts that another text begins with.
 *
 * Layout   Nodes are numbers; an edge (node, byte) -> node stands in one hash
 *          table, so a step costs one look into it and a walk ends at the
 *          first byte that no text has. Several roots share the table.
 * Memory   Grows while texts are put; byte_trie_fini.
 * Threads  Immutable once built.
 * Errors   RC_STOP: no memory, or more nodes than BYTE_TRIE_NODES_MAX. */
#ifndef MILLRACE_BYTE_TRIE_H
#define MILLRACE_BYTE_TRIE_H

#include "err.h"
#include "slice.h"

enum {
    BYTE_TRIE_NODES_MAX = 1 << 24,
    BYTE_TRIE_NONE = -1, /* no text ends here */
};

struct byte_trie_edge {
    uint32_t from; /* node << 8 | byte */
    uint32_t to;   /* 0: free slot; no edge leads to node 0 */
};

struct byte_trie {
    struct byte_trie_edge *edges; /* (slot_mask + 1), open addressing */
    uint32_t slot_mask;
    int32_t *ids; /* (nodes_room) */
    uint32_t nodes, nodes_room;
};

enum rc byte_trie_init(struct byte_trie *t, uint32_t roots,
                       struct err *e) MUST_USE;
void byte_trie_fini(struct byte_trie *t);

/* text (not empty) becomes id (>= 0) under root; a text that is there already
 * gets the new id. */
enum rc byte_trie_put(struct byte_trie *t, uint32_t root, struct slice text,
                      uint32_t id, struct err *e) MUST_USE;

/* How many bytes the longest text under root that in begins with has, and its
 * id; 0 if there is none. */
size_t byte_trie_longest(const struct byte_trie *t, uint32_t root,
                         struct slice in, uint32_t *id);

#endif
