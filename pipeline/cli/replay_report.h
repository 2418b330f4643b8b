/* replay_report.h - what a replay did and how good it was, for people and
 * for machines. */
#ifndef MILLRACE_REPLAY_REPORT_H
#define MILLRACE_REPLAY_REPORT_H

#include <jansson.h>

#include "config.h"
#include "evaluate_detail.h"
#include "metrics.h"
#include "verify.h"
#include "watch.h"

struct replay_report {
    struct metrics *metrics;
    const struct model_info *model; /* NULL: none */
    double seconds;
    uint32_t workers;
    bool measured;   /* the following are there */
    uint64_t digest; /* of the events and states (watch.h) */
    struct evaluate_result scores[WATCH_COLUMNS];
    struct evaluate_detail details[WATCH_COLUMNS];
    uint32_t reviews; /* a day, of the details' budgets */
    struct watch_ranking next;
    bool next_popular; /* with its baseline */
    bool left_one_out;
    struct watch_ranking leave_one_out;
    bool verified;
    struct verify_result verify;
    json_t *first; /* that is not equal (verify_report.h), or NULL */
    bool baselines, intervals;
    struct drift *drift;               /* of features; NULL: not counted */
    double score_drift[WATCH_COLUMNS]; /* NaN: nothing came before */
    bool off_policy;                   /* the following are there */
    struct off_policy_result earned;
    uint64_t unmatched;
    uint32_t next_k_max;               /* no rank of next beyond it is known */
    const struct replay_report *other; /* of --compare, or NULL; its metrics
                                          may be gone */
};

/* Of the columns that this replay has: all, or all but the baselines. */
uint32_t replay_report_columns(const struct replay_report *r);
void replay_report_print(const struct replay_report *r); /* stdout */
/* Verified, and not the same. */
bool replay_report_differs(const struct replay_report *r);
json_t *replay_report_json(const struct replay_report *r);
/* Both scored the same rows, so that their numbers can be subtracted. */
bool replay_report_pairs(const struct replay_report *r, uint32_t column);
void replay_report_free(struct replay_report *r);

/* For the page alone. */
struct replay_page {
    const struct config *config;
    const char *const *words; /* (word_count) of the command line; values of
                                 secret keys are left out */
    uint32_t word_count;
    const char *const *files; /* that were read */
    uint32_t file_count;
};
/* One self-contained page, replay_html.c. */
enum rc replay_report_html(const struct replay_report *r,
                           const struct replay_page *page, const char *path,
                           struct err *e) MUST_USE;

#endif
