#include "vocabulary.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "hash.h"

enum {
    ENTRIES_MAX = 1 << 28,
    TEXT_MAX = 1 << 16,
    LENGTH_DIGITS_MAX = 5,
    HASH_DIGITS = 16,
};

/* Room for count entries with bytes of text; at most half of the slots are
 * ever in use, so a search ends soon. */
static enum rc vocabulary_init(struct vocabulary *v, uint32_t count,
                               size_t bytes, struct err *e)
{
    uint32_t slots = 4;
    *v = (struct vocabulary){0};
    assert(count <= ENTRIES_MAX);
    while (slots < 2 * count)
        slots *= 2;
    v->slot_mask = slots - 1;
    v->slots = calloc(slots, sizeof *v->slots);
    v->hashes = malloc((count + 1) * sizeof *v->hashes);
    v->text_start = malloc((count + 1) * sizeof *v->text_start);
    v->texts = malloc(bytes + 1);
    if (!v->slots || !v->hashes || !v->text_start || !v->texts) {
        vocabulary_fini(v);
        return ERR(e, RC_STOP, "vocabulary: no memory for %u ids", count);
    }
    v->text_start[0] = 0;
    return RC_OK;
}

void vocabulary_fini(struct vocabulary *v)
{
    free(v->slots);
    free(v->hashes);
    free(v->text_start);
    free(v->texts);
    *v = (struct vocabulary){0};
}

/* False if the id is there already. */
static bool vocabulary_put(struct vocabulary *v, uint64_t hash,
                           struct slice text)
{
    uint32_t slot = (uint32_t)hash_mix(hash) & v->slot_mask;
    size_t start = v->text_start[v->count];
    while (v->slots[slot]) {
        if (v->hashes[v->slots[slot] - 1] == hash) return false;
        slot = (slot + 1) & v->slot_mask;
    }
    if (text.len) memcpy(v->texts + start, text.ptr, text.len);
    v->hashes[v->count] = hash;
    v->text_start[++v->count] = start + text.len;
    v->slots[slot] = v->count;
    return true;
}

static int compare_entries(const void *a, const void *b)
{
    const struct vocabulary_entry *x = a, *y = b;
    if (x->events != y->events) return x->events > y->events ? -1 : 1;
    return (x->hash > y->hash) - (x->hash < y->hash);
}

enum rc vocabulary_grow(struct vocabulary *v, const struct vocabulary *base,
                        struct vocabulary_entry *entries, size_t count,
                        uint32_t entries_max, struct err *e)
{
    size_t bytes = base->count ? base->text_start[base->count] : 0;
    if (entries_max > ENTRIES_MAX) entries_max = ENTRIES_MAX;
    if (entries_max < base->count) entries_max = base->count;
    qsort(entries, count, sizeof *entries, compare_entries);
    if (count > entries_max - base->count) count = entries_max - base->count;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].text.len > TEXT_MAX)
            return ERR(e, RC_STOP,
                       "vocabulary: an id of %zu bytes, at most %d are kept",
                       entries[i].text.len, TEXT_MAX);
        bytes += entries[i].text.len;
    }
    TRY(vocabulary_init(v, base->count + (uint32_t)count, bytes, e));
    for (uint32_t i = 0; i < base->count; i++) {
        bool fresh =
            vocabulary_put(v, base->hashes[i], vocabulary_text(base, i));
        assert(fresh);
    }
    for (size_t i = 0; i < count; i++) {
        bool fresh = vocabulary_put(v, entries[i].hash, entries[i].text);
        assert(fresh);
    }
    return RC_OK;
}

enum rc vocabulary_build(struct vocabulary *v, struct vocabulary_entry *entries,
                         size_t count, uint32_t entries_max, struct err *e)
{
    const struct vocabulary none = {0};
    return vocabulary_grow(v, &none, entries, count, entries_max, e);
}

