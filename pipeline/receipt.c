/* receipt.c - see receipt.h. */
#include "receipt.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { VERSION = 1, HASH_BYTES = RECEIPT_HASH_CHARS / 2 };

static void to_hex(const uint8_t *bytes, char *out)
{
    for (int i = 0; i < HASH_BYTES; i++)
        (void)snprintf(out + (size_t)2 * (size_t)i, 3, "%02x", bytes[i]);
}

static void hash_user(const char *key, struct slice user, char *out)
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    (void)HMAC(EVP_sha256(), key, (int)strlen(key), user.ptr, user.len, hash,
               &len);
    to_hex(hash, out);
}

enum rc receipt_seal(struct receipt *r, struct slice user, struct err *e)
{
    uint8_t random[HASH_BYTES];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return ERR(e, RC_STOP, "receipt: no random numbers: %s",
                   strerror(errno));
    to_hex(random, r->key);
    hash_user(r->key, user, r->user_hash);
    return RC_OK;
}

bool receipt_is_of(const struct receipt *r, struct slice user)
{
    char hash[RECEIPT_HASH_CHARS + 1];
    hash_user(r->key, user, hash);
    return strcmp(hash, r->user_hash) == 0;
}

json_t *receipt_json(const struct receipt *r)
{
    return json_pack("{s:i, s:s, s:s, s:i, s:I, s:I, s:s, s:s}",
                     "millrace_receipt", VERSION, "topic", r->topic, "group",
                     r->group, "partition", (int)r->partition, "offset",
                     (json_int_t)r->offset, "time_ms", (json_int_t)r->time_ms,
                     "key", r->key, "user_hmac_sha256", r->user_hash);
}

static bool copy_text(char *out, size_t size, const char *text)
{
    return (size_t)snprintf(out, size, "%s", text) < size;
}

static enum rc unpack(struct receipt *r, json_t *json, const char *path,
                      struct err *e)
{
    const char *topic, *group, *key, *hash;
    int version, partition;
    json_int_t offset, time_ms;
    if (json_unpack(json, "{s:i, s:s, s:s, s:i, s:I, s:I, s:s, s:s}",
                    "millrace_receipt", &version, "topic", &topic, "group",
                    &group, "partition", &partition, "offset", &offset,
                    "time_ms", &time_ms, "key", &key, "user_hmac_sha256",
                    &hash) != 0)
        return ERR(e, RC_STOP, "%s: no receipt of millrace forget", path);
    if (version != VERSION)
        return ERR(e, RC_STOP,
                   "%s: a receipt of version %d, this build reads %d", path,
                   version, VERSION);
    if (!copy_text(r->topic, sizeof r->topic, topic) ||
        !copy_text(r->group, sizeof r->group, group) ||
        !copy_text(r->key, sizeof r->key, key) ||
        !copy_text(r->user_hash, sizeof r->user_hash, hash))
        return ERR(e, RC_STOP, "%s: a text is longer than a receipt has it",
                   path);
    r->partition = partition;
    r->offset = offset;
    r->time_ms = time_ms;
    return RC_OK;
}

enum rc receipt_read(struct receipt *r, const char *path, struct err *e)
{
    json_error_t why;
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    enum rc rc;
    *r = (struct receipt){0};
    if (!json)
        return ERR(e, RC_STOP, "%s, line %d: %s", path, why.line, why.text);
    rc = unpack(r, json, path, e);
    json_decref(json);
    return rc;
}
