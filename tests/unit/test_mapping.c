/* Goal: any schema that a configuration can name gives the same events:
 * ids as text, times in ms, amounts in scaled units; what cannot is refused
 * at start with the key's name, or marked bad with a reason that fits (I6).
 * Method: a rich schema, messages made field by field, one batch each. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "framing.h"
#include "hash.h"
#include "iso_time.h"
#include "mapping.h"
#include "train.h"

static struct err g_e;

/* ------------------------------------------------------------ a message */

static uint8_t g_bytes[1 << 16];
static size_t g_len;

static void put_long(int64_t value)
{
    uint64_t bits = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    for (; bits > 0x7f; bits >>= 7)
        g_bytes[g_len++] = (uint8_t)(bits | 0x80);
    g_bytes[g_len++] = (uint8_t)bits;
}

static void put_raw(const void *bytes, size_t len)
{
    memcpy(g_bytes + g_len, bytes, len);
    g_len += len;
}

static void put_bytes(const void *bytes, size_t len)
{
    put_long((int64_t)len);
    put_raw(bytes, len);
}

static void put_text(const char *text)
{
    put_bytes(text, strlen(text));
}

static void put_double(double d)
{
    put_raw(&d, sizeof d);
}

#define F(name, type) "{\"name\":\"" name "\",\"type\":" type "}"
#define RECORD(fields)                                                         \
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":[" fields "]}"

/* clang-format off: one field a line. */
static const char SCHEMA[] =
    RECORD("{\"name\":\"user\",\"type\":[\"null\",\"string\"]},"
           "{\"name\":\"item\",\"type\":{\"type\":\"record\",\"name\":\"Item\","
           "\"fields\":["
           "  {\"name\":\"id\",\"type\":\"long\"},"
           "  {\"name\":\"kind\",\"type\":[\"null\",\"string\"]}]}},"
           "{\"name\":\"at\",\"type\":{\"type\":\"long\",\"logicalType\":"
           "\"timestamp-micros\"}},"
           "{\"name\":\"amount\",\"type\":\"double\"},"
           "{\"name\":\"label\",\"type\":[\"null\",\"boolean\"]},"
           "{\"name\":\"text\",\"type\":\"string\"},"
           "{\"name\":\"event\",\"type\":{\"type\":\"fixed\",\"name\":\"Id\","
           "\"size\":2}},"
           "{\"name\":\"ratio\",\"type\":[\"null\",\"float\"]}");
/* clang-format on */

struct sample {
    const char *user; /* NULL: null */
    int64_t item;
    const char *kind;
    int64_t at_us;
    double amount;
    int label; /* -1: null */
    const char *text;
};
static const struct sample GOOD = {
    "ann", 42, "shoe", 1522540831000999, 57.165, 1, "h\xc3\xa9",
};

static void sample_put(struct sample s)
{
    g_len = 0;
    put_long(s.user != NULL);
    if (s.user) put_text(s.user);
    put_long(s.item);
    put_long(s.kind != NULL);
    if (s.kind) put_text(s.kind);
    put_long(s.at_us);
    put_double(s.amount);
    put_long(s.label >= 0);
    if (s.label >= 0) put_raw(s.label ? "\1" : "\0", 1);
    put_text(s.text);
    put_raw("\x00\xfe", 2);
    put_long(0);
}

/* -------------------------------------------------- a mapping, and a batch */

static struct config config_make(void)
{
    static char *numbers[] = {"ratio"};
    static char *categories[] = {"item.kind", "item.id"};
    struct config c = {0};
    c.input_format = FORMAT_AUTO;
    c.record_bytes_max = 1 << 16;
    c.batch_events_max = 4;
    c.user_bytes_max = 16;
    c.text_bytes_max = 64;
    c.time_future_max = 86400000;
    c.role_amount_scale = 100;
    c.role_user = "user";
    c.role_item = "item.id";
    c.role_time = "at";
    c.role_amount = "amount";
    c.role_label = "label";
    c.role_text = "text";
    c.role_event_id = "event";
    c.role_category = "item.kind";
    c.feature_numbers = (struct text_list){numbers, 1};
    c.feature_categories = (struct text_list){categories, 2};
    return c;
}

