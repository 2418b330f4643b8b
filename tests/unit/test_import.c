/* Goal: text becomes exactly the Avro records that the rules say, and what
 * cannot is set aside under its own line number.
 * Method: corner cases by hand, given in chunks of every small size; cells
 * that Python's csv wrote and read; records that fastavro encoded
 * (golden/make_import.py); the handbook's transactions, where MILLRACE_DATA
 * has them, against a plain re-read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "container.h"
#include "import.h"
#include "import_file.h"
#include "import_text.h"
#include "import_time.h"
#include "schemas.h"

enum { OUT_BYTES = 1 << 16, PATH_BYTES = 4096 };

/* ---- text from memory, so many bytes at a time ---- */

struct memory {
    struct slice left;
    size_t chunk;
};

static enum rc read_memory(void *user, uint8_t *to, size_t size, size_t *got,
                           struct err *e)
{
    struct memory *m = user;
    (void)e;
    *got = m->left.len < m->chunk ? m->left.len : m->chunk;
    if (*got > size) *got = size;
    if (*got > 0) memcpy(to, m->left.ptr, *got);
    m->left = slice_of(m->left.ptr + *got, m->left.len - *got);
    return RC_OK;
}

static struct import_reader *
open_memory(struct memory *m, enum import_format format, const char *columns)
{
    const struct import_reader_options o = {.format = format,
                                            .delimiter = ',',
                                            .columns = columns,
                                            .read = read_memory,
                                            .user = m};
    struct import_reader *r;
    struct err e;
    if (import_reader_new(&r, &o, &e) != RC_OK) fail_msg("%s", e.text);
    return r;
}

/* Everything that the reader gives: "line:cell|cell;" or "line:!fault;". */
static void describe(struct import_reader *r, char out[OUT_BYTES])
{
    struct import_record record;
    bool ended;
    struct err e;
    FILE *to = fmemopen(out, OUT_BYTES, "w");
    assert_non_null(to);
    for (;;) {
        assert_int_equal(import_reader_next(r, &record, &ended, &e), RC_OK);
        if (ended) break;
        (void)fprintf(to, "%llu:", (unsigned long long)record.line);
        if (record.fault) (void)fprintf(to, "!%s", record.fault);
        for (uint32_t i = 0; i < record.count; i++) {
            const struct cell *c = &record.cells[i];
            if (i > 0) (void)fputc('|', to);
            if (c->kind == CELL_TEXT)
                (void)fwrite(c->text.ptr, 1, c->text.len, to);
            else if (c->kind == CELL_DOUBLE)
                (void)fprintf(to, "%g", c->d);
            else if (c->kind != CELL_NONE)
                (void)fprintf(to, "%lld", (long long)c->i);
        }
        (void)fputc(';', to);
    }
    (void)fclose(to);
}

static void expect_cells(enum import_format format, const char *columns,
                         const char *text, const char *expected)
{
    static const size_t CHUNKS[] = {1, 2, 3, 7, 1 << 20};
    static char out[OUT_BYTES];
    for (size_t i = 0; i < sizeof CHUNKS / sizeof *CHUNKS; i++) {
        struct memory m = {.left = slice_str(text), .chunk = CHUNKS[i]};
        struct import_reader *r = open_memory(&m, format, columns);
        if (format == IMPORT_JSON) {
            (void)import_reader_column(r, "a");
            (void)import_reader_column(r, "b.c");
        }
        describe(r, out);
        assert_string_equal(out, expected);
        import_reader_free(r);
    }
}

