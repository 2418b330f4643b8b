#include "config_audit.h"

#include <errno.h>
#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admit.h"
#include "budget.h"
#include "mapping.h"
#include "model.h"
#include "shapes.h"

enum {
    ENV_NAME_BYTES = 160,
    KAFKA_TEXT_BYTES = 512,
    SCRAM_MENDED = 0x020601ff, /* the version as librdkafka counts it */
};

struct audit {
    const struct config *c;
    config_fault_fn *report, *note;
    void *user;
    uint32_t faults;
};

static const struct property *property_of(const struct audit *a,
                                          enum config_index option)
{
    return &a->c->origins[option];
}

PRINTF_LIKE(3, 4)
static void fault(struct audit *a, const struct property *p, const char *format,
                  ...)
{
    char text[ERR_TEXT_BYTES];
    struct err e;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(e.text, sizeof e.text, format, args);
    va_end(args);
    if (p->secret && *p->value && strstr(e.text, p->value))
        (void)snprintf(e.text, sizeof e.text,
                       "******** is refused; why is masked with it");
    (void)snprintf(text, sizeof text, "%s: %s: %.*s", p->origin, p->key,
                   ERR_TEXT_BYTES / 2, e.text);
    a->faults++;
    a->report(a->user, text);
}

static void note(const struct audit *a, const char *text)
{
    a->note(a->user, text);
}

/* ----------------------------------------------------------------- files */

/* True if the path of the option, where given, is what it should be. */
static bool check_path(struct audit *a, enum config_index option, mode_t kind)
{
    const struct property *p = property_of(a, option);
    struct stat at;
    if (!*p->value) return false;
    if (stat(p->value, &at) != 0) {
        fault(a, p, "cannot find %s: %s", p->value, strerror(errno));
        return false;
    }
    if ((at.st_mode & S_IFMT) != kind) {
        fault(a, p, "%s is not a %s", p->value,
              kind == S_IFDIR ? "folder" : "file");
        return false;
    }
    return true;
}

/* A folder that is made when needed: then its parent must let us. */
static void check_folder(struct audit *a, enum config_index option)
{
    const struct property *p = property_of(a, option);
    char *parent, *slash;
    struct stat at;

    if (!*p->value) return;
    if (stat(p->value, &at) == 0) {
        if (!S_ISDIR(at.st_mode) || access(p->value, W_OK | X_OK) != 0)
            fault(a, p, "%s is not a folder that can be written", p->value);
        return;
    }
    parent = strdup(p->value);
    if (!parent) return;
    slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = 0;
    if (access(slash ? parent : ".", W_OK | X_OK) != 0)
        fault(a, p, "%s cannot be made: %s", p->value, strerror(errno));
    free(parent);
}

/* -------------------------------------------------------------- registry */

static void check_registry(struct audit *a)
{
    const struct config *c = a->c;
    bool plain = false;

    for (uint32_t i = 0; i < c->registry_url.count; i++)
        plain = plain || strncasecmp(c->registry_url.at[i], "http:", 5) == 0;
    (void)check_path(a, OPTION_registry_ca, S_IFREG);
    (void)check_path(a, OPTION_registry_certificate, S_IFREG);
    (void)check_path(a, OPTION_registry_key, S_IFREG);
    if (plain && *c->registry_password)
        note(a, "registry.password goes to an http:// URL for all to read; "
                "take https://");
    if (c->registry_url.count == 0 && (*c->registry_user || *c->registry_ca))
        note(a, "registry.url is not set: no registry is asked");
    if (c->registry_url.count > 0 && c->input_format == FORMAT_PLAIN &&
        !c->registry_register)
        note(a, "input.format = plain: messages name no schema that "
                "registry.url could give");
    if (c->registry_register && c->output_format == OUTPUT_PLAIN)
        note(a, "output.format = plain: registry.register does nothing");
}

/* schemas.dir: read, and with a registry written. */
static void check_schemas_dir(struct audit *a)
{
    if (a->c->registry_url.count > 0)
        check_folder(a, OPTION_schemas_dir);
    else
        (void)check_path(a, OPTION_schemas_dir, S_IFDIR);
}

/* ----------------------------------------------------------------- kafka */

static const char *without_side(const char *key)
{
    if (strncmp(key, "consumer.", 9) == 0 || strncmp(key, "producer.", 9) == 0)
        return key + 9;
    return key;
}

static bool names_a_file(const char *key)
{
    size_t len = strlen(key);
    return len > 9 && strcmp(key + len - 9, ".location") == 0;
}

