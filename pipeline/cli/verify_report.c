#include "verify_report.h"

#include <stdlib.h>
#include <string.h>

static const char *const OUTPUT_NAMES[OUTPUTS] = {
    [OUTPUT_FRAUD] = "fraud",
    [OUTPUT_RECOMMENDATIONS] = "recommendations",
    [OUTPUT_PROFILES] = "profiles",
};

/* NaN is null, floats have the digits that read back as the same bits. */
static enum rc record_of(json_t **out, const struct schema *s,
                         struct slice value, struct err *e)
{
    struct tape tape = {.max = (uint32_t)value.len + 64};
    struct decoder *d = NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    enum rc rc;
    *out = json_null();
    tape.at = calloc(tape.max, sizeof *tape.at);
    rc = to && tape.at ? decoder_compile(&d, s, s, e)
                       : ERR(e, RC_STOP, "verify: no memory");
    if (rc == RC_OK) rc = decoder_decode(d, value, &tape, e);
    if (rc == RC_OK) rc = tape_write_json(s, &tape, JSON_PLAIN, to, e);
    if (to) (void)fclose(to);
    if (rc == RC_OK) *out = json_loads(text, 0, NULL);
    if (rc == RC_OK && !*out) rc = ERR(e, RC_STOP, "verify: no memory");
    decoder_free(d);
    free(tape.at);
    free(text);
    return rc;
}

static const char *first_field(const json_t *recorded, json_t *made)
{
    const char *key;
    json_t *value;
    json_object_foreach(
        (json_t *)recorded, key,
        value) if (!json_equal(value, json_object_get(made, key))) return key;
    return NULL;
}

enum rc verify_report_first(json_t **out, struct verify *v, struct err *e)
{
    struct verify_result r;
    struct slice recorded, made;
    json_t *before = NULL, *after = NULL;
    const char *what, *field = NULL;

    *out = NULL;
    verify_result(v, &r);
    if (r.partition < 0) return RC_OK;
    TRY(verify_first(v, &recorded, &made, e));
    what = !made.ptr ? "missing" : !recorded.ptr ? "extra" : "differs";
    if (recorded.ptr)
        TRY(record_of(&before, verify_schema(v, r.output), recorded, e));
    if (made.ptr && record_of(&after, verify_schema(v, r.output), made, e)) {
        json_decref(before);
        return e->rc;
    }
    if (before && after) field = first_field(before, after);
    *out = json_pack("{s:s s:s s:i s:I s:s? s:o? s:o?}", "what", what, "output",
                     OUTPUT_NAMES[r.output], "partition", (int)r.partition,
                     "offset", (json_int_t)r.offset, "field", field, "recorded",
                     before, "made", after);
    if (*out) return RC_OK;
    return ERR(e, RC_STOP, "verify: no memory");
}

static void print_part(const json_t *first, const char *side, const char *field)
{
    const json_t *record = json_object_get(first, side);
    const json_t *value = field ? json_object_get(record, field) : record;
    char *text;
    if (!record || json_is_null(record)) return;
    text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text) (void)printf("          %-9s %s\n", side, text);
    free(text);
}

void verify_report_print(const json_t *first)
{
    const char *field = json_string_value(json_object_get(first, "field"));
    const char *what = json_string_value(json_object_get(first, "what"));
    (void)printf(
        "first     %s, partition %lld, offset %lld: ",
        json_string_value(json_object_get(first, "output")),
        (long long)json_integer_value(json_object_get(first, "partition")),
        (long long)json_integer_value(json_object_get(first, "offset")));
    if (strcmp(what, "missing") == 0)
        (void)printf("recorded, but not made\n");
    else if (strcmp(what, "extra") == 0)
        (void)printf("made, but not recorded\n");
    else
        (void)printf("differs in %s\n", field ? field : "its encoding");
    print_part(first, "recorded", field);
    print_part(first, "made", field);
}
