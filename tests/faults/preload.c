/* preload.c - calls of the C library that fail on command (LD_PRELOAD).
 *
 * MILLRACE_NTH=CALL:N[:ERRNO[:on]]
 *     The N-th CALL from faults_arm on fails with ERRNO (a number), and with
 *     "on" every one after it too. CALL:
 *     malloc       of whatever code, libraries too; ERRNO is ENOMEM
 *     own_malloc   of the program's own code only
 *     write, sync, open, rename, read
 *                  of files under MILLRACE_NTH_DIR
 * MILLRACE_NTH_COUNT=FILE: how many there were goes there at exit.
 *
 * Threads  Any: the count is atomic. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static char call[16];
static uint64_t nth;
static int error_number;
static bool goes_on;
static const char *dir;
static atomic_uint_fast64_t count;
static atomic_bool armed;
static const char *text, *text_end;

void faults_arm(const void *from, const void *to);
void faults_arm(const void *from, const void *to)
{
    char *spec = getenv("MILLRACE_NTH");
    char on[8] = "";
    unsigned long long n = 0;
    if (!spec) return;
    (void)sscanf(spec, "%15[^:]:%llu:%d:%7s", call, &n, &error_number, on);
    nth = n;
    goes_on = on[0] != '\0';
    dir = getenv("MILLRACE_NTH_DIR");
    text = from;
    text_end = to;
    atomic_store(&armed, true);
}

__attribute__((destructor)) static void tell_count(void)
{
    const char *path = getenv("MILLRACE_NTH_COUNT");
    FILE *file;
    atomic_store(&armed, false);
    if (!path || !(file = fopen(path, "w"))) return;
    (void)fprintf(file, "%llu\n", (unsigned long long)count);
    (void)fclose(file);
}

/* One call that may fail; sets errno if it does. */
static bool fails(void)
{
    uint64_t n = atomic_fetch_add(&count, 1) + 1;
    if (n != nth && !(goes_on && n > nth)) return false;
    errno = error_number ? error_number : ENOMEM;
    return true;
}

static bool is(const char *name)
{
    return atomic_load(&armed) && strcmp(call, name) == 0;
}

static bool below_dir(const char *path)
{
    return dir && strncmp(path, dir, strlen(dir)) == 0;
}

static bool fd_below_dir(int fd)
{
    char link[64], path[PATH_BYTES];
    ssize_t size;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (size < 0) return false;
    path[size] = '\0';
    return below_dir(path);
}

static bool fd_fails(const char *name, int fd)
{
    return is(name) && fd_below_dir(fd) && fails();
}

/* --- memory -------------------------------------------------------------- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *ptr, size_t size);
void *__libc_memalign(size_t align, size_t size);
void *aligned_alloc(size_t align, size_t size);

static bool memory_fails(const void *caller)
{
    const char *from = caller;
    if (is("malloc")) return fails();
    return is("own_malloc") && from >= text && from < text_end && fails();
}

void *malloc(size_t size)
{
    return memory_fails(__builtin_return_address(0)) ? NULL
                                                     : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return memory_fails(__builtin_return_address(0)) ? NULL
                                                     : __libc_calloc(n, size);
}

void *realloc(void *ptr, size_t size)
{
    return memory_fails(__builtin_return_address(0))
               ? NULL
               : __libc_realloc(ptr, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return memory_fails(__builtin_return_address(0))
               ? NULL
               : __libc_memalign(align, size);
}

/* --- files --------------------------------------------------------------- */

/* The library's own function, found once. */
#define REAL(type, name)                                                       \
    static __typeof__(type) *real_;                                            \
    if (!real_) *(void **)&real_ = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *bytes, size_t size)
{
    REAL(ssize_t(int, const void *, size_t), "write");
    return fd_fails("write", fd) ? -1 : real_(fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    REAL(ssize_t(int, const void *, size_t, off_t), "pwrite");
    return fd_fails("write", fd) ? -1 : real_(fd, bytes, size, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at)
{
    REAL(ssize_t(int, const void *, size_t, off64_t), "pwrite64");
    return fd_fails("write", fd) ? -1 : real_(fd, bytes, size, at);
}

ssize_t pread(int fd, void *bytes, size_t size, off_t at)
{
    REAL(ssize_t(int, void *, size_t, off_t), "pread");
    return fd_fails("read", fd) ? -1 : real_(fd, bytes, size, at);
}

ssize_t pread64(int fd, void *bytes, size_t size, off64_t at)
{
    REAL(ssize_t(int, void *, size_t, off64_t), "pread64");
    return fd_fails("read", fd) ? -1 : real_(fd, bytes, size, at);
}

int fsync(int fd)
{
    REAL(int(int), "fsync");
    return fd_fails("sync", fd) ? -1 : real_(fd);
}

int fdatasync(int fd)
{
    REAL(int(int), "fdatasync");
    return fd_fails("sync", fd) ? -1 : real_(fd);
}

int rename(const char *from, const char *to)
{
    REAL(int(const char *, const char *), "rename");
    return is("rename") && below_dir(to) && fails() ? -1 : real_(from, to);
}

/* The mode is read also where there is none: it is not used then. */
#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...)                                 \
    {                                                                          \
        va_list rest;                                                          \
        mode_t mode;                                                           \
        REAL(int(const char *, int, ...), #name);                              \
        va_start(rest, flags);                                                 \
        mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;       \
        va_end(rest);                                                          \
        if (is("open") && below_dir(path) && fails()) return -1;               \
        return real_(path, flags, mode);                                       \
    }
OPEN(open)
OPEN(open64)
