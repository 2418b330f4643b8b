/* container.c - Avro object container files.
 *
 * File   "Obj" 1, a map of metadata (avro.schema, avro.codec), a sync marker
 *        of 16 bytes, then blocks: count, size, data of that size, marker. */
#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "container_codec.h"
#include "schema_type.h"
#include "varint.h"

enum {
    SYNC_BYTES = 16,
    META_BYTES_MAX = SCHEMA_BYTES_MAX + 4096, /* of one entry */
    META_ENTRIES_MAX = 1024,
    /* A writer's block is closed at this size: readers hold one in memory,
     * and smaller ones compress less. */
    BLOCK_BYTES = 64 << 10,
    FILE_BUFFER_BYTES = 256 << 10,
};
static const uint8_t MAGIC[4] = {'O', 'b', 'j', 1};

/* ------------------------------------------------------------- reading */

struct container_reader {
    char *path;
    FILE *file;
    struct schema *schema;
    struct decoder *decoder;
    struct block_codec *codec;
    uint8_t sync[SYNC_BYTES];
    struct buffer stored, plain;
    struct slice left;    /* of the block's plain bytes */
    uint64_t values_left; /* of the block */
    uint64_t blocks, done_bytes, total_bytes;
};

static enum rc damaged(const struct container_reader *r, struct err *e,
                       const char *what)
{
    if (ferror(r->file))
        return ERR(e, RC_STOP, "%s: cannot read: %s", r->path, strerror(errno));
    return ERR(e, RC_STOP, "%s: byte %" PRIu64 ": %s", r->path, r->done_bytes,
               what);
}

static enum rc read_bytes(struct container_reader *r, void *out, size_t len,
                          struct err *e)
{
    size_t got = fread(out, 1, len, r->file);
    r->done_bytes += got;
    return got == len ? RC_OK : damaged(r, e, "the file ends too early");
}

/* *ended: there was not one more byte. Where that cannot be, pass NULL. */
static enum rc read_long(struct container_reader *r, int64_t *out, bool *ended,
                         struct err *e)
{
    uint64_t bits = 0;
    for (uint32_t shift = 0; shift < 64; shift += 7) {
        int byte = getc(r->file);
        if (byte == EOF && shift == 0 && ended && !ferror(r->file)) {
            *ended = true;
            return RC_OK;
        }
        if (byte == EOF) return damaged(r, e, "the file ends too early");
        r->done_bytes++;
        if (shift == 63 && byte > 1) break;
        bits |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        *out = varint_unzigzag(bits);
        return RC_OK;
    }
    return damaged(r, e, "a number longer than 64 bits");
}

static enum rc read_sized(struct container_reader *r, struct buffer *out,
                          int64_t max, struct err *e)
{
    int64_t len;
    TRY(read_long(r, &len, NULL, e));
    if (len < 0 || len > max) return damaged(r, e, "a length out of range");
    TRY(buffer_reserve(out, (size_t)len, e));
    out->len = (size_t)len;
    return read_bytes(r, out->at, out->len, e);
}

static enum rc meta_entry(struct container_reader *r, struct buffer *codec,
                          struct err *e)
{
    TRY(read_sized(r, &r->plain, META_BYTES_MAX, e));
    if (slice_equal(buffer_slice(&r->plain), slice_str("avro.codec")))
        return read_sized(r, codec, META_BYTES_MAX, e);
    if (!slice_equal(buffer_slice(&r->plain), slice_str("avro.schema")))
        return read_sized(r, &r->stored, META_BYTES_MAX, e);
    TRY(read_sized(r, &r->stored, META_BYTES_MAX, e));
    if (r->schema) return damaged(r, e, "two schemas");
    if (schema_parse(&r->schema, buffer_slice(&r->stored), e) != RC_OK)
        return err_context(e, "%s", r->path);
    return RC_OK;
}

static enum rc read_meta(struct container_reader *r, struct buffer *codec,
                         struct err *e)
{
    uint32_t entries = 0;
    for (;;) {
        int64_t count, bytes;
        TRY(read_long(r, &count, NULL, e));
        if (count == 0) return RC_OK;
        if (count < 0) {
            TRY(read_long(r, &bytes, NULL, e));
            count = count < -META_ENTRIES_MAX ? META_ENTRIES_MAX + 1 : -count;
        }
        for (; count > 0; count--) {
            if (++entries > META_ENTRIES_MAX)
                return damaged(r, e, "too many metadata entries");
            TRY(meta_entry(r, codec, e));
        }
    }
}

static enum rc read_head(struct container_reader *r, struct err *e)
{
    struct buffer codec = {0};
    uint8_t magic[sizeof MAGIC];
    enum rc rc;
    TRY(read_bytes(r, magic, sizeof magic, e));
    if (memcmp(magic, MAGIC, sizeof MAGIC) != 0)
        return damaged(r, e, "not an Avro container file");
    rc = read_meta(r, &codec, e);
    if (rc == RC_OK && !r->schema) rc = damaged(r, e, "no schema");
    if (rc == RC_OK) {
        rc = block_codec_new(&r->codec, buffer_slice(&codec), e);
        if (rc != RC_OK) (void)err_context(e, "%s", r->path);
    }
    buffer_fini(&codec);
    if (rc != RC_OK) return rc;
    TRY(read_bytes(r, r->sync, SYNC_BYTES, e));
    if (decoder_compile(&r->decoder, r->schema, r->schema, e) != RC_OK)
        return err_context(e, "%s", r->path);
    return RC_OK;
}

