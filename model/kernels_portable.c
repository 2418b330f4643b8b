/* The family in plain C: slow where fmaf is a call, right everywhere. */
#define KERNELS_NAME kernels_portable
#define KERNELS_TEXT "portable"
#include "kernels.inc.h"
