/* config_docs.h - config/OPTIONS.md and config/METRICS.md, made from the
 * lists that the code is made from; a test compares them with the pages. */
#ifndef MILLRACE_CONFIG_DOCS_H
#define MILLRACE_CONFIG_DOCS_H

#include <stdio.h>

void config_docs_options(FILE *to);
void config_docs_metrics(FILE *to);

#endif
