/* container_codec.c - null, deflate and zstandard, with bounded output. */
#include "container_codec.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

enum {
    ZSTD_LEVEL = 3,
    ZSTD_WINDOW_LOG_MAX = 25, /* what a reader spends on a block's window */
    UNPACK_BYTES = 64 << 10,  /* the first guess; doubled as needed */
};

enum codec_kind { CODEC_NULL, CODEC_DEFLATE, CODEC_ZSTANDARD };
static const char *const CODEC_NAMES[] = {"null", "deflate", "zstandard"};

struct block_codec {
    enum codec_kind kind;
    z_stream deflater, inflater;
    bool deflating, inflating;
    ZSTD_CCtx *compressor;
    ZSTD_DCtx *decompressor;
};

enum rc buffer_reserve(struct buffer *b, size_t max, struct err *e)
{
    size_t want = b->max ? b->max : 4096;
    uint8_t *grown;
    if (max <= b->max && b->at) return RC_OK;
    while (want < max)
        want *= 2;
    grown = realloc(b->at, want);
    if (!grown) return ERR(e, RC_STOP, "out of memory: %zu bytes", want);
    b->at = grown;
    b->max = want;
    return RC_OK;
}

void buffer_fini(struct buffer *b)
{
    free(b->at);
    *b = (struct buffer){0};
}

enum rc block_codec_new(struct block_codec **out, struct slice name,
                        struct err *e)
{
    struct block_codec *c;
    uint32_t kind = CODEC_NULL;
    *out = NULL;
    while (name.len && kind <= CODEC_ZSTANDARD &&
           !slice_equal(name, slice_str(CODEC_NAMES[kind])))
        kind++;
    if (kind > CODEC_ZSTANDARD)
        return ERR(e, RC_STOP,
                   "codec '%.*s' is none of null, deflate, "
                   "zstandard",
                   (int)(name.len > 32 ? 32 : name.len),
                   (const char *)name.ptr);
    c = calloc(1, sizeof *c);
    if (!c) return ERR(e, RC_STOP, "out of memory for a codec");
    c->kind = (enum codec_kind)kind;
    *out = c;
    return RC_OK;
}

void block_codec_free(struct block_codec *c)
{
    if (!c) return;
    if (c->deflating) (void)deflateEnd(&c->deflater);
    if (c->inflating) (void)inflateEnd(&c->inflater);
    (void)ZSTD_freeCCtx(c->compressor);
    (void)ZSTD_freeDCtx(c->decompressor);
    free(c);
}

static enum rc copy(struct slice from, struct buffer *out, struct err *e)
{
    TRY(buffer_reserve(out, from.len, e));
    if (from.len) memcpy(out->at, from.ptr, from.len);
    out->len = from.len;
    return RC_OK;
}

/* Room for more unpacked bytes, up to max. */
static enum rc room(struct buffer *out, size_t max, struct err *e)
{
    size_t want = out->len ? out->len * 2 : UNPACK_BYTES;
    if (out->len == max)
        return ERR(e, RC_STOP, "a block of over %zu bytes", max);
    return buffer_reserve(out, want < max ? want : max, e);
}

static enum rc unpack_deflate(struct block_codec *c, struct slice in,
                              struct buffer *out, size_t max, struct err *e)
{
    z_stream *z = &c->inflater;
    int status = c->inflating ? inflateReset(z) : inflateInit2(z, -MAX_WBITS);
    if (status != Z_OK) return ERR(e, RC_STOP, "deflate: cannot start");
    c->inflating = true;
    z->next_in = (Bytef *)(uintptr_t)in.ptr;
    z->avail_in = (uInt)in.len;
    while (status != Z_STREAM_END) {
        size_t space;
        TRY(room(out, max, e));
        space = (out->max < max ? out->max : max) - out->len;
        z->next_out = out->at + out->len;
        z->avail_out = (uInt)space;
        status = inflate(z, Z_NO_FLUSH);
        out->len += space - z->avail_out;
        if (status == Z_BUF_ERROR && z->avail_in == 0)
            return ERR(e, RC_STOP, "deflate: the block is truncated");
        if (status != Z_OK && status != Z_STREAM_END)
            return ERR(e, RC_STOP, "deflate: the block is damaged");
    }
    /* Bytes behind the data are let pass: fastavro leaves a part of zlib's
     * checksum there, and readers have always put up with it. */
    return RC_OK;
}

