/* golden.h - stored bytes of released formats, in tests/golden. */
#ifndef MILLRACE_TESTS_GOLDEN_H
#define MILLRACE_TESTS_GOLDEN_H

#include "slice.h"

/* The file's bytes; the caller frees them. With MILLRACE_GOLDEN=write in the
 * environment a file that is missing is first made of fresh: a file that is
 * there is never changed, a new version gets a new name. */
struct slice golden_bytes(const char *name, struct slice fresh);

#endif