static enum rc reader_begin(struct container_reader *r, const char *path,
                            struct err *e)
{
    bool standard = strcmp(path, "-") == 0;
    struct stat info;
    r->path = strdup(standard ? "standard input" : path);
    if (!r->path) return ERR(e, RC_STOP, "%s: out of memory", path);
    r->file = standard ? stdin : fopen(path, "rb");
    if (!r->file)
        return ERR(e, RC_STOP, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fileno(r->file), &info) == 0 && S_ISREG(info.st_mode))
        r->total_bytes = (uint64_t)info.st_size;
    (void)setvbuf(r->file, NULL, _IOFBF, FILE_BUFFER_BYTES);
    return read_head(r, e);
}

enum rc container_open(struct container_reader **out, const char *path,
                       struct err *e)
{
    struct container_reader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return ERR(e, RC_STOP, "%s: out of memory", path);
    if (reader_begin(r, path, e) != RC_OK) {
        container_close(r);
        return RC_STOP;
    }
    *out = r;
    return RC_OK;
}

void container_close(struct container_reader *r)
{
    if (!r) return;
    if (r->file && r->file != stdin) (void)fclose(r->file);
    block_codec_free(r->codec);
    decoder_free(r->decoder);
    schema_free(r->schema);
    buffer_fini(&r->stored);
    buffer_fini(&r->plain);
    free(r->path);
    free(r);
}

const struct schema *container_schema(const struct container_reader *r)
{
    return r->schema;
}

uint64_t container_block(const struct container_reader *r)
{
    return r->blocks;
}

void container_progress(const struct container_reader *r, uint64_t *done,
                        uint64_t *total)
{
    *done = r->done_bytes;
    *total = r->total_bytes;
}

static enum rc read_block(struct container_reader *r, bool *ended,
                          struct err *e)
{
    int64_t count;
    uint8_t sync[SYNC_BYTES];
    *ended = false;
    TRY(read_long(r, &count, ended, e));
    if (*ended) return RC_OK;
    /* Values may take no bytes at all, so their count needs its own bound. */
    if (count < 0 || count > CONTAINER_BLOCK_MAX)
        return damaged(r, e, "a block's count out of range");
    TRY(read_sized(r, &r->stored, CONTAINER_BLOCK_MAX, e));
    TRY(read_bytes(r, sync, SYNC_BYTES, e));
    if (memcmp(sync, r->sync, SYNC_BYTES) != 0)
        return damaged(r, e, "no sync marker behind the block");
    if (block_unpack(r->codec, buffer_slice(&r->stored), &r->plain,
                     CONTAINER_BLOCK_MAX, e) != RC_OK)
        return err_context(e, "%s: the block before byte %" PRIu64, r->path,
                           r->done_bytes);
    r->left = buffer_slice(&r->plain);
    r->values_left = (uint64_t)count;
    r->blocks++;
    return RC_OK;
}

enum rc container_next(struct container_reader *r, struct slice *value,
                       bool *ended, struct err *e)
{
    size_t used;
    *ended = false;
    while (r->values_left == 0) {
        if (r->left.len > 0)
            return damaged(r, e, "bytes are left over in the block before");
        TRY(read_block(r, ended, e));
        if (*ended) return RC_OK;
    }
    if (decoder_measure(r->decoder, r->left, &used, e) != RC_OK) {
        e->rc = RC_STOP; /* where the next value begins is not known */
        return err_context(e, "%s: a value of the block before byte %" PRIu64,
                           r->path, r->done_bytes);
    }
    *value = slice_of(r->left.ptr, used);
    r->left = slice_of(r->left.ptr + used, r->left.len - used);
    r->values_left--;
    return RC_OK;
}

/* ------------------------------------------------------------- writing */

struct container_writer {
    char *path, *part; /* part NULL: standard output */
    FILE *file;
    struct block_codec *codec;
    uint8_t sync[SYNC_BYTES];
    struct buffer plain, stored;
    uint64_t count; /* values in plain */
};

static enum rc write_failed(const struct container_writer *w, struct err *e)
{
    return ERR(e, RC_STOP, "%s: cannot write: %s", w->path, strerror(errno));
}

static enum rc write_bytes(struct container_writer *w, const void *bytes,
                           size_t len, struct err *e)
{
    if (fwrite(bytes, 1, len, w->file) == len) return RC_OK;
    return write_failed(w, e);
}

static enum rc write_long(struct container_writer *w, int64_t value,
                          struct err *e)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    return write_bytes(w, bytes, varint_put(bytes, value), e);
}

static enum rc write_sized(struct container_writer *w, struct slice s,
                           struct err *e)
{
    TRY(write_long(w, (int64_t)s.len, e));
    return write_bytes(w, s.ptr, s.len, e);
}