static void test_csv_cells(void **state)
{
    (void)state;
    expect_cells(IMPORT_CSV, NULL, "a,b\n1,2\r\n3,4", "2:1|2;3:3|4;");
    expect_cells(IMPORT_CSV, NULL,
                 "\xef\xbb\xbf"
                 "a,b\n1,2\n",
                 "2:1|2;");
    expect_cells(IMPORT_CSV, "a,b", "1,2\n", "1:1|2;");
    expect_cells(IMPORT_CSV, "a,b", ",\n\"\",\"\"\n", "1:|;2:|;");
    expect_cells(IMPORT_CSV, "a,b", "\n\r\n1,2\n\n", "3:1|2;");
    expect_cells(IMPORT_CSV, "a,b", "\"x, y\",\"say \"\"hi\"\"\"\n3,4\n",
                 "1:x, y|say \"hi\";2:3|4;");
    expect_cells(IMPORT_CSV, "a,b", "\"1\n2\r\n3\",x\ny,z\n",
                 "1:1\n2\r\n3|x;4:y|z;");
    expect_cells(IMPORT_CSV, "a,b", "5\" pipe,x\"y\"\n", "1:5\" pipe|x\"y\";");
    expect_cells(IMPORT_CSV, "a,b", "1,\"2\"\r\n3,\"4\"\r", "1:1|2;2:3|4;");
    expect_cells(IMPORT_CSV, "a", "\"\"\"\"\"\"\n", "1:\"\";");
}

static void test_csv_faults_keep_their_lines(void **state)
{
    (void)state;
    expect_cells(IMPORT_CSV, "a,b", "1,2\n3\n4,5,6\n7,8\n",
                 "1:1|2;2:!has 1 columns where there should be 2;"
                 "3:!has 3 columns where there should be 2;4:7|8;");
    expect_cells(IMPORT_CSV, "a,b", "\"1\n1\",2\n\"3\"x,4\n5,6\n",
                 "1:1\n1|2;3:!has text after a closing quote;4:5|6;");
    /* A quote that never closes costs its line, not the rest of the file. */
    expect_cells(IMPORT_CSV, "a,b", "1,2\n\"3,4\n5,6\n7,8\n",
                 "1:1|2;2:!has a quote that never closes;3:5|6;4:7|8;");
}

/* A line longer than any record, then a good one. */
static void expect_too_long(enum import_format format, const char *head,
                            const char *good, const char *expected)
{
    static char out[OUT_BYTES];
    size_t head_len = strlen(head);
    size_t size = 3 * (size_t)IMPORT_RECORD_MAX + head_len;
    char *text = malloc(size + 64);
    struct memory m = {.chunk = 65536};
    struct import_reader *r;
    assert_non_null(text);
    memset(text, 'x', size);
    memcpy(text, head, head_len);
    (void)snprintf(text + size, 64, "\n%s\n", good);
    m.left = slice_str(text);
    r = open_memory(&m, format, "a,b");
    if (format == IMPORT_JSON) (void)import_reader_column(r, "a");
    describe(r, out);
    assert_string_equal(out, expected);
    import_reader_free(r);
    free(text);
}

static void test_records_are_bounded(void **state)
{
    (void)state;
    expect_too_long(IMPORT_CSV, "1,", "3,4",
                    "1:!is longer than 1 MiB, or has a quote that never "
                    "closes;2:3|4;");
    expect_too_long(IMPORT_CSV, "\"", "3,4",
                    "1:!is longer than 1 MiB, or has a quote that never "
                    "closes;2:3|4;");
    expect_too_long(IMPORT_JSON, "{", "{\"a\":1}",
                    "1:!is longer than 1 MiB;2:1;");
    expect_too_long(IMPORT_PAIRS, "u ", "u v",
                    "1:!is longer than 1 MiB;2:u|v|0;");
}

static void test_json_lines(void **state)
{
    (void)state;
    expect_cells(IMPORT_JSON, NULL,
                 "{\"a\":\"x\\ny\",\"b\":{\"c\":12}}\n"
                 "\r\n"
                 "{\"b.c\":true,\"b\":{\"c\":1},\"a\":null}\r\n"
                 "{\"a\":1.5}",
                 "1:x\ny|12;3:|1;4:1.5|;");
    expect_cells(IMPORT_JSON, NULL, "[1]\n{\"a\":2}\n",
                 "1:!is not a JSON object;2:2|;");
}

