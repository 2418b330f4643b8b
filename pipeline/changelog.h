/* changelog.h - users' rows in a compacted topic: what a record of it is.
 *
 * Key      'u' and the user's id, or 'm'.
 * Value    of 'u': the row as it is stored (user_row.h); null: none any more.
 *          of 'm', the marker: the metadata of the family that the rows were
 *          taken from (family_meta.h): every event before its checkpoint is
 *          in the rows of this partition, none at or after applied is.
 * Order    A slice is rows, then the marker; exactly once they are in the
 *          transaction that commits the events they hold, at least once they
 *          follow that commit. A marker is worth something once all that the
 *          partition holds has been read: a compaction may have taken a row
 *          before it and left the newer one after it.
 * Threads  No shared state.
 * Errors   Only decode can fail: RC_STOP. Nothing of a record is believed
 *          before its checksum fits. */
#ifndef MILLRACE_CHANGELOG_H
#define MILLRACE_CHANGELOG_H

#include "batch.h"
#include "family_meta.h"

enum changelog_kind { CHANGELOG_ROW, CHANGELOG_GONE, CHANGELOG_MARKER };

struct changelog_record {
    enum changelog_kind kind;
    struct slice user, row; /* ROW; GONE: user alone. Lent by the record */
    struct family_meta marker;
};

enum { CHANGELOG_KEY_EXTRA = 1 };

/* out: user.len + CHANGELOG_KEY_EXTRA bytes. */
struct slice changelog_row_key(struct slice user, uint8_t *out);
/* The same for every marker; lent for ever. */
struct slice changelog_marker_key(void);

/* topic: for the message. A marker that is null is CHANGELOG_GONE without a
 * user: the changelog was reset there. */
enum rc changelog_decode(struct changelog_record *out, const char *topic,
                         const struct record *in, uint32_t user_bytes_max,
                         struct err *e) MUST_USE;

#endif
