#include "stages.h"

#include <stdio.h>
#include <string.h>

static const char *const NAMES[STAGES] = {
    [STAGE_ROUTE] = "route",
    [STAGE_ITEMS] = "items",
    [STAGE_USERS] = "users",
};

const char *stages_name(enum stage_id stage)
{
    return NAMES[stage];
}

/* STAGES: there is none of this name. */
static enum stage_id stage_of(const char *name)
{
    uint32_t i = 0;
    while (i < STAGES && strcmp(NAMES[i], name) != 0)
        i++;
    return (enum stage_id)i;
}

static bool names(const struct text_list *list, enum stage_id stage)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (strcmp(list->at[i], NAMES[stage]) == 0) return true;
    return false;
}

bool stages_has(const struct config *c, enum stage_id stage)
{
    return names(&c->stages, stage);
}

bool stages_runs(const struct config *c, enum stage_id stage)
{
    return stages_has(c, stage) &&
           (c->stages_run.count == 0 || names(&c->stages_run, stage));
}

const char *stages_group(const struct config *c, enum stage_id stage,
                         char out[STAGES_GROUP_BYTES])
{
    (void)snprintf(out, STAGES_GROUP_BYTES, "%s%s%s", c->group_id,
                   stage == STAGE_USERS ? "" : "-",
                   stage == STAGE_USERS ? "" : NAMES[stage]);
    return out;
}

const char *stages_changelog(const struct config *c, enum stage_id stage)
{
    if (stage == STAGE_USERS) return c->changelog_topic;
    return stage == STAGE_ITEMS ? c->changelog_items_topic : "";
}

uint32_t stages_running(const struct config *c)
{
    uint32_t count = 0;
    for (enum stage_id k = 0; k < STAGES; k++)
        count += stages_runs(c, k);
    return count;
}

static const char *events_topic(const struct config *c, enum stage_id stage)
{
    bool behind_route = stages_has(c, STAGE_ROUTE);
    switch (stage) {
    case STAGE_ITEMS:
        return behind_route ? c->items_topic : c->input_topic;
    case STAGE_USERS:
        return behind_route || stages_has(c, STAGE_ITEMS) ? c->enriched_topic
                                                          : c->input_topic;
    default:
        return c->input_topic;
    }
}

const char *stages_topic(const struct config *c, enum stage_id stage,
                         enum stage_input input)
{
    if (input == INPUT_EVENTS) return events_topic(c, stage);
    switch (stage) {
    case STAGE_ROUTE:
        return *c->labels_items_topic || *c->labels_users_topic
                   ? c->labels_topic
                   : "";
    case STAGE_ITEMS:
        return c->labels_items_topic;
    default:
        return c->labels_users_topic;
    }
}

void stages_outputs(const struct config *c, enum stage_id stage,
                    const char *topics[OUTPUTS])
{
    bool to_items = stage == STAGE_ROUTE && stages_has(c, STAGE_ITEMS);
    topics[OUTPUT_DEAD_LETTERS] = c->dead_letters_topic;
    topics[OUTPUT_CHANGELOG] = stages_changelog(c, stage);
    switch (stage) {
    case STAGE_USERS:
        topics[OUTPUT_FRAUD] = c->output_fraud_topic;
        topics[OUTPUT_RECOMMENDATIONS] = c->output_recommendations_topic;
        topics[OUTPUT_PROFILES] = c->output_profile_topic;
        break;
    case STAGE_ROUTE:
        topics[OUTPUT_ITEM_LABELS] = c->labels_items_topic;
        topics[OUTPUT_USER_LABELS] = c->labels_users_topic;
        topics[OUTPUT_PASSED] = to_items ? c->items_topic : c->enriched_topic;
        break;
    default:
        topics[OUTPUT_PASSED] = c->enriched_topic;
    }
}

bool stages_user_labels(const struct config *c)
{
    return *c->labels_users_topic || c->labels_role;
}

bool stages_item_labels(const struct config *c)
{
    return stages_has(c, STAGE_ITEMS) &&
           (*c->labels_items_topic || c->labels_role);
}

/* ---- checks ----------------------------------------------------------- */

static enum rc check_names(const struct text_list *list, const char *key,
                           struct err *e)
{
    enum stage_id last = STAGES;
    for (uint32_t i = 0; i < list->count; i++) {
        enum stage_id stage = stage_of(list->at[i]);
        if (stage == STAGES)
            return ERR(e, RC_STOP,
                       "%s: there is no stage '%s'; there are route, items, "
                       "users",
                       key, list->at[i]);
        if (stage >= last)
            return ERR(
                e, RC_STOP,
                "%s: '%s' stands before '%s'; the order is route, items, "
                "users, each once",
                key, list->at[i - 1], list->at[i]);
        last = stage;
    }
    return RC_OK;
}

enum rc stages_check(const struct config *c, struct err *e)
{
    TRY(check_names(&c->stages, "stages", e));
    TRY(check_names(&c->stages_run, "stages.run", e));
    if (!stages_has(c, STAGE_USERS))
        return ERR(e, RC_STOP,
                   "stages: must end with users; stages.run says which of them "
                   "a process runs");
    for (uint32_t i = 0; i < c->stages_run.count; i++)
        if (!stages_has(c, stage_of(c->stages_run.at[i])))
            return ERR(e, RC_STOP, "stages.run: '%s' is not among `stages`",
                       c->stages_run.at[i]);
    if (stages_has(c, STAGE_ITEMS) && !*c->role_item)
        return ERR(e, RC_STOP,
                   "stages: items needs role.item, the field whose values are "
                   "items");
    if (c->labels_role && (!*c->role_label || !*c->role_event_id))
        return ERR(e, RC_STOP,
                   "labels.role: needs role.label and role.event_id");
    if (c->labels_role && (*c->labels_items_topic || *c->labels_users_topic))
        return ERR(e, RC_STOP,
                   "labels.role: events bring their labels, so there is no "
                   "labels.items.topic and no labels.users.topic beside it");
    return RC_OK;
}

static enum rc need_topic(const struct config *c, enum stage_id stage,
                          const char *key, const char *value, struct err *e)
{
    if (*value || !stages_has(c, stage)) return RC_OK;
    return ERR(e, RC_STOP,
               "run: %s is not set, and stages names %s: live, a topic is "
               "between two stages",
               key, NAMES[stage]);
}

enum rc stages_check_live(const struct config *c, struct err *e)
{
    if (stages_has(c, STAGE_ROUTE))
        TRY(need_topic(c, STAGE_ITEMS, "items.topic", c->items_topic, e));
    if (!*stages_topic(c, STAGE_USERS, INPUT_EVENTS))
        return need_topic(c, STAGE_USERS, "enriched.topic", c->enriched_topic,
                          e);
    return RC_OK;
}
