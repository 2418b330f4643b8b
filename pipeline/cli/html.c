#include "html.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* Of a chart, in its own units: the plot within the picture. */
enum {
    WIDTH = 440,
    HEIGHT = 288,
    LEFT = 48,
    RIGHT = 428,
    TOP = 12,
    BOTTOM = 252,
    TICKS = 5,
};

static const char STYLE[] =
    ":root{color-scheme:light dark;--ink:#1c2733;--soft:#5c6b7a;--line:#d7dee6;"
    "--page:#fff;--box:#f4f7fa;--c0:#0b62a8;--c1:#c2570c;--c2:#6d7783;"
    "--c3:#1d7f4e;--c4:#8a4fb0}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4ebf2;--soft:#9aa9b8;"
    "--line:#33404d;--page:#12181f;--box:#1a222b;--c0:#6db6f2;--c1:#f0a05a;"
    "--c2:#93a0ad;--c3:#6fcf97;--c4:#c79be6}}"
    "*{box-sizing:border-box}"
    "body{margin:0 auto;max-width:1080px;padding:24px 16px 64px;"
    "background:var(--page);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif}"
    "h1{font-size:1.5rem;margin:0 0 4px}h2{font-size:1.1rem;margin:36px 0 8px}"
    "p{margin:6px 0}.soft{color:var(--soft)}"
    ".verdict{background:var(--box);border-left:4px solid var(--c0);"
    "padding:14px 18px;margin:18px 0;font-size:1.05rem}"
    ".charts{display:grid;gap:18px;"
    "grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr))}"
    "figure{margin:0}figcaption{font-weight:600;font-size:.95rem}"
    "svg{width:100%;height:auto;display:block}"
    "svg text{fill:var(--soft);font:12px system-ui,sans-serif}"
    ".axis{stroke:var(--line);fill:none}.aid{stroke:var(--soft);fill:none;"
    "stroke-dasharray:4 4}"
    ".l0,.l1,.l2,.l3,.l4{fill:none;stroke-width:2}.l0{stroke:var(--c0)}"
    ".l1{stroke:var(--c1)}.l2{stroke:var(--c2)}.l3{stroke:var(--c3)}"
    ".l4{stroke:var(--c4)}.b0{fill:var(--c0)}.b1{fill:var(--c1)}"
    ".b2{fill:var(--c2)}.b3{fill:var(--c3)}.b4{fill:var(--c4)}"
    ".key{font-size:.85rem;color:var(--soft);padding-left:11%}"
    ".key span{margin-right:16px;white-space:nowrap}"
    ".key i{display:inline-block;width:10px;height:10px;margin-right:6px}"
    ".k0{background:var(--c0)}.k1{background:var(--c1)}"
    ".k2{background:var(--c2)}.k3{background:var(--c3)}"
    ".k4{background:var(--c4)}"
    ".wide{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:.92rem;margin:0 0 "
    "14px;font-variant-numeric:tabular-nums}"
    "th,td{padding:4px 12px 4px 0;text-align:right;white-space:nowrap;"
    "border-bottom:1px solid var(--line)}"
    "th:first-child,td:first-child{text-align:left;white-space:normal;"
    "min-width:8.5em;position:sticky;left:0;background:var(--page)}"
    "th{color:var(--soft);font-weight:600}"
    "@media(min-width:800px){td:first-child{min-width:13em}}"
    "pre{background:var(--box);padding:12px;overflow-x:auto;font-size:.85rem;"
    "white-space:pre-wrap;overflow-wrap:anywhere}";

/* --- the page ------------------------------------------------------------ */

