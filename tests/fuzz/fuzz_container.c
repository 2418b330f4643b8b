/* Goal: no bytes make the container reader crash, take long, or give values
 * that are none of its schema's.
 * Method: the input is a file; every value that comes out is decoded. */
#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TAPE_MAX = 1024, VALUES_MAX = 1 << 16 };

static void read_all(const char *path)
{
    static struct datum datums[TAPE_MAX];
    struct container_reader *r;
    struct decoder *d;
    struct err e;
    if (container_open(&r, path, &e) != RC_OK) {
        assert(!r);
        return;
    }
    if (decoder_compile(&d, container_schema(r), container_schema(r), &e) ==
        RC_OK) {
        for (int i = 0; i < VALUES_MAX; i++) {
            struct tape tape = {datums, TAPE_MAX, 0};
            struct slice value;
            bool ended;
            if (container_next(r, &value, &ended, &e) != RC_OK || ended) break;
            (void)!decoder_decode(d, value, &tape, &e);
        }
        decoder_free(d);
    }
    container_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    assert(fd >= 0);
    if (write(fd, data, size) == (ssize_t)size) {
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        read_all(path);
    }
    (void)close(fd);
    return 0;
}
