/* Goal: no bytes make the reader of snapshots crash, take long, or lend rows
 * that lie outside their file.
 * Method: the first byte of the input says whether the rest is a manifest, or
 * the rows of a file whose head, end and checksum are right, with a manifest
 * that names as many rows as the second byte says. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "bytes.h"
#include "snapshot_inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS_MAX = 1 << 16, END_BYTES = 4 + 8 + 8 };
#define ROWS_FILE "partition-0.0.rows"

static char dir[] = "/tmp/fuzz-snapshot-XXXXXX";

static void remove_folder(void)
{
    char path[SNAPSHOT_PATH_MAX];
    snapshot_path(dir, ROWS_FILE, path);
    (void)unlink(path);
    snapshot_path(dir, SNAPSHOT_LISTED, path);
    (void)unlink(path);
    (void)rmdir(dir);
}

static const char *folder(void)
{
    static bool made;
    if (!made) {
        assert(mkdtemp(dir));
        assert(atexit(remove_folder) == 0);
        made = true;
    }
    return dir;
}

static void put_file(const char *name, const uint8_t *bytes, size_t size)
{
    char path[SNAPSHOT_PATH_MAX];
    FILE *file;
    snapshot_path(folder(), name, path);
    file = fopen(path, "wb");
    assert(file);
    assert(fwrite(bytes, 1, size, file) == size);
    assert(fclose(file) == 0);
}

/* Of the rows before the first that is not whole. */
static uint64_t hash_rows(const uint8_t *rows, size_t size)
{
    struct reader in = reader_of(slice_of(rows, size));
    uint64_t sum = 0;
    for (;;) {
        uint32_t user_len = read_u32(&in), row_len = read_u32(&in);
        struct slice user = read_bytes(&in, user_len);
        struct slice row = read_bytes(&in, row_len);
        if (in.bad) return sum;
        sum += snapshot_row_hash(user, row);
    }
}

/* The rows, and what belongs around them. */
static void put_rows(uint64_t count, const uint8_t *rows, size_t size)
{
    static uint8_t bytes[8 + ROWS_MAX + END_BYTES];
    static const struct snapshot_info INFO = {.topic = "t", .partitions = 1};
    struct snapshot_part part = {
        .file = ROWS_FILE, .rows = count, .rows_hash = hash_rows(rows, size)};
    uint8_t *end = bytes + 8 + size;
    struct err e;
    memcpy(bytes, SNAPSHOT_MAGIC, 8);
    if (size > 0) memcpy(bytes + 8, rows, size);
    put_u32(end, SNAPSHOT_LAST);
    put_u64(end + 4, count);
    part.bytes = 8 + size + END_BYTES;
    part.checksum = XXH3_64bits(bytes, part.bytes - 8);
    put_u64(end + 12, part.checksum);
    put_file(ROWS_FILE, bytes, part.bytes);
    assert(manifest_write(folder(), &INFO, &part, 1, &e) == RC_OK);
}

/* Every byte that is lent is read. */
static enum rc look(void *user, struct slice key, struct slice row,
                    struct err *e)
{
    volatile uint64_t *sum = user;
    (void)e;
    *sum += XXH3_64bits(key.ptr, key.len) + XXH3_64bits(row.ptr, row.len);
    return RC_OK;
}

static void read_all(void)
{
    struct snapshot *s;
    struct err e;
    volatile uint64_t sum = 0;
    uint32_t count;
    const struct snapshot_part *parts;
    if (snapshot_open(&s, folder(), &e) != RC_OK) {
        assert(!s);
        return;
    }
    parts = snapshot_parts(s, &count);
    for (uint32_t i = 0; i < count; i++)
        assert(snapshot_each(s, parts[i].partition, look, (void *)&sum, &e) ==
               RC_OK);
    snapshot_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size - 2 > ROWS_MAX) return 0;
    if (data[0] % 2 == 0)
        put_file(SNAPSHOT_LISTED, data + 2, size - 2);
    else
        put_rows(data[1], data + 2, size - 2);
    read_all();
    return 0;
}
