#include "unicode.h"

#include <assert.h>
#include <utf8proc.h>

static const struct {
    uint32_t first, last, class;
} classes[] = {
#include "unicode_classes.inc"
};
enum { CLASSES = sizeof classes / sizeof classes[0] };

/* Capitals that came to Unicode after the version of utf8proc that is asked
 * here (15.0), and how far their small letters are. */
static const struct {
    uint32_t first, last;
    int32_t distance;
} young_capitals[] = {
    {0x1c89, 0x1c89, 1},      {0xa7cb, 0xa7cb, 0x264 - 0xa7cb},
    {0xa7cc, 0xa7cc, 1},      {0xa7ce, 0xa7ce, 1},
    {0xa7d2, 0xa7d2, 1},      {0xa7d4, 0xa7d4, 1},
    {0xa7da, 0xa7da, 1},      {0xa7dc, 0xa7dc, 0x19b - 0xa7dc},
    {0x10d50, 0x10d65, 0x20}, {0x16ea0, 0x16eb8, 0x1b},
};
enum { YOUNG_CAPITALS = sizeof young_capitals / sizeof young_capitals[0] };

enum { CAPITAL_I_DOT = 0x130, DOT_ABOVE = 0x307, DIVES_AKURU_VOWEL = 0x11938 };

/* ---- UTF-8 ----------------------------------------------------------- */

/* How many bytes follow this first one, and between what bounds the next one
 * must lie; -1: no sequence begins so. */
static int sequence(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (lead < 0xc2) return -1;
    if (lead < 0xe0) return 1;
    if (lead < 0xf0) {
        if (lead == 0xe0) *low = 0xa0;  /* shorter forms exist */
        if (lead == 0xed) *high = 0x9f; /* surrogates */
        return 2;
    }
    if (lead == 0xf0) *low = 0x90;
    if (lead == 0xf4) *high = 0x8f; /* beyond U+10FFFF */
    return lead < 0xf5 ? 3 : -1;
}

uint32_t unicode_next(struct slice text, size_t *at)
{
    uint8_t lead, low, high;
    uint32_t c;
    int more;

    assert(*at < text.len);
    lead = text.ptr[(*at)++];
    if (lead < 0x80) return lead;
    more = sequence(lead, &low, &high);
    if (more < 0) return UNICODE_REPLACEMENT;
    c = lead & (0x3fu >> more);
    for (; more > 0; more--) {
        if (*at == text.len || text.ptr[*at] < low || text.ptr[*at] > high)
            return UNICODE_REPLACEMENT;
        c = c << 6 | (text.ptr[(*at)++] & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }
    return c;
}

uint32_t unicode_put(uint32_t c, uint8_t *out)
{
    return (uint32_t)utf8proc_encode_char((utf8proc_int32_t)c, out);
}

/* ---- code points ----------------------------------------------------- */

uint32_t unicode_class(uint32_t c)
{
    uint32_t low = 0, high = CLASSES;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (c > classes[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < CLASSES && c >= classes[low].first ? classes[low].class : 0;
}

uint32_t unicode_lower(uint32_t c, uint32_t out[2])
{
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    if (c == CAPITAL_I_DOT) {
        out[0] = 'i';
        out[1] = DOT_ABOVE;
        return 2;
    }
    for (uint32_t i = 0; i < YOUNG_CAPITALS; i++)
        if (c >= young_capitals[i].first && c <= young_capitals[i].last)
            out[0] = (uint32_t)((int32_t)c + young_capitals[i].distance);
    return 1;
}

uint32_t unicode_decompose(uint32_t c, uint32_t out[UNICODE_PARTS_MAX])
{
    utf8proc_int32_t parts[UNICODE_PARTS_MAX];
    int last = 0;
    utf8proc_ssize_t count =
        utf8proc_decompose_char((utf8proc_int32_t)c, parts, UNICODE_PARTS_MAX,
                                UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &last);
    if (c == DIVES_AKURU_VOWEL || count <= 0 || count > UNICODE_PARTS_MAX) {
        out[0] = c; /* younger than the tokenizers' decompositions */
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < count; i++)
        out[i] = (uint32_t)parts[i];
    return (uint32_t)count;
}

uint32_t unicode_combining(uint32_t c, uint32_t class)
{
    if (!(class & (UNICODE_MARK | UNICODE_ORDERED))) return 0;
    return (uint32_t)utf8proc_get_property((utf8proc_int32_t)c)
        ->combining_class;
}
