/* golden.c - see golden.h. */
#include "golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct slice golden_bytes(const char *name, struct slice fresh)
{
    const char *mode = getenv("MILLRACE_GOLDEN");
    char path[1024];
    uint8_t *bytes;
    long size;
    FILE *file;
    (void)snprintf(path, sizeof path, "%s/tests/golden/%s", SOURCE_DIR, name);
    file = fopen(path, "rb");
    if (!file && mode && strcmp(mode, "write") == 0) {
        file = fopen(path, "wb+");
        if (!file || fwrite(fresh.ptr, 1, fresh.len, file) != fresh.len)
            fail_msg("%s cannot be written", path);
    }
    if (!file) fail_msg("%s is missing", path);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    size = ftell(file);
    assert_true(size >= 0);
    rewind(file);
    bytes = malloc((size_t)size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)size, file), (size_t)size);
    (void)fclose(file);
    return slice_of(bytes, (size_t)size);
}
