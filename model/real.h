/* real.h - the number the layers are written in: float, always, in the
 * program. The gradient test compiles the layers a second time with
 * MILLRACE_REAL_DOUBLE, where finite differences have digits to spare. */
#ifndef MILLRACE_REAL_H
#define MILLRACE_REAL_H

#ifdef MILLRACE_REAL_DOUBLE
typedef double real;
#else
typedef float real;
#endif

#endif
