/* schemas.h - the schemas of schemas/, built into the program, so that one
 * binary has them wherever it runs.
 *
 * Threads  Any thread; the texts are constants. */
#ifndef MILLRACE_SCHEMAS_H
#define MILLRACE_SCHEMAS_H

#include "slice.h"

/* The text of schemas/NAME.avsc; len 0 if there is no such file. */
struct slice schemas_get(const char *name);

#endif