struct fixture {
    struct schema *schema;
    struct registry *registry; /* of messages that name their schema */
    struct mapping *mapping;
    struct batch batch;
    struct config config;
};

static void fixture_open(struct fixture *f, const char *schema)
{
    assert_int_equal(schema_parse(&f->schema, slice_str(schema), &g_e), RC_OK);
    if (framing_names_schemas(&f->config) &&
        registry_open(&f->registry, &f->config, f->schema, &g_e) != RC_OK)
        fail_msg("%s", g_e.text);
    if (mapping_new(&f->mapping, &f->config, f->schema, f->registry, &g_e) !=
        RC_OK)
        fail_msg("%s", g_e.text);
    assert_int_equal(batch_init(&f->batch, 4, &g_e), RC_OK);
}

static void fixture_close(struct fixture *f)
{
    mapping_free(f->mapping);
    registry_close(f->registry);
    schema_free(f->schema);
    batch_fini(&f->batch);
}

/* The message in g_bytes as an event. */
static const struct event *decode_at(struct fixture *f, int64_t timestamp_ms)
{
    struct batch *b = &f->batch;
    batch_reset(b);
    b->count = 1;
    b->records[0] = (struct record){.offset = 1234,
                                    .timestamp_ms = timestamp_ms,
                                    .value = slice_of(g_bytes, g_len)};
    event_decode(f->mapping, b);
    return &b->events[0];
}

static const struct event *decode(struct fixture *f)
{
    return decode_at(f, -1);
}

static void expect_slice(struct slice s, const char *text)
{
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.ptr, text, s.len);
}

static void expect_bad(struct fixture *f, struct sample s,
                       enum bad_reason reason)
{
    const struct event *ev;
    sample_put(s);
    ev = decode(f);
    assert_int_equal(ev->bad, reason);
    assert_non_null(ev->detail);
}

static void test_roles(void **state)
{
    struct fixture f = {.config = config_make()};
    const struct event *ev;
    (void)state;
    fixture_open(&f, SCHEMA);
    sample_put(GOOD);
    ev = decode(&f);
    assert_int_equal(ev->bad, BAD_NONE);
    expect_slice(ev->user, "ann");
    expect_slice(ev->item, "42");
    expect_slice(ev->event_id, "00fe");
    expect_slice(ev->text, "h\xc3\xa9");
    assert_int_equal(ev->time_ms, 1522540831000);
    assert_int_equal(ev->past.time_ms, ev->time_ms);
    assert_int_equal(ev->past.amount, 5717); /* 5716.5 away from zero */
    assert_int_equal(ev->past.flags, 0);
    assert_true(ev->past.item == hash64(slice_str("42")));
    assert_true(ev->past.category == hash64(slice_str("shoe")));
    assert_true(ev->past.type == 0 && ev->past.channel == 0);
    assert_true(ev->past.categorical[0] == hash64(slice_str("shoe")));
    assert_true(ev->past.categorical[1] == ev->past.item);
    assert_true(ev->past.categorical[2] == 0);
    assert_true(isnan(ev->past.number[0]) && isnan(ev->past.number[7]));
    assert_int_equal(ev->label, LABEL_FRAUD);
    assert_int_equal(mapping_fields(f.mapping),
                     TRAIN_ITEM | TRAIN_CATEGORY | TRAIN_AMOUNT | TRAIN_TIME);
    assert_non_null(mapping_tape(f.mapping));
    fixture_close(&f);
}

static void test_missing_values(void **state)
{
    struct fixture f = {.config = config_make()};
    struct sample s = GOOD;
    const struct event *ev;
    (void)state;
    fixture_open(&f, SCHEMA);
    s.kind = NULL;
    s.label = -1;
    sample_put(s);
    ev = decode(&f);
    assert_int_equal(ev->bad, BAD_NONE);
    assert_true(ev->past.category == 0);
    assert_int_equal(ev->label, LABEL_UNKNOWN);
    s.user = NULL;
    expect_bad(&f, s, BAD_USER);
    fixture_close(&f);
}

