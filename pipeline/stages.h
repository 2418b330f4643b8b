/* stages.h - the stages of a configuration, and the topics between them.
 *
 *   input.topic -> route -> items.topic -> items -> enriched.topic -> users
 *   labels.topic -> route -> labels.items.topic, labels.users.topic
 *
 * Only what `stages` names is there: the first reads input.topic, whatever
 * its key is said to be, and each reads what the one before it writes. Live,
 * every stage is a group of its own and scales alone; in replay and train the
 * items stage is chained in front of the users stage in memory (chain.h).
 *
 * Threads  Pure functions of a configuration. */
#ifndef MILLRACE_STAGES_H
#define MILLRACE_STAGES_H

#include "config.h"
#include "sink.h"

/* From the last to the first. */
enum stage_id { STAGE_USERS, STAGE_ITEMS, STAGE_ROUTE, STAGES };

/* Inputs of a stage: what record.input says. */
enum stage_input { INPUT_EVENTS, INPUT_LABELS, STAGE_INPUTS };

/* "users": also names groups and column families. */
const char *stages_name(enum stage_id stage);

/* Are the options of stages sound together? RC_STOP says what is not. */
enum rc stages_check(const struct config *c, struct err *e) MUST_USE;
/* And is every topic there that a live run needs? */
enum rc stages_check_live(const struct config *c, struct err *e) MUST_USE;

/* An event goes through this stage; and this process runs it. */
bool stages_has(const struct config *c, enum stage_id stage);
bool stages_runs(const struct config *c, enum stage_id stage);
/* How many this process runs. */
uint32_t stages_running(const struct config *c);
/* Its consumer group, which also begins the names of its clients: group.id
 * for users, group.id-items, group.id-route. */
enum { STAGES_GROUP_BYTES = 512 };
const char *stages_group(const struct config *c, enum stage_id stage,
                         char out[STAGES_GROUP_BYTES]);
/* Where copies of its rows go; "": nowhere. */
const char *stages_changelog(const struct config *c, enum stage_id stage);
/* The topic of one of its inputs; "": it has none. */
const char *stages_topic(const struct config *c, enum stage_id stage,
                         enum stage_input input);

/* Where its outputs go. */
void stages_outputs(const struct config *c, enum stage_id stage,
                    const char *topics[OUTPUTS]);

/* Do rows of users, or of items, take labels? */
bool stages_user_labels(const struct config *c);
bool stages_item_labels(const struct config *c);

#endif
