#include "train.h"

#include <string.h>

void train_options_default(struct train_options *o)
{
    memset(o, 0, sizeof *o);
    o->layers = 2;
    o->width = 64;
    o->heads = 2;
    o->ffn = 256;
    o->window = 50;
    o->item_buckets = 64;
    o->items_max = 1000000;
    o->epochs_max = 20;
    o->patience = 3;
    o->learning_rate = 2e-3f;
    o->weight_decay = 0.01f;
    o->dropout = -1;
    o->clip_norm = 1.0f;
    o->warmup_steps = 100;
    o->average = 0.999f;
    o->temperature = -1;
    o->negatives = TRAIN_AUTO;
    o->fraud_heads = 4;
    o->fraud_width = 32;
    o->fraud_weight = 1.0f;
    o->good_share = 1.0f;
    o->from_ms = INT64_MIN;
    o->validate_from_ms = INT64_MAX;
    o->until_ms = INT64_MAX;
    o->fraud_from_ms = INT64_MIN;
    o->seed = 1;
    o->threads = 2;
    o->segments = 8;
    o->kv_bf16 = true;
    o->command = "";
}