static void test_bad_values(void **state)
{
    struct fixture f = {.config = config_make()};
    struct sample s;
    (void)state;
    fixture_open(&f, SCHEMA);
    s = GOOD, s.user = "", expect_bad(&f, s, BAD_USER);
    s = GOOD, s.user = "seventeen letters", expect_bad(&f, s, BAD_USER);
    s = GOOD, s.user = "\xff", expect_bad(&f, s, BAD_TEXT);
    s = GOOD, s.text = "\xed\xa0\x80", expect_bad(&f, s, BAD_TEXT);
    s = GOOD, s.amount = NAN, expect_bad(&f, s, BAD_AMOUNT);
    s = GOOD, s.amount = -INFINITY, expect_bad(&f, s, BAD_AMOUNT);
    s = GOOD, s.amount = 1.1e13, expect_bad(&f, s, BAD_AMOUNT);
    s = GOOD, s.at_us = INT64_MAX, expect_bad(&f, s, BAD_TIME);
    s = GOOD, s.at_us = INT64_MIN, expect_bad(&f, s, BAD_TIME);
    fixture_close(&f);
}

static void test_future(void **state)
{
    struct fixture f = {.config = config_make()};
    int64_t at_ms = GOOD.at_us / 1000;
    (void)state;
    fixture_open(&f, SCHEMA);
    sample_put(GOOD);
    assert_int_equal(decode_at(&f, at_ms)->bad, BAD_NONE);
    assert_int_equal(decode_at(&f, at_ms - 86400000)->bad, BAD_NONE);
    assert_int_equal(decode_at(&f, at_ms - 86400001)->bad, BAD_TIME);
    f.config.time_future_max = 0;
    assert_int_equal(decode_at(&f, 0)->bad, BAD_NONE);
    fixture_close(&f);
}

/* As far apart as the two can be, an old event is not a future one. */
static void test_far_behind_the_log(void **state)
{
    struct fixture f = {.config = config_make()};
    struct sample old = GOOD;
    (void)state;
    fixture_open(&f, SCHEMA);
    old.at_us = -62000000000 * 1000000; /* the year 5 */
    sample_put(old);
    assert_int_equal(decode_at(&f, INT64_MAX)->bad, BAD_NONE);
    fixture_close(&f);
}

static void test_every_truncation(void **state)
{
    struct fixture f = {.config = config_make()};
    size_t len;
    (void)state;
    fixture_open(&f, SCHEMA);
    sample_put(GOOD);
    len = g_len;
    for (g_len = 0; g_len < len; g_len++) {
        assert_int_equal(decode(&f)->bad, BAD_BYTES);
        assert_null(mapping_tape(f.mapping));
    }
    g_bytes[g_len++] = 0;
    assert_int_equal(decode(&f)->bad, BAD_BYTES);
    f.config.record_bytes_max = len - 1;
    g_len = len;
    assert_int_equal(decode(&f)->bad, BAD_TOO_LARGE);
    fixture_close(&f);
}

/* No value is not an empty one: it names a user to be forgotten. */
static void test_tombstones(void **state)
{
    struct fixture f = {.config = config_make()};
    struct batch *b = &f.batch;
    (void)state;
    fixture_open(&f, SCHEMA);
    b->count = 3;
    b->records[0] = (struct record){.key = slice_str("anna")};
    b->records[1] = (struct record){.key = slice_str("anna"),
                                    .value = slice_of(g_bytes, 0)};
    b->records[2] = (struct record){.key = slice_str("seventeen letters")};
    event_decode(f.mapping, b);
    assert_int_equal(b->events[0].bad, BAD_NONE);
    assert_true(b->events[0].forget);
    expect_slice(b->events[0].user, "anna");
    assert_null(mapping_tape(f.mapping));
    assert_int_equal(b->events[1].bad, BAD_BYTES);
    assert_false(b->events[1].forget);
    assert_int_equal(b->events[2].bad, BAD_USER);
    fixture_close(&f);
}

