/* text_model.h - a text encoder in memory: what text_dir.c reads and text.c
 * computes with. */
#ifndef MILLRACE_TEXT_MODEL_H
#define MILLRACE_TEXT_MODEL_H

#include "matrix.h"
#include "text.h"
#include "text_params.h"
#include "tokenizer.h"

/* One layer, packed for products. */
struct text_layer {
    struct packed query; /* divided by sqrt(D / heads), bias too */
    struct packed key, value, output, up, down;
    real *query_bias; /* (D) */
};

struct text_model {
    struct text_info info;
    struct text_params params;
    real *values; /* (params.size) */
    real *block;  /* all panels */
    struct text_layer *layer;
    struct packed pooler, classifier; /* where the model has them */
    struct tokenizer *tokenizer;
    json_t *config; /* config.json, as it was */
    char *dir;      /* that it was read from */
    char **labels;  /* (info.labels) */
};

/* Makes block and layer of params and values. */
enum rc text_pack(struct text_model *m, struct err *e) MUST_USE;

#endif