static void test_json_faults(void **state)
{
    static char out[OUT_BYTES];
    const char *text = "{\"a\":1\n{\"a\":2}\n{\"a\":3}{\n\xff\n{\"a\":4}\n";
    struct memory m = {.left = slice_str(text), .chunk = 5};
    struct import_reader *r = open_memory(&m, IMPORT_JSON, NULL);
    (void)state;
    (void)import_reader_column(r, "a");
    describe(r, out);
    assert_non_null(strstr(out, "1:!is not JSON: "));
    assert_non_null(strstr(out, ";2:2;3:!is not JSON: "));
    assert_non_null(strstr(out, ";4:!is not JSON: "));
    assert_non_null(strstr(out, ";5:4;"));
    import_reader_free(r);
}

static void test_sequences(void **state)
{
    (void)state;
    expect_cells(IMPORT_SEQUENCE, NULL, "1 5\n1 7\n\n2 5\n",
                 "1:1|5|0;2:1|7|0;4:2|5|0;");
    expect_cells(IMPORT_SEQUENCE, NULL, "1 5 7 9\r\n2\t5\n",
                 "1:1|5|0;1:1|7|1;1:1|9|2;2:2|5|0;");
    expect_cells(IMPORT_PAIRS, NULL, "1 5\n1 7 9\n3\n2 5",
                 "1:1|5|0;2:!has more than `user item`;"
                 "3:!has a user, but no item;4:2|5|0;");
    expect_cells(IMPORT_LISTS, NULL, "u a b\nv\nw c\n",
                 "1:u|a|0;1:u|b|1;2:!has a user, but no item;3:w|c|0;");
}

/* ---- golden cells of Python's csv ---- */

static char *read_all(const char *name, size_t *size)
{
    char path[PATH_BYTES];
    char *text = malloc(1 << 20);
    FILE *from;
    (void)snprintf(path, sizeof path, "%s/tests/golden/%s", SOURCE_DIR, name);
    from = fopen(path, "rb");
    assert_non_null(from);
    assert_non_null(text);
    *size = fread(text, 1, (1 << 20) - 1, from);
    text[*size] = '\0';
    (void)fclose(from);
    return text;
}

static void test_cells_as_python_reads_them(void **state)
{
    size_t csv_size, hex_size, used = 0;
    char *csv = read_all("import_cells.csv", &csv_size);
    char *hex = read_all("import_cells.txt", &hex_size);
    char *ours = malloc(hex_size * 2 + 64);
    struct memory m = {.left = slice_of(csv, csv_size), .chunk = 11};
    struct import_reader *r = open_memory(&m, IMPORT_CSV, "a,b,c,d,e");
    struct import_record record;
    bool ended;
    struct err e;
    (void)state;
    assert_non_null(ours);
    for (;;) {
        assert_int_equal(import_reader_next(r, &record, &ended, &e), RC_OK);
        if (ended) break;
        assert_null(record.fault);
        for (uint32_t i = 0; i < record.count; i++) {
            struct slice cell = record.cells[i].text;
            for (size_t k = 0; k < cell.len && used < hex_size * 2; k++)
                used += (size_t)sprintf(ours + used, "%02x", cell.ptr[k]);
            ours[used++] = i + 1 < record.count ? ',' : '\n';
        }
    }
    assert_int_equal(used, hex_size);
    assert_memory_equal(ours, hex, hex_size);
    import_reader_free(r);
    free(csv);
    free(hex);
    free(ours);
}

/* ---- the whole way, to a container file ---- */

struct whole {
    struct schema *schema;
    struct import import;
    char out[64], rejects[80];
};

static void whole_open(struct whole *w, struct schema *schema,
                       struct import_reader *reader, const char *const *rules)
{
    struct err e;
    const struct feed_target target = {.path = w->out, .codec = "null"};
    int fd;
    *w = (struct whole){.schema = schema};
    strcpy(w->out, "/tmp/millrace-import-XXXXXX");
    fd = mkstemp(w->out);
    assert_true(fd >= 0);
    (void)close(fd);
    (void)snprintf(w->rejects, sizeof w->rejects, "%s.rejects", w->out);
    w->import.reader = reader;
    w->import.rejects_path = w->rejects;
    w->import.key_field = -1;
    if (row_new(&w->import.row, schema, &e) != RC_OK ||
        import_map_new(&w->import.map, w->import.row, &e) != RC_OK)
        fail_msg("%s", e.text);
    for (; *rules; rules++)
        if (import_map_add(w->import.map, *rules, &e) != RC_OK)
            fail_msg("%s", e.text);
    if (import_map_bind(w->import.map, reader, &e) != RC_OK ||
        feed_open(&w->import.feed, &target, schema, &e) != RC_OK)
        fail_msg("%s", e.text);
}

