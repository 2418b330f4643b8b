/* shapes.h - what a configuration makes of a user's row: one place, so that
 * run, replay, train and inspect cannot differ. */
#ifndef MILLRACE_SHAPES_H
#define MILLRACE_SHAPES_H

#include "config.h"
#include "history.h"
#include "model.h"
#include "windows.h"

/* fields: enum train_field bits, from mapping_fields. Texts are lent by the
 * configuration. */
void shapes_init(struct history_shape *history, struct windows_shape *windows,
                 const struct config *c, uint32_t fields);

/* Which options made such rows, as one line: rows of another are refused. */
void shapes_describe(const struct history_shape *h,
                     const struct windows_shape *w, char *out, size_t size);

/* Whether a model can read such rows. RC_STOP says which option to change.
 * windows NULL: not known yet, not looked at. */
enum rc shapes_fit_model(const struct history_shape *history,
                         const struct windows_shape *windows,
                         const struct model_info *info, struct err *e) MUST_USE;

#endif
