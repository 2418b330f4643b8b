/* The family for x86 with AVX2 and FMA; its options are in CMakeLists.txt. */
#if defined(__AVX2__) && defined(__FMA__)
#define VEC_AVX2
#define KERNELS_NAME kernels_avx2
#define KERNELS_TEXT "avx2"
#include "kernels.inc.h"
#endif
typedef int kernels_avx2_not_empty;
