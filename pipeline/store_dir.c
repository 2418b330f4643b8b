/* store_dir.c - the files of state.dir beside RocksDB's: which version wrote
 * them, this instance's id, and a database that is damaged. See store.h.
 *
 * Version  dir/format says "millrace state N". It is looked at before RocksDB
 *          opens anything, so that a newer program's files are refused and
 *          never taken for damage. 1 had no such file.
 * Files    Written beside and renamed, so that each is whole or absent. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "store_inside.h"

enum { VERSION_WITHOUT_FILE = 1, VERSION = 2, TEXT_BYTES = 64, ROOM = 64 };
static const char FORMAT[] = "millrace state %u\n";

static enum rc cannot(const char *what, const char *path, struct err *e)
{
    return ERR(e, RC_STOP, "state: %s cannot be %s: %s", path, what,
               strerror(errno));
}

static void path_of(const struct store *s, const char *name,
                    char out[PATH_MAX_BYTES + ROOM])
{
    (void)snprintf(out, PATH_MAX_BYTES + ROOM, "%s/%s", s->dir, name);
}

enum rc store_dir_make(const struct store *s, struct err *e)
{
    char path[PATH_MAX_BYTES];
    (void)snprintf(path, sizeof path, "%s", s->dir);
    for (char *at = path + 1;; at++) {
        char kept = *at;
        if (kept != '/' && kept != '\0') continue;
        *at = '\0';
        if (mkdir(path, 0755) != 0 && errno != EEXIST)
            return cannot("made", path, e);
        *at = kept;
        if (kept == '\0') return RC_OK;
    }
}

/* --- small files ------------------------------------------------------- */

/* len: of the text read, -1 where there is no such file. */
static enum rc read_text(const char *path, char out[TEXT_BYTES], int *len,
                         struct err *e)
{
    FILE *file = fopen(path, "r");
    *len = -1;
    out[0] = '\0';
    if (!file && errno == ENOENT) return RC_OK;
    if (!file) return cannot("read", path, e);
    *len = (int)fread(out, 1, TEXT_BYTES - 1, file);
    out[*len] = '\0';
    (void)fclose(file);
    return RC_OK;
}

static enum rc write_text(const char *path, const char *text, struct err *e)
{
    char beside[PATH_MAX_BYTES + 2 * ROOM];
    size_t len = strlen(text);
    bool written;
    int fd;
    (void)snprintf(beside, sizeof beside, "%s.part", path);
    fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    written = fd >= 0 && write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0) written = false;
    if (!written || rename(beside, path) != 0)
        return cannot("written", path, e);
    return RC_OK;
}

/* --- which version ----------------------------------------------------- */

enum rc store_dir_version(const struct store *s, struct err *e)
{
    char path[PATH_MAX_BYTES + ROOM], text[TEXT_BYTES], now[TEXT_BYTES];
    unsigned version = VERSION_WITHOUT_FILE;
    int len;
    path_of(s, "format", path);
    TRY(read_text(path, text, &len, e));
    (void)snprintf(now, sizeof now, FORMAT, (unsigned)VERSION);
    if (len >= 0 && sscanf(text, FORMAT, &version) != 1)
        LOG(WARN, "STATEFORMAT", "%s does not say a version; written anew",
            path);
    if (version > VERSION)
        return ERR(e, RC_STOP,
                   "state in %s: a newer millrace wrote it (version %u, this "
                   "build knows %d); use that one, or another state.dir",
                   s->dir, version, VERSION);
    if (s->read_only || strcmp(text, now) == 0) return RC_OK;
    return write_text(path, now, e);
}

/* --- this instance's id ------------------------------------------------ */

enum rc store_dir_instance(struct store *s, struct err *e)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz012345";
    char path[PATH_MAX_BYTES + ROOM], text[TEXT_BYTES];
    uint8_t random[INSTANCE_CHARS];
    int len;
    path_of(s, "instance", path);
    TRY(read_text(path, text, &len, e));
    if (len >= 0 && len < INSTANCE_CHARS)
        return ERR(e, RC_STOP,
                   "state: %s is cut short; put the id back that transactional "
                   "ids carry, or remove the file for a new one",
                   path);
    (void)snprintf(s->instance, sizeof s->instance, "%.*s", INSTANCE_CHARS,
                   text);
    if (len >= 0 || s->read_only) return RC_OK;
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return ERR(e, RC_STOP, "state: no random numbers: %s", strerror(errno));
    for (int i = 0; i < INSTANCE_CHARS; i++)
        s->instance[i] = LETTERS[random[i] % 32];
    s->instance[INSTANCE_CHARS] = '\0';
    (void)snprintf(text, sizeof text, "%s\n", s->instance);
    return write_text(path, text, e);
}

/* --- a database that is damaged ---------------------------------------- */

static bool has_files(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *at;
    bool found = false;
    while (dir && !found && (at = readdir(dir)) != NULL)
        found = strstr(at->d_name, ".sst") != NULL ||
                strncmp(at->d_name, "MANIFEST", 8) == 0;
    if (dir) (void)closedir(dir);
    return found;
}

enum store_dir store_dir_look(const struct store *s, struct err *e)
{
    char path[PATH_MAX_BYTES + ROOM];
    path_of(s, "rocksdb/DAMAGED", path);
    if (access(path, F_OK) == 0) {
        (void)ERR(e, RC_STOP,
                  "state in %s: files were found damaged while writing",
                  s->dir);
        return STORE_DIR_DAMAGED;
    }
    path_of(s, "rocksdb/CURRENT", path);
    if (access(path, F_OK) == 0) return STORE_DIR_STORE;
    path_of(s, "rocksdb", path);
    if (!has_files(path)) return STORE_DIR_EMPTY;
    (void)ERR(e, RC_STOP, "state in %s: rocksdb/CURRENT is gone", s->dir);
    return STORE_DIR_DAMAGED;
}

void store_dir_mark_damaged(const struct store *s)
{
    char path[PATH_MAX_BYTES + ROOM];
    struct err e;
    path_of(s, "rocksdb/DAMAGED", path);
    if (write_text(path, "", &e) != RC_OK) LOG(ERROR, "STATE", "%s", e.text);
}

/* A folder of RocksDB has no folders in it. */
static enum rc remove_folder(const char *path, struct err *e)
{
    char file[PATH_MAX_BYTES + ROOM + NAME_MAX + 2];
    DIR *dir = opendir(path);
    const struct dirent *at;
    if (!dir && errno == ENOENT) return RC_OK;
    while (dir && (at = readdir(dir)) != NULL) {
        if (at->d_name[0] == '.') continue;
        (void)snprintf(file, sizeof file, "%s/%s", path, at->d_name);
        (void)unlink(file);
    }
    if (dir) (void)closedir(dir);
    return rmdir(path) == 0 ? RC_OK : cannot("removed", path, e);
}

enum rc store_dir_put_aside(const struct store *s, struct err *e)
{
    char path[PATH_MAX_BYTES + ROOM], aside[PATH_MAX_BYTES + ROOM];
    path_of(s, "rocksdb", path);
    path_of(s, STORE_ASIDE, aside);
    TRY(remove_folder(aside, e));
    return rename(path, aside) == 0 ? RC_OK : cannot("put aside", path, e);
}