int32_t vocabulary_find(const struct vocabulary *v, uint64_t hash)
{
    uint32_t slot = (uint32_t)hash_mix(hash) & v->slot_mask;
    if (!v->slots || hash == 0) return -1;
    while (v->slots[slot]) {
        uint32_t index = v->slots[slot] - 1;
        if (v->hashes[index] == hash) return (int32_t)index;
        slot = (slot + 1) & v->slot_mask;
    }
    return -1;
}

struct slice vocabulary_text(const struct vocabulary *v, uint32_t index)
{
    assert(index < v->count);
    return slice_of(v->texts + v->text_start[index],
                    v->text_start[index + 1] - v->text_start[index]);
}

enum rc vocabulary_write(const struct vocabulary *v, const char *path,
                         struct err *e)
{
    FILE *file = fopen(path, "wb");
    bool ok = true;
    if (!file)
        return ERR(e, RC_STOP, "cannot create %s: %s", path, strerror(errno));
    for (uint32_t i = 0; ok && i < v->count; i++) {
        struct slice text = vocabulary_text(v, i);
        ok = fprintf(file, "%016" PRIx64 " %zu:", v->hashes[i], text.len) > 0 &&
             fwrite(text.ptr, 1, text.len, file) == text.len &&
             fputc('\n', file) != EOF;
    }
    ok = ok && fflush(file) == 0 && fsync(fileno(file)) == 0;
    if (fclose(file) != 0 || !ok)
        return ERR(e, RC_STOP, "cannot write %s: %s", path, strerror(errno));
    return RC_OK;
}

/* Takes the hash and the space after it off *in. */
static bool take_hash(struct slice *in, uint64_t *hash)
{
    *hash = 0;
    if (in->len <= HASH_DIGITS || in->ptr[HASH_DIGITS] != ' ') return false;
    for (int i = 0; i < HASH_DIGITS; i++) {
        uint8_t c = in->ptr[i];
        bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
        if (!digit && !letter) return false;
        *hash = *hash << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    *in = slice_of(in->ptr + HASH_DIGITS + 1, in->len - HASH_DIGITS - 1);
    return *hash != 0;
}

/* Takes one line off *in: its hash and text; false where it is not a line. */
static bool take_line(struct slice *in, uint64_t *hash, struct slice *text)
{
    size_t length = 0, at = 0;
    if (!take_hash(in, hash)) return false;
    while (at < in->len && at < LENGTH_DIGITS_MAX && in->ptr[at] >= '0' &&
           in->ptr[at] <= '9')
        length = length * 10 + (size_t)(in->ptr[at++] - '0');
    if (at == 0 || at >= in->len || in->ptr[at] != ':') return false;
    at++;
    if (length > TEXT_MAX || in->len - at <= length) return false;
    if (in->ptr[at + length] != '\n') return false;
    *text = slice_of(in->ptr + at, length);
    *in = slice_of(in->ptr + at + length + 1, in->len - at - length - 1);
    return length == 0 || hash64(*text) == *hash;
}

enum rc vocabulary_parse(struct vocabulary *v, struct slice in, struct err *e)
{
    struct slice rest = in, text;
    uint64_t hash;
    uint32_t lines = 0;
    *v = (struct vocabulary){0};
    while (rest.len) {
        if (lines == ENTRIES_MAX)
            return ERR(e, RC_STOP, "more than %d ids", ENTRIES_MAX);
        if (!take_line(&rest, &hash, &text))
            return ERR(e, RC_STOP,
                       "line %u is not HASH LENGTH:ID, or truncated",
                       lines + 1);
        lines++;
    }
    TRY(vocabulary_init(v, lines, in.len, e));
    for (rest = in; take_line(&rest, &hash, &text);) {
        if (!vocabulary_put(v, hash, text)) {
            uint32_t line = v->count + 1;
            vocabulary_fini(v);
            return ERR(e, RC_STOP, "line %u: this id is there already", line);
        }
    }
    return RC_OK;
}
