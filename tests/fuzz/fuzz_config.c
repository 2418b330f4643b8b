/* Any bytes are a configuration, or have faults; what loads prints and loads
 * again to the same values. */
#include <assert.h>
#include <stdlib.h>
#include <unistd.h>

#include "config.h"
#include "slice.h"

enum { FAULT_MAX = 1u << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *user, const char *text)
{
    uint32_t *faults = user;
    assert(*text && strlen(text) < ERR_TEXT_BYTES);
    assert(++*faults < FAULT_MAX);
}

/* key=value for every option that is not at its default. */
static void load_again(const struct config *c)
{
    char *sets[OPTION_COUNT];
    struct config *again;
    struct err e;
    uint32_t n = 0;
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        const struct property *p = &c->origins[i];
        if (strstr(p->value, "${") || p->secret) continue;
        sets[n] = NULL;
        assert(asprintf(&sets[n++], "%s=%s", p->key, p->value) > 0);
    }
    assert(config_load(&again, NULL, (const char *const *)sets, n, &e) ==
           RC_OK);
    for (uint32_t i = 0; i < OPTION_COUNT; i++)
        assert(c->origins[i].secret || strstr(c->origins[i].value, "${") ||
               strcmp(c->origins[i].value, again->origins[i].value) == 0);
    config_free(again);
    while (n > 0)
        free(sets[--n]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[] = "/tmp/millrace-fuzz-config-XXXXXX";
    uint32_t faults = 0, found;
    struct config *c;
    int fd = mkstemp(path);
    assert(fd >= 0);
    assert(write(fd, data, size) == (ssize_t)size);
    assert(close(fd) == 0);
    found = config_check(&c, path, NULL, 0, count, &faults);
    assert(found == faults);
    if (faults == 0) load_again(c);
    config_free(c);
    assert(unlink(path) == 0);
    return 0;
}
