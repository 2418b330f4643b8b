#include "schema_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "schema_canonical.h"

enum { PATH_BYTES = 4096 };

static const char SUFFIX[] = ".avsc";

static enum rc path_make(char out[PATH_BYTES], const char *dir,
                         struct schema_key key, struct err *e)
{
    char name[SCHEMA_KEY_TEXT_BYTES];
    schema_key_text(key, name);
    if (snprintf(out, PATH_BYTES, "%s/%s%s", dir, name, SUFFIX) < PATH_BYTES)
        return RC_OK;
    return ERR(e, RC_STOP, "schemas.dir is too long a path");
}

enum rc schema_dir_read(struct schema **out, const char *dir,
                        struct schema_key key, struct err *e)
{
    char path[PATH_BYTES];
    *out = NULL;
    if (!*dir) return RC_OK;
    TRY(path_make(path, dir, key, e));
    if (access(path, F_OK) != 0 && errno == ENOENT) return RC_OK;
    return schema_read(out, path, e);
}

/* --- searching ---------------------------------------------------------- */

/* Sees each file NAME.avsc of the folder until it returns true. */
typedef bool look_fn(void *user, const char *name, const char *path);

static bool each_file(const char *dir, look_fn *look, void *user)
{
    DIR *folder = opendir(dir);
    const struct dirent *entry;
    uint32_t seen = 0;
    bool found = false;
    if (!folder) return false;
    while (!found && seen < SCHEMA_DIR_FILES_MAX &&
           (entry = readdir(folder)) != NULL) {
        size_t len = strlen(entry->d_name), end = sizeof SUFFIX - 1;
        char path[PATH_BYTES];
        if (entry->d_name[0] == '.' || len <= end ||
            strcmp(entry->d_name + len - end, SUFFIX) != 0 ||
            snprintf(path, sizeof path, "%s/%s", dir, entry->d_name) >=
                (int)sizeof path)
            continue;
        seen++;
        found = look(user, entry->d_name, path);
    }
    (void)closedir(folder);
    return found;
}

struct print_search {
    uint64_t fingerprint;
    struct schema *schema;
};

static bool has_fingerprint(void *user, const char *name, const char *path)
{
    struct print_search *s = user;
    uint64_t print;
    struct err e;
    (void)name;
    if (schema_read(&s->schema, path, &e) != RC_OK) return false;
    if (schema_fingerprint(s->schema, &print, &e) == RC_OK &&
        print == s->fingerprint)
        return true;
    schema_free(s->schema);
    s->schema = NULL;
    return false;
}

struct schema *schema_dir_search(const char *dir, uint64_t fingerprint)
{
    struct print_search s = {.fingerprint = fingerprint};
    if (*dir) (void)each_file(dir, has_fingerprint, &s);
    return s.schema;
}

struct text_search {
    struct slice text;
    uint32_t id;
};

static bool has_text(void *user, const char *name, const char *path)
{
    struct text_search *s = user;
    struct schema *schema;
    struct err e;
    char *end;
    unsigned long id = strtoul(name, &end, 10);
    bool same;
    if (strcmp(end, SUFFIX) != 0 || id == 0 || id > INT32_MAX) return false;
    if (schema_read(&schema, path, &e) != RC_OK) return false;
    same = slice_equal(schema_json(schema), s->text);
    schema_free(schema);
    if (same) s->id = (uint32_t)id;
    return same;
}

uint32_t schema_dir_find_text(const char *dir, struct slice text)
{
    struct text_search s = {.text = text};
    if (*dir) (void)each_file(dir, has_text, &s);
    return s.id;
}

/* --- writing ------------------------------------------------------------ */

static enum rc refused(const char *path, struct err *e)
{
    return ERR(e, RC_AGAIN, "%s: cannot keep the schema: %s", path,
               strerror(errno));
}

static bool write_all(int fd, struct slice text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.ptr, text.len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        text = slice_of(text.ptr + n, text.len - (size_t)n);
    }
    return fsync(fd) == 0;
}

static void sync_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    (void)close(fd);
}

enum rc schema_dir_write(const char *dir, struct schema_key key,
                         struct slice text, struct err *e)
{
    char path[PATH_BYTES], draft[PATH_BYTES];
    bool written;
    int fd;
    TRY(path_make(path, dir, key, e));
    if (snprintf(draft, sizeof draft, "%s/.draft-XXXXXX", dir) >=
        (int)sizeof draft)
        return ERR(e, RC_STOP, "schemas.dir is too long a path");
    if (mkdir(dir, 0755) != 0 && errno != EEXIST) return refused(dir, e);
    fd = mkostemp(draft, O_CLOEXEC);
    if (fd < 0) return refused(path, e);
    written = fchmod(fd, 0644) == 0 && write_all(fd, text);
    if (close(fd) != 0) written = false;
    if (written && rename(draft, path) == 0) {
        sync_folder(dir);
        return RC_OK;
    }
    (void)refused(path, e);
    (void)unlink(draft);
    return e->rc;
}