static enum rc zstd_start(struct block_codec *c, struct err *e)
{
    size_t set;
    if (c->decompressor) {
        (void)ZSTD_DCtx_reset(c->decompressor, ZSTD_reset_session_only);
        return RC_OK;
    }
    c->decompressor = ZSTD_createDCtx();
    if (!c->decompressor) return ERR(e, RC_STOP, "zstandard: out of memory");
    set = ZSTD_DCtx_setParameter(c->decompressor, ZSTD_d_windowLogMax,
                                 ZSTD_WINDOW_LOG_MAX);
    if (ZSTD_isError(set))
        return ERR(e, RC_STOP, "zstandard: %s", ZSTD_getErrorName(set));
    return RC_OK;
}

static enum rc unpack_zstandard(struct block_codec *c, struct slice stored,
                                struct buffer *out, size_t max, struct err *e)
{
    ZSTD_inBuffer in = {stored.ptr, stored.len, 0};
    size_t status = 1;
    TRY(zstd_start(c, e));
    while (status != 0 || in.pos < in.size) {
        ZSTD_outBuffer to;
        TRY(room(out, max, e));
        to = (ZSTD_outBuffer){out->at, out->max < max ? out->max : max,
                              out->len};
        status = ZSTD_decompressStream(c->decompressor, &to, &in);
        if (ZSTD_isError(status))
            return ERR(e, RC_STOP, "zstandard: %s", ZSTD_getErrorName(status));
        out->len = to.pos;
        if (status != 0 && in.pos == in.size && to.pos < to.size)
            return ERR(e, RC_STOP, "zstandard: the block is truncated");
    }
    return RC_OK;
}

enum rc block_unpack(struct block_codec *c, struct slice stored,
                     struct buffer *out, size_t max, struct err *e)
{
    out->len = 0;
    switch (c->kind) {
    case CODEC_DEFLATE:
        return unpack_deflate(c, stored, out, max, e);
    case CODEC_ZSTANDARD:
        return unpack_zstandard(c, stored, out, max, e);
    default:
        break;
    }
    if (stored.len > max)
        return ERR(e, RC_STOP, "a block of %zu bytes, the most is %zu",
                   stored.len, max);
    return copy(stored, out, e);
}

static enum rc pack_deflate(struct block_codec *c, struct slice plain,
                            struct buffer *out, struct err *e)
{
    z_stream *z = &c->deflater;
    int status = c->deflating
                     ? deflateReset(z)
                     : deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
                                    -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    if (status != Z_OK) return ERR(e, RC_STOP, "deflate: cannot start");
    c->deflating = true;
    TRY(buffer_reserve(out, deflateBound(z, plain.len), e));
    z->next_in = (Bytef *)(uintptr_t)plain.ptr;
    z->avail_in = (uInt)plain.len;
    z->next_out = out->at;
    z->avail_out = (uInt)out->max;
    if (deflate(z, Z_FINISH) != Z_STREAM_END)
        return ERR(e, RC_STOP, "deflate: a block was not packed");
    out->len = out->max - z->avail_out;
    return RC_OK;
}

static enum rc pack_zstandard(struct block_codec *c, struct slice plain,
                              struct buffer *out, struct err *e)
{
    size_t used;
    if (!c->compressor) c->compressor = ZSTD_createCCtx();
    if (!c->compressor) return ERR(e, RC_STOP, "zstandard: out of memory");
    TRY(buffer_reserve(out, ZSTD_compressBound(plain.len), e));
    used = ZSTD_compressCCtx(c->compressor, out->at, out->max, plain.ptr,
                             plain.len, ZSTD_LEVEL);
    if (ZSTD_isError(used))
        return ERR(e, RC_STOP, "zstandard: %s", ZSTD_getErrorName(used));
    out->len = used;
    return RC_OK;
}

enum rc block_pack(struct block_codec *c, struct slice plain,
                   struct buffer *out, struct err *e)
{
    switch (c->kind) {
    case CODEC_DEFLATE:
        return pack_deflate(c, plain, out, e);
    case CODEC_ZSTANDARD:
        return pack_zstandard(c, plain, out, e);
    default:
        return copy(plain, out, e);
    }
}
