/* generate_row.h - generated events and labels as Avro records.
 *
 * Records  schemas/transaction.avsc and schemas/label.avsc. Event ids look
 *          like UUIDs and follow from seed and number, so that labels, made
 *          apart, name the same ones.
 * Memory   Keys and values are lent until the next call.
 * Threads  One thread. */
#ifndef MILLRACE_GENERATE_ROW_H
#define MILLRACE_GENERATE_ROW_H

#include "codec.h"
#include "generate.h"

enum { GENERATE_ID_BYTES = 40 };
/* "u000042", "i000042", "3f2a...-...": for whoever shows or checks events. */
void generate_user_id(uint32_t user, char out[GENERATE_ID_BYTES]);
void generate_item_id(uint32_t item, char out[GENERATE_ID_BYTES]);
void generate_event_id(uint64_t seed, uint64_t number,
                       char out[GENERATE_ID_BYTES]);

struct generate_rows;
enum rc generate_rows_new(struct generate_rows **out, uint64_t seed,
                          struct err *e) MUST_USE;
void generate_rows_free(struct generate_rows *g);
const struct schema *generate_event_schema(const struct generate_rows *g);
const struct schema *generate_label_schema(const struct generate_rows *g);

/* The key is the user's id. */
enum rc generate_event(struct generate_rows *g, const struct generated *ev,
                       struct slice *key, struct slice *value,
                       struct err *e) MUST_USE;
enum rc generate_label(struct generate_rows *g,
                       const struct generated_label *label, struct slice *key,
                       struct slice *value, struct err *e) MUST_USE;

#endif