static void whole_run(struct whole *w)
{
    bool ended = false;
    struct err e;
    while (!ended)
        if (import_step(&w->import, 1000, &ended, &e) != RC_OK)
            fail_msg("%s", e.text);
    assert_int_equal(import_close(&w->import, &e), RC_OK);
    if (feed_finish(w->import.feed, &e) != RC_OK) fail_msg("%s", e.text);
}

static void whole_close(struct whole *w)
{
    (void)unlink(w->out);
    (void)unlink(w->rejects);
    import_reader_free(w->import.reader);
    import_map_free(w->import.map);
    row_free(w->import.row);
    schema_free(w->schema);
}

static struct schema *parse(const char *json)
{
    struct schema *s;
    struct err e;
    if (schema_parse(&s, slice_str(json), &e) != RC_OK) fail_msg("%s", e.text);
    return s;
}

/* The file's records are those that fastavro made. */
static void expect_golden(const char *path)
{
    size_t size, at = 0;
    char *golden = read_all("import_records.bin", &size);
    struct container_reader *c;
    struct slice value;
    bool ended;
    struct err e;
    assert_int_equal(container_open(&c, path, &e), RC_OK);
    while (at < size) {
        uint32_t len;
        memcpy(&len, golden + at, 4); /* little endian, as we are */
        assert_int_equal(container_next(c, &value, &ended, &e), RC_OK);
        assert_false(ended);
        assert_int_equal(value.len, len);
        assert_memory_equal(value.ptr, golden + at + 4, len);
        at += 4 + len;
    }
    assert_int_equal(container_next(c, &value, &ended, &e), RC_OK);
    assert_true(ended);
    container_close(c);
    free(golden);
}

static enum rc read_text(void *user, uint8_t *to, size_t size, size_t *got,
                         struct err *e)
{
    return import_text_read(user, to, size, got, e);
}

static const char *const GOLDEN_RULES[] = {
    "time=when:strptime=%d/%m/%Y %H\\:%M\\:%S",
    "micros=since_2019:epoch_s,origin=2019-01-01",
    "amount=cents:scale=0.01",
    "source=:const=golden",
    NULL,
};

static void import_golden(const char *name, enum import_format format)
{
    char path[PATH_BYTES];
    struct import_text *text;
    struct import_reader_options o = {
        .format = format, .delimiter = ',', .read = read_text};
    struct import_reader *reader;
    struct whole w;
    size_t size;
    char *schema = read_all("import_records.avsc", &size);
    struct err e;
    (void)snprintf(path, sizeof path, "%s/tests/golden/%s", SOURCE_DIR, name);
    assert_int_equal(import_text_open(&text, path, &e), RC_OK);
    o.user = text;
    assert_int_equal(import_reader_new(&reader, &o, &e), RC_OK);
    whole_open(&w, parse(schema), reader, GOLDEN_RULES);
    whole_run(&w);
    if (w.import.rejects > 0)
        fail_msg("line %llu: %s", (unsigned long long)w.import.shown[0].line,
                 w.import.shown[0].reason);
    expect_golden(w.out);
    whole_close(&w);
    import_text_close(text);
    free(schema);
}

static void test_records_as_fastavro_writes_them(void **state)
{
    (void)state;
    import_golden("import_records.csv", IMPORT_CSV);
    import_golden("import_records.jsonl", IMPORT_JSON);
    import_golden("import_records.csv.gz", IMPORT_CSV);
    import_golden("import_records.csv.xz", IMPORT_CSV);
}