/* librdkafka itself says what it takes; nothing is started. */
static void check_kafka(struct audit *a)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    bool servers = false, scram = false;
    for (uint32_t i = 0; i < a->c->kafka_count; i++) {
        const struct property *p = &a->c->kafka[i];
        const char *key = without_side(p->key);
        char text[KAFKA_TEXT_BYTES] = "";
        struct property full = *p;
        char name[KAFKA_TEXT_BYTES];
        (void)snprintf(name, sizeof name, "kafka.%s", p->key);
        full.key = name;
        servers = servers || strcmp(key, "bootstrap.servers") == 0;
        scram = scram || (strncmp(key, "sasl.mechanism", 14) == 0 &&
                          strncmp(p->value, "SCRAM", 5) == 0);
        if (rd_kafka_conf_set(conf, key, p->value, text, sizeof text) !=
            RD_KAFKA_CONF_OK)
            fault(a, &full, "librdkafka refuses it: %s", text);
        else if (names_a_file(key) && strcmp(p->value, "probe") != 0 &&
                 access(p->value, R_OK) != 0)
            fault(a, &full, "cannot read %s: %s", p->value, strerror(errno));
    }
    rd_kafka_conf_destroy(conf);
    if (scram && rd_kafka_version() < SCRAM_MENDED)
        note(a, "kafka.sasl.mechanisms: this librdkafka is older than 2.6.1; "
                "its SCRAM is refused by Kafka 4.0 and later");
    if (!servers)
        note(a, "kafka.bootstrap.servers is not set: files can be replayed, "
                "topics not be reached");
}

/* ---------------------------------------------------- schema and model */

/* The roles against the schema; fields as mapping.h says. */
static bool check_mapping(struct audit *a, uint32_t *fields)
{
    const struct property *p = property_of(a, OPTION_input_schema);
    struct schema *schema = NULL;
    struct mapping *mapping = NULL;
    struct err e;
    bool good = false;

    if (schema_read(&schema, p->value, &e) != RC_OK ||
        mapping_new(&mapping, a->c, schema, NULL, &e) != RC_OK) {
        fault(a, p, "%s", e.text);
    } else {
        *fields = mapping_fields(mapping);
        good = true;
    }
    mapping_free(mapping);
    schema_free(schema);
    return good;
}

/* Without a schema the window features are not known, the rest is. */
static void check_model(struct audit *a, bool mapped, uint32_t fields)
{
    const struct property *p = property_of(a, OPTION_model_dir);
    struct history_shape history;
    struct feature_shape features;
    struct model *model;
    struct err e;

    if (model_open(&model, p->value, &e) != RC_OK) {
        fault(a, p, "%s", e.text);
        return;
    }
    shapes_init(&history, &features, a->c, fields);
    if (shapes_fit_model(&history, mapped ? &features : NULL, model_info(model),
                         &e) != RC_OK)
        fault(a, p, "%s", e.text);
    model_free(model);
}

/* Without a schema the roles are not known, and taken to be there. */
static void check_times(struct audit *a, bool mapped, uint32_t fields)
{
    struct admit admit;
    struct err e;
    if (admit_init(&admit, a->c, mapped ? fields : UINT32_MAX, &e) != RC_OK)
        fault(a, property_of(a, OPTION_state_ttl), "%s", e.text);
}

static void check_memory(struct audit *a)
{
    struct budget b;
    struct err e;
    budget_add_up(&b, a->c);
    if (budget_check(&b, a->c, &e) != RC_OK)
        fault(a, property_of(a, OPTION_memory_max), "%s", e.text);
}

/* ----------------------------------------------------------------- notes */

/* A misspelt variable would otherwise change nothing, silently. */
static void check_environment(struct audit *a)
{
    static const char *const OTHERS[] = {"MILLRACE_KAFKA_", "MILLRACE_CONFIG="};
    for (char **entry = environ; *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        char name[ENV_NAME_BYTES], text[ENV_NAME_BYTES + 64];
        bool known = strncmp(*entry, "MILLRACE_", 9) != 0 || !equals ||
                     (size_t)(equals - *entry) >= sizeof name;
        for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++)
            known = known || strncmp(*entry, OTHERS[i], strlen(OTHERS[i])) == 0;
        for (uint32_t i = 0; i < OPTION_COUNT && !known; i++) {
            size_t len = (size_t)(equals - *entry);
            config_env_name(CONFIG_OPTIONS[i].key, name, sizeof name);
            known = strlen(name) == len && strncmp(name, *entry, len) == 0;
        }
        if (known) continue;
        (void)snprintf(text, sizeof text,
                       "%.*s in the environment is no option",
                       (int)(equals - *entry), *entry);
        note(a, text);
    }
}

static void check_live(const struct audit *a)
{
    const struct config *c = a->c;
    if (!*c->input_topic)
        note(a, "input.topic is not set: run needs it, replay of files not");
    if (*c->input_topic && !*c->output_fraud_topic &&
        !*c->output_recommendations_topic && !*c->output_profile_topic)
        note(a, "no output topic is set: run would fold and write nothing");
    if (*c->input_topic && !*c->dead_letters_topic)
        note(a, "dead.letters.topic is not set: bad messages are counted and "
                "dropped");
}

uint32_t config_audit(const struct config *c, config_fault_fn *report,
                      config_fault_fn *note_fn, void *user)
{
    struct audit a = {.c = c, .report = report, .note = note_fn, .user = user};
    uint32_t fields = 0;
    bool mapped = false;

    check_schemas_dir(&a);
    check_registry(&a);
    if (check_path(&a, OPTION_input_schema, S_IFREG))
        mapped = check_mapping(&a, &fields);
    if (check_path(&a, OPTION_model_dir, S_IFDIR))
        check_model(&a, mapped, fields);
    check_folder(&a, OPTION_state_dir);
    check_kafka(&a);
    check_memory(&a);
    check_times(&a, mapped, fields);
    check_environment(&a);
    check_live(&a);
    return a.faults;
}