/* A bad message says nothing about its neighbours (I6). */
static void test_neighbours(void **state)
{
    struct fixture f = {.config = config_make()};
    struct batch *b = &f.batch;
    (void)state;
    fixture_open(&f, SCHEMA);
    sample_put(GOOD);
    b->count = 3;
    for (uint32_t i = 0; i < 3; i++)
        b->records[i] = (struct record){
            .timestamp_ms = -1,
            .value = slice_of(g_bytes, i == 1 ? g_len - 1 : g_len)};
    event_decode(f.mapping, b);
    assert_int_equal(b->events[0].bad, BAD_NONE);
    assert_int_equal(b->events[1].bad, BAD_BYTES);
    assert_int_equal(b->events[2].bad, BAD_NONE);
    assert_non_null(strstr(b->events[1].detail, "truncated"));
    expect_slice(b->events[0].item, "42");
    expect_slice(b->events[2].item, "42");
    fixture_close(&f);
}

/* A long text ends where a character does; the event is used. */
static void test_long_text(void **state)
{
    static const struct {
        const char *text, *kept;
    } CASES[] = {{"abcdefgh", "abcdefgh"},
                 {"abcdefghi", "abcdefgh"},
                 {"abcdef\xe2\x82\xac", "abcdef"}, /* a character of three */
                 {"abcde\xe2\x82\xacz", "abcde\xe2\x82\xac"},
                 {"abcdefg\xc3\xa9", "abcdefg"}};
    struct fixture f = {.config = config_make()};
    (void)state;
    f.config.text_bytes_max = 8;
    fixture_open(&f, SCHEMA);
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct sample s = GOOD;
        const struct event *ev;
        s.text = CASES[i].text;
        sample_put(s);
        ev = decode(&f);
        assert_int_equal(ev->bad, BAD_NONE);
        expect_slice(ev->text, CASES[i].kept);
        assert_int_equal(ev->text_cut,
                         strlen(CASES[i].text) != strlen(CASES[i].kept));
    }
    fixture_close(&f);
}

static void test_no_time(void **state)
{
    struct fixture f = {.config = config_make()};
    const struct event *ev;
    (void)state;
    f.config.role_time = "";
    f.config.role_amount = "";
    fixture_open(&f, SCHEMA);
    sample_put(GOOD);
    ev = decode_at(&f, 0);
    assert_int_equal(ev->bad, BAD_NONE);
    assert_int_equal(ev->time_ms, 1234);
    assert_int_equal(ev->past.flags, PAST_NO_TIME | PAST_NO_AMOUNT);
    fixture_close(&f);
}

static void refused(struct config c, const char *word)
{
    struct schema *s;
    struct mapping *m;
    assert_int_equal(schema_parse(&s, slice_str(SCHEMA), &g_e), RC_OK);
    assert_int_equal(mapping_new(&m, &c, s, NULL, &g_e), RC_STOP);
    assert_null(m);
    if (!strstr(g_e.text, word)) fail_msg("'%s' lacks '%s'", g_e.text, word);
    schema_free(s);
}

static void test_refused_at_start(void **state)
{
    struct config c;
    (void)state;
    c = config_make(), c.role_user = "usr", refused(c, "nearest: user");
    c = config_make(), c.role_user = "", refused(c, "role.user");
    c = config_make(), c.role_item = "item", refused(c, "is a record");
    c = config_make(), c.role_item = "item.no", refused(c, "role.item");
    c = config_make(), c.role_time = "text.x", refused(c, "role.time");
    c = config_make(), c.role_time = "amount", refused(c, "long, int or");
    c = config_make(), c.role_amount = "text", refused(c, "decimal");
    c = config_make(), c.role_label = "text", refused(c, "role.label");
    c = config_make(), c.role_category = "amount", refused(c, "is a double");
    c = config_make(), c.input_format = FORMAT_CONFLUENT;
    refused(c, "schemas.dir");
}

