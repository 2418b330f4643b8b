#include "registry_http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "registry_answer.h"

enum {
    URL_BYTES = 4096,
    POLL_WAIT_MS = 1000,
    RETRY_S_MAX = 300, /* however long a registry asks for */
};

struct registry_http {
    const struct config *config;
    CURL *easy;
    CURLM *multi;
    struct curl_slist *headers;
    uint32_t last; /* the URL that answered last */
    uint8_t *body;
    size_t body_len, body_max;
    bool too_large;
    char why[CURL_ERROR_SIZE];
    atomic_bool stopped;
};

static void curl_start(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* --- the body ----------------------------------------------------------- */

static bool body_grow(struct registry_http *h, size_t more)
{
    size_t want = h->body_max ? h->body_max : 4096;
    uint8_t *grown;
    while (want - h->body_len < more)
        want *= 2;
    if (want == h->body_max) return true;
    grown = realloc(h->body, want);
    if (!grown) return false;
    h->body = grown;
    h->body_max = want;
    return true;
}

/* Called by libcurl; another number than the one given ends the request. */
static size_t take_body(char *bytes, size_t one, size_t count, void *user)
{
    struct registry_http *h = user;
    (void)one; /* always 1 */
    h->too_large = count > ANSWER_BYTES_MAX - h->body_len;
    if (h->too_large || !body_grow(h, count)) return 0;
    memcpy(h->body + h->body_len, bytes, count);
    h->body_len += count;
    return count;
}

/* --- open, close -------------------------------------------------------- */

static CURLcode set_text(CURL *easy, CURLoption option, const char *text)
{
    return *text ? curl_easy_setopt(easy, option, text) : CURLE_OK;
}

/* What is the same for every request. */
static CURLcode set_options(struct registry_http *h)
{
    const struct config *c = h->config;
    CURL *easy = h->easy;
    const struct {
        CURLoption option;
        long value;
    } NUMBERS[] = {
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_FOLLOWLOCATION, 0},
        {CURLOPT_QUICK_EXIT, 1}, /* do not wait for a name server */
        {CURLOPT_TIMEOUT_MS, (long)c->registry_timeout},
        {CURLOPT_SSL_VERIFYPEER, 1},
        {CURLOPT_SSL_VERIFYHOST, 2},
        {CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC},
    };
    const struct {
        CURLoption option;
        const char *value;
    } TEXTS[] = {
        {CURLOPT_PROTOCOLS_STR, "http,https"},
        {CURLOPT_USERAGENT, "millrace/" MILLRACE_VERSION},
        {CURLOPT_USERNAME, c->registry_user},
        {CURLOPT_PASSWORD, c->registry_password},
        {CURLOPT_CAINFO, c->registry_ca},
        {CURLOPT_SSLCERT, c->registry_certificate},
        {CURLOPT_SSLKEY, c->registry_key},
        {CURLOPT_KEYPASSWD, c->registry_key_password},
    };
    CURLcode code = curl_easy_setopt(easy, CURLOPT_WRITEDATA, h);
    if (!code) code = curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    if (!code) code = curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, h->why);
    if (!code) code = curl_easy_setopt(easy, CURLOPT_HTTPHEADER, h->headers);
    for (size_t i = 0; !code && i < sizeof NUMBERS / sizeof NUMBERS[0]; i++)
        code = curl_easy_setopt(easy, NUMBERS[i].option, NUMBERS[i].value);
    for (size_t i = 0; !code && i < sizeof TEXTS / sizeof TEXTS[0]; i++)
        code = set_text(easy, TEXTS[i].option, TEXTS[i].value);
    return code;
}

static bool add_header(struct registry_http *h, const char *line)
{
    struct curl_slist *more = curl_slist_append(h->headers, line);
    if (more) h->headers = more;
    return more != NULL;
}

enum rc registry_http_open(struct registry_http **out, const struct config *c,
                           struct err *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct registry_http *h = calloc(1, sizeof *h);
    CURLcode code = CURLE_OUT_OF_MEMORY;
    (void)pthread_once(&once, curl_start);
    *out = NULL;
    if (!h) return ERR(e, RC_STOP, "registry.url: no memory");
    h->config = c;
    h->easy = curl_easy_init();
    h->multi = curl_multi_init();
    if (h->easy && h->multi &&
        add_header(h, "Accept: application/vnd.schemaregistry.v1+json, "
                      "application/json") &&
        add_header(h, "Content-Type: application/vnd.schemaregistry.v1+json"))
        code = set_options(h);
    if (code) {
        registry_http_close(h);
        return ERR(e, RC_STOP, "registry.url: libcurl: %s",
                   curl_easy_strerror(code));
    }
    *out = h;
    return RC_OK;
}

void registry_http_close(struct registry_http *h)
{
    if (!h) return;
    curl_easy_cleanup(h->easy);
    curl_multi_cleanup(h->multi);
    curl_slist_free_all(h->headers);
    free(h->body);
    free(h);
}

void registry_http_stop(struct registry_http *h)
{
    atomic_store(&h->stopped, true);
    (void)curl_multi_wakeup(h->multi);
}

/* --- a request ---------------------------------------------------------- */

