/* baseline.h - what a fraud score is held against, made in training from the
 * rows that the fraud head learned from and kept in the model directory.
 *
 * Regression
 *          The label on the features alone: standardised as the head reads
 *          them, a flag where one is missing, an offset. Logistic, ridge of
 *          1/2 |w|^2 but for the offset, by Newton's method: scikit-learn's
 *          LogisticRegression(C=1) of the same rows.
 * Shares   Of those rows in each bin of a feature, the missing ones in the
 *          last: how far other events have moved away is seen in them.
 * Bits     The same rows give the same numbers.
 * Threads  Fitting: the caller's. Reading: any. */
#ifndef MILLRACE_BASELINE_H
#define MILLRACE_BASELINE_H

#include "model_dir.h"
#include "train_data.h"

/* Into m->baseline, which stays as it is without labelled rows. RC_STOP: no
 * memory. */
enum rc baseline_fit(const struct train_data *d, struct model *m,
                     struct err *e) MUST_USE;

#endif
