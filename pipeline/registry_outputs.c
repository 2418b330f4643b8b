#include "registry_outputs.h"

#include "log.h"
#include "outputs.h"
#include "registry_fetch.h"
#include "schema_dir.h"

enum { SUBJECT_BYTES = 512 };

/* An output that may be registered. */
struct subject {
    char name[SUBJECT_BYTES];
    const struct schema *schema;
    const struct property *option; /* its id as configured */
    uint32_t configured;
};

static bool is_set(const struct property *p)
{
    return strcmp(p->origin, "default") != 0;
}

/* No registry answered, as e says. */
static enum rc id_without(const struct config *c, const struct subject *s,
                          uint32_t *id, struct err *e)
{
    uint32_t kept =
        schema_dir_find_text(c->schemas_dir, schema_json(s->schema));
    if (kept > 0 || is_set(s->option)) {
        *id = kept > 0 ? kept : s->configured;
        LOG(WARN, "REGISTER", "subject=%s id=%u as %s says: %s", s->name, *id,
            kept > 0 ? "schemas.dir" : s->option->key, e->text);
        return RC_OK;
    }
    e->rc = RC_STOP;
    return err_context(e,
                       "registry.register: no id for %s: schemas.dir has none "
                       "from before and %s is not set; start again when the "
                       "registry answers",
                       s->name, s->option->key);
}

static void keep(const struct config *c, const struct subject *s, uint32_t id)
{
    struct err e;
    if (schema_dir_write(c->schemas_dir, schema_key_id(id),
                         schema_json(s->schema), &e) != RC_OK)
        LOG(WARN, "SCHEMAKEEP", "%s; a restart will need the registry", e.text);
    LOG(INFO, "REGISTER", "subject=%s id=%u", s->name, id);
}

static enum rc id_from_registry(struct registry_http *h, const struct config *c,
                                const struct subject *s, uint32_t *id,
                                struct err *e)
{
    enum rc rc = registry_put(h, s->name, schema_json(s->schema), id, e);
    if (rc == RC_AGAIN) return id_without(c, s, id, e);
    if (rc == RC_OK) keep(c, s, *id);
    return rc;
}

static enum rc register_all(const struct config *c,
                            struct schema *schemas[OUTPUTS],
                            const char *const topics[OUTPUTS],
                            const struct property *const options[OUTPUTS],
                            uint32_t ids[OUTPUTS], struct err *e)
{
    struct registry_http *h;
    enum rc rc = registry_http_open(&h, c, e);
    for (uint32_t i = 0; rc == RC_OK && i < OUTPUTS; i++) {
        struct subject s = {
            .schema = schemas[i], .option = options[i], .configured = ids[i]};
        if (!schemas[i] || !*topics[i]) continue;
        (void)snprintf(s.name, sizeof s.name, "%s-value", topics[i]);
        rc = id_from_registry(h, c, &s, &ids[i], e);
    }
    registry_http_close(h);
    return rc;
}

enum rc registry_output_ids(const struct config *c, uint32_t ids[OUTPUTS],
                            struct err *e)
{
    const char *const topics[OUTPUTS] = {
        [OUTPUT_FRAUD] = c->output_fraud_topic,
        [OUTPUT_RECOMMENDATIONS] = c->output_recommendations_topic,
        [OUTPUT_PROFILES] = c->output_profile_topic,
    };
    const struct property *const options[OUTPUTS] = {
        [OUTPUT_FRAUD] = &c->origins[OPTION_output_fraud_schema_id],
        [OUTPUT_RECOMMENDATIONS] =
            &c->origins[OPTION_output_recommendations_schema_id],
        [OUTPUT_PROFILES] = &c->origins[OPTION_output_profile_schema_id],
    };
    struct schema *schemas[OUTPUTS] = {NULL};
    enum rc rc;
    memset(ids, 0, OUTPUTS * sizeof *ids);
    ids[OUTPUT_FRAUD] = c->output_fraud_schema_id;
    ids[OUTPUT_RECOMMENDATIONS] = c->output_recommendations_schema_id;
    ids[OUTPUT_PROFILES] = c->output_profile_schema_id;
    if (!c->registry_register || c->output_format == OUTPUT_PLAIN) return RC_OK;
    rc = outputs_parse_schemas(schemas, e);
    if (rc == RC_OK) rc = register_all(c, schemas, topics, options, ids, e);
    for (uint32_t i = 0; i < OUTPUTS; i++)
        schema_free(schemas[i]);
    return rc;
}
