/* The family for 64-bit Arm. */
#if defined(__aarch64__)
#define VEC_NEON
#define KERNELS_NAME kernels_neon
#define KERNELS_TEXT "neon"
#include "kernels.inc.h"
#endif
typedef int kernels_neon_not_empty;
