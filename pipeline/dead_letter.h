/* dead_letter.h - a record of the dead letter topic, read back.
 *
 * Letter   The original key and value, under the headers of outputs.h, then
 *          the original ones. Headers of those names among the original ones
 *          are the producer's, and count for nothing.
 * Mark     What was redriven is remembered in the topic itself: a record
 *          without key, whose header DEAD_LETTER_MARK names offsets of its
 *          own partition. It is written in the transaction that redrives
 *          them, so the two cannot part.
 * Guard    A redriven record carries how often that was done, and brings it
 *          along when it ends here again.
 * Memory   Slices are lent by the record.
 * Threads  Pure. */
#ifndef MILLRACE_DEAD_LETTER_H
#define MILLRACE_DEAD_LETTER_H

#include "map64.h"
#include "outputs.h"

#define DEAD_LETTER_MARK     "millrace.mark"     /* value: "12,13,20" */
#define DEAD_LETTER_REDRIVEN "millrace.redriven" /* value: times, so far */

struct dead_letter {
    struct slice reason, detail;
    struct slice topic; /* where it came from */
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms; /* of the source's log; -1: none. The topic of dead
                             letters has a clock of its own */
    uint32_t redriven;    /* times before */
    bool omitted;         /* value, or all but its reason, is not here */
};

enum dead_letter_kind {
    DEAD_LETTER_FOREIGN, /* not written by millrace */
    DEAD_LETTER_IS_MARK,
    DEAD_LETTER_IS_LETTER,
};
enum dead_letter_kind dead_letter_read(const struct record *r,
                                       struct dead_letter *out);

/* The headers with which it came, and DEAD_LETTER_REDRIVEN, whose value is
 * times as text, lent. out: (r->header_count + 1). Returns their count. */
uint32_t dead_letter_headers(const struct record *r, const char *times,
                             struct header *out);

/* Which letters were redriven, by partition and offset of their own topic. */
struct dead_letter_marks {
    struct map64 map;
};
/* Adds those of a mark. RC_SKIP where it is none that we wrote. */
enum rc dead_letter_add_mark(struct dead_letter_marks *m,
                             const struct record *mark, struct err *e) MUST_USE;
bool dead_letter_is_marked(const struct dead_letter_marks *m,
                           const struct record *letter);
void dead_letter_marks_fini(struct dead_letter_marks *m);

#endif
