/* Goal: no message makes the decode step crash, read past it, or give an
 * event whose fields break what the rest of the program builds on.
 * Method: a schema with every kind of role; the input is one message. What
 * is not marked bad must keep the bounds that mapping.h promises. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "iso_time.h"
#include "mapping.h"
#include "role_value.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* clang-format off: one field a line. */
static const char SCHEMA[] =
    "{\"type\":\"record\",\"name\":\"R\",\"fields\":["
    "{\"name\":\"user\",\"type\":[\"null\",\"bytes\"]},"
    "{\"name\":\"item\",\"type\":[\"null\",{\"type\":\"record\",\"name\":\"I\","
    "\"fields\":["
    "  {\"name\":\"id\",\"type\":[\"long\",\"null\"]},"
    "  {\"name\":\"tags\",\"type\":{\"type\":\"array\",\"items\":\"string\"}},"
    "  {\"name\":\"kind\",\"type\":\"string\"}]}]},"
    "{\"name\":\"at\",\"type\":\"string\"},"
    "{\"name\":\"amount\",\"type\":{\"type\":\"bytes\",\"logicalType\":"
    "\"decimal\","
    "  \"precision\":20,\"scale\":3}},"
    "{\"name\":\"id\",\"type\":{\"type\":\"fixed\",\"name\":\"F\",\"size\":4}},"
    "{\"name\":\"ratio\",\"type\":[\"null\",\"double\"]},"
    "{\"name\":\"label\",\"type\":[\"null\",\"int\"]},"
    "{\"name\":\"text\",\"type\":\"string\"}]}";
/* clang-format on */

enum { USER_BYTES_MAX = 32 };

static struct schema *g_schema;
static struct mapping *g_mapping;
static struct batch g_batch;

static void start(void)
{
    static char *numbers[] = {"ratio", "amount"};
    static char *categories[] = {"item.kind", "id"};
    static struct config c = {.role_user = "user",
                              .role_item = "item.id",
                              .role_time = "at",
                              .role_amount = "amount",
                              .role_amount_scale = 100,
                              .role_event_id = "id",
                              .role_category = "item.kind",
                              .role_label = "label",
                              .role_text = "text",
                              .feature_numbers = {numbers, 2},
                              .feature_categories = {categories, 2},
                              .user_bytes_max = USER_BYTES_MAX,
                              .record_bytes_max = 4096,
                              .batch_events_max = 1};
    struct err e;
    if (schema_parse(&g_schema, slice_str(SCHEMA), &e) == RC_OK &&
        mapping_new(&g_mapping, &c, g_schema, NULL, &e) == RC_OK &&
        batch_init(&g_batch, 1, &e) == RC_OK)
        return;
    (void)fprintf(stderr, "fuzz_event: %s\n", e.text);
    abort();
}

static void check(const struct event *ev)
{
    assert(ev->user.len > 0 && ev->user.len <= USER_BYTES_MAX);
    assert(utf8_valid(ev->user) && utf8_valid(ev->item));
    assert(utf8_valid(ev->text) && ev->event_id.len == 8);
    assert(ev->time_ms >= TIME_MS_MIN && ev->time_ms <= TIME_MS_MAX);
    assert(ev->past.amount >= -AMOUNT_MAX && ev->past.amount <= AMOUNT_MAX);
    for (int i = 0; i < EXTRA_MAX; i++)
        assert(!isinf(ev->past.number[i]));
    assert(ev->label >= -1 && ev->label <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct event *ev;
    if (!g_mapping) start();
    batch_reset(&g_batch);
    g_batch.count = 1;
    g_batch.records[0] =
        (struct record){.timestamp_ms = -1, .value = slice_of(data, size)};
    event_decode(g_mapping, &g_batch);
    ev = &g_batch.events[0];
    assert(ev->bad < BAD_REASONS);
    if (ev->bad == BAD_NONE)
        check(ev);
    else
        assert(ev->detail && ev->detail[0]);
    return 0;
}