enum rc html_begin(struct html *h, const char *path, const char *title,
                   struct err *e)
{
    if (strlen(path) >= sizeof h->path)
        return ERR(e, RC_STOP, "report %s: the name is too long", path);
    (void)snprintf(h->path, sizeof h->path, "%s", path);
    (void)snprintf(h->unfinished, sizeof h->unfinished, "%s.part", path);
    h->file = fopen(h->unfinished, "w");
    if (!h->file)
        return ERR(e, RC_STOP, "report %s: %s", path, strerror(errno));
    (void)fprintf(h->file,
                  "<!doctype html>\n<html lang=\"en\"><head>"
                  "<meta charset=\"utf-8\">"
                  "<meta name=\"viewport\" "
                  "content=\"width=device-width,initial-scale=1\">"
                  "<title>%s</title>\n<style>%s</style></head>\n<body>\n",
                  title, STYLE);
    return RC_OK;
}

enum rc html_end(struct html *h, struct err *e)
{
    bool good;
    (void)fputs("</body></html>\n", h->file);
    good = !ferror(h->file);
    good &= fclose(h->file) == 0;
    if (good && rename(h->unfinished, h->path) == 0) return RC_OK;
    (void)ERR(e, RC_STOP, "report %s: %s", h->path, strerror(errno));
    (void)unlink(h->unfinished);
    return RC_STOP;
}

void html_say(struct html *h, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vfprintf(h->file, format, args);
    va_end(args);
}

void html_cell(struct html *h, const char *format, double value)
{
    html_say(h, "<td>");
    if (isnan(value))
        html_say(h, "&ndash;");
    else
        (void)fprintf(h->file, format, value); /* NOLINT: formats of ours */
    html_say(h, "</td>");
}

void html_text(struct html *h, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '<')
            (void)fputs("&lt;", h->file);
        else if (c == '>')
            (void)fputs("&gt;", h->file);
        else if (c == '&')
            (void)fputs("&amp;", h->file);
        else if (c == '"')
            (void)fputs("&quot;", h->file);
        else
            (void)fputc(c, h->file);
    }
}

/* --- charts -------------------------------------------------------------- */

static double at_x(double x)
{
    return LEFT + x * (RIGHT - LEFT);
}

static double at_y(double y)
{
    return BOTTOM - y * (BOTTOM - TOP);
}

static void begin_chart(struct html *h, const char *title, const char *x_name)
{
    (void)fprintf(h->file,
                  "<figure><figcaption>%s</figcaption><svg viewBox=\"0 0 %d "
                  "%d\" role=\"img\" aria-label=\"%s\">"
                  "<path class=\"axis\" d=\"M%d %dV%dH%d\"/>"
                  "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                  title, WIDTH, HEIGHT, title, LEFT, TOP, BOTTOM, RIGHT,
                  (LEFT + RIGHT) / 2, BOTTOM + 31, x_name);
}

static void end_picture(struct html *h)
{
    (void)fputs("</svg><div class=\"key\">", h->file);
}

static void end_chart(struct html *h)
{
    (void)fputs("</div></figure>\n", h->file);
}

/* anchor: which end of the text stands at x. */
static void tick_x(struct html *h, double x, const char *text,
                   const char *anchor)
{
    (void)fprintf(h->file,
                  "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%s</text>",
                  at_x(x), BOTTOM + 16, anchor, text);
}

static void tick_y(struct html *h, double y, const char *text)
{
    (void)fprintf(h->file,
                  "<path class=\"axis\" d=\"M%d %.1fH%d\"/><text x=\"%d\" "
                  "y=\"%.1f\" text-anchor=\"end\">%s</text>",
                  LEFT, at_y(y), RIGHT, LEFT - 6, at_y(y) + 4, text);
}

/* Behind the picture, where names have room on any screen. */
static void legend(struct html *h, uint32_t i, const char *name)
{
    (void)fprintf(h->file, "<span><i class=\"k%u\"></i>%s</span>", i, name);
}

