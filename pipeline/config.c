#include "config.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_value.h"
#include "registry_http.h"
#include "stages.h"

enum { FILE_BYTES_MAX = 1048576, ORIGIN_BYTES = 512, ENV_NAME_BYTES = 160 };

static const char KAFKA[] = "kafka.";
static const char ENV_KAFKA[] = "MILLRACE_KAFKA_";

/* Properties that millrace sets itself, and the option to use instead. */
static const struct {
    const char *key, *instead;
} RESERVED[] = {
    {"group.id", "set group.id without the prefix"},
    {"group.instance.id", "it is made from the instance in state.dir"},
    {"transactional.id", "it is made from group.id and the instance"},
    {"enable.auto.commit", "offsets are committed with their outputs (I1)"},
    {"enable.auto.offset.store",
     "offsets are committed with their outputs (I1)"},
    {"isolation.level", "events are always read committed"},
};

/* One loading: where the faults go. */
struct loader {
    struct config *c;
    const char *folder; /* at which relative paths begin; "": here */
    config_fault_fn *report;
    void *user;
    uint32_t faults;
};

PRINTF_LIKE(2, 3)
static void fault(struct loader *l, const char *format, ...)
{
    char text[ERR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    l->faults++;
    l->report(l->user, text);
}

/* ----------------------------------------------------------- properties */

static void property_set(struct property *p, const char *key, const char *value,
                         const char *origin, bool secret)
{
    free(p->key);
    free(p->value);
    free(p->origin);
    p->key = config_keep(key, strlen(key));
    p->value = config_keep(value, strlen(value));
    p->origin = config_keep(origin, strlen(origin));
    p->secret = secret || config_is_secret(key);
}

static void property_fini(struct property *p)
{
    free(p->key);
    free(p->value);
    free(p->origin);
}

/* The pass-through property of that name, made if there is none. */
static struct property *kafka_slot(struct config *c, const char *key)
{
    for (uint32_t i = 0; i < c->kafka_count; i++)
        if (strcmp(c->kafka[i].key, key) == 0) return &c->kafka[i];
    c->kafka = realloc(c->kafka, (c->kafka_count + 1) * sizeof *c->kafka);
    assert(c->kafka);
    c->kafka[c->kafka_count] = (struct property){0};
    return &c->kafka[c->kafka_count++];
}

/* ----------------------------------------------------------- assignment */

/* A path that a file names is meant as seen from that file, so that it is
 * the same whoever starts millrace, and from where. */
static char *from_folder(const struct loader *l, const struct config_option *o,
                         char *value)
{
    char *joined;
    if (!o || o->type != CONFIG_PATH) return value;
    joined = config_path_join(l->folder, value);
    free(value);
    return joined;
}

static const char *without_side(const char *key)
{
    if (strncmp(key, "consumer.", 9) == 0 || strncmp(key, "producer.", 9) == 0)
        return key + 9;
    return key;
}

/* key without "kafka.". Whether librdkafka knows it is `config check`'s
 * question; here only the names that would break an invariant are refused. */
static void assign_kafka(struct loader *l, const char *key, const char *value,
                         const char *origin, bool secret)
{
    const char *name = without_side(key);
    if (!*name) {
        fault(l, "%s: kafka.%s names no property", origin, key);
        return;
    }
    for (size_t i = 0; i < sizeof RESERVED / sizeof RESERVED[0]; i++)
        if (strcmp(name, RESERVED[i].key) == 0) {
            fault(l, "%s: kafka.%s cannot be set: %s", origin, key,
                  RESERVED[i].instead);
            return;
        }
    property_set(kafka_slot(l->c, key), key, value, origin, secret);
}

static void unknown(struct loader *l, const char *key, const char *origin)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyz0123456789._-";
    const struct config_option *near = config_nearest(key);
    /* Not a name at all: perhaps a line of a private key, with its '='. */
    if (strspn(key, LETTERS) != strlen(key))
        fault(l, "%s: what stands before '=' is no option's name", origin);
    else if (near)
        fault(l, "%s: no option '%s'; did you mean '%s'?", origin, key,
              near->key);
    else
        fault(l,
              "%s: no option '%s'; `millrace config print` lists all, and "
              "properties of librdkafka begin with kafka.",
              origin, key);
}

/* key = text, from wherever: expanded, checked, kept with its origin. */
static void assign(struct loader *l, const char *key, const char *text,
                   const char *origin)
{
    const struct config_option *o = config_find(key);
    bool is_kafka = strncmp(key, KAFKA, sizeof KAFKA - 1) == 0;
    bool secret = config_is_secret(key);
    struct err e;
    char *value;

    if (!o && !is_kafka) {
        unknown(l, key, origin);
        return;
    }
    if (config_value_expand(text, l->folder, &value, &secret, &e) != RC_OK) {
        fault(l, "%s: %s: %s", origin, key, e.text);
        return;
    }
    value = from_folder(l, o, value);
    if (is_kafka)
        assign_kafka(l, key + sizeof KAFKA - 1, value, origin, secret);
    else if (config_value_parse(l->c, o, value, secret, &e) != RC_OK)
        fault(l, "%s: %s: %s", origin, key, e.text);
    else
        property_set(&l->c->origins[o - CONFIG_OPTIONS], key, value, origin,
                     secret);
    free(value);
}