/* What the records become as JSON, one after the other. */
static void expect_json(const char *schema, const char *const *rules,
                        const char *text, const char *expected)
{
    static char out[OUT_BYTES];
    struct memory m = {.left = slice_str(text), .chunk = 64};
    struct whole w;
    struct container_reader *c;
    struct decoder *d;
    struct datum datums[64];
    struct slice value;
    bool ended;
    struct err e;
    FILE *to = fmemopen(out, OUT_BYTES, "w");
    assert_non_null(to);
    whole_open(&w, parse(schema), open_memory(&m, IMPORT_CSV, NULL), rules);
    whole_run(&w);
    for (uint64_t i = 0; i < w.import.rejects; i++)
        (void)fprintf(to, "!%llu %s\n",
                      (unsigned long long)w.import.shown[i].line,
                      w.import.shown[i].reason);
    assert_int_equal(container_open(&c, w.out, &e), RC_OK);
    assert_int_equal(decoder_compile(&d, container_schema(c), w.schema, &e),
                     RC_OK);
    for (;;) {
        struct tape tape = {.at = datums, .max = 64};
        assert_int_equal(container_next(c, &value, &ended, &e), RC_OK);
        if (ended) break;
        assert_int_equal(decoder_decode(d, value, &tape, &e), RC_OK);
        assert_int_equal(tape_write_json(w.schema, &tape, JSON_PLAIN, to, &e),
                         RC_OK);
        (void)fputc('\n', to);
    }
    (void)fclose(to);
    /* However tape_write_json ends its lines. */
    for (char *twice; (twice = strstr(out, "\n\n")) != NULL;)
        memmove(twice, twice + 1, strlen(twice));
    assert_string_equal(out, expected);
    decoder_free(d);
    container_close(c);
    whole_close(&w);
}

#define ONE_FIELD(type)                                                        \
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"x\","         \
    "\"type\":" type "}]}"
#define MILLIS "{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}"

static void expect_one(const char *schema, const char *rule, const char *text,
                       const char *expected)
{
    const char *const rules[] = {rule, NULL};
    expect_json(schema, rules, text, expected);
}

static void test_numbers(void **state)
{
    (void)state;
    expect_one(ONE_FIELD("\"int\""), "x=a",
               "a\n 12 \n+3\n2147483648\n4.5\n5.0\n1e3\nx\n",
               "!4 field x: '2147483648' is not a whole number in range\n"
               "!5 field x: '4.5' is not a whole number in range\n"
               "!8 field x: 'x' is not a whole number in range\n"
               "{\"x\":12}\n{\"x\":3}\n{\"x\":5}\n{\"x\":1000}\n");
    expect_one(ONE_FIELD("\"long\""), "x=a",
               "a\n-9223372036854775808\n9223372036854775808\n",
               "!3 field x: '9223372036854775808' is not a whole number in "
               "range\n{\"x\":-9223372036854775808}\n");
    expect_one(ONE_FIELD("\"double\""), "x=a:strip=$\\,,scale=1/100",
               "a\n\"$1,250\"\n0x10\ninf\nnan\n1e999\n5716\n",
               "!3 field x: '0x10' is not a number\n"
               "!4 field x: 'inf' is not a number\n"
               "!5 field x: 'nan' is not a number\n"
               "!6 field x: '1e999' is not a number\n"
               "{\"x\":12.5}\n{\"x\":57.16}\n");
    expect_one(ONE_FIELD("\"long\""), "x=a:scale=100", "a\n4.35\n",
               "{\"x\":435}\n");
}

static void test_nulls_and_defaults(void **state)
{
    (void)state;
    expect_one(ONE_FIELD("[\"null\",\"int\"]"), "x=a:null=NA",
               "a,b\n1,\n,\nNA,\n", "{\"x\":1}\n{\"x\":null}\n{\"x\":null}\n");
    expect_one(ONE_FIELD("\"int\""), "x=a", "a,b\n1,\n,\n",
               "!3 field x: no value, and it may not be null\n{\"x\":1}\n");
    expect_one(ONE_FIELD("\"int\""), "x=a:default=7", "a,b\n1,\n,\n",
               "{\"x\":1}\n{\"x\":7}\n");
    expect_one(ONE_FIELD("\"int\",\"default\":9"), "x=a", "a,b\n,\n",
               "{\"x\":9}\n");
    expect_one(ONE_FIELD("\"string\""), "x=a", "a,b\n,\n\xff,\n",
               "!3 field x: '\xff' is not UTF-8 text\n{\"x\":\"\"}\n");
    expect_one(ONE_FIELD("\"int\",\"default\":3"), "x=:const=4", "b\n1\n",
               "{\"x\":4}\n");
    expect_one(ONE_FIELD("\"string\""), "x=:position", "b\n1\n2\n",
               "{\"x\":\"0\"}\n{\"x\":\"1\"}\n");
}

