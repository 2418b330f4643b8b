#include "role_value.h"

#include <assert.h>
#include <math.h>

#include "config.h"
#include "iso_time.h"
#include "train.h"

/* 10^38 is the largest power of ten in 128 bits. */
enum { DECIMAL_SCALE_MAX = 38, DECIMAL_BYTES_MAX = 16 };

static bool is_decimal(const struct schema_field *f)
{
    return strcmp(f->logical_type, "decimal") == 0 &&
           f->scale <= DECIMAL_SCALE_MAX;
}

bool role_usable(enum role_kind role, const struct schema_field *f)
{
    enum datum_kind kind = f->kind;
    bool integer = kind == DATUM_INT || kind == DATUM_LONG;
    bool real = kind == DATUM_FLOAT || kind == DATUM_DOUBLE;
    bool text = kind == DATUM_STRING || kind == DATUM_BYTES;
    switch (role) {
    case ROLE_ID:
        return integer || text || kind == DATUM_ENUM || kind == DATUM_FIXED ||
               kind == DATUM_BOOLEAN;
    case ROLE_TIME:
        return integer || kind == DATUM_STRING;
    case ROLE_AMOUNT:
        return integer || real || is_decimal(f);
    case ROLE_NUMBER:
        return integer || real || is_decimal(f) || kind == DATUM_BOOLEAN;
    case ROLE_TEXT:
        return text;
    case ROLE_LABEL:
        return integer || real || kind == DATUM_BOOLEAN;
    }
    return false;
}

const char *role_kinds(enum role_kind role)
{
    static const char *const KINDS[] = {
        [ROLE_ID] = "string, bytes, enum, int, long, boolean or fixed",
        [ROLE_TIME] = "long, int or string",
        [ROLE_AMOUNT] = "int, long, float, double or decimal",
        [ROLE_NUMBER] = "int, long, float, double, decimal or boolean",
        [ROLE_TEXT] = "string or bytes",
        [ROLE_LABEL] = "boolean, int, long, float or double",
    };
    return KINDS[role];
}

size_t role_id_bytes(const struct datum *d)
{
    switch ((enum datum_kind)d->kind) {
    case DATUM_INT:
    case DATUM_LONG:
        return ROLE_NUMBER_TEXT;
    case DATUM_FIXED:
        return 2 * d->s.len;
    default:
        return 0;
    }
}

static struct slice decimal_text(int64_t value, uint8_t *text)
{
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint8_t *end = text + ROLE_NUMBER_TEXT, *p = end;
    do {
        *--p = (uint8_t)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0) *--p = '-';
    return slice_of(p, (size_t)(end - p));
}

static struct slice hex_text(struct slice bytes, uint8_t *text)
{
    static const char HEX[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes.len; i++) {
        text[2 * i] = (uint8_t)HEX[bytes.ptr[i] >> 4];
        text[2 * i + 1] = (uint8_t)HEX[bytes.ptr[i] & 15];
    }
    return slice_of(text, 2 * bytes.len);
}

struct slice role_id(const struct datum *d, uint8_t *text)
{
    switch ((enum datum_kind)d->kind) {
    case DATUM_INT:
    case DATUM_LONG:
        return decimal_text(d->i, text);
    case DATUM_FIXED:
        return hex_text(d->s, text);
    case DATUM_BOOLEAN:
        return slice_str(d->i ? "true" : "false");
    default:
        return d->s;
    }
}

struct time_unit role_time_unit(const struct schema_field *f, uint32_t unit)
{
    const char *logical = f->logical_type;
    if (strncmp(logical, "local-", 6) == 0) logical += 6;
    if (unit == UNIT_MS) return (struct time_unit){1, 1};
    if (unit == UNIT_US) return (struct time_unit){1, 1000};
    if (unit == UNIT_S) return (struct time_unit){1000, 1};
    if (strcmp(logical, "timestamp-micros") == 0)
        return (struct time_unit){1, 1000};
    if (strcmp(logical, "timestamp-nanos") == 0)
        return (struct time_unit){1, 1000000};
    if (strcmp(logical, "date") == 0) return (struct time_unit){86400000, 1};
    return (struct time_unit){1, 1};
}

bool role_time(const struct datum *d, struct time_unit unit, int64_t *out_ms)
{
    int64_t ms;
    if (d->kind == DATUM_STRING) {
        if (!iso_time_parse(d->s, &ms)) return false;
    } else {
        if (__builtin_mul_overflow(d->i, unit.mul, &ms)) return false;
        ms = ms / unit.div - (ms % unit.div < 0);
    }
    if (ms < TIME_MS_MIN || ms > TIME_MS_MAX) return false;
    *out_ms = ms;
    return true;
}

/* Two's complement, big-endian. False: more than 128 bits. */
static bool unscaled(struct slice s, __int128 *out)
{
    unsigned __int128 bits;
    if (s.len == 0 || s.len > DECIMAL_BYTES_MAX) return false;
    bits = s.ptr[0] & 0x80 ? ~(unsigned __int128)0 : 0;
    for (size_t i = 0; i < s.len; i++)
        bits = bits << 8 | s.ptr[i];
    *out = (__int128)bits;
    return true;
}

static __int128 power_of_ten(int32_t exponent)
{
    __int128 power = 1;
    for (; exponent > 0; exponent--)
        power *= 10;
    return power;
}

static bool in_range(__int128 amount, int64_t *out)
{
    if (amount < -AMOUNT_MAX || amount > AMOUNT_MAX) return false;
    *out = (int64_t)amount;
    return true;
}

static bool decimal_amount(const struct datum *d, const struct schema_field *f,
                           uint32_t scale, int64_t *out)
{
    __int128 value, divisor = power_of_ten(f->scale), whole, rest;
    if (!unscaled(d->s, &value)) return false;
    if (__builtin_mul_overflow(value, (__int128)scale, &value)) return false;
    whole = value / divisor;
    rest = value % divisor;
    /* rest >= divisor - rest is 2 rest >= divisor without overflow. */
    if (rest >= divisor - rest && rest > 0) whole++;
    if (-rest >= divisor + rest && rest < 0) whole--;
    return in_range(whole, out);
}

bool role_amount(const struct datum *d, const struct schema_field *f,
                 uint32_t scale, int64_t *out)
{
    double value;
    switch ((enum datum_kind)d->kind) {
    case DATUM_INT:
    case DATUM_LONG:
        return in_range((__int128)d->i * scale, out);
    case DATUM_FLOAT:
    case DATUM_DOUBLE:
        value = round(d->d * scale);
        if (!(fabs(value) <= (double)AMOUNT_MAX)) return false;
        *out = (int64_t)value;
        return true;
    default:
        return decimal_amount(d, f, scale, out);
    }
}

float role_number(const struct datum *d, const struct schema_field *f)
{
    __int128 value;
    float number = NAN;
    switch ((enum datum_kind)d->kind) {
    case DATUM_FLOAT:
    case DATUM_DOUBLE:
        number = (float)d->d;
        break;
    case DATUM_BYTES:
    case DATUM_FIXED:
        if (unscaled(d->s, &value))
            number = (float)((double)value / (double)power_of_ten(f->scale));
        break;
    default:
        number = (float)d->i;
        break;
    }
    return isfinite(number) ? number : NAN;
}

int8_t role_label(const struct datum *d)
{
    double value =
        d->kind == DATUM_FLOAT || d->kind == DATUM_DOUBLE ? d->d : (double)d->i;
    if (value == 1) return LABEL_FRAUD;
    return value == 0 ? LABEL_GOOD : LABEL_UNKNOWN;
}
