/* user_row.h - the stored bytes of one user: history, windows, and a checksum
 * that also covers the user's id, so that a row under a wrong key is found.
 *
 * Bytes, little-endian, version 1:
 *
 *   version u8 | 0 u8 x 3 | history_bytes u32 | history | windows |
 *   checksum u64: XXH3 of all before, seeded with XXH3 of the user's id
 *
 * Threads  No shared state.
 * Errors   Only decode and verify can fail. RC_SKIP: damaged; the state that
 *          holds it has to be made anew. RC_STOP: whole, but of another
 *          version or shape. Going on would write a fresh, short history
 *          over it. */
#ifndef MILLRACE_USER_ROW_H
#define MILLRACE_USER_ROW_H

#include "history.h"
#include "windows.h"

size_t user_row_encoded_size(const struct history_shape *hs,
                             const struct windows_shape *ws,
                             const struct history *h, const struct windows *w);
/* The largest that any row of these shapes can be. */
size_t user_row_bytes_max(const struct history_shape *hs,
                          const struct windows_shape *ws);
size_t user_row_encode(const struct history_shape *hs,
                       const struct windows_shape *ws, struct slice user,
                       const struct history *h, const struct windows *w,
                       uint8_t *out);

/* h and w are empty before, and after a failure. */
enum rc user_row_decode(const struct history_shape *hs,
                        const struct windows_shape *ws, struct slice user,
                        struct slice in, struct history *h, struct windows *w,
                        struct err *e) MUST_USE;

/* The newest offset and the newest time that an undamaged row holds. */
enum rc user_row_head(struct slice user, struct slice in, int64_t *offset,
                      int64_t *newest_ms, struct err *e) MUST_USE;

/* The checksum alone: does this row belong to this user, undamaged? */
enum rc user_row_verify(struct slice user, struct slice in,
                        struct err *e) MUST_USE;

#endif