static void test_times(void **state)
{
    (void)state;
    expect_one(ONE_FIELD(MILLIS), "x=a:epoch_s,origin=2018-04-01T00:00:00Z",
               "a\n31\n1.5\n1e3\n",
               "!4 field x: '1e3' is not a time in the form of its rule\n"
               "{\"x\":1522540831000}\n{\"x\":1522540801500}\n");
    expect_one(ONE_FIELD(MILLIS), "x=a",
               "a\n1970-01-02\n1970-01-01T00:00:01.5Z\n1234\n2021-02-29\n",
               "!5 field x: '2021-02-29' is not a time in the form of its "
               "rule\n{\"x\":86400000}\n{\"x\":1500}\n{\"x\":1234}\n");
    expect_one(ONE_FIELD(MILLIS), "x=d+t:strptime=%Y%m%d %H\\:%M %z",
               "d,t\n19700102,01:00 +0100\n19700102,\n",
               "!3 field x: '19700102 ' is not a time in the form of its "
               "rule\n{\"x\":86400000}\n");
    expect_one(ONE_FIELD(MILLIS), "x=a:epoch_us", "a\n1234567\n",
               "{\"x\":1234}\n");
}

static void test_time_counts_do_not_overflow(void **state)
{
    int64_t ms = 0;
    (void)state;
    assert_false(
        import_time_count(slice_str("9223372036854775807"), 1000, &ms));
    assert_false(
        import_time_count(slice_str("99999999999999999999999"), 1, &ms));
    assert_false(import_time_count(slice_str(""), 1, &ms));
    assert_false(import_time_count(slice_str("-"), 1, &ms));
    assert_false(import_time_count(slice_str("1."), 1, &ms));
    assert_true(import_time_count(slice_str("-1.25"), 1000, &ms));
    assert_int_equal(ms, -1250);
    assert_true(import_time_count(slice_str("0.1239999999999999"), 1000, &ms));
    assert_int_equal(ms, 123);
}

static void expect_bad_rule(const char *rule, const char *words)
{
    struct schema *s = parse(ONE_FIELD("\"int\""));
    struct memory m = {.left = slice_str("a,b\n"), .chunk = 9};
    struct import_reader *r = open_memory(&m, IMPORT_CSV, NULL);
    struct row *row;
    struct import_map *map;
    struct err e = {.text = "no fault"};
    assert_int_equal(row_new(&row, s, &e), RC_OK);
    assert_int_equal(import_map_new(&map, row, &e), RC_OK);
    if (import_map_add(map, rule, &e) == RC_OK &&
        import_map_bind(map, r, &e) == RC_OK)
        fail_msg("rule '%s' was taken", rule);
    if (!strstr(e.text, words)) fail_msg("'%s' lacks '%s'", e.text, words);
    import_map_free(map);
    row_free(row);
    import_reader_free(r);
    schema_free(s);
}

static void test_bad_rules(void **state)
{
    (void)state;
    expect_bad_rule("x", "is not FIELD=COLUMN");
    expect_bad_rule("y=a", "has no field 'y'; it has x");
    expect_bad_rule("x=c", "column 'c', which is not there");
    expect_bad_rule("x=a:scale=0", "option 'scale=0'");
    expect_bad_rule("x=a:sideways", "option 'sideways'");
    expect_bad_rule("x=a:origin=yesterday", "option 'origin=yesterday'");
    expect_bad_rule("x=a:const=1", "needs one of");
    expect_bad_rule("x=", "needs one of");
    expect_bad_rule("x=a+b+a+b+a", "joins more than 4");
}

