#include "registry_fetch.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "registry.h"
#include "registry_answer.h"
#include "schema_inline.h"

enum {
    PATH_BYTES = 2048,
    REFERENCES_MS_MAX = 60000, /* for all of one schema's references */
};

/* The answers of one schema's references, each fetched once. */
struct fetch {
    struct registry_http *http;
    struct answer_schema at[ANSWER_REFERENCES_MAX];
    struct answer_reference from[ANSWER_REFERENCES_MAX];
    uint32_t count;
    int64_t until_ms; /* then it has taken too long in all */
    int64_t *retry_ms;
    struct err *e;
};

/* What a status other than 200 means. */
static enum rc refused(const struct http_answer *a, struct err *e)
{
    char text[ANSWER_TEXT_BYTES];
    int32_t code = answer_error_read(a->body, text);
    const char *hint = "";
    if (a->status == 404 && code == ANSWER_NO_SCHEMA)
        return ERR(e, RC_SKIP, "registry %s: no such schema: %s", a->url, text);
    if (a->status == 404 &&
        (code == ANSWER_NO_SUBJECT || code == ANSWER_NO_VERSION))
        return ERR(e, RC_SKIP, "registry %s: a reference is missing: %s",
                   a->url, text);
    if (a->status == 401 || a->status == 403)
        hint = "; look at registry.user, registry.password and its rights";
    else if (a->status == 404)
        hint = "; not a schema registry's answer: look at registry.url";
    else if (a->status >= 300 && a->status < 400)
        hint = "; a redirect is not followed: put its end into registry.url";
    return ERR(e, RC_AGAIN, "registry %s: HTTP status %ld %s%s", a->url,
               a->status, text, hint);
}

static enum rc get(struct registry_http *h, const char *path,
                   struct answer_schema *out, int64_t *retry_ms, struct err *e)
{
    struct http_answer a;
    TRY(registry_http_request(h, path, NULL, &a, retry_ms, e));
    if (a.status != 200) return refused(&a, e);
    if (answer_schema_read(out, a.body, e) == RC_OK) return RC_OK;
    return err_context(e, "registry %s%s", a.url, path);
}

/* --- references --------------------------------------------------------- */

static enum rc fetch_references(struct fetch *f, const struct answer_schema *a,
                                uint32_t depth);

static bool is_fetched(const struct fetch *f, struct answer_reference r)
{
    for (uint32_t i = 0; i < f->count; i++)
        if (f->from[i].version == r.version &&
            strcmp(f->from[i].subject, r.subject) == 0)
            return true;
    return false;
}

/* A reference may be to a version that was deleted since, so ask for those
 * too. */
static enum rc fetch_reference(struct fetch *f, struct answer_reference r,
                               uint32_t depth)
{
    char path[PATH_BYTES], *subject;
    int used;
    if (registry_now_ms() > f->until_ms)
        return ERR(f->e, RC_AGAIN, "registry: references take over %d s",
                   REFERENCES_MS_MAX / 1000);
    subject = curl_easy_escape(NULL, r.subject, 0);
    if (!subject) return ERR(f->e, RC_AGAIN, "registry: no memory");
    used = snprintf(path, sizeof path, "/subjects/%s/versions/%d?deleted=true",
                    subject, r.version);
    curl_free(subject);
    if (used >= (int)sizeof path)
        return ERR(f->e, RC_SKIP, "a reference's subject is too long a name");
    TRY(get(f->http, path, &f->at[f->count], f->retry_ms, f->e));
    f->from[f->count] = r;
    return fetch_references(f, &f->at[f->count++], depth + 1);
}

static enum rc fetch_references(struct fetch *f, const struct answer_schema *a,
                                uint32_t depth)
{
    if (a->reference_count > 0 && depth == REGISTRY_REFERENCE_DEPTH_MAX)
        return ERR(f->e, RC_SKIP, "the schema's references go deeper than %d",
                   REGISTRY_REFERENCE_DEPTH_MAX);
    for (uint32_t i = 0; i < a->reference_count; i++) {
        struct answer_reference r = answer_reference_at(a, i);
        if (is_fetched(f, r)) continue;
        if (f->count == ANSWER_REFERENCES_MAX)
            return ERR(f->e, RC_SKIP,
                       "the schema has over %d references in all",
                       ANSWER_REFERENCES_MAX);
        TRY(fetch_reference(f, r, depth));
    }
    return RC_OK;
}