static void draw_line(struct html *h, const struct html_line *l, uint32_t i)
{
    if (l->count == 0) return;
    for (uint32_t k = 0; l->dots && k < l->count; k++)
        (void)fprintf(h->file,
                      "<circle class=\"b%u\" cx=\"%.1f\" cy=\"%.1f\" "
                      "r=\"4\"/>",
                      i, at_x(l->points[k].x), at_y(l->points[k].y));
    (void)fprintf(h->file, "<path class=\"l%u\" d=\"", i);
    for (uint32_t k = 0; k < l->count; k++)
        (void)fprintf(h->file, "%c%.1f %.1f", k ? 'L' : 'M',
                      at_x(l->points[k].x), at_y(l->points[k].y));
    (void)fputs("\"/>", h->file);
}

void html_lines(struct html *h, const struct html_chart *c)
{
    char text[16];
    begin_chart(h, c->title, c->x_name);
    for (uint32_t t = 0; t <= TICKS; t++) {
        (void)snprintf(text, sizeof text, "%.1f", (double)t / TICKS);
        tick_x(h, (double)t / TICKS, text, "middle");
        tick_y(h, (double)t / TICKS, text);
    }
    (void)fprintf(h->file,
                  "<text transform=\"translate(12 %d) rotate(-90)\" "
                  "text-anchor=\"middle\">%s</text>",
                  (TOP + BOTTOM) / 2, c->y_name);
    if (c->diagonal)
        (void)fprintf(h->file, "<path class=\"aid\" d=\"M%d %dL%d %d\"/>", LEFT,
                      BOTTOM, RIGHT, TOP);
    if (!isnan(c->level))
        (void)fprintf(h->file, "<path class=\"aid\" d=\"M%d %.1fH%d\"/>", LEFT,
                      at_y(c->level), RIGHT);
    for (uint32_t i = c->count; i-- > 0;)
        draw_line(h, &c->lines[i], i);
    end_picture(h);
    for (uint32_t i = 0; i < c->count; i++)
        legend(h, i, c->lines[i].name);
    end_chart(h);
}

static double bar_height(double value, double most, bool logarithmic)
{
    if (!(value > 0)) return 0;
    return logarithmic ? log10(value + 1) / log10(most + 1) : value / most;
}

static void draw_bars(struct html *h, const struct html_bars *b,
                      const double *values, uint32_t kind, double most)
{
    double slot = 1.0 / b->count, width = slot * (b->second ? 0.42 : 0.8);
    for (uint32_t i = 0; i < b->count; i++) {
        double x = (i + 0.08) * slot + kind * width;
        double y = bar_height(values[i], most, b->logarithmic);
        (void)fprintf(h->file,
                      "<rect class=\"b%u\" x=\"%.1f\" y=\"%.1f\" "
                      "width=\"%.2f\" height=\"%.1f\"/>",
                      kind, at_x(x), at_y(y), width * (RIGHT - LEFT),
                      y * (BOTTOM - TOP));
    }
}

void html_bars(struct html *h, const struct html_bars *b)
{
    double most = b->logarithmic ? 1 : 0;
    char text[32];
    for (uint32_t i = 0; i < b->count; i++) {
        if (b->first[i] > most) most = b->first[i];
        if (b->second && b->second[i] > most) most = b->second[i];
    }
    if (!b->logarithmic) most = b->most > 0 ? b->most : 1;
    begin_chart(h, b->title, b->x_name);
    if (b->logarithmic) {
        for (double count = 1; count <= most; count *= 10) {
            (void)snprintf(text, sizeof text, "%.0f", count);
            tick_y(h, bar_height(count, most, true), text);
        }
    } else {
        for (uint32_t t = 0; t <= TICKS; t++) {
            (void)snprintf(text, sizeof text, "%.2g", most * t / TICKS);
            tick_y(h, (double)t / TICKS, text);
        }
    }
    tick_x(h, 0, b->left, "start");
    tick_x(h, 1, b->right, "end");
    draw_bars(h, b, b->first, 0, most);
    if (b->second) draw_bars(h, b, b->second, 1, most);
    end_picture(h);
    legend(h, 0, b->first_name);
    if (b->second) legend(h, 1, b->second_name);
    end_chart(h);
}
