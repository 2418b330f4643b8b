/* changelog_copy.h - a family of the store made from one partition of the
 * changelog: by the worker that was assigned it, or ahead of need.
 *
 * Steps    Rows go to the store in batches, each with the changelog's offset
 *          that it reaches, so that a copy goes on where it was interrupted.
 * Stands   Where the family stood when the copy began, or nowhere (checkpoint
 *          0), until the end of the changelog is reached: then where the
 *          newest marker says.
 * Memory   One batch. The family is held by the caller.
 * Threads  One thread. */
#ifndef MILLRACE_CHANGELOG_COPY_H
#define MILLRACE_CHANGELOG_COPY_H

#include "changelog.h"
#include "store.h"

struct changelog_copy {
    struct store *store;
    struct family *family;
    struct family_meta meta; /* as last written */
    struct family_meta marker;
    bool marked; /* a marker has been read */
    struct store_writes *writes;
    uint32_t pending;
    size_t pending_bytes;
    int64_t next, end; /* offsets in the changelog; end: as far as known */
    int64_t from;      /* where this copy began */
    uint64_t rows;     /* read so far, those that are gone as well */
};

/* meta: as the store has it, changelog_next >= 0; it is read from there.
 * clear: what rows there are belong to something else. */
enum rc changelog_copy_begin(struct changelog_copy *c, struct store *s,
                             struct family *f, const struct family_meta *meta,
                             bool clear, int64_t end, struct err *e) MUST_USE;
void changelog_copy_fini(struct changelog_copy *c);

enum rc changelog_copy_take(struct changelog_copy *c,
                            const struct changelog_record *r, int64_t offset,
                            struct err *e) MUST_USE;
/* All before offset has been read: the family stands at the marker. */
enum rc changelog_copy_end(struct changelog_copy *c, int64_t offset,
                           struct err *e) MUST_USE;

#endif
