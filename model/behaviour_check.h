/* behaviour_check.h - the promise of matrix.h, tried on this machine with the
 * shapes of this model: each product at 1, 7, 8 and 64 rows, compared in
 * bits. RC_STOP where they differ: nothing that such a build or processor
 * scores could be reproduced. */
#ifndef MILLRACE_BEHAVIOUR_CHECK_H
#define MILLRACE_BEHAVIOUR_CHECK_H

#include "behaviour.h"

enum rc behaviour_check(const struct behaviour *b, struct err *e) MUST_USE;

#endif