/* One field of each kind as the user: what becomes of it. */
static void expect_user(const char *type, const void *bytes, size_t len,
                        const char *text)
{
    struct fixture f = {.config = {.role_user = "u",
                                   .user_bytes_max = 64,
                                   .record_bytes_max = 1000,
                                   .role_amount_scale = 1,
                                   .batch_events_max = 1}};
    char schema[512];
    const struct event *ev;
    (void)snprintf(schema, sizeof schema,
                   RECORD("{\"name\":\"u\",\"type\":%s}"), type);
    fixture_open(&f, schema);
    g_len = 0;
    put_raw(bytes, len);
    ev = decode(&f);
    assert_int_equal(ev->bad, BAD_NONE);
    expect_slice(ev->user, text);
    fixture_close(&f);
}

static void test_id_kinds(void **state)
{
    (void)state;
    expect_user("\"string\"",
                "\x04"
                "42",
                3, "42");
    expect_user("\"bytes\"",
                "\x04"
                "42",
                3, "42");
    expect_user("\"int\"", "\x54", 1, "42");
    expect_user("\"long\"", "\x54", 1, "42");
    expect_user("\"long\"", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10,
                "-9223372036854775808");
    expect_user("{\"type\":\"fixed\",\"name\":\"F\",\"size\":2}", "42", 2,
                "3432");
    expect_user("{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"B\"]}",
                "\x02", 1, "B");
    expect_user("\"boolean\"", "\x01", 1, "true");
}

static void expect_time(const char *type, uint32_t unit, int64_t value,
                        int64_t ms)
{
    struct fixture f = {.config = {.role_user = "t",
                                   .role_time = "t",
                                   .role_time_unit = unit,
                                   .user_bytes_max = 64,
                                   .record_bytes_max = 1000,
                                   .role_amount_scale = 1,
                                   .batch_events_max = 1}};
    char schema[512];
    const struct event *ev;
    (void)snprintf(schema, sizeof schema,
                   RECORD("{\"name\":\"t\",\"type\":%s}"), type);
    fixture_open(&f, schema);
    g_len = 0;
    put_long(value);
    ev = decode(&f);
    assert_int_equal(ev->bad, BAD_NONE);
    assert_int_equal(ev->time_ms, ms);
    fixture_close(&f);
}

static void test_time_units(void **state)
{
    static const char MILLIS[] =
        "{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}";
    static const char MICROS[] =
        "{\"type\":\"long\",\"logicalType\":\"local-timestamp-micros\"}";
    static const char DATE[] = "{\"type\":\"int\",\"logicalType\":\"date\"}";
    (void)state;
    expect_time("\"long\"", UNIT_AUTO, 1500, 1500);
    expect_time("\"int\"", UNIT_S, 15, 15000);
    expect_time("\"long\"", UNIT_US, 15999, 15);
    expect_time("\"long\"", UNIT_US, -1, -1); /* down, not towards zero */
    expect_time(MILLIS, UNIT_AUTO, 1500, 1500);
    expect_time(MICROS, UNIT_AUTO, 1500, 1);
    expect_time(MICROS, UNIT_MS, 1500, 1500);
    expect_time(DATE, UNIT_AUTO, 1, 86400000);
}

static void test_iso_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } TIMES[] = {
        {"1970-01-01", 0},
        {"2018-04-01T00:00:31Z", 1522540831000},
        {"2018-04-01 00:00:31.5", 1522540831500},
        {"2018-04-01T02:00:31.123456+02:00", 1522540831123},
        {"2018-03-31T19:00-0500", 1522540800000},
        {"2000-02-29T23:59:59Z", 951868799000},
        {"0001-01-01T00:00:00Z", TIME_MS_MIN},
        {"9999-12-31T23:59:59.999Z", TIME_MS_MAX},
    };
    static const char *const BAD[] = {"",
                                      "2018",
                                      "2018-13-01",
                                      "2018-00-01",
                                      "2018-02-30",
                                      "2019-02-29",
                                      "1900-02-29",
                                      "2018-04-01T",
                                      "2018-04-01T24:00:00Z",
                                      "2018-04-01T1:2",
                                      "2018-04-01T00:00:31.Z",
                                      "2018-04-01T00:00:31Zx",
                                      "2018-04-01T00:00+1",
                                      "2018-04-01T00:00+02:",
                                      "0000-01-01",
                                      "x"};
    int64_t ms;
    (void)state;
    for (size_t i = 0; i < sizeof TIMES / sizeof TIMES[0]; i++) {
        if (!iso_time_parse(slice_str(TIMES[i].text), &ms))
            fail_msg("not a time: %s", TIMES[i].text);
        assert_int_equal(ms, TIMES[i].ms);
    }
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        if (iso_time_parse(slice_str(BAD[i]), &ms))
            fail_msg("a time: %s", BAD[i]);
}

