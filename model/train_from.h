/* train_from.h - going on from a model: its ids keep their rows, new ones come
 * behind them.
 *
 * Rows     A field's table is ids, then buckets, then "none". Old ids stay
 *          where they are, so an index means the same item before and after;
 *          new ones stand behind them and begin at random, as in any model;
 *          buckets and "none" move up.
 * Kept     How often each item was seen, to which the new log adds; every
 * weight, the borders of numbers, the features' statistics and the calibration,
 * until training moves or replaces them. Threads  Any; the base is read only.
 */
#ifndef MILLRACE_TRAIN_FROM_H
#define MILLRACE_TRAIN_FROM_H

#include "model_dir.h"
#include "train.h"

/* Shape options of 0 become the base's, as does the temperature, which its
 * weights show. RC_STOP where one is set to something else. */
enum rc from_options(const struct model *base, struct train_options *o,
                     struct err *e) MUST_USE;

/* Whether a log with these fields and features goes on where the base ended.
 * shape: of the new model. */
enum rc from_check(const struct model *base,
                   const struct behaviour_config *shape, uint32_t amount_scale,
                   const char *const *feature_names, struct err *e) MUST_USE;

/* Weights and tables of the base into m, whose block holds a random start. */
void from_copy(const struct model *base, struct model *m);

#endif
