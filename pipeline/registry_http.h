/* registry_http.h - requests to a schema registry, each with an end.
 *
 * Bounds   registry.timeout for one request, ANSWER_BYTES_MAX for a body; no
 *          redirects (a password must not wander), http and https only.
 * URLs     Tried in turn, beginning with the one that answered last. One that
 *          cannot be reached, takes too long or answers 408, 429 or 5xx is
 *          passed over.
 * Secrets  User and password are given to libcurl alone; no text of an error
 *          holds them.
 * Threads  One thread, but registry_http_stop: any thread. */
#ifndef MILLRACE_REGISTRY_HTTP_H
#define MILLRACE_REGISTRY_HTTP_H

#include "config.h"
#include "slice.h"

struct registry_http;

struct http_answer {
    long status;
    struct slice body; /* until the next request */
    const char *url;   /* which of registry.url it was, as it may be printed */
};

/* c: lent until close. */
enum rc registry_http_open(struct registry_http **out, const struct config *c,
                           struct err *e) MUST_USE;
void registry_http_close(struct registry_http *h);

/* path: "/schemas/ids/1", to be put behind a URL. body NULL: GET, else POST.
 * RC_AGAIN: none of the URLs answered; *retry_ms is how long they asked to
 * be left alone, 0 if they did not say. */
enum rc registry_http_request(struct registry_http *h, const char *path,
                              const char *body, struct http_answer *out,
                              int64_t *retry_ms, struct err *e) MUST_USE;

/* Ends a request that is under way, and all to come. */
void registry_http_stop(struct registry_http *h);

/* RC_STOP, with what to do, if url cannot be one of registry.url. The text
 * does not hold it, since it may hold a password. */
enum rc registry_http_check_url(const char *url, struct err *e) MUST_USE;

#endif