/* An amount of the type given, as bytes; INT64_MIN: refused. */
static void expect_amount(const char *type, const void *bytes, size_t len,
                          uint32_t scale, bool minor, int64_t amount)
{
    struct fixture f = {.config = {.role_user = "u",
                                   .role_amount = "a",
                                   .role_amount_scale = scale,
                                   .role_amount_minor = minor,
                                   .user_bytes_max = 64,
                                   .record_bytes_max = 1000,
                                   .batch_events_max = 1}};
    char schema[512];
    const struct event *ev;
    (void)snprintf(schema, sizeof schema,
                   RECORD(F("u", "\"string\"") ",{\"name\":\"a\",\"type\":%s}"),
                   type);
    fixture_open(&f, schema);
    g_len = 0;
    put_text("u");
    put_raw(bytes, len);
    ev = decode(&f);
    if (amount == INT64_MIN) {
        assert_int_equal(ev->bad, BAD_AMOUNT);
    } else {
        assert_int_equal(ev->bad, BAD_NONE);
        assert_int_equal(ev->past.amount, amount);
    }
    fixture_close(&f);
}

#define DECIMAL(precision, scale)                                              \
    "{\"type\":\"bytes\",\"logicalType\":\"decimal\","                         \
    "\"precision\":" #precision ",\"scale\":" #scale "}"

static void test_amounts(void **state)
{
    double half = -0.125, cent = 19.99;
    float single = 19.99f;
    (void)state;
    expect_amount("\"int\"", "\x06", 1, 100, false, 300);
    expect_amount("\"int\"", "\x06", 1, 100, true, 3);
    expect_amount("\"double\"", &half, 8, 100, false, -13); /* -12.5 */
    expect_amount("\"double\"", &cent, 8, 100, false, 1999);
    expect_amount("\"float\"", &single, 4, 100, false, 1999);
    expect_amount("\"long\"", "\x80\x80\xb4\xcc\xd4\xdf\xc6\x03", 8, 1, false,
                  1000000000000000);
    expect_amount("\"long\"", "\x82\x80\xb4\xcc\xd4\xdf\xc6\x03", 8, 1, false,
                  INT64_MIN);
    expect_amount("\"long\"", "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10,
                  1000000, false, INT64_MIN);
    /* Decimals: 0x1387 = 4999 of 1/100, 0x31 = 49 of 1/1000, both signs. */
    expect_amount(DECIMAL(9, 2), "\x04\x13\x87", 3, 100, false, 4999);
    expect_amount(DECIMAL(9, 3), "\x02\x31", 2, 100, false, 5);
    expect_amount(DECIMAL(9, 3), "\x02\x2c", 2, 100, false, 4);
    expect_amount(DECIMAL(9, 3), "\x02\x2d", 2, 100, false, 5); /* 4.5 */
    expect_amount(DECIMAL(9, 3), "\x02\xd3", 2, 100, false, -5);
    expect_amount(DECIMAL(9, 3), "\x02\xd4", 2, 100, false, -4);
    expect_amount(DECIMAL(38, 38), "\x02\x01", 2, 100, false, 0);
    expect_amount(DECIMAL(9, 2), "\x00", 1, 100, false, INT64_MIN);
    expect_amount(DECIMAL(60, 2),
                  "\x22\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01"
                  "\x01\x01\x01\x01",
                  18, 100, false, INT64_MIN);
    expect_amount(DECIMAL(38, 0),
                  "\x20\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                  "\xff\xff\xff",
                  17, 100, false, INT64_MIN);
}

static void schema_store(const char *dir, uint32_t id, const char *json)
{
    char path[256];
    FILE *file;
    (void)snprintf(path, sizeof path, "%s/%u.avsc", dir, id);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(json, file);
    (void)fclose(file);
}

