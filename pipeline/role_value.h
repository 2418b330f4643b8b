/* role_value.h - one decoded field as an id, a time, an amount, a number.
 *
 * Pure functions over a datum and the field's description; what may be
 * mapped to what is role_usable's to say, at start. */
#ifndef MILLRACE_ROLE_VALUE_H
#define MILLRACE_ROLE_VALUE_H

#include "codec.h"

enum role_kind {
    ROLE_ID,     /* string, bytes, enum, int, long, boolean, fixed */
    ROLE_TIME,   /* int, long, string (ISO 8601) */
    ROLE_AMOUNT, /* int, long, float, double, decimal */
    ROLE_NUMBER, /* the same and boolean */
    ROLE_TEXT,   /* string, bytes */
    ROLE_LABEL,  /* boolean, int, long, float, double */
};

/* Amounts beyond this, either side of zero, are refused: their squares and
 * sums must fit the windows' integers. In 1/scale units. */
#define AMOUNT_MAX ((int64_t)1000000000000000)

bool role_usable(enum role_kind role, const struct schema_field *f);
/* "string, bytes, enum, ..." */
const char *role_kinds(enum role_kind role);

/* Longest text that role_id makes of a number, or of a fixed of this size. */
enum { ROLE_NUMBER_TEXT = 20 };

/* The id as text: numbers in decimal, so that "42" and 42 agree; a fixed in
 * hexadecimal, since its bytes are seldom text. text has room for what the
 * datum needs, role_id_bytes; it is used for numbers and fixed only. */
size_t role_id_bytes(const struct datum *d);
struct slice role_id(const struct datum *d, uint8_t *text);

/* How many ms a field's unit has: ms = value * mul / div, rounded down. */
struct time_unit {
    int64_t mul, div;
};
struct time_unit role_time_unit(const struct schema_field *f, uint32_t unit);
/* False: not a time, or outside the years 1 to 9999. */
bool role_time(const struct datum *d, struct time_unit unit, int64_t *out_ms);

/* In 1/scale units, halves away from zero. False: not finite, or beyond
 * AMOUNT_MAX. scale is 1 where the field counts them already. */
bool role_amount(const struct datum *d, const struct schema_field *f,
                 uint32_t scale, int64_t *out);

/* NaN where it is not finite as a float. */
float role_number(const struct datum *d, const struct schema_field *f);

/* enum train_label: 1 and true are fraud, 0 and false good, the rest
 * unknown. */
int8_t role_label(const struct datum *d);

#endif
