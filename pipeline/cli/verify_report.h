/* verify_report.h - the first output that a replay did not make as it was
 * recorded, shown so that one sees why. */
#ifndef MILLRACE_VERIFY_REPORT_H
#define MILLRACE_VERIFY_REPORT_H

#include <jansson.h>

#include "verify.h"

/* {"what": "differs", "missing" or "extra", "output", "partition", "offset",
 * "field": the first that differs, "recorded": the record, "made": the
 * record}; null what is not there. *out NULL: nothing differs. */
enum rc verify_report_first(json_t **out, struct verify *v,
                            struct err *e) MUST_USE;
void verify_report_print(const json_t *first); /* stdout */

#endif
