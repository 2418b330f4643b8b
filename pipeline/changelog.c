#include "changelog.h"

#include "user_row.h"

enum { ROW_KEY = 'u', MARKER_KEY = 'm' };

struct slice changelog_row_key(struct slice user, uint8_t *out)
{
    out[0] = ROW_KEY;
    if (user.len) memcpy(out + CHANGELOG_KEY_EXTRA, user.ptr, user.len);
    return slice_of(out, CHANGELOG_KEY_EXTRA + user.len);
}

struct slice changelog_marker_key(void)
{
    static const uint8_t KEY[] = {MARKER_KEY};
    return slice_of(KEY, sizeof KEY);
}

static enum rc refuse(const char *topic, const struct record *in, struct err *e)
{
    char why[ERR_TEXT_BYTES];
    (void)snprintf(why, sizeof why, "%s", e->text);
    return ERR(e, RC_STOP,
               "changelog '%s', partition %d, offset %lld: %s; `millrace "
               "reset` builds state and changelog anew from the log",
               topic, in->partition, (long long)in->offset, why);
}

static enum rc decode_row(struct changelog_record *out, const struct record *in,
                          uint32_t user_bytes_max, struct err *e)
{
    out->user = slice_of(in->key.ptr + CHANGELOG_KEY_EXTRA,
                         in->key.len - CHANGELOG_KEY_EXTRA);
    if (out->user.len == 0 || out->user.len > user_bytes_max)
        return ERR(e, RC_STOP, "a user of %zu bytes (user.bytes.max = %u)",
                   out->user.len, user_bytes_max);
    out->kind = in->value.ptr ? CHANGELOG_ROW : CHANGELOG_GONE;
    out->row = in->value;
    return in->value.ptr ? user_row_verify(out->user, in->value, e) : RC_OK;
}

enum rc changelog_decode(struct changelog_record *out, const char *topic,
                         const struct record *in, uint32_t user_bytes_max,
                         struct err *e)
{
    enum rc rc;
    *out = (struct changelog_record){.kind = CHANGELOG_GONE};
    if (in->key.len > 0 && in->key.ptr[0] == ROW_KEY) {
        rc = decode_row(out, in, user_bytes_max, e);
    } else if (slice_equal(in->key, changelog_marker_key())) {
        if (!in->value.ptr) return RC_OK;
        out->kind = CHANGELOG_MARKER;
        rc = family_meta_decode(&out->marker, topic, in->value, e);
    } else {
        rc = ERR(e, RC_STOP, "a key of %zu bytes that this program never wrote",
                 in->key.len);
    }
    return rc == RC_OK ? RC_OK : refuse(topic, in, e);
}
