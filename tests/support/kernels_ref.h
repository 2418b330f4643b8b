/* kernels_ref.h - every kernel as a plain loop: the twin that the fast ones
 * are compared with, and, in doubles, what the gradient test runs on. */
#ifndef MILLRACE_TESTS_KERNELS_REF_H
#define MILLRACE_TESTS_KERNELS_REF_H

#include "kernels.h"

extern const struct kernels kernels_ref;

#endif
