/* replay_html.h - the parts of a replay's page that stand in files of their
 * own. */
#ifndef MILLRACE_REPLAY_HTML_H
#define MILLRACE_REPLAY_HTML_H

#include "html.h"
#include "replay_report.h"

/* replay_html_items.c: how well items were foreseen; nothing without cases. */
void replay_html_items(struct html *h, const struct replay_report *r);
/* replay_html_drift.c: how far inputs and scores have moved. */
void replay_html_drift(struct html *h, const struct replay_report *r);
/* replay_html_drift.c: what these lists would have earned. */
void replay_html_off_policy(struct html *h, const struct replay_report *r);
/* replay_html_again.c: the model's card; how to make the page again. */
void replay_html_card(struct html *h, const struct config *c);
void replay_html_again(struct html *h, const struct replay_report *r,
                       const struct replay_page *page);
/* Rows of the table that holds r against r->other. */
void replay_html_items_against(struct html *h, const struct replay_report *r);

#endif
