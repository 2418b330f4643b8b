/* snapshot_write.c - a snapshot being written. See snapshot.h. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "bytes.h"
#include "snapshot_inside.h"

/* --- a file of rows ---------------------------------------------------- */

struct rows_file {
    FILE *file;
    XXH3_state_t *hash;
    struct snapshot_part *part;
    char path[SNAPSHOT_PATH_MAX];
};

uint64_t snapshot_row_hash(struct slice user, struct slice row)
{
    return XXH3_64bits_withSeed(row.ptr, row.len,
                                XXH3_64bits(user.ptr, user.len));
}

void snapshot_path(const char *dir, const char *name,
                   char out[SNAPSHOT_PATH_MAX])
{
    (void)snprintf(out, SNAPSHOT_PATH_MAX, "%s/%s", dir, name);
}

static enum rc cannot_write(const char *path, struct err *e)
{
    return ERR(e, RC_STOP, "snapshot: %s cannot be written: %s", path,
               strerror(errno));
}

static enum rc put_bytes_of(struct rows_file *f, struct slice s, struct err *e)
{
    (void)XXH3_64bits_update(f->hash, s.ptr, s.len);
    f->part->bytes += s.len;
    if (fwrite(s.ptr, 1, s.len, f->file) == s.len) return RC_OK;
    return cannot_write(f->path, e);
}

void rows_abandon(struct rows_file *f)
{
    if (!f) return;
    if (f->file) (void)fclose(f->file);
    (void)XXH3_freeState(f->hash);
    free(f);
}

enum rc rows_create(struct rows_file **out, const char *dir,
                    struct snapshot_part *part, uint32_t generation,
                    struct err *e)
{
    struct rows_file *f = calloc(1, sizeof *f);
    enum rc rc;
    assert(f);
    f->hash = XXH3_createState();
    assert(f->hash);
    (void)XXH3_64bits_reset(f->hash);
    f->part = part;
    part->rows = part->bytes = part->checksum = part->rows_hash = 0;
    (void)snprintf(part->file, sizeof part->file, "partition-%d.%u.rows",
                   part->partition, generation);
    snapshot_path(dir, part->file, f->path);
    f->file = fopen(f->path, "w");
    rc = f->file ? put_bytes_of(f, slice_str(SNAPSHOT_MAGIC), e)
                 : cannot_write(f->path, e);
    if (rc != RC_OK) {
        rows_abandon(f);
        return rc;
    }
    *out = f;
    return RC_OK;
}

enum rc rows_put(struct rows_file *f, struct slice user, struct slice row,
                 struct err *e)
{
    uint8_t head[8];
    (void)put_u32(put_u32(head, (uint32_t)user.len), (uint32_t)row.len);
    f->part->rows++;
    f->part->rows_hash += snapshot_row_hash(user, row);
    TRY(put_bytes_of(f, slice_of(head, sizeof head), e));
    TRY(put_bytes_of(f, user, e));
    return put_bytes_of(f, row, e);
}

static enum rc put_end(struct rows_file *f, struct err *e)
{
    uint8_t end[12], sum[8];
    (void)put_u64(put_u32(end, SNAPSHOT_LAST), f->part->rows);
    TRY(put_bytes_of(f, slice_of(end, sizeof end), e));
    f->part->checksum = XXH3_64bits_digest(f->hash);
    (void)put_u64(sum, f->part->checksum);
    return put_bytes_of(f, slice_of(sum, sizeof sum), e);
}

enum rc rows_finish(struct rows_file *f, struct err *e)
{
    enum rc rc = put_end(f, e);
    bool synced =
        rc == RC_OK && fflush(f->file) == 0 && fsync(fileno(f->file)) == 0;
    if (rc == RC_OK && !synced) rc = cannot_write(f->path, e);
    rows_abandon(f);
    return rc;
}

enum rc snapshot_sync_folder(const char *dir, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) (void)close(fd);
    return synced ? RC_OK : cannot_write(dir, e);
}

/* --- a snapshot -------------------------------------------------------- */

struct snapshot_writer {
    char dir[SNAPSHOT_PATH_MAX], beside[SNAPSHOT_PATH_MAX];
    pthread_mutex_t mutex; /* rows come from several threads */
    struct snapshot_part parts[SNAPSHOT_PARTS_MAX];
    struct rows_file *files[SNAPSHOT_PARTS_MAX];
    uint32_t count;
};