static enum rc write_head(struct container_writer *w, const struct schema *s,
                          const char *codec, struct err *e)
{
    /* Not random: the same input makes the same file, byte for byte. */
    XXH128_hash_t hash = XXH3_128bits(s->json.ptr, s->json.len);
    XXH128_canonical_t sync;
    XXH128_canonicalFromHash(&sync, hash);
    memcpy(w->sync, sync.digest, SYNC_BYTES);
    TRY(write_bytes(w, MAGIC, sizeof MAGIC, e));
    TRY(write_long(w, 2, e));
    TRY(write_sized(w, slice_str("avro.schema"), e));
    TRY(write_sized(w, s->json, e));
    TRY(write_sized(w, slice_str("avro.codec"), e));
    TRY(write_sized(w, slice_str(codec), e));
    TRY(write_long(w, 0, e));
    return write_bytes(w, w->sync, SYNC_BYTES, e);
}

static enum rc writer_begin(struct container_writer *w, const char *path,
                            const struct schema *s, const char *codec,
                            struct err *e)
{
    bool standard = strcmp(path, "-") == 0;
    TRY(block_codec_new(&w->codec, slice_str(codec), e));
    w->path = strdup(standard ? "standard output" : path);
    if (!w->path || (!standard && asprintf(&w->part, "%s.part", path) < 0)) {
        w->part = NULL;
        return ERR(e, RC_STOP, "%s: out of memory", path);
    }
    w->file = standard ? stdout : fopen(w->part, "wb");
    if (!w->file)
        return ERR(e, RC_STOP, "%s: cannot create: %s", w->part,
                   strerror(errno));
    return write_head(w, s, codec, e);
}

enum rc container_create(struct container_writer **out, const char *path,
                         const struct schema *s, const char *codec,
                         struct err *e)
{
    struct container_writer *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w) return ERR(e, RC_STOP, "%s: out of memory", path);
    if (writer_begin(w, path, s, codec, e) != RC_OK) {
        container_abandon(w);
        return RC_STOP;
    }
    *out = w;
    return RC_OK;
}

static enum rc write_block(struct container_writer *w, struct err *e)
{
    if (w->count == 0) return RC_OK;
    if (block_pack(w->codec, buffer_slice(&w->plain), &w->stored, e) != RC_OK)
        return err_context(e, "%s", w->path);
    TRY(write_long(w, (int64_t)w->count, e));
    TRY(write_sized(w, buffer_slice(&w->stored), e));
    w->plain.len = 0;
    w->count = 0;
    return write_bytes(w, w->sync, SYNC_BYTES, e);
}

enum rc container_append(struct container_writer *w, struct slice value,
                         struct err *e)
{
    if (value.len > CONTAINER_BLOCK_MAX)
        return ERR(e, RC_SKIP, "%s: a value of %zu bytes, the most is %d",
                   w->path, value.len, CONTAINER_BLOCK_MAX);
    if (w->plain.len + value.len > BLOCK_BYTES) TRY(write_block(w, e));
    TRY(buffer_reserve(&w->plain, w->plain.len + value.len, e));
    if (value.len) memcpy(w->plain.at + w->plain.len, value.ptr, value.len);
    w->plain.len += value.len;
    w->count++;
    return w->count < CONTAINER_BLOCK_MAX ? RC_OK : write_block(w, e);
}

/* The new name lasts once the folder that holds it is on disk. */
static enum rc sync_folder(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');
    char *folder =
        slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    enum rc rc = RC_OK;
    if (fd < 0 || fsync(fd) != 0)
        rc = ERR(e, RC_STOP, "%s: cannot sync its folder: %s", path,
                 strerror(errno));
    if (fd >= 0) (void)close(fd);
    free(folder);
    return rc;
}

static enum rc writer_end(struct container_writer *w, struct err *e)
{
    FILE *file = w->file;
    TRY(write_block(w, e));
    if (fflush(file) != 0) return write_failed(w, e);
    if (!w->part) return RC_OK;
    if (fsync(fileno(file)) != 0) return write_failed(w, e);
    w->file = NULL;
    if (fclose(file) != 0) return write_failed(w, e);
    if (rename(w->part, w->path) != 0)
        return ERR(e, RC_STOP, "%s: cannot rename to %s: %s", w->part, w->path,
                   strerror(errno));
    return sync_folder(w->path, e);
}

static void writer_free(struct container_writer *w)
{
    block_codec_free(w->codec);
    buffer_fini(&w->plain);
    buffer_fini(&w->stored);
    free(w->path);
    free(w->part);
    free(w);
}

enum rc container_finish(struct container_writer *w, struct err *e)
{
    if (writer_end(w, e) != RC_OK) {
        container_abandon(w);
        return RC_STOP;
    }
    writer_free(w);
    return RC_OK;
}

void container_abandon(struct container_writer *w)
{
    if (!w) return;
    if (w->file && w->part) (void)fclose(w->file);
    if (w->part) (void)unlink(w->part);
    writer_free(w);
}
