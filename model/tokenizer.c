#include "tokenizer_tables.h"

#include <assert.h>

#include "unicode.h"

enum { UTF8_MAX = 4 };

/* What is between two accents that a sort may move past each other. */
struct unsorted {
    uint32_t c;
    uint32_t combining;
};

/* One text on its way. Code points come in at the top (read_char) and ids go
 * out at the bottom (put_id); each step hands on what it makes. */
struct walk {
    const struct tokenizer *t;
    uint32_t *ids;
    uint32_t count, room; /* room: [SEP] left out */
    bool truncated;
    uint32_t word_chars; /* counted on where the word is too long to keep */
    uint32_t word_bytes;
    uint32_t run_count;
    struct unsorted run[TOKENIZER_WORD_MAX + 1];
    uint8_t word[TOKENIZER_WORD_MAX * UTF8_MAX];
};

static uint32_t class_of(const struct tokenizer *t, uint32_t c)
{
    return c < sizeof t->ascii ? t->ascii[c] : unicode_class(c);
}

/* ---- pieces ---------------------------------------------------------- */

static void put_id(struct walk *w, uint32_t id)
{
    if (w->count == w->room)
        w->truncated = true;
    else
        w->ids[w->count++] = id;
}

/* The word's pieces at out; 0 if the vocabulary cannot cut it. */
static uint32_t cut_word(const struct walk *w, uint32_t *out)
{
    uint32_t count = 0;
    size_t at = 0;
    while (at < w->word_bytes) {
        size_t length = byte_trie_longest(
            &w->t->pieces, at ? ROOT_NEXT : ROOT_FIRST,
            slice_of(w->word + at, w->word_bytes - at), &out[count]);
        if (length == 0) return 0;
        at += length;
        count++;
    }
    return count;
}

static void end_word(struct walk *w)
{
    /* A piece is a code point or more: the vocabulary is UTF-8. */
    uint32_t pieces[TOKENIZER_WORD_MAX], count = 0;
    if (w->word_chars == 0) return;
    if (w->word_chars <= w->t->word_max) count = cut_word(w, pieces);
    if (count == 0) put_id(w, w->t->info.unk);
    for (uint32_t i = 0; i < count; i++)
        put_id(w, pieces[i]);
    w->word_chars = 0;
    w->word_bytes = 0;
}

static void put_char(struct walk *w, uint32_t c)
{
    if (w->word_chars < w->t->word_max)
        w->word_bytes += unicode_put(c, w->word + w->word_bytes);
    if (w->word_chars <= w->t->word_max) w->word_chars++;
}

/* ---- normalisation --------------------------------------------------- */

/* In lower case, cut into words. */
static void put_lower(struct walk *w, uint32_t c)
{
    uint32_t class = class_of(w->t, c);
    if (class & UNICODE_SPACE) {
        end_word(w);
    } else if (class & UNICODE_PUNCTUATION) {
        end_word(w);
        put_char(w, c);
        end_word(w);
    } else {
        put_char(w, c);
    }
}

static void put_stripped(struct walk *w, uint32_t c)
{
    uint32_t lower[2], count;
    if (!w->t->info.options.lower_case) {
        put_lower(w, c);
    } else if (c < sizeof w->t->ascii) {
        put_lower(w, c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    } else {
        count = unicode_lower(c, lower);
        for (uint32_t i = 0; i < count; i++)
            put_lower(w, lower[i]);
    }
}

/* What waits, in the order of combining classes, equal ones as they came. A
 * pass for each class: there are fewer than ten, whatever the text. */
static void end_run(struct walk *w)
{
    uint32_t done = 0, class = 0;
    while (done < w->run_count) {
        uint32_t next = UINT32_MAX;
        for (uint32_t i = 0; i < w->run_count; i++)
            if (w->run[i].combining > class && w->run[i].combining < next)
                next = w->run[i].combining;
        class = next;
        for (uint32_t i = 0; i < w->run_count; i++) {
            if (w->run[i].combining != class) continue;
            put_stripped(w, w->run[i].c);
            done++;
        }
    }
    w->run_count = 0;
}

/* One part of a decomposition. Marks go. What has a combining class but is no
 * mark (UNICODE_ORDERED) waits until its run is over; a run longer than the
 * longest word makes it [UNK] in any order. */
static void put_part(struct walk *w, uint32_t c)
{
    uint32_t class = unicode_class(c), combining = unicode_combining(c, class);
    if (combining == 0) end_run(w);
    if (class & UNICODE_MARK) return;
    if (combining == 0) {
        put_stripped(w, c);
        return;
    }
    if (w->run_count == sizeof w->run / sizeof w->run[0]) end_run(w);
    w->run[w->run_count++] = (struct unsorted){c, combining};
}

static void put_clean(struct walk *w, uint32_t c)
{
    uint32_t parts[UNICODE_PARTS_MAX], count;
    if (!w->t->info.options.strip_accents) {
        put_stripped(w, c);
    } else if (c < sizeof w->t->ascii) {
        if (w->run_count) end_run(w);
        put_stripped(w, c);
    } else {
        count = unicode_decompose(c, parts);
        for (uint32_t i = 0; i < count; i++)
            put_part(w, parts[i]);
    }
}

static void read_char(struct walk *w, uint32_t c)
{
    const struct tokenizer_options *o = &w->t->info.options;
    uint32_t class = class_of(w->t, c);
    if (o->clean) {
        if (class & UNICODE_REMOVED) return;
        if (class & UNICODE_SPACE) c = ' ';
    }
    if (o->chinese && class & UNICODE_CHINESE) {
        put_clean(w, ' ');
        put_clean(w, c);
        put_clean(w, ' ');
    } else {
        put_clean(w, c);
    }
}

/* ---- a text ---------------------------------------------------------- */

struct encoded tokenizer_encode(const struct tokenizer *t, struct slice text,
                                uint32_t *ids, uint32_t ids_max)
{
    struct walk w = {.t = t, .ids = ids, .count = 1, .room = ids_max - 1};
    size_t at = 0;

    assert(ids_max >= 2);
    ids[0] = t->info.cls;
    while (at < text.len && !w.truncated) {
        uint32_t id;
        size_t special =
            byte_trie_longest(&t->pieces, ROOT_SPECIAL,
                              slice_of(text.ptr + at, text.len - at), &id);
        if (special) {
            end_run(&w);
            end_word(&w);
            put_id(&w, id);
            at += special;
        } else {
            read_char(&w, unicode_next(text, &at));
        }
    }
    end_run(&w);
    end_word(&w);
    ids[w.count] = t->info.sep;
    return (struct encoded){w.count + 1, w.truncated};
}

struct tokenizer_info tokenizer_info(const struct tokenizer *t)
{
    return t->info;
}
