/* inspect_store - the families of a state.dir, opened read-only: a process
 * that uses it goes on. */
#include <string.h>

#include "hash.h"
#include "inspect.h"
#include "store.h"
#include "user_row.h"

enum { READER_MEMORY_BYTES = 16 << 20 };

struct look {
    struct inspect *in;
    struct store *store;
    json_t *families; /* NULL: print as text */
    uint64_t damaged_total;
    /* Of the family at hand: */
    uint64_t rows, bytes, damaged;
    struct err first; /* what is wrong with its first damaged row */
};

static enum rc see_row(void *user, struct slice key, struct slice row,
                       struct err *e)
{
    struct look *l = user;
    struct err why;
    (void)e;
    l->rows++;
    l->bytes += row.len;
    if (!l->in->verify || user_row_verify(key, row, &why) == RC_OK)
        return RC_OK;
    if (l->damaged++ == 0)
        (void)ERR(&l->first, RC_SKIP, "the user with hash %016llx: %s",
                  (unsigned long long)hash64(key), why.text);
    return RC_OK;
}

static void add_json(struct look *l, const char *name,
                     const struct family_meta *meta, bool found)
{
    json_t *family =
        json_pack("{s:s, s:I, s:I}", "family", name, "rows",
                  (json_int_t)l->rows, "bytes", (json_int_t)l->bytes);
    if (found)
        (void)json_object_update_new(
            family,
            json_pack("{s:s, s:i, s:I, s:I, s:I, s:s}", "cluster_id",
                      meta->cluster_id, "partitions", (int)meta->partitions,
                      "checkpoint", (json_int_t)meta->checkpoint, "applied",
                      (json_int_t)meta->applied, "released_ms",
                      (json_int_t)meta->released_ms, "shape", meta->shape));
    if (l->in->verify)
        (void)json_object_set_new(family, "damaged",
                                  json_integer((json_int_t)l->damaged));
    (void)json_array_append_new(l->families, family);
}

static void print_family(const struct look *l, const char *name,
                         const struct family_meta *meta, bool found)
{
    char bytes[CLI_HUMAN_BYTES], at[INSPECT_TIME_BYTES];
    (void)printf("%s\n  rows        %llu, %s\n", name,
                 (unsigned long long)l->rows,
                 cli_human_bytes((double)l->bytes, bytes));
    if (!found) {
        (void)printf("  no checkpoint yet\n");
        return;
    }
    (void)printf("  checkpoint  %lld (rows hold nothing from %lld on)\n",
                 (long long)meta->checkpoint, (long long)meta->applied);
    (void)printf("  topic of    %u partitions, cluster %s\n", meta->partitions,
                 meta->cluster_id[0] ? meta->cluster_id : "(none)");
    (void)printf("  owned       %s%s\n",
                 meta->released_ms ? "not since " : "yes",
                 meta->released_ms ? inspect_time(meta->released_ms, at) : "");
    if (meta->changelog_next >= 0)
        (void)printf("  copy of     the changelog before offset %lld\n",
                     (long long)meta->changelog_next);
    (void)printf("  made with   %s\n",
                 meta->shape[0] ? meta->shape : "(no rows yet)");
    if (l->damaged)
        (void)printf("  DAMAGED     %llu places, the first: %s\n",
                     (unsigned long long)l->damaged, l->first.text);
    else if (l->in->verify)
        (void)printf("  verified    every checksum fits\n");
}

static enum rc see_family(void *user, const char *name,
                          const struct family_meta *meta, bool found,
                          struct err *e)
{
    struct look *l = user;
    l->rows = l->bytes = l->damaged = 0;
    /* Other families may be whole. */
    if (store_each_row(l->store, name, see_row, l, e) != RC_OK &&
        l->damaged++ == 0)
        l->first = *e;
    l->damaged_total += l->damaged;
    if (l->families)
        add_json(l, name, meta, found);
    else
        print_family(l, name, meta, found);
    return RC_OK;
}

static int finish(struct look *l, const char *dir)
{
    if (l->families)
        cli_print_json(json_pack("{s:s, s:s, s:O}", "directory", dir,
                                 "instance", store_instance(l->store),
                                 "families", l->families));
    if (l->damaged_total == 0) return EXIT_OK;
    return cli_complain(&l->in->cli, EXIT_FAILED,
                        "%llu damaged places in %s; `millrace run` makes what "
                        "holds them anew when it meets them, from "
                        "changelog or log; `millrace reset --to committed` "
                        "makes all of it anew",
                        (unsigned long long)l->damaged_total, dir);
}

int inspect_store(struct inspect *in, const char *dir)
{
    const struct store_options o = {
        .dir = dir, .memory_bytes = READER_MEMORY_BYTES, .read_only = true};
    struct look l = {.in = in};
    struct err e;
    int status;
    if (store_open(&l.store, &o, &e) != RC_OK)
        return cli_fail(&in->cli, EXIT_FAILED, &e);
    if (in->cli.json)
        l.families = json_array();
    else
        (void)printf("instance  %s\n", store_instance(l.store));
    if (store_each_family(l.store, see_family, &l, &e) != RC_OK)
        status = cli_fail(&in->cli, EXIT_FAILED, &e);
    else
        status = finish(&l, dir);
    json_decref(l.families);
    store_close(l.store);
    return status;
}
