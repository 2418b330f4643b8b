/* snapshot_inside.h - what writing and reading snapshots share. */
#ifndef MILLRACE_SNAPSHOT_INSIDE_H
#define MILLRACE_SNAPSHOT_INSIDE_H

#include <jansson.h>

#include "snapshot.h"

enum { SNAPSHOT_PATH_MAX = 4096, SNAPSHOT_PARTS_MAX = 4096 };
#define SNAPSHOT_MAGIC  "MRROWS1\n"
#define SNAPSHOT_LAST   0xffffffffu
#define SNAPSHOT_LISTED "manifest.json"

uint64_t snapshot_row_hash(struct slice user, struct slice row);
/* "DIR/NAME", cut where it is too long: opening it fails then. */
void snapshot_path(const char *dir, const char *name,
                   char out[SNAPSHOT_PATH_MAX]);

/* manifest.json. write: beside and renamed. */
enum rc manifest_write(const char *dir, const struct snapshot_info *info,
                       const struct snapshot_part *parts, uint32_t count,
                       struct err *e) MUST_USE;
/* parts: (SNAPSHOT_PARTS_MAX) */
enum rc manifest_read(const char *dir, struct snapshot_info *info,
                      struct snapshot_part *parts, uint32_t *count,
                      struct err *e) MUST_USE;

/* One file of rows being written; part's file, counts and hashes are set. */
struct rows_file;
enum rc rows_create(struct rows_file **out, const char *dir,
                    struct snapshot_part *part, uint32_t generation,
                    struct err *e) MUST_USE;
enum rc rows_put(struct rows_file *f, struct slice user, struct slice row,
                 struct err *e) MUST_USE;
/* Frees f, also when it fails. Synced. */
enum rc rows_finish(struct rows_file *f, struct err *e) MUST_USE;
void rows_abandon(struct rows_file *f);

enum rc snapshot_sync_folder(const char *dir, struct err *e) MUST_USE;

#endif
