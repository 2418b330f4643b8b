#include "schemas.h"

/* Made by CMake from schemas/NAME.avsc: {"NAME", "text"}, ... {NULL, NULL}. */
static const struct {
    const char *name;
    const char *text;
} SCHEMAS[] = {
#include "schema_texts.inc"
    {NULL, NULL},
};

struct slice schemas_get(const char *name)
{
    for (uint32_t i = 0; SCHEMAS[i].name; i++)
        if (strcmp(SCHEMAS[i].name, name) == 0)
            return slice_str(SCHEMAS[i].text);
    return slice_of(NULL, 0);
}
