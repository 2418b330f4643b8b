/* user_row.c - see user_row.h. */
#include "user_row.h"

#include <xxhash.h>

#include "bytes.h"

enum { VERSION = 1, HEAD_BYTES = 8, CHECKSUM_BYTES = 8 };

static uint64_t checksum(struct slice user, const uint8_t *bytes, size_t len)
{
    return XXH3_64bits_withSeed(bytes, len, XXH3_64bits(user.ptr, user.len));
}

size_t user_row_encoded_size(const struct history_shape *hs,
                             const struct windows_shape *ws,
                             const struct history *h, const struct windows *w)
{
    return HEAD_BYTES + history_encoded_size(hs, h) +
           windows_encoded_size(ws, w) + CHECKSUM_BYTES;
}

size_t user_row_bytes_max(const struct history_shape *hs,
                          const struct windows_shape *ws)
{
    return HEAD_BYTES + history_bytes_max(hs) + windows_bytes_max(ws) +
           CHECKSUM_BYTES;
}

size_t user_row_encode(const struct history_shape *hs,
                       const struct windows_shape *ws, struct slice user,
                       const struct history *h, const struct windows *w,
                       uint8_t *out)
{
    uint8_t *to = put_u32(out, VERSION); /* and three zeros */
    to = put_u32(to, (uint32_t)history_encoded_size(hs, h));
    to += history_encode(hs, h, to);
    to += windows_encode(ws, w, to);
    to = put_u64(to, checksum(user, out, (size_t)(to - out)));
    return (size_t)(to - out);
}

enum rc user_row_verify(struct slice user, struct slice in, struct err *e)
{
    size_t body;
    if (in.len < HEAD_BYTES + CHECKSUM_BYTES)
        return ERR(e, RC_SKIP, "row: %zu bytes are no row", in.len);
    body = in.len - CHECKSUM_BYTES;
    if (get_u64(in.ptr + body) != checksum(user, in.ptr, body))
        return ERR(e, RC_SKIP, "row: its checksum does not fit its %zu bytes",
                   in.len);
    if (in.ptr[0] != VERSION)
        return ERR(e, RC_STOP, "row: version %d, this build reads %d",
                   in.ptr[0], VERSION);
    return RC_OK;
}

/* Rows of an earlier version get from the history what their windows lack. */
static void complete_windows(const struct history_shape *hs,
                             const struct windows_shape *ws,
                             const struct history *h, struct windows *w)
{
    size_t bytes = h->count * sizeof(struct past_event);
    struct past_event *known;
    if (h->count == 0) return;
    known = pool_take(hs->pool, bytes);
    history_copy(hs, h, h->count, 0, known);
    windows_fill_in(ws, w, known, h->count);
    pool_give(hs->pool, known, bytes);
}

enum rc user_row_decode(const struct history_shape *hs,
                        const struct windows_shape *ws, struct slice user,
                        struct slice in, struct history *h, struct windows *w,
                        struct err *e)
{
    struct reader r;
    struct slice history;
    enum rc rc;
    TRY(user_row_verify(user, in, e));
    r = reader_of(slice_of(in.ptr, in.len - CHECKSUM_BYTES));
    if (read_u32(&r) != VERSION)
        return ERR(e, RC_STOP, "row: its head is not that of version %d",
                   VERSION);
    history = read_bytes(&r, read_u32(&r));
    if (r.bad)
        return ERR(e, RC_STOP, "row: its history is longer than the row");
    TRY(history_decode(hs, h, history, e));
    rc = windows_decode(ws, w, r.left, e);
    if (rc != RC_OK)
        history_fini(hs, h);
    else if (windows_lack_ends(r.left))
        complete_windows(hs, ws, h, w);
    return rc;
}

enum rc user_row_head(struct slice user, struct slice in, int64_t *offset,
                      int64_t *newest_ms, struct err *e)
{
    TRY(user_row_verify(user, in, e));
    if (history_stored_head(slice_of(in.ptr + HEAD_BYTES, in.len - HEAD_BYTES),
                            offset, newest_ms))
        return RC_OK;
    return ERR(e, RC_STOP, "row: its history has no head");
}
