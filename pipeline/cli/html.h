/* html.h - a page that stands alone: style, text, charts drawn as SVG. No
 * script, nothing from a network; light and dark as the reader's system is.
 *
 * Errors   Writing fails silently here and is found by html_end, which asks
 *          the file: a full disk is one error, not a hundred. */
#ifndef MILLRACE_HTML_H
#define MILLRACE_HTML_H

#include <stdio.h>

#include "evaluate_detail.h"
#include "slice.h"

struct html {
    FILE *file;
    char path[1024], unfinished[1032];
};

/* Begins path under another name; html_end puts it in its place. */
enum rc html_begin(struct html *h, const char *path, const char *title,
                   struct err *e) MUST_USE;
enum rc html_end(struct html *h, struct err *e) MUST_USE;

/* Text of ours, which may be HTML; and a cell of a table, a dash for what is
 * not defined. */
PRINTF_LIKE(2, 3)
void html_say(struct html *h, const char *format, ...);
void html_cell(struct html *h, const char *format, double value);

/* As text, with what HTML would read as its own made harmless. */
void html_text(struct html *h, struct slice text);

/* A chart of lines over [0, 1] x [0, 1]. */
struct html_line {
    const char *name;
    const struct evaluate_point *points;
    uint32_t count;
    bool dots; /* marks, not a line */
};
struct html_chart {
    const char *title, *x_name, *y_name;
    const struct html_line *lines; /* colours in this order */
    uint32_t count;
    double level; /* a dashed line across; NaN: none */
    bool diagonal;
};
void html_lines(struct html *h, const struct html_chart *c);

/* Bars of counts side by side on a logarithmic scale, or of shares. */
struct html_bars {
    const char *title, *x_name;
    const char *first_name, *second_name; /* second NULL: one kind */
    const double *first, *second;         /* (count) */
    uint32_t count;
    bool logarithmic;
    double most;              /* of an axis that is not; 0: 1 */
    const char *left, *right; /* what the ends of the axis are */
};
void html_bars(struct html *h, const struct html_bars *b);

#endif
