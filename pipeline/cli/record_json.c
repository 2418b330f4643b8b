#include "record_json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "framing.h"
#include "mapping.h"
#include "schemas.h"

enum {
    TAPE_DATUMS_MAX = 1 << 20,
    FRAME_BYTES = 5, /* Confluent: magic byte, schema id */
};

struct record_json {
    struct record_json_options o;
    struct schema *schema;   /* NULL: values are shown as they are */
    struct decoder *decoder; /* of values in that schema alone */
    size_t head;             /* bytes in front of them, whatever they say */
    struct registry *registry;
    struct framing *framing; /* of values that name their schema; NULL: none */
    struct tape tape;
};

static bool is_topic(const struct record_json *j, const char *option)
{
    return option && option[0] && strcmp(option, j->o.topic) == 0;
}

/* The built-in schema that a topic of the configuration has; NULL: none. */
static const char *built_in(const struct record_json *j)
{
    const struct config *g = j->o.config;
    if (j->o.as) return j->o.as;
    if (is_topic(j, g->output_fraud_topic)) return "fraud_score";
    if (is_topic(j, g->output_recommendations_topic)) return "recommendations";
    if (is_topic(j, g->output_profile_topic)) return "profile";
    if (is_topic(j, g->labels_topic)) return "label";
    if (is_topic(j, g->catalogue_topic)) return "catalogue";
    return NULL;
}

static enum rc schema_choose(struct record_json *j, struct err *e)
{
    const struct config *g = j->o.config;
    const char *name = built_in(j);
    struct slice text = name ? schemas_get(name) : slice_of(NULL, 0);
    if (text.len > 0) return schema_parse(&j->schema, text, e);
    if (name) return schema_read(&j->schema, name, e);
    if (g->input_schema[0]) return schema_read(&j->schema, g->input_schema, e);
    if (is_topic(j, g->dead_letters_topic)) return RC_OK;
    return ERR(e, RC_STOP,
               "no schema for topic '%s': give --as FILE.avsc, or "
               "input.schema in the configuration",
               j->o.topic);
}

static enum rc decoders_make(struct record_json *j, struct err *e)
{
    const struct config *g = j->o.config;
    bool output = is_topic(j, g->output_fraud_topic) ||
                  is_topic(j, g->output_recommendations_topic) ||
                  is_topic(j, g->output_profile_topic);
    bool framed = output ? g->output_format == OUTPUT_CONFLUENT
                         : framing_names_schemas(g);
    if (!j->schema) return RC_OK;
    j->head = framed ? FRAME_BYTES : 0;
    TRY(decoder_compile(&j->decoder, j->schema, j->schema, e));
    if (output || !framed ||
        (g->input_format == FORMAT_CONFLUENT && !*g->schemas_dir))
        return RC_OK;
    TRY(registry_open(&j->registry, g, j->schema, e));
    return framing_new(&j->framing, g, j->registry, j->schema, e);
}

static enum rc value_decode(struct record_json *j, const struct record *r,
                            struct err *e)
{
    struct framed framed = {.decoder = j->decoder};
    if (j->framing) {
        TRY(framing_require(j->framing, r, &framed, e));
    } else if (r->value.len < j->head) {
        return ERR(e, RC_SKIP, "no Confluent header");
    } else {
        framed.avro = slice_of(r->value.ptr + j->head, r->value.len - j->head);
    }
    return decoder_decode(framed.decoder, framed.avro, &j->tape, e);
}

static void print_text(struct slice s)
{
    json_text_write(s, stdout);
}

static void print_hex(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        (void)printf("%02x", s.ptr[i]);
}

static void print_headers(const struct record *r)
{
    (void)printf(",\"headers\":[");
    for (uint32_t i = 0; i < r->header_count; i++) {
        (void)printf("%s[", i ? "," : "");
        print_text(r->headers[i].name);
        (void)putchar(',');
        print_text(r->headers[i].value);
        (void)putchar(']');
    }
    (void)putchar(']');
}

enum rc record_json_print(struct record_json *j, const struct record *r,
                          struct err *e)
{
    struct err why;
    (void)printf("{\"partition\":%d,\"offset\":%" PRId64
                 ",\"timestamp\":%" PRId64 ",\"key\":",
                 r->partition, r->offset, r->timestamp_ms);
    if (r->key.ptr)
        print_text(r->key);
    else
        (void)printf("null");
    if (r->header_count > 0) print_headers(r);
    if (!j->schema || value_decode(j, r, &why) != RC_OK) {
        (void)printf(",\"value_hex\":\"");
        print_hex(r->value);
        (void)putchar('"');
        if (j->schema) {
            (void)printf(",\"error\":");
            print_text(slice_str(why.text));
        }
    } else {
        (void)printf(",\"value\":");
        TRY(tape_write_json(j->schema, &j->tape, j->o.style, stdout, e));
    }
    (void)printf("}\n");
    return RC_OK;
}

enum rc record_json_open(struct record_json **out,
                         const struct record_json_options *o, struct err *e)
{
    struct record_json *j = calloc(1, sizeof *j);
    enum rc rc;
    *out = NULL;
    if (j) j->tape.at = malloc(TAPE_DATUMS_MAX * sizeof *j->tape.at);
    if (!j || !j->tape.at) {
        free(j);
        return ERR(e, RC_STOP, "no memory to decode values");
    }
    j->tape.max = TAPE_DATUMS_MAX;
    j->o = *o;
    rc = schema_choose(j, e);
    if (rc == RC_OK) rc = decoders_make(j, e);
    if (rc != RC_OK) {
        record_json_close(j);
        return rc;
    }
    *out = j;
    return RC_OK;
}

void record_json_close(struct record_json *j)
{
    if (!j) return;
    free(j->tape.at);
    framing_free(j->framing);
    registry_close(j->registry);
    decoder_free(j->decoder);
    schema_free(j->schema);
    free(j);
}

const struct schema *record_json_schema(const struct record_json *j)
{
    return j->schema;
}
