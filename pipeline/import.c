#include "import.h"

#include <errno.h>

enum { REJECT_RAW_BYTES = 1000 };

/* The beginning of a rejected record, in one line. */
static void print_raw(FILE *to, struct slice raw)
{
    for (size_t i = 0; i < raw.len && i < REJECT_RAW_BYTES; i++) {
        if (raw.ptr[i] == '\n')
            (void)fputs("\\n", to);
        else if (raw.ptr[i] != '\r')
            (void)fputc(raw.ptr[i], to);
    }
    (void)fputc('\n', to);
}

static enum rc reject(struct import *im, const struct import_record *record,
                      const char *reason, struct err *e)
{
    if (im->rejects < IMPORT_REJECTS_SHOWN) {
        struct import_reject *shown = &im->shown[im->rejects];
        shown->line = record->line;
        (void)snprintf(shown->reason, sizeof shown->reason, "%s", reason);
    }
    if (im->rejects++ >= IMPORT_REJECTS_KEPT) return RC_OK;
    if (!im->rejects_file) im->rejects_file = fopen(im->rejects_path, "w");
    if (!im->rejects_file)
        return ERR(e, RC_STOP,
                   "keeping rejects in '%s': %s; choose another "
                   "file by --rejects",
                   im->rejects_path, strerror(errno));
    (void)fprintf(im->rejects_file, "%llu\t%s\t",
                  (unsigned long long)record->line, reason);
    print_raw(im->rejects_file, record->raw);
    return RC_OK;
}

/* The time of the record, for its message: the first time field's. */
static int64_t timestamp_of(const struct import *im)
{
    for (uint32_t f = 0; f < row_field_count(im->row); f++) {
        const char *type = row_field(im->row, f)->logical_type;
        int64_t time;
        if (!row_get_long(im->row, f, &time)) continue;
        if (strcmp(type, "timestamp-millis") == 0) return time;
        if (strcmp(type, "timestamp-micros") == 0) return time / 1000;
    }
    return -1;
}

static enum rc put(struct import *im, struct slice value, struct err *e)
{
    struct slice key = slice_of(NULL, 0);
    if (im->key_field >= 0)
        (void)row_get_text(im->row, (uint32_t)im->key_field, &key);
    return feed_put(im->feed, key, value, timestamp_of(im), e);
}

enum rc import_step(struct import *im, uint32_t count, bool *ended,
                    struct err *e)
{
    for (uint32_t i = 0; i < count; i++) {
        struct import_record record;
        struct slice value;
        struct err why;
        enum rc rc;
        TRY(import_reader_next(im->reader, &record, ended, e));
        if (*ended) return RC_OK;
        if (record.fault) {
            TRY(reject(im, &record, record.fault, e));
            continue;
        }
        rc = import_map_apply(im->map, &record, im->records, &why);
        if (rc == RC_OK) rc = row_encode(im->row, &value, &why);
        if (rc != RC_OK) {
            TRY(reject(im, &record, why.text, e));
            continue;
        }
        TRY(put(im, value, e));
        im->records++;
    }
    return RC_OK;
}

enum rc import_close(struct import *im, struct err *e)
{
    bool failed;
    if (!im->rejects_file) return RC_OK;
    failed = ferror(im->rejects_file) != 0;
    failed |= fclose(im->rejects_file) != 0;
    im->rejects_file = NULL;
    if (!failed) return RC_OK;
    return ERR(e, RC_STOP, "keeping rejects in '%s': %s", im->rejects_path,
               strerror(errno));
}
