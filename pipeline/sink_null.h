/* sink_null.h - a sink for runs that make no outputs: they tell the worker
 * that none need be made. */
#ifndef MILLRACE_SINK_NULL_H
#define MILLRACE_SINK_NULL_H

#include "sink.h"

enum rc sink_null_new(struct sink **out, struct err *e) MUST_USE;

#endif