static void framed(uint8_t magic, uint32_t id, const char *rest, size_t len)
{
    uint8_t head[5] = {magic, (uint8_t)(id >> 24), (uint8_t)(id >> 16),
                       (uint8_t)(id >> 8), (uint8_t)id};
    g_len = 0;
    put_raw(head, 5);
    put_raw(rest, len);
}

/* Messages name their writers' schemas: 7 is older, 300 newer than ours. */
static void test_schema_ids(void **state)
{
    char dir[] = "/tmp/millrace-mapping-XXXXXX", path[256];
    struct fixture f = {.config = {.role_user = "u",
                                   .role_channel = "c",
                                   .role_amount_scale = 1,
                                   .user_bytes_max = 64,
                                   .record_bytes_max = 1000,
                                   .batch_events_max = 1,
                                   .schemas_retry = 60000}};
    const struct event *ev;
    (void)state;
    assert_non_null(mkdtemp(dir));
    schema_store(dir, 7, RECORD(F("u", "\"int\"")));
    schema_store(dir, 300,
                 RECORD(F("x", "\"string\"") "," F("c", "\"string\"") "," F(
                     "u", "\"long\"")));
    schema_store(dir, 8, "{\"type\":\"rec");
    schema_store(dir, 9, RECORD(F("c", "\"string\"")));
    f.config.schemas_dir = dir;
    fixture_open(
        &f, RECORD(F("u", "\"long\"") ",{\"name\":\"c\",\"type\":\"string\","
                                      "\"default\":\"web\"}"));
    for (int pass = 0; pass < 2; pass++) {
        framed(0, 7, "\x54", 1);
        ev = decode(&f);
        assert_int_equal(ev->bad, BAD_NONE);
        expect_slice(ev->user, "42");
        assert_true(ev->past.channel == hash64(slice_str("web")));
        framed(0, 300,
               "\x02x\x06"
               "app\x54",
               7);
        ev = decode(&f);
        assert_int_equal(ev->bad, BAD_NONE);
        assert_true(ev->past.channel == hash64(slice_str("app")));
        for (uint32_t id = 8; id < 11; id++) { /* damaged, unfit, absent */
            framed(0, id, "\x54", 1);
            assert_int_equal(decode(&f)->bad, BAD_SCHEMA_ID);
        }
        framed(1, 7, "\x54", 1);
        assert_int_equal(decode(&f)->bad, BAD_SCHEMA_ID);
        g_len = 4;
        assert_int_equal(decode(&f)->bad, BAD_SCHEMA_ID);
        framed(0, 7, "\x54", 0);
        assert_int_equal(decode(&f)->bad, BAD_BYTES);
    }
    /* A flood of ids that are not there. */
    for (uint32_t id = 1000; id < 3000; id++) {
        framed(0, id, "\x54", 1);
        assert_int_equal(decode(&f)->bad, BAD_SCHEMA_ID);
    }
    framed(0, 7, "\x54", 1);
    assert_int_equal(decode(&f)->bad, BAD_NONE);
    /* The same mapping on a container file. */
    assert_int_equal(mapping_read_plain(f.mapping, f.schema, f.schema, &g_e),
                     RC_OK);
    g_len = 0;
    put_long(5);
    put_text("tel");
    ev = decode(&f);
    assert_int_equal(ev->bad, BAD_NONE);
    expect_slice(ev->user, "5");
    fixture_close(&f);
    for (uint32_t id = 7; id < 301; id += id == 9 ? 291 : 1) {
        (void)snprintf(path, sizeof path, "%s/%u.avsc", dir, id);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_missing_values),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_future),
        cmocka_unit_test(test_far_behind_the_log),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_tombstones),
        cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_no_time),
        cmocka_unit_test(test_refused_at_start),
        cmocka_unit_test(test_id_kinds),
        cmocka_unit_test(test_time_units),
        cmocka_unit_test(test_iso_times),
        cmocka_unit_test(test_amounts),
        cmocka_unit_test(test_schema_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
