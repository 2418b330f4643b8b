/* import.h - a text's records into a feed, by a mapping; bad ones aside.
 *
 * Rejects  A record that is no record, or does not fit the schema, is
 *          counted and kept: "line <tab> reason <tab> beginning of its text",
 *          one a line, at most IMPORT_REJECTS_KEPT of them. The file is made
 *          with the first one.
 * Order    Records come out in the order of the text.
 * Threads  One thread.
 * Errors   RC_STOP only; a reject is none. */
#ifndef MILLRACE_IMPORT_H
#define MILLRACE_IMPORT_H

#include "feed.h"
#include "import_map.h"
#include "import_reader.h"

enum { IMPORT_REJECTS_KEPT = 10000, IMPORT_REJECTS_SHOWN = 5 };

struct import_reject {
    uint64_t line;
    char reason[200];
};

struct import {
    struct import_reader *reader;
    struct import_map *map;
    struct row *row;
    struct feed *feed;
    const char *rejects_path;
    int32_t key_field; /* of the row; -1: messages have no key */
    /* Set by import_step: */
    uint64_t records, rejects;
    struct import_reject shown[IMPORT_REJECTS_SHOWN];
    FILE *rejects_file;
};

/* Up to count records. */
enum rc import_step(struct import *im, uint32_t count, bool *ended,
                    struct err *e) MUST_USE;
/* Closes the rejects' file; RC_STOP if they could not be kept. */
enum rc import_close(struct import *im, struct err *e) MUST_USE;

#endif