/* Until it is done, or stopped. The time-out is libcurl's. */
static CURLcode perform(struct registry_http *h)
{
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    int running = 1, left;
    CURLMsg *m;
    if (curl_multi_add_handle(h->multi, h->easy)) return CURLE_OUT_OF_MEMORY;
    while (running && !atomic_load(&h->stopped)) {
        if (curl_multi_perform(h->multi, &running)) break;
        if (running)
            (void)curl_multi_poll(h->multi, NULL, 0, POLL_WAIT_MS, NULL);
    }
    while ((m = curl_multi_info_read(h->multi, &left)) != NULL)
        if (m->msg == CURLMSG_DONE) code = m->data.result;
    (void)curl_multi_remove_handle(h->multi, h->easy);
    return code;
}

static bool join(const char *url, const char *path, char out[URL_BYTES])
{
    size_t len = strlen(url);
    while (len > 0 && url[len - 1] == '/')
        len--;
    return snprintf(out, URL_BYTES, "%.*s%s", (int)len, url, path) < URL_BYTES;
}

static CURLcode send_request(struct registry_http *h, const char *whole,
                             const char *body)
{
    CURLcode code = curl_easy_setopt(h->easy, CURLOPT_URL, whole);
    h->body_len = 0;
    h->why[0] = '\0';
    h->too_large = false;
    if (!code && body)
        code = curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, body);
    if (!code)
        code = curl_easy_setopt(h->easy, body ? CURLOPT_POST : CURLOPT_HTTPGET,
                                1L);
    return code ? code : perform(h);
}

static bool is_passing(long status)
{
    return status == 408 || status == 429 || status >= 500;
}

static int64_t retry_after_ms(const struct registry_http *h)
{
    curl_off_t seconds = 0;
    if (curl_easy_getinfo(h->easy, CURLINFO_RETRY_AFTER, &seconds)) return 0;
    if (seconds > RETRY_S_MAX) seconds = RETRY_S_MAX;
    return seconds > 0 ? (int64_t)seconds * 1000 : 0;
}

/* A URL out of ${file:} or ${env:} is not printed. */
static const char *shown(const struct registry_http *h, uint32_t at)
{
    const struct property *from = h->config->origins;
    if (from && from[OPTION_registry_url].secret) return "********";
    return h->config->registry_url.at[at];
}

/* One URL, one try. */
static enum rc ask(struct registry_http *h, uint32_t at, const char *path,
                   const char *body, struct http_answer *out, int64_t *retry_ms,
                   struct err *e)
{
    char whole[URL_BYTES];
    const char *url = shown(h, at);
    CURLcode code;
    *out = (struct http_answer){.url = url};
    if (!join(h->config->registry_url.at[at], path, whole))
        return ERR(e, RC_AGAIN, "registry %s: the URL is too long", url);
    code = send_request(h, whole, body);
    if (h->too_large)
        return ERR(e, RC_AGAIN, "registry %s: an answer of over %d bytes", url,
                   ANSWER_BYTES_MAX);
    if (code)
        return ERR(e, RC_AGAIN, "registry %s: %s", url,
                   h->why[0] ? h->why : curl_easy_strerror(code));
    (void)curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &out->status);
    out->body = slice_of(h->body, h->body_len);
    if (!is_passing(out->status)) return RC_OK;
    *retry_ms = retry_after_ms(h);
    return ERR(e, RC_AGAIN, "registry %s: HTTP status %ld", url, out->status);
}

enum rc registry_http_request(struct registry_http *h, const char *path,
                              const char *body, struct http_answer *out,
                              int64_t *retry_ms, struct err *e)
{
    const struct text_list *urls = &h->config->registry_url;
    int64_t least_ms = INT64_MAX;
    enum rc rc = RC_AGAIN;
    for (uint32_t i = 0; i < urls->count && rc == RC_AGAIN; i++) {
        uint32_t at = (h->last + i) % urls->count;
        int64_t wait_ms = 0;
        if (atomic_load(&h->stopped))
            return ERR(e, RC_AGAIN, "registry: stopped");
        rc = ask(h, at, path, body, out, &wait_ms, e);
        if (wait_ms < least_ms) least_ms = wait_ms;
        if (rc == RC_OK) h->last = at;
    }
    *retry_ms = rc == RC_OK ? 0 : least_ms;
    return rc;
}

enum rc registry_http_check_url(const char *url, struct err *e)
{
    CURLU *parts = curl_url();
    char *scheme = NULL, *user = NULL;
    bool parsed =
        parts && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK;
    enum rc rc = RC_OK;
    if (parsed) (void)curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0);
    if (parsed) (void)curl_url_get(parts, CURLUPART_USER, &user, 0);
    if (user)
        rc = ERR(e, RC_STOP,
                 "a URL with a user in it would be printed; put them into "
                 "registry.user and registry.password");
    else if (!scheme ||
             (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        rc = ERR(e, RC_STOP,
                 "not a URL of a schema registry, as http://HOST:PORT or "
                 "https://HOST:PORT");
    curl_free(scheme);
    curl_free(user);
    curl_url_cleanup(parts);
    return rc;
}
