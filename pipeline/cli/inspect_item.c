/* inspect_item - an item as the model knows it: how often it was seen, and
 * which others are like it. */
#include <stdlib.h>

#include "catalogue_read.h"
#include "hash.h"
#include "inspect.h"
#include "model.h"

static json_t *text_json(struct slice s)
{
    /* An id may hold any bytes; JSON only characters. */
    json_t *text = json_stringn((const char *)s.ptr, s.len);
    return text ? text : json_null();
}

/* Its place by how often training saw it, from 1. */
static uint32_t rank_of(const struct model *m, uint32_t index)
{
    uint32_t rank = 0;
    while (model_item_rank(m, rank) != index)
        rank++;
    return rank + 1;
}

/* What the catalogue says, null where none was asked or it has no such item. */
static json_t *offer_json(const struct catalogue_item *offer)
{
    if (!offer->found) return json_null();
    return json_pack("{s:b, s:o}", "available", offer->available, "category",
                     offer->category[0] ? text_json(slice_str(offer->category))
                                        : json_null());
}

static void print_json(const struct model *m, uint32_t index,
                       const struct catalogue_item *offer,
                       const struct neighbour *near, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        (void)json_array_append_new(
            list, json_pack("{s:o, s:f, s:f}", "item",
                            text_json(model_item_name(m, near[i].item)),
                            "cosine", (double)near[i].cosine, "events",
                            (double)model_item_count(m, near[i].item)));
    cli_print_json(
        json_pack("{s:o, s:i, s:f, s:i, s:i, s:o, s:o}", "item",
                  text_json(model_item_name(m, index)), "index", (int)index,
                  "events", (double)model_item_count(m, index), "rank",
                  (int)rank_of(m, index), "items", (int)model_info(m)->items,
                  "catalogue", offer_json(offer), "nearest", list));
}

static void print_text(const struct model *m, uint32_t index,
                       const struct catalogue_item *offer,
                       const struct neighbour *near, uint32_t count)
{
    struct slice name = model_item_name(m, index);
    (void)printf("item       %.*s\n", (int)name.len, (const char *)name.ptr);
    (void)printf("row        %u of %u\n", index, model_info(m)->items);
    (void)printf("events     %.0f in training, rank %u\n",
                 (double)model_item_count(m, index), rank_of(m, index));
    if (offer->found)
        (void)printf("catalogue  %s%s%s\n",
                     offer->available ? "available" : "not available",
                     offer->category[0] ? ", category " : "", offer->category);
    (void)printf("\n%8s  %10s  nearest items\n", "cosine", "events");
    for (uint32_t i = 0; i < count; i++) {
        name = model_item_name(m, near[i].item);
        (void)printf("%8.4f  %10.0f  %.*s\n", (double)near[i].cosine,
                     (double)model_item_count(m, near[i].item), (int)name.len,
                     (const char *)name.ptr);
    }
}

static int inspect_in(struct inspect *in, const struct model *m,
                      const char *item)
{
    int32_t index = model_item_index(m, hash64(slice_str(item)));
    struct catalogue_item offer = {0};
    struct neighbour *near;
    uint32_t count;
    struct err e;
    if (index < 0)
        return cli_complain(&in->cli, EXIT_FAILED,
                            "no item %s in the model's vocabulary of %u", item,
                            model_info(m)->items);
    if (in->catalogue &&
        catalogue_look_up(&offer, in->catalogue, item, &e) != RC_OK)
        return cli_fail(&in->cli, EXIT_FAILED, &e);
    near = calloc((size_t)in->events + 1, sizeof *near);
    if (!near) return cli_complain(&in->cli, EXIT_FAILED, "no memory");
    count = model_item_nearest(m, (uint32_t)index, in->events, near);
    if (in->cli.json)
        print_json(m, (uint32_t)index, &offer, near, count);
    else
        print_text(m, (uint32_t)index, &offer, near, count);
    free(near);
    return EXIT_OK;
}

int inspect_item(struct inspect *in, const char *item)
{
    struct model *m;
    struct err e;
    int status;
    if (!in->config->model_dir[0])
        return cli_complain(&in->cli, EXIT_CONFIG,
                            "an item is looked up in a model: set model.dir");
    if (model_open(&m, in->config->model_dir, &e) != RC_OK)
        return cli_fail(&in->cli, EXIT_FAILED, &e);
    status = inspect_in(in, m, item);
    model_free(m);
    return status;
}
