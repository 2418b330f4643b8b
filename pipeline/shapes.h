/* shapes.h - what a configuration makes of a row and of its features: one
 * place, so that run, replay, train and inspect cannot differ. */
#ifndef MILLRACE_SHAPES_H
#define MILLRACE_SHAPES_H

#include "config.h"
#include "feature_row.h"
#include "history.h"
#include "model.h"

/* fields: enum train_field bits, from mapping_fields. Texts are lent by the
 * configuration. */
void shapes_init(struct history_shape *history, struct feature_shape *features,
                 const struct config *c, uint32_t fields);

/* Which options made such rows, as one line: rows of another are refused. */
void shapes_describe(const struct history_shape *h,
                     const struct windows_shape *w, char *out, size_t size);
/* Can rows so described be read as rows of the other? Those that an earlier
 * version described can, where all that it knew is as it was. */
bool shapes_agree(const char *made, const char *now);

/* Whether a model can read such rows. RC_STOP says which option to change.
 * features NULL: not known yet, not looked at. */
enum rc shapes_fit_model(const struct history_shape *history,
                         const struct feature_shape *features,
                         const struct model_info *info, struct err *e) MUST_USE;

#endif
