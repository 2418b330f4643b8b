/* snapshot_read.c - a snapshot that is there: its rows, and a user's way out
 * of it. See snapshot.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "bytes.h"
#include "hash.h"
#include "shapes.h"
#include "snapshot_inside.h"
#include "user_row.h"

enum { MAGIC_BYTES = 8, HEAD_BYTES = 8, END_BYTES = 4 + 8 + 8 };

/* A file, and where its rows are. */
struct rows {
    struct slice file;
    uint64_t *slots;     /* (slots_size) place of a row in the file; 0: none */
    uint64_t slots_size; /* a power of two */
};

struct snapshot {
    struct snapshot_info info;
    uint32_t count;
    struct rows rows[SNAPSHOT_PARTS_MAX];
    struct snapshot_part parts[SNAPSHOT_PARTS_MAX];
};

/* --- one file ---------------------------------------------------------- */

static enum rc map_rows(struct rows *r, const char *path, struct err *e)
{
    struct stat about;
    void *at = MAP_FAILED;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &about) == 0 && about.st_size > 0)
        at = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (fd >= 0) (void)close(fd);
    if (at == MAP_FAILED)
        return ERR(e, RC_STOP, "snapshot: %s cannot be read: %s", path,
                   errno ? strerror(errno) : "it is empty");
    r->file = slice_of(at, (size_t)about.st_size);
    return RC_OK;
}

/* The row at a place, and the place after it. False at the end. */
static bool row_at(const struct rows *r, uint64_t *place, struct slice *user,
                   struct slice *row)
{
    struct reader in = reader_of(
        slice_of(r->file.ptr + *place, r->file.len - END_BYTES - *place));
    uint32_t user_len = read_u32(&in), row_len = read_u32(&in);
    if (in.bad) return false;
    *user = read_bytes(&in, user_len);
    *row = read_bytes(&in, row_len);
    *place = r->file.len - END_BYTES - in.left.len;
    return !in.bad;
}

static uint64_t *slot_of(const struct rows *r, struct slice user)
{
    uint64_t at = hash64(user) & (r->slots_size - 1);
    for (;; at = (at + 1) & (r->slots_size - 1)) {
        uint64_t place = r->slots[at];
        struct slice other, row;
        if (place == 0) return &r->slots[at];
        if (row_at(r, &place, &other, &row) && slice_equal(user, other))
            return &r->slots[at];
    }
}

static enum rc damaged(const char *path, const char *what, struct err *e)
{
    return ERR(e, RC_STOP, "snapshot: %s is damaged: %s", path, what);
}

/* Goes through all of it once: every row's checksum, and the index. */
static enum rc index_rows(struct rows *r, const struct snapshot_part *p,
                          const char *path, struct err *e)
{
    uint64_t place = MAGIC_BYTES, next = place, count = 0, sum = 0;
    struct slice user, row;
    for (r->slots_size = 16; r->slots_size < 2 * p->rows;)
        r->slots_size *= 2;
    r->slots = calloc(r->slots_size, sizeof *r->slots);
    if (!r->slots)
        return ERR(e, RC_STOP, "snapshot: no memory for %llu rows",
                   (unsigned long long)p->rows);
    for (; row_at(r, &next, &user, &row); place = next) {
        uint64_t *slot = slot_of(r, user);
        if (user.len == 0 || *slot || ++count > p->rows)
            return damaged(path, "a user twice, or without a name", e);
        if (user_row_verify(user, row, e) != RC_OK)
            return damaged(path, e->text, e);
        sum += snapshot_row_hash(user, row);
        *slot = place;
    }
    if (place != r->file.len - END_BYTES || count != p->rows ||
        sum != p->rows_hash)
        return damaged(path, "its rows are not those of the manifest", e);
    return RC_OK;
}

static enum rc open_rows(struct rows *r, const char *dir,
                         const struct snapshot_part *p, struct err *e)
{
    char path[SNAPSHOT_PATH_MAX];
    const uint8_t *end;
    size_t len;
    snapshot_path(dir, p->file, path);
    TRY(map_rows(r, path, e));
    len = r->file.len;
    if (len != p->bytes || len < MAGIC_BYTES + END_BYTES ||
        p->rows > len / HEAD_BYTES)
        return damaged(path, "another length than the manifest says", e);
    end = r->file.ptr + len - END_BYTES;
    if (memcmp(r->file.ptr, SNAPSHOT_MAGIC, MAGIC_BYTES) != 0 ||
        get_u32(end) != SNAPSHOT_LAST || get_u64(end + 4) != p->rows)
        return damaged(path, "its head or its end", e);
    if (get_u64(end + 12) != p->checksum ||
        XXH3_64bits(r->file.ptr, len - 8) != p->checksum)
        return damaged(path, "its checksum", e);
    return index_rows(r, p, path, e);
}

/* --- a snapshot -------------------------------------------------------- */

void snapshot_close(struct snapshot *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < s->count; i++) {
        struct rows *r = &s->rows[i];
        if (r->file.ptr)
            (void)munmap((void *)(uintptr_t)r->file.ptr, r->file.len);
        free(r->slots);
    }
    free(s);
}

enum rc snapshot_open(struct snapshot **out, const char *dir, struct err *e)
{
    struct snapshot *s = calloc(1, sizeof *s);
    enum rc rc;
    *out = NULL;
    if (!s) return ERR(e, RC_STOP, "snapshot: no memory");
    rc = manifest_read(dir, &s->info, s->parts, &s->count, e);
    for (uint32_t i = 0; rc == RC_OK && i < s->count; i++)
        rc = open_rows(&s->rows[i], dir, &s->parts[i], e);
    if (rc != RC_OK) {
        snapshot_close(s);
        return rc;
    }
    *out = s;
    return RC_OK;
}

