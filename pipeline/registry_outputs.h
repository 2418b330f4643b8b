/* registry_outputs.h - the schema ids that outputs carry.
 *
 * With registry.register they come from the registry, at start: the schema of
 * each output that has a topic is registered under TOPIC-value, which does
 * nothing where it was already. Else they are options.
 * Threads  One thread, at start. */
#ifndef MILLRACE_REGISTRY_OUTPUTS_H
#define MILLRACE_REGISTRY_OUTPUTS_H

#include "config.h"
#include "sink.h"

/* No registry answers: what it said before (schemas.dir), else the option
 * where it was set, else RC_STOP. RC_STOP also where it refuses a schema. */
enum rc registry_output_ids(const struct config *c, uint32_t ids[OUTPUTS],
                            struct err *e) MUST_USE;

#endif
