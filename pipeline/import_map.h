/* import_map.h - from the columns of a text to the fields of a schema.
 *
 * A rule is "FIELD=COLUMN[:OPTION,OPTION...]". Several columns, joined by
 * "+", are read as one text with blanks between. Options:
 *   const=TEXT       the same value for every record (COLUMN stays empty)
 *   position         the number of the record, from 0 (COLUMN stays empty)
 *   null=TEXT        this text means null, as the empty one does
 *   default=TEXT     read where the cell is null
 *   strip=CHARS      leave out these characters ("strip=$")
 *   scale=X, scale=X/Y   multiply a number
 *   epoch_s, epoch_ms, epoch_us   a time counted in that unit
 *   origin=TIME      counted from then, not from 1970
 *   iso8601          a time like 2018-04-01T10:20:30Z
 *   strptime=PATTERN a time in strptime's words
 * A backslash keeps the character after it from being a mark. A field
 * without a rule takes the column of its own name, else its default.
 *
 * Types follow from the schema. A time field (timestamp-millis, -micros,
 * date) without a time option takes ISO 8601, or a count in its own unit.
 *
 * Memory   The row, and texts of rules until import_map_bind, are lent.
 * Threads  One map belongs to one thread.
 * Errors   add and bind: RC_STOP. apply: RC_SKIP with the reason. */
#ifndef MILLRACE_IMPORT_MAP_H
#define MILLRACE_IMPORT_MAP_H

#include "import_reader.h"
#include "row.h"

struct import_map;
enum rc import_map_new(struct import_map **out, struct row *row,
                       struct err *e) MUST_USE;
void import_map_free(struct import_map *m);

enum rc import_map_add(struct import_map *m, const char *rule,
                       struct err *e) MUST_USE;
/* Finds every rule's columns. */
enum rc import_map_bind(struct import_map *m, struct import_reader *r,
                        struct err *e) MUST_USE;
/* Fills the row from a record; what it puts there is lent until the next
 * call, or the reader's. */
enum rc import_map_apply(struct import_map *m, const struct import_record *in,
                         uint64_t position, struct err *e) MUST_USE;

#endif
