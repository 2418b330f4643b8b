#include "registry_answer.h"

#include <stdint.h>
#include <string.h>

static json_t *object_of(struct slice body)
{
    json_t *tree;
    if (body.len == 0 || body.len > ANSWER_BYTES_MAX) return NULL;
    tree = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES,
                      NULL);
    if (json_is_object(tree)) return tree;
    json_decref(tree);
    return NULL;
}

static bool reference_valid(const json_t *reference)
{
    const json_t *version = json_object_get(reference, "version");
    const char *subject =
        json_string_value(json_object_get(reference, "subject"));
    return subject && *subject && json_is_integer(version) &&
           json_integer_value(version) > 0 &&
           json_integer_value(version) <= INT32_MAX;
}

static enum rc references_check(struct answer_schema *a, struct err *e)
{
    const json_t *list = json_object_get(a->tree, "references");
    size_t count = json_array_size(list);
    if (!list || json_is_null(list)) return RC_OK;
    if (!json_is_array(list))
        return ERR(e, RC_AGAIN, "its \"references\" are not a list");
    if (count > ANSWER_REFERENCES_MAX)
        return ERR(e, RC_SKIP, "the schema has %zu references, the most is %d",
                   count, ANSWER_REFERENCES_MAX);
    for (size_t i = 0; i < count; i++)
        if (!reference_valid(json_array_get(list, i)))
            return ERR(e, RC_AGAIN, "reference %zu has no subject and version",
                       i);
    a->reference_count = (uint32_t)count;
    return RC_OK;
}

static enum rc schema_check(struct answer_schema *a, struct err *e)
{
    const json_t *text = json_object_get(a->tree, "schema");
    const json_t *type = json_object_get(a->tree, "schemaType");
    if (!json_is_string(text))
        return ERR(e, RC_AGAIN, "its answer has no \"schema\"");
    if (json_is_string(type) && strcmp(json_string_value(type), "AVRO") != 0)
        return ERR(e, RC_SKIP, "the schema is %.32s, not Avro",
                   json_string_value(type));
    a->text = slice_of(json_string_value(text), json_string_length(text));
    return references_check(a, e);
}

enum rc answer_schema_read(struct answer_schema *out, struct slice body,
                           struct err *e)
{
    enum rc rc;
    *out = (struct answer_schema){.tree = object_of(body)};
    if (!out->tree)
        return ERR(e, RC_AGAIN, "its answer of %zu bytes is no JSON object",
                   body.len);
    rc = schema_check(out, e);
    if (rc != RC_OK) answer_schema_free(out);
    return rc;
}

void answer_schema_free(struct answer_schema *a)
{
    json_decref(a->tree);
    *a = (struct answer_schema){0};
}

struct answer_reference answer_reference_at(const struct answer_schema *a,
                                            uint32_t i)
{
    const json_t *at =
        json_array_get(json_object_get(a->tree, "references"), i);
    return (struct answer_reference){
        .subject = json_string_value(json_object_get(at, "subject")),
        .version = (int32_t)json_integer_value(json_object_get(at, "version")),
    };
}

enum rc answer_id_read(uint32_t *out, struct slice body, struct err *e)
{
    json_t *tree = object_of(body);
    const json_t *id = json_object_get(tree, "id");
    json_int_t number = json_integer_value(id);
    bool good = json_is_integer(id) && number > 0 && number <= INT32_MAX;
    json_decref(tree);
    if (!good) return ERR(e, RC_AGAIN, "its answer has no usable \"id\"");
    *out = (uint32_t)number;
    return RC_OK;
}

int32_t answer_error_read(struct slice body, char text[ANSWER_TEXT_BYTES])
{
    json_t *tree = object_of(body);
    const json_t *code = json_object_get(tree, "error_code");
    const char *message = json_string_value(json_object_get(tree, "message"));
    json_int_t number = json_integer_value(code);
    (void)snprintf(text, ANSWER_TEXT_BYTES, "%s", message ? message : "");
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f) *at = ' ';
    if (!json_is_integer(code) || number < INT32_MIN || number > INT32_MAX)
        number = 0;
    json_decref(tree);
    return (int32_t)number;
}
