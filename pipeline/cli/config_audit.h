/* config_audit.h - what `config check` looks at beyond single values: the
 * files, schemas, properties and models that a configuration names.
 *
 * Nothing is connected to and nothing is written. */
#ifndef MILLRACE_CONFIG_AUDIT_H
#define MILLRACE_CONFIG_AUDIT_H

#include "config.h"

/* Reports every fault ("where: key: what") and returns their number. Notes
 * (what works but may not be meant) go to note. */
uint32_t config_audit(const struct config *c, config_fault_fn *report,
                      config_fault_fn *note, void *user);

#endif
