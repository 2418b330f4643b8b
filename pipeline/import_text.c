#include "import_text.h"

#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { STORED_BYTES = 256 << 10, MAGIC_BYTES = 6 };
/* xz -9 needs 65 MiB to decode; what asks for more is an attack. */
static const uint64_t XZ_MEMORY_MAX = (uint64_t)512 << 20;

enum packing { PACKED_PLAIN, PACKED_GZIP, PACKED_XZ };

struct import_text {
    const char *path;
    int fd;
    enum packing packing;
    uint64_t done, total;
    uint8_t stored[STORED_BYTES];
    size_t at, end; /* of the stored bytes not used yet */
    bool file_ended, ended;
    bool member_open; /* gzip: within a member */
    z_stream gzip;
    lzma_stream xz;
};

/* More stored bytes behind those not used yet. */
static enum rc fill(struct import_text *t, struct err *e)
{
    ssize_t got;
    if (t->at > 0) {
        memmove(t->stored, t->stored + t->at, t->end - t->at);
        t->end -= t->at;
        t->at = 0;
    }
    do {
        got = read(t->fd, t->stored + t->end, STORED_BYTES - t->end);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return ERR(e, RC_STOP, "reading '%s': %s", t->path, strerror(errno));
    if (got == 0) t->file_ended = true;
    t->end += (size_t)got;
    t->done += (uint64_t)got;
    return RC_OK;
}

static enum rc find_packing(struct import_text *t, struct err *e)
{
    static const uint8_t XZ[MAGIC_BYTES] = {0xfd, '7', 'z', 'X', 'Z', 0};
    while (t->end < MAGIC_BYTES && !t->file_ended)
        TRY(fill(t, e));
    if (t->end >= 2 && t->stored[0] == 0x1f && t->stored[1] == 0x8b) {
        t->packing = PACKED_GZIP;
        if (inflateInit2(&t->gzip, 15 + 16) != Z_OK)
            return ERR(e, RC_STOP, "opening '%s': zlib has no memory", t->path);
        t->member_open = true;
    }
    if (t->end >= MAGIC_BYTES && memcmp(t->stored, XZ, MAGIC_BYTES) == 0) {
        t->packing = PACKED_XZ;
        if (lzma_stream_decoder(&t->xz, XZ_MEMORY_MAX, LZMA_CONCATENATED) !=
            LZMA_OK)
            return ERR(e, RC_STOP, "opening '%s': liblzma has no memory",
                       t->path);
    }
    return RC_OK;
}

enum rc import_text_open(struct import_text **out, const char *path,
                         struct err *e)
{
    struct stat about;
    enum rc rc;
    struct import_text *t = calloc(1, sizeof *t);
    if (!t) return ERR(e, RC_STOP, "opening '%s': no memory", path);
    t->path = path;
    t->fd = strcmp(path, "-") == 0 ? STDIN_FILENO
                                   : open(path, O_RDONLY | O_CLOEXEC);
    if (t->fd < 0) {
        rc = ERR(e, RC_STOP, "opening '%s': %s", path, strerror(errno));
        free(t);
        return rc;
    }
    if (fstat(t->fd, &about) == 0 && S_ISREG(about.st_mode))
        t->total = (uint64_t)about.st_size;
    rc = find_packing(t, e);
    if (rc != RC_OK) {
        import_text_close(t);
        return rc;
    }
    *out = t;
    return RC_OK;
}

static enum rc read_plain(struct import_text *t, uint8_t *to, size_t size,
                          size_t *got, struct err *e)
{
    if (t->at == t->end && !t->file_ended) TRY(fill(t, e));
    *got = t->end - t->at < size ? t->end - t->at : size;
    memcpy(to, t->stored + t->at, *got);
    t->at += *got;
    return RC_OK;
}

static enum rc read_gzip(struct import_text *t, uint8_t *to, size_t size,
                         size_t *got, struct err *e)
{
    t->gzip.next_out = to;
    t->gzip.avail_out = (uInt)size;
    while (t->gzip.avail_out == size && !t->ended) {
        int status;
        if (t->at == t->end && !t->file_ended) TRY(fill(t, e));
        if (t->at == t->end && t->member_open)
            return ERR(e, RC_STOP, "'%s' ends in the middle of its gzip data",
                       t->path);
        if (t->at == t->end) {
            t->ended = true;
            break;
        }
        if (!t->member_open) (void)inflateReset(&t->gzip);
        t->member_open = true;
        t->gzip.next_in = t->stored + t->at;
        t->gzip.avail_in = (uInt)(t->end - t->at);
        status = inflate(&t->gzip, Z_NO_FLUSH);
        t->at = t->end - t->gzip.avail_in;
        if (status == Z_STREAM_END)
            t->member_open = false;
        else if (status != Z_OK)
            return ERR(e, RC_STOP,
                       "'%s' has damaged gzip data before byte "
                       "%llu: %s",
                       t->path, (unsigned long long)t->done,
                       t->gzip.msg ? t->gzip.msg : "no reason given");
    }
    *got = size - t->gzip.avail_out;
    return RC_OK;
}

static enum rc read_xz(struct import_text *t, uint8_t *to, size_t size,
                       size_t *got, struct err *e)
{
    t->xz.next_out = to;
    t->xz.avail_out = size;
    while (t->xz.avail_out == size && !t->ended) {
        lzma_ret status;
        if (t->at == t->end && !t->file_ended) TRY(fill(t, e));
        t->xz.next_in = t->stored + t->at;
        t->xz.avail_in = t->end - t->at;
        status = lzma_code(&t->xz, t->file_ended ? LZMA_FINISH : LZMA_RUN);
        t->at = t->end - t->xz.avail_in;
        if (status == LZMA_STREAM_END)
            t->ended = true;
        else if (status == LZMA_BUF_ERROR)
            return ERR(e, RC_STOP, "'%s' ends in the middle of its xz data",
                       t->path);
        else if (status != LZMA_OK)
            return ERR(e, RC_STOP,
                       "'%s' has damaged xz data before byte %llu (liblzma "
                       "error %d)",
                       t->path, (unsigned long long)t->done, (int)status);
    }
    *got = size - t->xz.avail_out;
    return RC_OK;
}

enum rc import_text_read(struct import_text *t, uint8_t *to, size_t size,
                         size_t *got, struct err *e)
{
    switch (t->packing) {
    case PACKED_GZIP:
        return read_gzip(t, to, size, got, e);
    case PACKED_XZ:
        return read_xz(t, to, size, got, e);
    case PACKED_PLAIN:
        break;
    }
    return read_plain(t, to, size, got, e);
}

void import_text_progress(const struct import_text *t, uint64_t *done,
                          uint64_t *total)
{
    *done = t->done - (t->end - t->at);
    *total = t->total;
}

void import_text_close(struct import_text *t)
{
    if (!t) return;
    if (t->packing == PACKED_GZIP) (void)inflateEnd(&t->gzip);
    if (t->packing == PACKED_XZ) lzma_end(&t->xz);
    if (t->fd != STDIN_FILENO) (void)close(t->fd);
    free(t);
}
