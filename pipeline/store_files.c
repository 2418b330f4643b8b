/* store_files.c - damage that RocksDB takes for a torn end, found before it
 * opens. See store.h, Damage.
 *
 * Why      RocksDB reads its list of files (MANIFEST) and its logs to the
 *          first record that does not fit and takes that for the end of what
 *          a dying machine wrote. A bit in a record's length is enough: the
 *          list then lacks the newest tables, or one log lacks its end, while
 *          later logs are applied on top: rows as of before, with the record
 *          of where they stand as of after. The checksums all fit.
 * List     Each change writes it anew and only then points to it (store.c,
 *          max_manifest_file_size), so that one in use is whole, or damaged.
 * Logs     Batches are numbered without gaps over all logs. An end may be
 *          torn; what follows a gap may not be applied.
 * Format   Blocks of 32 KiB hold fragments, none over the end of a block:
 *          masked CRC-32C u32 of type and bytes | length u16 | type u8 |
 *          with types 5 to 8 the log's number u32 | bytes. In logs a record
 *          starts with its first number u64 and how many it has u32. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "store_inside.h"

enum {
    BLOCK_BYTES = 32768,
    HEAD_BYTES = 7,
    HEAD_BYTES_RECYCLED = 11,
    TYPE_FULL = 1,
    TYPE_FIRST = 2,
    TYPE_RECYCLED = 5, /* these four types again */
    TYPE_MAX = 8,
    BATCH_HEAD_BYTES = 12,
    LOGS_MAX = 4096,
    NAME_BYTES = 64,
};

/* --- fragments --------------------------------------------------------- */

/* CRC-32C, bit by bit from a table made once per file. */
static void crc_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t x = i;
        for (int bit = 0; bit < 8; bit++)
            x = x & 1 ? x >> 1 ^ 0x82f63b78u : x >> 1;
        table[i] = x;
    }
}

static uint32_t crc_masked(const uint32_t table[256], struct slice s)
{
    uint32_t x = 0xffffffffu;
    for (size_t i = 0; i < s.len; i++)
        x = x >> 8 ^ table[(x ^ s.ptr[i]) & 255];
    x = ~x;
    return (x >> 15 | x << 17) + 0xa282ead8u;
}

struct walk {
    struct slice file;
    size_t at;
};
enum found { FRAGMENT, END, TORN };

/* head: where its bytes begin; the CRC is looked at by the caller. */
static enum found next_fragment(struct walk *w, struct slice *head,
                                uint8_t *type, struct slice *bytes)
{
    size_t room = BLOCK_BYTES - w->at % BLOCK_BYTES, left, len, head_len;
    const uint8_t *p;
    if (room < HEAD_BYTES) w->at += room;
    if (w->at >= w->file.len) return END;
    room = BLOCK_BYTES - w->at % BLOCK_BYTES;
    left = w->file.len - w->at < room ? w->file.len - w->at : room;
    if (left < HEAD_BYTES) return TORN;
    p = w->file.ptr + w->at;
    len = (size_t)p[4] | (size_t)p[5] << 8;
    *type = p[6];
    head_len = *type >= TYPE_RECYCLED ? HEAD_BYTES_RECYCLED : HEAD_BYTES;
    if (*type == 0 || *type > TYPE_MAX || head_len + len > left) return TORN;
    *head = slice_of(p, head_len);
    *bytes = slice_of(p + head_len, len);
    w->at += head_len + len;
    return FRAGMENT;
}

/* A file, mapped; an empty one is empty. */
static bool map_file(const char *path, struct slice *out)
{
    struct stat about;
    void *at = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && fstat(fd, &about) == 0;
    *out = slice_of(NULL, 0);
    if (good && about.st_size > 0) {
        at = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        good = at != MAP_FAILED;
        if (good) *out = slice_of(at, (size_t)about.st_size);
    }
    if (fd >= 0) (void)close(fd);
    return good;
}

static void unmap_file(struct slice s)
{
    if (s.ptr) (void)munmap((void *)(uintptr_t)s.ptr, s.len);
}

/* --- the list of files ------------------------------------------------- */