/* -------------------------------------------------------------- sources */

static void load_defaults(struct loader *l)
{
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        uint32_t before = l->faults;
        assign(l, CONFIG_OPTIONS[i].key, CONFIG_OPTIONS[i].text, "default");
        assert(l->faults == before); /* options.def contradicts itself */
    }
}

/* Cuts blanks from both ends, in place. */
static char *trim(char *text)
{
    size_t len;
    while (isspace((unsigned char)*text))
        text++;
    len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        text[--len] = 0;
    return text;
}

/* The keys of one file with their lines, to find those given twice. */
struct seen {
    struct seen_key {
        char *key; /* lent by the file's text */
        uint32_t line;
    } * at;
    uint32_t count;
};

/* The line that had this key before; 0: none, and now it is kept. */
static uint32_t seen_before(struct seen *s, char *key, uint32_t line)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (strcmp(s->at[i].key, key) == 0) return s->at[i].line;
    if ((s->count & (s->count - 1)) == 0) { /* grow at powers of two */
        s->at = realloc(s->at, (s->count ? s->count * 2 : 1) * sizeof *s->at);
        assert(s->at);
    }
    s->at[s->count++] = (struct seen_key){key, line};
    return 0;
}

/* One "key = value" line, trimmed and not a comment. */
static void load_line(struct loader *l, struct seen *seen, char *text,
                      const char *path, uint32_t line)
{
    char origin[ORIGIN_BYTES];
    char *equals = strchr(text, '='), *key;
    uint32_t earlier;

    (void)snprintf(origin, sizeof origin, "%s:%u", path, line);
    if (!equals) {
        /* Not quoted: it may be the second line of a key. */
        fault(l, "%s: not 'key = value'; comments begin with #", origin);
        return;
    }
    *equals = 0;
    key = trim(text);
    if (!*key) {
        fault(l, "%s: no key before '='", origin);
        return;
    }
    earlier = seen_before(seen, key, line);
    if (earlier)
        fault(l, "%s: %s was given in line %u already; keep one", origin, key,
              earlier);
    else
        assign(l, key, trim(equals + 1), origin);
}

static void load_file(struct loader *l, const char *path)
{
    struct seen seen = {0};
    struct err e;
    char *text, *at;

    if (config_file_text(path, FILE_BYTES_MAX, &text, &e) != RC_OK) {
        fault(l, "%s", e.text);
        return;
    }
    at = text;
    if (strncmp(at, "\xef\xbb\xbf", 3) == 0) at += 3; /* a byte order mark */
    for (uint32_t line = 1; at; line++) {
        char *end = strchr(at, '\n'), *trimmed;
        if (end) *end = 0;
        trimmed = trim(at);
        if (*trimmed && *trimmed != '#')
            load_line(l, &seen, trimmed, path, line);
        at = end ? end + 1 : NULL;
    }
    free(seen.at);
    free(text);
}

static void load_file_in_folder(struct loader *l, const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = config_keep(path, slash ? (size_t)(slash - path) : 0);
    l->folder = slash == path ? "/" : folder;
    load_file(l, path);
    l->folder = "";
    free(folder);
}

/* What ops/kafka reads; librdkafka has no properties of these names. */
static bool is_for_ops(const char *entry)
{
    static const char *const NAMES[] = {
        "PORT=", "DIR=", "VERSION=", "HEAP=", "GC=", "TLS="};
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        if (strncmp(entry + sizeof ENV_KAFKA - 1, NAMES[i], strlen(NAMES[i])) ==
            0)
            return true;
    return false;
}

/* MILLRACE_KAFKA_SSL_CA_LOCATION=... -> kafka.ssl.ca.location */
static void load_kafka_env(struct loader *l, const char *entry)
{
    char key[ENV_NAME_BYTES] = "kafka.", origin[ENV_NAME_BYTES];
    const char *equals = strchr(entry, '=');
    const char *name = entry + sizeof ENV_KAFKA - 1;
    size_t used = sizeof KAFKA - 1;

    if (!equals || (size_t)(equals - entry) >= sizeof origin) return;
    (void)snprintf(origin, sizeof origin, "%.*s", (int)(equals - entry), entry);
    for (; name < equals; name++)
        key[used++] = *name == '_' ? '.' : (char)tolower((unsigned char)*name);
    key[used] = 0;
    assign(l, key, equals + 1, origin);
}

static void load_env(struct loader *l)
{
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        char name[ENV_NAME_BYTES];
        const char *value;
        config_env_name(CONFIG_OPTIONS[i].key, name, sizeof name);
        value = getenv(name);
        if (value) assign(l, CONFIG_OPTIONS[i].key, value, name);
    }
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, ENV_KAFKA, sizeof ENV_KAFKA - 1) == 0 &&
            !is_for_ops(*entry))
            load_kafka_env(l, *entry);
}