static enum rc with_references(struct fetch *f, const struct answer_schema *a,
                               char **text, size_t *len)
{
    struct slice texts[ANSWER_REFERENCES_MAX];
    TRY(fetch_references(f, a, 0));
    for (uint32_t i = 0; i < f->count; i++)
        texts[i] = f->at[i].text;
    return schema_inline(a->text, texts, f->count, text, len, f->e);
}

/* --- in and out --------------------------------------------------------- */

static enum rc take_text(struct fetch *f, const struct answer_schema *a,
                         char **text, size_t *len)
{
    if (a->reference_count > 0) return with_references(f, a, text, len);
    *text = malloc(a->text.len + 1);
    if (!*text) return ERR(f->e, RC_AGAIN, "registry: no memory");
    memcpy(*text, a->text.ptr, a->text.len);
    *len = a->text.len;
    return RC_OK;
}

enum rc registry_fetch(struct registry_http *h, struct schema_key key,
                       char **text, size_t *len, int64_t *retry_ms,
                       struct err *e)
{
    char path[PATH_BYTES], name[SCHEMA_KEY_TEXT_BYTES];
    struct answer_schema main_answer;
    struct fetch *f;
    enum rc rc;
    *text = NULL;
    *retry_ms = 0;
    schema_key_text(key, name);
    (void)snprintf(path, sizeof path, "/schemas/%s/%s",
                   key.kind == SCHEMA_GUID ? "guids" : "ids", name);
    TRY(get(h, path, &main_answer, retry_ms, e));
    f = calloc(1, sizeof *f);
    if (f) {
        *f = (struct fetch){.http = h,
                            .until_ms = registry_now_ms() + REFERENCES_MS_MAX,
                            .retry_ms = retry_ms,
                            .e = e};
        rc = take_text(f, &main_answer, text, len);
        for (uint32_t i = 0; i < f->count; i++)
            answer_schema_free(&f->at[i]);
    } else {
        rc = ERR(e, RC_AGAIN, "registry: no memory");
    }
    free(f);
    answer_schema_free(&main_answer);
    return rc;
}

static enum rc put_answer(const struct http_answer *a, uint32_t *id,
                          struct err *e)
{
    char text[ANSWER_TEXT_BYTES];
    if (a->status == 200) {
        if (answer_id_read(id, a->body, e) == RC_OK) return RC_OK;
        return err_context(e, "registry %s", a->url);
    }
    if (a->status == 409 || a->status == 422) {
        (void)answer_error_read(a->body, text);
        return ERR(e, RC_STOP, "registry %s refuses the schema: %s", a->url,
                   text);
    }
    return refused(a, e);
}

enum rc registry_put(struct registry_http *h, const char *subject,
                     struct slice schema, uint32_t *id, struct err *e)
{
    char path[PATH_BYTES];
    char *name = curl_easy_escape(NULL, subject, 0);
    json_t *body =
        json_pack("{ss%}", "schema", (const char *)schema.ptr, schema.len);
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct http_answer a;
    int64_t retry_ms;
    enum rc rc = RC_OK;
    if (!name || !text)
        rc = ERR(e, RC_STOP, "registry: no memory");
    else if (snprintf(path, sizeof path, "/subjects/%s/versions", name) >=
             (int)sizeof path)
        rc = ERR(e, RC_STOP, "registry: subject '%.64s...' is too long",
                 subject);
    if (rc == RC_OK)
        rc = registry_http_request(h, path, text, &a, &retry_ms, e);
    if (rc == RC_OK) rc = put_answer(&a, id, e);
    curl_free(name);
    json_decref(body);
    free(text);
    /* A subject that is not there is made: no 404 is an answer to this. */
    if (rc == RC_SKIP) rc = e->rc = RC_AGAIN;
    return rc == RC_OK ? RC_OK : err_context(e, "subject %s", subject);
}