/* It has no folders in it. */
static void remove_folder(const char *path)
{
    char file[SNAPSHOT_PATH_MAX];
    DIR *dir = opendir(path);
    const struct dirent *at;
    while (dir && (at = readdir(dir)) != NULL) {
        if (at->d_name[0] == '.') continue;
        snapshot_path(path, at->d_name, file);
        (void)unlink(file);
    }
    if (dir) (void)closedir(dir);
    (void)rmdir(path);
}

static void writer_free(struct snapshot_writer *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        rows_abandon(w->files[i]);
    (void)pthread_mutex_destroy(&w->mutex);
    free(w);
}

void snapshot_abandon(struct snapshot_writer *w)
{
    if (!w) return;
    remove_folder(w->beside);
    writer_free(w);
}

enum rc snapshot_create(struct snapshot_writer **out, const char *dir,
                        struct err *e)
{
    size_t len = strlen(dir);
    struct snapshot_writer *w;
    struct stat about;
    while (len > 1 && dir[len - 1] == '/')
        len--;
    if (len == 0 || len + SNAPSHOT_FILE_MAX + 8 > SNAPSHOT_PATH_MAX)
        return ERR(e, RC_STOP,
                   "snapshot: the folder's name is empty or too "
                   "long");
    if (lstat(dir, &about) == 0)
        return ERR(e, RC_STOP,
                   "snapshot: %s is there already; give another folder", dir);
    w = calloc(1, sizeof *w);
    if (!w) return ERR(e, RC_STOP, "snapshot: no memory");
    (void)pthread_mutex_init(&w->mutex, NULL);
    (void)snprintf(w->dir, sizeof w->dir, "%.*s", (int)len, dir);
    (void)snprintf(w->beside, sizeof w->beside, "%.*s.part", (int)len, dir);
    remove_folder(w->beside); /* of one that was killed */
    if (mkdir(w->beside, 0700) != 0) {
        (void)cannot_write(w->beside, e);
        writer_free(w);
        return RC_STOP;
    }
    *out = w;
    return RC_OK;
}

enum rc snapshot_begin(struct snapshot_writer *w,
                       const struct snapshot_part *part, struct err *e)
{
    struct snapshot_part *to = &w->parts[w->count];
    if (w->count == SNAPSHOT_PARTS_MAX)
        return ERR(e, RC_STOP, "snapshot: more than %d partitions",
                   SNAPSHOT_PARTS_MAX);
    *to = *part;
    TRY(rows_create(&w->files[w->count], w->beside, to, 0, e));
    w->count++;
    return RC_OK;
}

enum rc snapshot_put(struct snapshot_writer *w, int32_t partition,
                     struct slice user, struct slice row, struct err *e)
{
    uint32_t i = 0;
    enum rc rc;
    while (i < w->count && w->parts[i].partition != partition)
        i++;
    assert(i < w->count);
    (void)pthread_mutex_lock(&w->mutex);
    rc = rows_put(w->files[i], user, row, e);
    (void)pthread_mutex_unlock(&w->mutex);
    return rc;
}

static enum rc finish(struct snapshot_writer *w,
                      const struct snapshot_info *info, struct err *e)
{
    char parent[SNAPSHOT_PATH_MAX];
    char *slash;
    for (uint32_t i = 0; i < w->count; i++) {
        struct rows_file *f = w->files[i];
        w->files[i] = NULL;
        TRY(rows_finish(f, e));
    }
    TRY(manifest_write(w->beside, info, w->parts, w->count, e));
    TRY(snapshot_sync_folder(w->beside, e));
    if (rename(w->beside, w->dir) != 0) return cannot_write(w->dir, e);
    (void)snprintf(parent, sizeof parent, "%s", w->dir);
    slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = '\0';
    return snapshot_sync_folder(slash ? parent : ".", e);
}

enum rc snapshot_finish(struct snapshot_writer *w,
                        const struct snapshot_info *info, struct err *e)
{
    enum rc rc = finish(w, info, e);
    if (rc != RC_OK)
        snapshot_abandon(w);
    else
        writer_free(w);
    return rc;
}
