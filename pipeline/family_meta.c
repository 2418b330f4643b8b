/* family_meta.c - see family_meta.h. */
#include "family_meta.h"

#include <xxhash.h>

#include "bytes.h"

enum { VERSION_PLAIN = 1, VERSION_NO_LABELS, VERSION };

static uint8_t *put_text(uint8_t *to, const char *text)
{
    struct slice s = slice_str(text);
    return put_bytes(put_u32(to, (uint32_t)s.len), s);
}

size_t family_meta_encode(const struct family_meta *m, uint8_t *out)
{
    uint8_t *to = put_u8(out, VERSION);
    to = put_text(to, m->cluster_id);
    to = put_text(to, m->shape);
    to = put_u32(to, m->partitions);
    to = put_i64(to, m->checkpoint);
    to = put_i64(to, m->applied);
    to = put_i64(to, m->released_ms);
    to = put_i64(to, m->stream_ms);
    to = put_i64(to, m->seen_offset);
    to = put_u64(to, m->seen_hash);
    to = put_i64(to, m->changelog_next);
    to = put_u8(to, m->unsent);
    to = put_i64(to, m->label_checkpoint);
    to = put_i64(to, m->label_applied);
    to = put_u64(to, XXH3_64bits(out, (size_t)(to - out)));
    return (size_t)(to - out);
}

static void read_text(struct reader *r, char *out)
{
    struct slice s = read_bytes(r, read_u32(r));
    if (s.len >= STORE_TEXT_MAX || (s.len && memchr(s.ptr, 0, s.len)))
        r->bad = true;
    if (r->bad) return;
    if (s.len) memcpy(out, s.ptr, s.len);
    out[s.len] = '\0';
}

/* What version 1 had not. */
static void read_copy(struct reader *r, struct family_meta *m)
{
    uint8_t unsent;
    m->stream_ms = read_i64(r);
    m->seen_offset = read_i64(r);
    m->seen_hash = read_u64(r);
    m->changelog_next = read_i64(r);
    unsent = read_u8(r);
    if (unsent > 1 || m->changelog_next < -1) r->bad = true;
    m->unsent = unsent != 0;
}

static void read_labels(struct reader *r, struct family_meta *m)
{
    m->label_checkpoint = read_i64(r);
    m->label_applied = read_i64(r);
    if (m->label_checkpoint < 0 || m->label_applied < m->label_checkpoint)
        r->bad = true;
}

bool family_meta_is_newer(struct slice in)
{
    return in.len > 8 && in.ptr[0] > VERSION &&
           get_u64(in.ptr + in.len - 8) == XXH3_64bits(in.ptr, in.len - 8);
}

enum rc family_meta_decode(struct family_meta *m, const char *family,
                           struct slice in, struct err *e)
{
    struct reader r = reader_of(in);
    uint8_t version = read_u8(&r);
    *m = (struct family_meta){.seen_offset = -1,
                              .changelog_next = -1,
                              .unsent = true,
                              .stream_ms = INT64_MIN};
    if (!r.bad && (version < VERSION_PLAIN || version > VERSION))
        return ERR(e, RC_STOP,
                   "state of %s: written by version %d, this build reads %d",
                   family, version, VERSION);
    read_text(&r, m->cluster_id);
    read_text(&r, m->shape);
    m->partitions = read_u32(&r);
    m->checkpoint = read_i64(&r);
    m->applied = read_i64(&r);
    m->released_ms = read_i64(&r);
    if (version >= VERSION_NO_LABELS) read_copy(&r, m);
    if (version >= VERSION) read_labels(&r, m);
    if (r.bad || read_u64(&r) != XXH3_64bits(in.ptr, in.len - 8) ||
        !reader_done(&r))
        return ERR(e, RC_STOP,
                   "state of %s: its metadata is damaged; `millrace reset` "
                   "builds the state anew from the log",
                   family);
    return RC_OK;
}
