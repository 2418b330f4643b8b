/* snapshot_manifest.c - manifest.json of a snapshot. See snapshot.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "snapshot_inside.h"

enum { VERSION = 1, HEX_BYTES = 20 };

static json_t *hex(uint64_t x)
{
    char text[HEX_BYTES];
    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)x);
    return json_string(text);
}

static json_t *part_json(const struct snapshot_part *p)
{
    return json_pack(
        "{s:i, s:I, s:I, s:I, s:o, s:s, s:I, s:I, s:o, s:o}", "partition",
        (int)p->partition, "offset", (json_int_t)p->offset, "stream_ms",
        (json_int_t)p->stream_ms, "seen_offset", (json_int_t)p->seen_offset,
        "seen_hash", hex(p->seen_hash), "file", p->file, "rows",
        (json_int_t)p->rows, "bytes", (json_int_t)p->bytes, "checksum",
        hex(p->checksum), "rows_hash", hex(p->rows_hash));
}

enum rc manifest_write(const char *dir, const struct snapshot_info *info,
                       const struct snapshot_part *parts, uint32_t count,
                       struct err *e)
{
    char path[SNAPSHOT_PATH_MAX], beside[SNAPSHOT_PATH_MAX];
    json_t *list = json_array(), *all;
    bool good;
    FILE *file;
    for (uint32_t i = 0; i < count; i++)
        (void)json_array_append_new(list, part_json(&parts[i]));
    all = json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:I, s:s, s:s, s:s, s:o}",
                    "millrace_snapshot", VERSION, "stage", info->stage, "topic",
                    info->topic, "cluster_id", info->cluster_id, "shape",
                    info->shape, "topic_partitions", (int)info->partitions,
                    "made_ms", (json_int_t)info->made_ms, "schema_hash",
                    info->schema_hash, "model_hash", info->model_hash,
                    "policy_hash", info->policy_hash, "partitions", list);
    snapshot_path(dir, SNAPSHOT_LISTED, path);
    snapshot_path(dir, SNAPSHOT_LISTED ".part", beside);
    file = all ? fopen(beside, "w") : NULL;
    good = file && json_dumpf(all, file, JSON_INDENT(2)) == 0 &&
           fputc('\n', file) != EOF && fflush(file) == 0 &&
           fsync(fileno(file)) == 0;
    if (file && fclose(file) != 0) good = false;
    json_decref(all);
    if (good && rename(beside, path) == 0) return RC_OK;
    return ERR(e, RC_STOP, "snapshot: %s cannot be written: %s", path,
               strerror(errno));
}

/* --- reading ----------------------------------------------------------- */

static bool get_hex(const char *text, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 16);
    return *text && !*end;
}

static bool copy(char *out, size_t size, const char *text)
{
    return (size_t)snprintf(out, size, "%s", text) < size;
}

static bool get_part(json_t *json, struct snapshot_part *p)
{
    const char *file, *seen, *checksum, *rows_hash;
    json_int_t offset, stream_ms, seen_offset, rows, bytes;
    int partition;
    if (json_unpack(json, "{s:i, s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:s, s:s}",
                    "partition", &partition, "offset", &offset, "stream_ms",
                    &stream_ms, "seen_offset", &seen_offset, "seen_hash", &seen,
                    "file", &file, "rows", &rows, "bytes", &bytes, "checksum",
                    &checksum, "rows_hash", &rows_hash) != 0)
        return false;
    *p = (struct snapshot_part){.partition = partition,
                                .offset = offset,
                                .stream_ms = stream_ms,
                                .seen_offset = seen_offset,
                                .rows = (uint64_t)rows,
                                .bytes = (uint64_t)bytes};
    return partition >= 0 && offset >= 0 && rows >= 0 && bytes >= 0 &&
           !strchr(file, '/') && copy(p->file, sizeof p->file, file) &&
           get_hex(seen, &p->seen_hash) && get_hex(checksum, &p->checksum) &&
           get_hex(rows_hash, &p->rows_hash);
}

static bool get_info(json_t *json, struct snapshot_info *info, int *version,
                     json_t **list)
{
    const char *stage, *topic, *cluster, *shape, *schema, *model, *policy;
    json_int_t made_ms;
    int partitions;
    *version = 0;
    if (json_unpack(json,
                    "{s:i, s:s, s:s, s:s, s:s, s:i, s:I, s:s, s:s, s:s, s:o}",
                    "millrace_snapshot", version, "stage", &stage, "topic",
                    &topic, "cluster_id", &cluster, "shape", &shape,
                    "topic_partitions", &partitions, "made_ms", &made_ms,
                    "schema_hash", &schema, "model_hash", &model, "policy_hash",
                    &policy, "partitions", list) != 0)
        return false;
    *info = (struct snapshot_info){.partitions = (uint32_t)partitions,
                                   .made_ms = made_ms};
    return partitions > 0 && json_is_array(*list) &&
           copy(info->stage, sizeof info->stage, stage) &&
           copy(info->topic, sizeof info->topic, topic) &&
           copy(info->cluster_id, sizeof info->cluster_id, cluster) &&
           copy(info->shape, sizeof info->shape, shape) &&
           copy(info->schema_hash, sizeof info->schema_hash, schema) &&
           copy(info->model_hash, sizeof info->model_hash, model) &&
           copy(info->policy_hash, sizeof info->policy_hash, policy);
}

static enum rc unpack(json_t *json, const char *path,
                      struct snapshot_info *info, struct snapshot_part *parts,
                      uint32_t *count, struct err *e)
{
    json_t *list, *one;
    size_t i;
    int version;
    bool good = get_info(json, info, &version, &list);
    if (version > VERSION)
        return ERR(e, RC_STOP,
                   "snapshot: %s is of version %d, this build reads %d", path,
                   version, VERSION);
    if (!good || json_array_size(list) > SNAPSHOT_PARTS_MAX)
        return ERR(e, RC_STOP, "snapshot: %s is no manifest of one", path);
    *count = 0;
    json_array_foreach(list, i, one)
    {
        if (!get_part(one, &parts[*count]))
            return ERR(e, RC_STOP, "snapshot: %s: partition %zu is not whole",
                       path, i);
        for (uint32_t k = 0; k < *count; k++)
            if (parts[k].partition == parts[*count].partition)
                return ERR(e, RC_STOP, "snapshot: %s: partition %d twice", path,
                           parts[k].partition);
        ++*count;
    }
    return RC_OK;
}

enum rc manifest_read(const char *dir, struct snapshot_info *info,
                      struct snapshot_part *parts, uint32_t *count,
                      struct err *e)
{
    char path[SNAPSHOT_PATH_MAX];
    json_error_t why;
    json_t *json;
    enum rc rc;
    snapshot_path(dir, SNAPSHOT_LISTED, path);
    json = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (!json)
        return ERR(e, RC_STOP, "snapshot: %s, line %d: %s", path, why.line,
                   why.text);
    rc = unpack(json, path, info, parts, count, e);
    json_decref(json);
    return rc;
}
