/* Any bytes are records or faults, in order of their lines, whatever the
 * size of the pieces in which they come; a record is encoded or rejected.
 * The first byte chooses format and piece size, the rest is the text. */
#include <assert.h>
#include <stdlib.h>

#include "import_map.h"
#include "import_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FORMATS = 5, COLUMNS = 4 };

static const char SCHEMA[] =
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":["
    "{\"name\":\"a\",\"type\":[\"null\",\"long\"]},"
    "{\"name\":\"b\",\"type\":\"string\"},"
    "{\"name\":\"c\",\"type\":[\"null\",\"double\"]},"
    "{\"name\":\"d\",\"type\":[\"null\",{\"type\":\"long\",\"logicalType\":"
    "\"timestamp-millis\"}]},"
    "{\"name\":\"e\",\"type\":[\"null\",\"boolean\"]}]}";

static const char *const RULES[FORMATS][COLUMNS] = {
    {"a=a:scale=3/7", "b=a+b+c", "c=b:strip=$", "d=c"},
    {"a=a", "b=b.c", "c=c", "d=d:strptime=%Y %m"},
    {"a=item", "b=user", "c=position", "d=item:epoch_s,origin=2018-04-01"},
    {"a=item:null=0", "b=user", "c=item:default=1", "d=item:iso8601"},
    {"a=:position", "b=user+item", "c=:const=1.5", "d=item:epoch_us"},
};

struct pieces {
    struct slice left;
    size_t most;
};

static enum rc read_piece(void *user, uint8_t *to, size_t size, size_t *got,
                          struct err *e)
{
    struct pieces *p = user;
    (void)e;
    *got = p->left.len < p->most ? p->left.len : p->most;
    if (*got > size) *got = size;
    if (*got > 0) memcpy(to, p->left.ptr, *got);
    p->left = slice_of(p->left.ptr + *got, p->left.len - *got);
    return RC_OK;
}

static void read_records(struct import_reader *r, struct import_map *map,
                         struct row *row)
{
    struct import_record record;
    uint64_t line = 0, position = 0;
    struct slice value;
    struct err e;
    bool ended;
    for (;;) {
        assert(import_reader_next(r, &record, &ended, &e) == RC_OK);
        if (ended) return;
        assert(record.line >= line);
        line = record.line;
        if (record.fault) continue;
        if (import_map_apply(map, &record, position++, &e) == RC_OK)
            (void)(row_encode(row, &value, &e) == RC_OK);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pieces pieces;
    struct import_reader_options o = {
        .delimiter = ',', .columns = "a,b,c", .read = read_piece};
    struct schema *schema = NULL;
    struct import_reader *reader = NULL;
    struct row *row = NULL;
    struct import_map *map = NULL;
    struct err e;
    if (size < 1) return 0;
    pieces = (struct pieces){slice_of(data + 1, size - 1),
                             data[0] < 128 ? 3 : 1 << 16};
    o.format = (enum import_format)(data[0] % FORMATS);
    o.user = &pieces;
    assert(schema_parse(&schema, slice_str(SCHEMA), &e) == RC_OK);
    assert(row_new(&row, schema, &e) == RC_OK);
    assert(import_map_new(&map, row, &e) == RC_OK);
    assert(import_reader_new(&reader, &o, &e) == RC_OK);
    for (int i = 0; i < COLUMNS; i++)
        assert(import_map_add(map, RULES[o.format][i], &e) == RC_OK);
    assert(import_map_bind(map, reader, &e) == RC_OK);
    read_records(reader, map, row);
    import_reader_free(reader);
    import_map_free(map);
    row_free(row);
    schema_free(schema);
    return 0;
}