const struct snapshot_info *snapshot_info(const struct snapshot *s)
{
    return &s->info;
}

const struct snapshot_part *snapshot_parts(const struct snapshot *s,
                                           uint32_t *count)
{
    *count = s->count;
    return s->parts;
}

void snapshot_meta(const struct snapshot_info *info,
                   const struct snapshot_part *part, struct family_meta *out)
{
    *out = (struct family_meta){.partitions = info->partitions,
                                .checkpoint = part->offset,
                                .applied = part->offset,
                                .stream_ms = part->stream_ms,
                                .seen_offset = part->seen_offset,
                                .seen_hash = part->seen_hash,
                                .changelog_next = -1,
                                .unsent = true};
    (void)snprintf(out->cluster_id, sizeof out->cluster_id, "%s",
                   info->cluster_id);
    (void)snprintf(out->shape, sizeof out->shape, "%s", info->shape);
}

const struct snapshot_part *snapshot_find_part(const struct snapshot *s,
                                               int32_t partition)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->parts[i].partition == partition) return &s->parts[i];
    return NULL;
}

struct slice snapshot_find(const struct snapshot *s, int32_t partition,
                           struct slice user)
{
    const struct snapshot_part *p = snapshot_find_part(s, partition);
    const struct rows *r = p ? &s->rows[p - s->parts] : NULL;
    uint64_t place = r ? *slot_of(r, user) : 0;
    struct slice other, row = slice_of(NULL, 0);
    if (place && !row_at(r, &place, &other, &row)) row = slice_of(NULL, 0);
    return row;
}

enum rc snapshot_each(const struct snapshot *s, int32_t partition,
                      snapshot_row_fn *fn, void *user, struct err *e)
{
    const struct snapshot_part *p = snapshot_find_part(s, partition);
    uint64_t next = MAGIC_BYTES;
    struct slice key, row;
    while (p && row_at(&s->rows[p - s->parts], &next, &key, &row))
        TRY(fn(user, key, row, e));
    return RC_OK;
}

enum rc snapshot_check(const struct snapshot *s, const char *topic,
                       const char *shape, struct err *e)
{
    if (strcmp(s->info.topic, topic) != 0)
        return ERR(e, RC_STOP, "snapshot: it is of topic %s, not of %s",
                   s->info.topic, topic);
    if (!shapes_agree(s->info.shape, shape))
        return ERR(e, RC_STOP,
                   "snapshot: its rows were made with other options (%s; now "
                   "%s); set them so",
                   s->info.shape, shape);
    return RC_OK;
}

enum rc snapshot_count(const char *dir, struct slice user, uint32_t *rows,
                       struct err *e)
{
    struct snapshot *s;
    *rows = 0;
    TRY(snapshot_open(&s, dir, e));
    for (uint32_t i = 0; i < s->count; i++)
        *rows += snapshot_find(s, s->parts[i].partition, user).ptr != NULL;
    snapshot_close(s);
    return RC_OK;
}

/* --- forgetting -------------------------------------------------------- */

struct without {
    struct rows_file *file;
    struct slice user;
};

static enum rc put_others(void *user, struct slice key, struct slice row,
                          struct err *e)
{
    struct without *w = user;
    if (slice_equal(key, w->user)) return RC_OK;
    return rows_put(w->file, key, row, e);
}

static enum rc rewrite(const struct snapshot *s, const char *dir,
                       struct snapshot_part *part, struct slice user,
                       struct err *e)
{
    struct without w = {.user = user};
    unsigned generation = 0;
    const char *dot = strchr(part->file, '.');
    enum rc rc;
    if (dot) (void)sscanf(dot, ".%u.", &generation);
    TRY(rows_create(&w.file, dir, part, generation + 1, e));
    rc = snapshot_each(s, part->partition, put_others, &w, e);
    if (rc == RC_OK) return rows_finish(w.file, e);
    rows_abandon(w.file);
    return rc;
}

/* The old files go last: a manifest always names files that are there. */
static enum rc forget(const struct snapshot *s, const char *dir,
                      struct snapshot_part *parts, struct slice user,
                      uint32_t *removed, struct err *e)
{
    char path[SNAPSHOT_PATH_MAX];
    *removed = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        parts[i] = s->parts[i];
        if (!snapshot_find(s, parts[i].partition, user).ptr) continue;
        TRY(rewrite(s, dir, &parts[i], user, e));
        ++*removed;
    }
    if (*removed == 0) return RC_OK;
    TRY(manifest_write(dir, &s->info, parts, s->count, e));
    for (uint32_t i = 0; i < s->count; i++) {
        if (strcmp(parts[i].file, s->parts[i].file) == 0) continue;
        snapshot_path(dir, s->parts[i].file, path);
        (void)unlink(path);
    }
    return snapshot_sync_folder(dir, e);
}

enum rc snapshot_forget(const char *dir, struct slice user, uint32_t *removed,
                        struct err *e)
{
    struct snapshot *s;
    struct snapshot_part *parts;
    enum rc rc;
    TRY(snapshot_open(&s, dir, e));
    parts = calloc(s->count + 1, sizeof *parts);
    rc = parts ? forget(s, dir, parts, user, removed, e)
               : ERR(e, RC_STOP, "snapshot: no memory");
    free(parts);
    snapshot_close(s);
    return rc;
}