static bool is_whole(struct slice file)
{
    struct walk w = {.file = file};
    struct slice head, bytes;
    uint32_t table[256];
    enum found found;
    uint8_t type;
    crc_table(table);
    while ((found = next_fragment(&w, &head, &type, &bytes)) == FRAGMENT)
        if (crc_masked(table,
                       slice_of(head.ptr + 6, head.len - 6 + bytes.len)) !=
            get_u32(head.ptr))
            return false;
    return found == END && file.len > 0;
}

static enum rc check_list(const struct store *s, struct err *e)
{
    char path[PATH_MAX_BYTES + NAME_BYTES], name[NAME_BYTES] = "";
    struct slice file;
    bool whole;
    FILE *current;
    (void)snprintf(path, sizeof path, "%s/rocksdb/CURRENT", s->dir);
    current = fopen(path, "r");
    if (!current || fscanf(current, "%40s", name) != 1) name[0] = '\0';
    if (current) (void)fclose(current);
    (void)snprintf(path, sizeof path, "%s/rocksdb/%.40s", s->dir, name);
    if (!map_file(path, &file)) return RC_OK; /* RocksDB says what it is */
    whole = is_whole(file);
    unmap_file(file);
    if (whole) return RC_OK;
    return ERR(e, RC_SKIP, "state in %s: rocksdb/%s is damaged", s->dir, name);
}

/* --- the logs ---------------------------------------------------------- */

/* The first bytes of the next record, put together of its fragments. */
static enum found next_batch(struct walk *w, uint8_t out[BATCH_HEAD_BYTES])
{
    size_t have = 0;
    for (;;) {
        struct slice head, bytes;
        uint8_t type, plain;
        size_t take;
        enum found found = next_fragment(w, &head, &type, &bytes);
        if (found != FRAGMENT) return have ? TORN : found;
        plain = type >= TYPE_RECYCLED ? (uint8_t)(type - 4) : type;
        if (plain == TYPE_FULL || plain == TYPE_FIRST) have = 0;
        take = BATCH_HEAD_BYTES - have;
        if (take > bytes.len) take = bytes.len;
        if (take) memcpy(out + have, bytes.ptr, take);
        have += take;
        if (plain == TYPE_FULL || plain == TYPE_FIRST + 2) /* its last */
            return have == BATCH_HEAD_BYTES ? FRAGMENT : TORN;
    }
}

/* *next: the number that follows; 0: not known yet. False at a gap. */
static bool follows(struct slice file, uint64_t *next)
{
    struct walk w = {.file = file};
    uint8_t head[BATCH_HEAD_BYTES];
    while (next_batch(&w, head) == FRAGMENT) {
        uint64_t first = get_u64(head);
        if (*next && first != *next) return false;
        *next = first + get_u32(head + 8);
    }
    return true;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The numbers of all logs, ascending. */
static uint32_t find_logs(const char *path, uint64_t *out)
{
    DIR *dir = opendir(path);
    const struct dirent *at;
    uint32_t count = 0;
    while (dir && count < LOGS_MAX && (at = readdir(dir)) != NULL) {
        char *end;
        unsigned long long number = strtoull(at->d_name, &end, 10);
        if (end != at->d_name && strcmp(end, ".log") == 0)
            out[count++] = number;
    }
    if (dir) (void)closedir(dir);
    qsort(out, count, sizeof *out, by_number);
    return count;
}

static enum rc check_logs(const struct store *s, struct err *e)
{
    char path[PATH_MAX_BYTES + NAME_BYTES];
    uint64_t logs[LOGS_MAX], next = 0;
    uint32_t count;
    (void)snprintf(path, sizeof path, "%s/rocksdb", s->dir);
    count = find_logs(path, logs);
    for (uint32_t i = 0; i < count; i++) {
        struct slice file;
        bool good;
        (void)snprintf(path, sizeof path, "%s/rocksdb/%06llu.log", s->dir,
                       (unsigned long long)logs[i]);
        if (!map_file(path, &file)) continue;
        good = follows(file, &next);
        unmap_file(file);
        if (!good)
            return ERR(e, RC_SKIP,
                       "state in %s: rocksdb/%06llu.log does not go on where "
                       "the one before it ends",
                       s->dir, (unsigned long long)logs[i]);
    }
    return RC_OK;
}

enum rc store_files_check(const struct store *s, struct err *e)
{
    TRY(check_list(s, e));
    return check_logs(s, e);
}