static void load_set(struct loader *l, const char *text)
{
    const char *equals = strchr(text, '=');
    char *key, *value;
    if (!equals) {
        fault(l, "--set: no '=' in it; give --set key=value");
        return;
    }
    key = config_keep(text, (size_t)(equals - text));
    value = config_keep(equals + 1, strlen(equals + 1));
    assign(l, trim(key), trim(value), "--set");
    free(key);
    free(value);
}

/* Its text is in no message. */
static void check_token(struct loader *l)
{
    const char *token = l->c->admin_token;
    const char *origin = l->c->origins[OPTION_admin_token].origin;
    size_t len = strlen(token);
    if (len == 0) return;
    if (len < ADMIN_TOKEN_BYTES_MIN || len > ADMIN_TOKEN_BYTES_MAX)
        fault(l, "%s: admin.token has %zu bytes; give %d to %d random ones",
              origin, len, ADMIN_TOKEN_BYTES_MIN, ADMIN_TOKEN_BYTES_MAX);
    for (const char *at = token; *at; at++)
        if (*at <= ' ' || *at > '~') {
            fault(l,
                  "%s: admin.token holds a blank or a byte that is not ASCII, "
                  "which no header carries; write it as hex",
                  origin);
            return;
        }
}

static void check_registry(struct loader *l)
{
    const struct config *c = l->c;
    const struct property *from = c->origins;
    struct err e;
    for (uint32_t i = 0; i < c->registry_url.count; i++)
        if (registry_http_check_url(c->registry_url.at[i], &e) != RC_OK)
            fault(l, "%s: registry.url: %s", from[OPTION_registry_url].origin,
                  e.text);
    if (c->registry_url.count > 0 && !*c->schemas_dir)
        fault(l,
              "%s: registry.url needs schemas.dir, the folder where its "
              "schemas are kept for a restart without it",
              from[OPTION_registry_url].origin);
    if (c->registry_register && c->registry_url.count == 0)
        fault(l, "%s: registry.register needs registry.url",
              from[OPTION_registry_register].origin);
    if (!*c->registry_certificate != !*c->registry_key)
        fault(l, "%s: registry.certificate and registry.key go together",
              from[*c->registry_key ? OPTION_registry_key
                                    : OPTION_registry_certificate]
                  .origin);
    if (*c->registry_password && !*c->registry_user)
        fault(l, "%s: registry.password needs registry.user",
              from[OPTION_registry_password].origin);
}

/* What no single value shows. */
static void check_together(struct loader *l)
{
    const struct config *c = l->c;
    const struct property *when = &c->origins[OPTION_recommend_when];
    struct err e;
    if (c->recommend_when == RECOMMEND_TYPES && c->recommend_types.count == 0)
        fault(l, "%s: recommend.when = types needs recommend.types",
              when->origin);
    if (c->recommend_when == RECOMMEND_TYPES && !*c->role_type)
        fault(l, "%s: recommend.when = types needs role.type", when->origin);
    if (!*c->role_user)
        fault(l, "%s: role.user is empty; every event needs a user",
              c->origins[OPTION_role_user].origin);
    check_token(l);
    check_registry(l);
    if (stages_check(c, &e) != RC_OK)
        fault(l, "%s: %s", c->origins[OPTION_stages].origin, e.text);
}

/* -------------------------------------------------------------- loading */

uint32_t config_check(struct config **out, const char *path,
                      const char *const *sets, uint32_t set_count,
                      config_fault_fn *report, void *user)
{
    struct loader l = {.folder = "", .report = report, .user = user};

    l.c = calloc(1, sizeof *l.c);
    assert(l.c);
    l.c->origins = calloc(OPTION_COUNT, sizeof *l.c->origins);
    assert(l.c->origins);
    load_defaults(&l);
    if (path) load_file_in_folder(&l, path);
    load_env(&l);
    for (uint32_t i = 0; i < set_count; i++)
        load_set(&l, sets[i]);
    check_together(&l);
    *out = l.c;
    return l.faults;
}

static void keep_first(void *user, const char *text)
{
    struct err *e = user;
    if (e->rc == RC_OK) (void)ERR(e, RC_STOP, "%s", text);
}

enum rc config_load(struct config **out, const char *path,
                    const char *const *sets, uint32_t set_count, struct err *e)
{
    uint32_t faults;
    e->rc = RC_OK;
    faults = config_check(out, path, sets, set_count, keep_first, e);
    if (faults == 0) return RC_OK;
    config_free(*out);
    *out = NULL;
    if (faults > 1) {
        size_t used = strlen(e->text);
        (void)snprintf(e->text + used, sizeof e->text - used,
                       " (and %u more; millrace config check lists them)",
                       faults - 1);
    }
    return e->rc;
}

void config_free(struct config *c)
{
    if (!c) return;
    for (uint32_t i = 0; i < OPTION_COUNT; i++) {
        config_value_free(c, &CONFIG_OPTIONS[i]);
        property_fini(&c->origins[i]);
    }
    for (uint32_t i = 0; i < c->kafka_count; i++)
        property_fini(&c->kafka[i]);
    free(c->origins);
    free(c->kafka);
    free(c);
}