static void test_nested_schema_is_refused(void **state)
{
    struct schema *s = parse(ONE_FIELD("{\"type\":\"array\",\"items\":"
                                       "\"int\"}"));
    struct row *row;
    struct err e;
    (void)state;
    assert_int_equal(row_new(&row, s, &e), RC_STOP);
    assert_non_null(strstr(e.text, "field 'x'"));
    schema_free(s);
}

static void test_rejects_are_kept(void **state)
{
    static const char *const RULES[] = {"x=a", NULL};
    static const char TEXT[] = "a\n1\n\"2\n3\"\nfour\n5\n";
    struct memory m = {.left = slice_str(TEXT), .chunk = 4};
    struct whole w;
    char kept[512];
    FILE *from;
    size_t got;
    (void)state;
    whole_open(&w, parse(ONE_FIELD("\"int\"")),
               open_memory(&m, IMPORT_CSV, NULL), RULES);
    whole_run(&w);
    assert_int_equal(w.import.records, 2);
    assert_int_equal(w.import.rejects, 2);
    from = fopen(w.rejects, "r");
    assert_non_null(from);
    got = fread(kept, 1, sizeof kept - 1, from);
    kept[got] = '\0';
    (void)fclose(from);
    assert_string_equal(
        kept, "3\tfield x: '2\n3' is not a whole number in range\t\"2\\n3\"\n"
              "5\tfield x: 'four' is not a whole number in range\tfour\n");
    whole_close(&w);
}

/* ---- files ---- */

static void expect_text_stops(const char *name, size_t cut, const char *words)
{
    char path[] = "/tmp/millrace-import-XXXXXX";
    uint8_t bytes[4096];
    size_t size, got = 1;
    char *whole = read_all(name, &size);
    int fd = mkstemp(path);
    struct import_text *t;
    struct err e = {.text = "no fault"};
    enum rc rc;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, whole, size - cut), (ssize_t)(size - cut));
    (void)close(fd);
    rc = import_text_open(&t, path, &e);
    if (rc == RC_OK) {
        while (rc == RC_OK && got > 0)
            rc = import_text_read(t, bytes, sizeof bytes, &got, &e);
        import_text_close(t);
    }
    assert_int_equal(rc, RC_STOP);
    if (!strstr(e.text, words)) fail_msg("'%s' lacks '%s'", e.text, words);
    (void)unlink(path);
    free(whole);
}

static void test_cut_files_stop(void **state)
{
    struct import_text *t;
    struct err e;
    (void)state;
    expect_text_stops("import_records.csv.gz", 9, "ends in the middle");
    expect_text_stops("import_records.csv.xz", 5, "ends in the middle");
    assert_int_equal(import_text_open(&t, "/nowhere.csv", &e), RC_STOP);
    assert_non_null(strstr(e.text, "'/nowhere.csv': No such file"));
}

static void test_mapping_file(void **state)
{
    struct import_file f;
    struct err e;
    char path[] = "/tmp/millrace-map-XXXXXX";
    static const char BAD[] = "schema = x.avsc\n# comment\nshema = y\n";
    int fd;
    (void)state;
    assert_int_equal(
        import_file_read(&f, SOURCE_DIR "/config/handbook.map", &e), RC_OK);
    assert_string_equal(f.schema,
                        SOURCE_DIR "/config/../schemas/handbook.avsc");
    assert_int_equal(f.rule_count, 7);
    assert_string_equal(f.rules[4], "amount=amount_cents:scale=1/100");
    import_file_free(&f);

    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, BAD, sizeof BAD - 1), sizeof BAD - 1);
    (void)close(fd);
    assert_int_equal(import_file_read(&f, path, &e), RC_STOP);
    assert_non_null(strstr(e.text, ":3: key 'shema'"));
    (void)unlink(path);
}

/* ---- the handbook ---- */

struct sums {
    uint64_t rows, frauds;
    int64_t cents, seconds;
};

