#include "import_file.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

enum { LINE_BYTES = 4096 };

static char *trim(char *text)
{
    size_t len;
    while (isspace((unsigned char)*text))
        text++;
    len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        text[--len] = '\0';
    return text;
}

/* "../schemas/x.avsc" beside "config/x.map"; built-in names stay. */
static char *beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *joined = NULL;
    bool built_in = !strchr(name, '/') && !strchr(name, '.');
    if (name[0] == '/' || !slash || built_in) return strdup(name);
    if (asprintf(&joined, "%.*s/%s", (int)(slash - path), path, name) < 0)
        return NULL;
    return joined;
}

static bool take_rule(struct import_file *f, const char *field,
                      const char *value)
{
    char *rule = NULL;
    if (f->rule_count == ROW_FIELDS_MAX) return false;
    if (asprintf(&rule, "%s=%s", field, value) < 0) return false;
    f->rules[f->rule_count++] = rule;
    return true;
}

/* NULL, or what is wrong. */
static const char *take(struct import_file *f, const char *path,
                        const char *key, const char *value)
{
    char **to = NULL;
    if (strncmp(key, "map.", 4) == 0)
        return take_rule(f, key + 4, value) ? NULL : "one rule too many";
    if (strcmp(key, "schema") == 0) to = &f->schema;
    if (strcmp(key, "format") == 0) to = &f->format;
    if (strcmp(key, "delimiter") == 0) to = &f->delimiter;
    if (strcmp(key, "columns") == 0) to = &f->columns;
    if (!to)
        return "the keys are schema, format, delimiter, columns and map.FIELD";
    if (*to) return "is given twice";
    *to = to == &f->schema ? beside(path, value) : strdup(value);
    return *to ? NULL : "no memory";
}

static enum rc read_line(struct import_file *f, const char *path,
                         unsigned number, char *line, struct err *e)
{
    char *equals;
    const char *fault;
    line = trim(line);
    if (!*line || *line == '#') return RC_OK;
    equals = strchr(line, '=');
    if (!equals)
        return ERR(e, RC_STOP, "%s:%u: '%s' is not key = value", path, number,
                   line);
    *equals = '\0';
    line = trim(line);
    fault = take(f, path, line, trim(equals + 1));
    if (fault)
        return ERR(e, RC_STOP, "%s:%u: key '%s': %s", path, number, line,
                   fault);
    return RC_OK;
}

enum rc import_file_read(struct import_file *f, const char *path, struct err *e)
{
    char line[LINE_BYTES];
    enum rc rc = RC_OK;
    FILE *from = fopen(path, "r");
    *f = (struct import_file){0};
    if (!from)
        return ERR(e, RC_STOP, "mapping file '%s': %s", path, strerror(errno));
    for (unsigned n = 1; rc == RC_OK && fgets(line, sizeof line, from); n++)
        rc = strlen(line) + 1 == sizeof line
                 ? ERR(e, RC_STOP, "%s:%u: the line is too long", path, n)
                 : read_line(f, path, n, line, e);
    (void)fclose(from);
    if (rc != RC_OK) import_file_free(f);
    return rc;
}

void import_file_free(struct import_file *f)
{
    free(f->schema);
    free(f->format);
    free(f->delimiter);
    free(f->columns);
    for (uint32_t i = 0; i < f->rule_count; i++)
        free(f->rules[i]);
    *f = (struct import_file){0};
}
