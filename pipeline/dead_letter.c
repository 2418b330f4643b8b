#include "dead_letter.h"

#include <string.h>

static const char PREFIX[] = "millrace.";

/* Kafka's offsets are far below; partitions are int32. */
enum { OFFSET_BITS = 44 };

static bool is_named(const struct header *h, const char *name)
{
    return slice_equal(h->name, slice_str(name));
}

/* Decimal digits and nothing else. */
static bool read_number(struct slice text, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;
    if (text.len == 0) return false;
    for (size_t i = 0; i < text.len; i++) {
        uint64_t digit = (uint64_t)text.ptr[i] - '0';
        if (text.ptr[i] < '0' || text.ptr[i] > '9') return false;
        if (n > (max - digit) / 10) return false;
        n = n * 10 + digit;
    }
    *out = n;
    return true;
}

/* Those that outputs.c puts in front, in its order. */
static bool read_front(const struct header *h, struct dead_letter *out)
{
    uint64_t partition, offset, timestamp;
    bool timed = !slice_equal(h[5].value, slice_str("-1"));
    if (!is_named(&h[0], DEAD_LETTER_REASON) ||
        !is_named(&h[1], DEAD_LETTER_DETAIL) ||
        !is_named(&h[2], DEAD_LETTER_TOPIC) ||
        !is_named(&h[3], DEAD_LETTER_PARTITION) ||
        !is_named(&h[4], DEAD_LETTER_OFFSET) ||
        !is_named(&h[5], DEAD_LETTER_TIMESTAMP) ||
        !read_number(h[3].value, INT32_MAX, &partition) ||
        !read_number(h[4].value, INT64_MAX, &offset) ||
        (timed && !read_number(h[5].value, INT64_MAX, &timestamp)))
        return false;
    out->reason = h[0].value;
    out->detail = h[1].value;
    out->topic = h[2].value;
    out->partition = (int32_t)partition;
    out->offset = (int64_t)offset;
    out->timestamp_ms = timed ? (int64_t)timestamp : -1;
    return true;
}

enum dead_letter_kind dead_letter_read(const struct record *r,
                                       struct dead_letter *out)
{
    const struct header *h = r->headers;
    uint64_t times;

    *out = (struct dead_letter){0};
    if (r->header_count == 1 && is_named(h, DEAD_LETTER_MARK))
        return DEAD_LETTER_IS_MARK;
    if (r->header_count < DEAD_LETTER_HEADERS || !read_front(h, out))
        return DEAD_LETTER_FOREIGN;
    for (uint32_t i = DEAD_LETTER_HEADERS; i < r->header_count; i++) {
        if (is_named(&h[i], DEAD_LETTER_REDRIVEN) &&
            read_number(h[i].value, UINT32_MAX - 1, &times))
            out->redriven = (uint32_t)times;
        /* Said right behind them: further back it is the producer's. */
        if (i < DEAD_LETTER_HEADERS + 2 &&
            (is_named(&h[i], DEAD_LETTER_VALUE) ||
             is_named(&h[i], DEAD_LETTER_KEY)))
            out->omitted = true;
    }
    return DEAD_LETTER_IS_LETTER;
}

static bool is_ours(const struct header *h)
{
    size_t len = sizeof PREFIX - 1;
    return h->name.len >= len && memcmp(h->name.ptr, PREFIX, len) == 0;
}

uint32_t dead_letter_headers(const struct record *r, const char *times,
                             struct header *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->header_count; i++)
        if (!is_ours(&r->headers[i])) out[count++] = r->headers[i];
    out[count++] =
        (struct header){slice_str(DEAD_LETTER_REDRIVEN), slice_str(times)};
    return count;
}

/* --- marks ------------------------------------------------------------- */

static uint64_t place(int32_t partition, int64_t offset)
{
    return (((uint64_t)partition + 1) << OFFSET_BITS) | (uint64_t)offset;
}

enum rc dead_letter_add_mark(struct dead_letter_marks *m,
                             const struct record *mark, struct err *e)
{
    struct slice text = mark->headers[0].value;
    while (text.len > 0) {
        const uint8_t *comma = memchr(text.ptr, ',', text.len);
        size_t len = comma ? (size_t)(comma - text.ptr) : text.len;
        uint64_t offset;
        bool made;
        if (!read_number(slice_of(text.ptr, len),
                         (UINT64_C(1) << OFFSET_BITS) - 1, &offset))
            return ERR(e, RC_SKIP,
                       "dead letters: partition %d, offset %lld is no mark of "
                       "what was redriven",
                       mark->partition, (long long)mark->offset);
        if (!map64_put(&m->map, place(mark->partition, (int64_t)offset), 1,
                       &made))
            return ERR(e, RC_STOP, "dead letters: no memory for marks");
        len += comma ? 1 : 0;
        text = slice_of(text.ptr + len, text.len - len);
    }
    return RC_OK;
}

bool dead_letter_is_marked(const struct dead_letter_marks *m,
                           const struct record *letter)
{
    return map64_get(&m->map, place(letter->partition, letter->offset));
}

void dead_letter_marks_fini(struct dead_letter_marks *m)
{
    map64_fini(&m->map);
}