/* The plain way: no quotes in this file, seven numbers a line. */
static struct sums reread_text(const char *path)
{
    struct sums s = {0};
    char command[PATH_BYTES + 16], line[256];
    FILE *from;
    (void)snprintf(command, sizeof command, "xzcat %s", path);
    from = popen(command, "r");
    assert_non_null(from);
    assert_non_null(fgets(line, sizeof line, from));
    while (fgets(line, sizeof line, from)) {
        long long id, t, user, terminal, cents, fraud, scenario;
        assert_int_equal(sscanf(line, "%lld,%lld,%lld,%lld,%lld,%lld,%lld", &id,
                                &t, &user, &terminal, &cents, &fraud,
                                &scenario),
                         7);
        s.rows++;
        s.seconds += t;
        s.cents += cents;
        s.frauds += (uint64_t)fraud;
    }
    (void)pclose(from);
    return s;
}

static struct sums reread_container(const char *path)
{
    const int64_t start_ms = 1522540800000; /* 2018-04-01 */
    struct sums s = {0};
    struct container_reader *c;
    struct decoder *d;
    struct datum datums[16];
    struct slice value;
    bool ended;
    struct err e;
    assert_int_equal(container_open(&c, path, &e), RC_OK);
    assert_int_equal(
        decoder_compile(&d, container_schema(c), container_schema(c), &e),
        RC_OK);
    for (;;) {
        struct tape tape = {.at = datums, .max = 16};
        assert_int_equal(container_next(c, &value, &ended, &e), RC_OK);
        if (ended) break;
        assert_int_equal(decoder_decode(d, value, &tape, &e), RC_OK);
        s.rows++;
        s.seconds += (datums[4].i - start_ms) / 1000;
        s.cents += (int64_t)(datums[5].d * 100 + 0.5);
        s.frauds += (uint64_t)datums[6].i;
    }
    decoder_free(d);
    container_close(c);
    return s;
}

static void test_handbook_goes_in_and_comes_out(void **state)
{
    const char *data = getenv("MILLRACE_DATA");
    char path[PATH_BYTES];
    const char *rules[ROW_FIELDS_MAX + 1] = {0};
    struct import_file f;
    struct import_text *text;
    struct import_reader_options o = {
        .format = IMPORT_CSV, .delimiter = ',', .read = read_text};
    struct import_reader *reader;
    struct whole w;
    struct sums expected, ours;
    struct err e;
    (void)state;
    if (!data || !*data) {
        print_message("no real data: MILLRACE_DATA is not set\n");
        skip();
    }
    (void)snprintf(path, sizeof path,
                   "%s/fraud_handbook/transactions_to_2018-08-14.csv.xz", data);
    assert_int_equal(
        import_file_read(&f, SOURCE_DIR "/config/handbook.map", &e), RC_OK);
    for (uint32_t i = 0; i < f.rule_count; i++)
        rules[i] = f.rules[i];
    assert_int_equal(import_text_open(&text, path, &e), RC_OK);
    o.user = text;
    assert_int_equal(import_reader_new(&reader, &o, &e), RC_OK);
    whole_open(&w, parse((const char *)schemas_get("handbook").ptr), reader,
               rules);
    whole_run(&w);
    assert_int_equal(w.import.rejects, 0);
    expected = reread_text(path);
    ours = reread_container(w.out);
    assert_int_equal(expected.rows, 1303778);
    assert_int_equal(ours.rows, expected.rows);
    assert_int_equal(ours.frauds, expected.frauds);
    assert_int_equal(ours.cents, expected.cents);
    assert_int_equal(ours.seconds, expected.seconds);
    whole_close(&w);
    import_text_close(text);
    import_file_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_cells),
        cmocka_unit_test(test_csv_faults_keep_their_lines),
        cmocka_unit_test(test_records_are_bounded),
        cmocka_unit_test(test_json_lines),
        cmocka_unit_test(test_json_faults),
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_cells_as_python_reads_them),
        cmocka_unit_test(test_records_as_fastavro_writes_them),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_nulls_and_defaults),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_time_counts_do_not_overflow),
        cmocka_unit_test(test_bad_rules),
        cmocka_unit_test(test_nested_schema_is_refused),
        cmocka_unit_test(test_rejects_are_kept),
        cmocka_unit_test(test_cut_files_stop),
        cmocka_unit_test(test_mapping_file),
        cmocka_unit_test(test_handbook_goes_in_and_comes_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
