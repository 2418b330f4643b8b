#include "dir_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hash.h"

enum { HASH_BLOCK_BYTES = 1 << 16 };

static const char config_file[] = "config.json";

/* ---- reading --------------------------------------------------------- */

enum rc dir_path(char path[PATH_BYTES], const char *dir, const char *name,
                 const char *suffix, struct err *e)
{
    int used = snprintf(path, PATH_BYTES, "%s/%s%s", dir, name, suffix);
    if (used < 0 || used >= PATH_BYTES)
        return ERR(e, RC_STOP, "%s: this path is too long", dir);
    return RC_OK;
}

enum rc dir_hash_file(const char *path, uint64_t *hash, struct err *e)
{
    uint8_t block[HASH_BLOCK_BYTES];
    XXH3_state_t *state = XXH3_createState();
    FILE *file = fopen(path, "rb");
    size_t got;
    enum rc rc = RC_OK;
    if (!state || !file)
        rc = ERR(e, RC_STOP, "cannot open %s: %s", path, strerror(errno));
    else
        (void)XXH3_64bits_reset(state);
    while (rc == RC_OK && (got = fread(block, 1, sizeof block, file)) > 0)
        (void)XXH3_64bits_update(state, block, got);
    if (rc == RC_OK && ferror(file))
        rc = ERR(e, RC_STOP, "cannot read %s: %s", path, strerror(errno));
    if (rc == RC_OK) *hash = XXH3_64bits_digest(state);
    if (file) (void)fclose(file);
    (void)XXH3_freeState(state);
    return rc;
}

enum rc dir_read_file(const char *path, size_t bytes_max, uint8_t **out,
                      size_t *size, struct err *e)
{
    FILE *file = fopen(path, "rb");
    struct stat at;
    enum rc rc = RC_OK;
    *out = NULL;
    if (!file)
        return ERR(e, RC_STOP, "cannot open %s: %s", path, strerror(errno));
    if (fstat(fileno(file), &at) != 0 || (size_t)at.st_size > bytes_max) {
        rc = ERR(e, RC_STOP, "%s: larger than %zu bytes", path, bytes_max);
    } else {
        *size = (size_t)at.st_size;
        *out = malloc(*size + 1);
        if (!*out)
            rc = ERR(e, RC_STOP, "%s: no memory for it", path);
        else if (fread(*out, 1, *size, file) != *size)
            rc = ERR(e, RC_STOP, "cannot read %s: %s", path, strerror(errno));
    }
    if (rc != RC_OK) {
        free(*out);
        *out = NULL;
    }
    (void)fclose(file);
    return rc;
}

enum rc dir_read_json(const char *path, size_t bytes_max, json_t **out,
                      uint64_t *hash, struct err *e)
{
    uint8_t *bytes;
    size_t size;
    json_error_t fault;
    TRY(dir_read_file(path, bytes_max, &bytes, &size, e));
    if (hash) *hash = hash64(slice_of(bytes, size));
    *out =
        json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, &fault);
    free(bytes);
    if (!*out)
        return ERR(e, RC_STOP, "%s, line %d: %s", path, fault.line, fault.text);
    return RC_OK;
}

/* ---- writing --------------------------------------------------------- */

enum rc dir_write_text(const char *path, const char *text, struct err *e)
{
    return dir_write_bytes(path, slice_str(text), e);
}

enum rc dir_write_bytes(const char *path, struct slice bytes, struct err *e)
{
    FILE *file = fopen(path, "wb");
    bool ok;
    if (!file)
        return ERR(e, RC_STOP, "cannot create %s: %s", path, strerror(errno));
    ok = fwrite(bytes.ptr, 1, bytes.len, file) == bytes.len &&
         fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (fclose(file) != 0 || !ok)
        return ERR(e, RC_STOP, "cannot write %s: %s", path, strerror(errno));
    return RC_OK;
}

/* Removes a flat directory; one that holds other directories stays. */
static void remove_dir(const char *dir)
{
    DIR *list = opendir(dir);
    const struct dirent *entry;
    char path[PATH_BYTES];
    struct err ignored;
    while (list && (entry = readdir(list)) != NULL)
        if (dir_path(path, dir, entry->d_name, "", &ignored) == RC_OK)
            (void)unlink(path);
    if (list) (void)closedir(list);
    (void)rmdir(dir);
}

/* What stands in the way may only be replaced if it is a model or empty. */
static enum rc check_target(const char *dir, struct err *e)
{
    char path[PATH_BYTES];
    TRY(dir_path(path, dir, config_file, "", e));
    if (access(dir, F_OK) != 0 || access(path, R_OK) == 0) return RC_OK;
    if (rmdir(dir) == 0) return RC_OK;
    return ERR(e, RC_STOP,
               "%s exists and is no model directory (%s); choose another "
               "name or move it away",
               dir, strerror(errno));
}

/* The new directory takes its place at once, so a reader finds the old model
 * or the new one, never half of either. */
static enum rc put_in_place(const char *made, const char *dir, struct err *e)
{
    if (access(dir, F_OK) != 0) {
        if (rename(made, dir) == 0) return RC_OK;
    } else if (renameat2(AT_FDCWD, made, AT_FDCWD, dir, RENAME_EXCHANGE) == 0) {
        remove_dir(made);
        return RC_OK;
    }
    return ERR(e, RC_STOP, "cannot rename %s to %s: %s", made, dir,
               strerror(errno));
}

enum rc dir_begin(char made[PATH_BYTES], const char *dir, struct err *e)
{
    /* Beside it, not in it, where the name ends in a slash. */
    size_t length = strlen(dir);
    int used;
    while (length > 1 && dir[length - 1] == '/')
        length--;
    used = snprintf(made, PATH_BYTES, "%.*s.tmp-XXXXXX", (int)length, dir);
    if (used < 0 || used >= PATH_BYTES)
        return ERR(e, RC_STOP, "this path is too long");
    TRY(check_target(dir, e));
    if (!mkdtemp(made))
        return ERR(e, RC_STOP, "cannot create %s: %s", made, strerror(errno));
    (void)chmod(made, 0755);
    return RC_OK;
}

enum rc dir_finish(const char *made, const char *dir, enum rc rc, struct err *e)
{
    if (rc == RC_OK) rc = put_in_place(made, dir, e);
    if (rc != RC_OK) remove_dir(made);
    return rc;
}
