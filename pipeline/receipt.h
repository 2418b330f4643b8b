/* receipt.h - what `millrace forget` hands out, and can check later.
 *
 * A JSON object. The user does not stand in it: it has an HMAC-SHA-256 of
 * the id and the random key of that, so that who knows the id can see that
 * the receipt is about it. Whoever holds a receipt can try out ids, so it is
 * kept as what it is: a record about a person.
 * Threads  No shared state.
 * Errors   RC_STOP, naming the file. */
#ifndef MILLRACE_RECEIPT_H
#define MILLRACE_RECEIPT_H

#include <jansson.h>

#include "err.h"
#include "slice.h"

enum { RECEIPT_TEXT_MAX = 256, RECEIPT_HASH_CHARS = 64 };

struct receipt {
    char topic[RECEIPT_TEXT_MAX], group[RECEIPT_TEXT_MAX];
    int32_t partition;
    int64_t offset; /* of the record without a value */
    int64_t time_ms;
    char key[RECEIPT_HASH_CHARS + 1]; /* hexadecimal, as is the next */
    char user_hash[RECEIPT_HASH_CHARS + 1];
};

/* Draws a key and fills in key and user_hash. */
enum rc receipt_seal(struct receipt *r, struct slice user,
                     struct err *e) MUST_USE;
bool receipt_is_of(const struct receipt *r, struct slice user);

/* A new object, to which the command adds what it checked. */
json_t *receipt_json(const struct receipt *r);
enum rc receipt_read(struct receipt *r, const char *path,
                     struct err *e) MUST_USE;

#endif
