#include "demo_screen.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "metrics.h"

enum { LIST_SHOWN = 5 };
static const double SHOW_EVERY_S = 0.7; /* slow enough to be read */

static double now_s(void)
{
    return (double)metrics_now_ns() * 1e-9;
}

void demo_screen_start(struct demo_screen *s, FILE *to)
{
    *s = (struct demo_screen){
        .to = to, .colours = isatty(fileno(to)) == 1, .started_s = now_s()};
}

static const char *colour(const struct demo_screen *s, const char *code)
{
    return s->colours ? code : "";
}

#define BOLD(s)  colour((s), "\033[1m")
#define DIM(s)   colour((s), "\033[2m")
#define RED(s)   colour((s), "\033[1;31m")
#define GREEN(s) colour((s), "\033[32m")
#define PLAIN(s) colour((s), "\033[0m")

static void clear_status(struct demo_screen *s)
{
    if (s->status_drawn) (void)fputs("\r\033[K", s->to);
    s->status_drawn = false;
}

void demo_screen_step(struct demo_screen *s, int number, const char *format,
                      ...)
{
    va_list args;
    clear_status(s);
    (void)fprintf(s->to, "\n%s%d  ", BOLD(s), number);
    va_start(args, format);
    (void)vfprintf(s->to, format, args);
    va_end(args);
    (void)fprintf(s->to, "%s\n", PLAIN(s));
    (void)fflush(s->to);
}

void demo_screen_say(struct demo_screen *s, const char *format, ...)
{
    va_list args;
    clear_status(s);
    (void)fputs("   ", s->to);
    va_start(args, format);
    (void)vfprintf(s->to, format, args);
    va_end(args);
    (void)fputc('\n', s->to);
    (void)fflush(s->to);
}

void demo_screen_status(struct demo_screen *s, const char *format, ...)
{
    va_list args;
    if (!s->colours) return;
    (void)fputs("\r\033[K   ", s->to);
    va_start(args, format);
    (void)vfprintf(s->to, format, args);
    va_end(args);
    (void)fflush(s->to);
    s->status_drawn = true;
}

static void say_event(struct demo_screen *s, const struct generated *made)
{
    static const char *const TYPES[] = {"views", "puts into the cart", "buys",
                                        "pays"};
    char user[GENERATE_ID_BYTES], item[GENERATE_ID_BYTES], when[32];
    time_t seconds = (time_t)(made->time_ms / 1000);
    struct tm tm;
    (void)gmtime_r(&seconds, &tm);
    (void)strftime(when, sizeof when, "%a %d %b %H:%M:%S", &tm);
    generate_user_id(made->user, user);
    generate_item_id(made->item, item);
    demo_screen_say(s, "%s%s%s  %s %s %s for %.2f", DIM(s), when, PLAIN(s),
                    user, TYPES[made->type], item,
                    (double)made->amount_cents / 100);
}

static const char *truth(enum fraud_kind kind)
{
    static const char *const WORDS[FRAUD_KINDS] = {
        "", "  (in truth: a stolen card, one large amount)",
        "  (in truth: a taken-over account)",
        "  (in truth: a merchant that abuses cards)",
        "  (in truth: a card being tested)"};
    return WORDS[kind];
}

static void say_result(struct demo_screen *s, const struct demo_result *r)
{
    const struct demo_event *ev = r->event;
    bool flagged = (double)ev->fraud >= s->threshold;
    char items[LIST_SHOWN * GENERATE_ID_BYTES] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < r->list_count && i < LIST_SHOWN; i++)
        used += (size_t)snprintf(items + used, sizeof items - used, " %s",
                                 r->list[i]);
    demo_screen_say(s, "   -> %sfraud %5.1f %%%s  anomaly %.3f  %.1f ms%s",
                    flagged ? RED(s) : GREEN(s), (double)ev->fraud * 100,
                    PLAIN(s), (double)ev->anomaly, (double)ev->latency_ms,
                    truth(ev->made.fraud));
    if (*r->why)
        demo_screen_say(s, "      %swhy:  %s%s", DIM(s), r->why, PLAIN(s));
    demo_screen_say(s, "      %snext:%s ...%s", DIM(s), items, PLAIN(s));
}

static void keep_latency(struct demo_screen *s, float ms)
{
    if (s->latency_count < s->latency_max)
        s->latencies_ms[s->latency_count++] = ms;
}

void demo_screen_result(struct demo_screen *s, const struct demo_result *r)
{
    const struct demo_event *ev = r->event;
    bool remarkable =
        ev->made.fraud != FRAUD_NONE || (double)ev->fraud >= s->threshold;
    double now = now_s();
    if (!s->showing) return;
    keep_latency(s, ev->latency_ms);
    if (now < s->shown_s + SHOW_EVERY_S || remarkable == s->remarkable) return;
    s->shown_s = now;
    s->remarkable = remarkable;
    say_event(s, &ev->made);
    say_result(s, r);
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

double demo_screen_latency_ms(struct demo_screen *s, double q)
{
    if (s->latency_count == 0) return NAN;
    qsort(s->latencies_ms, s->latency_count, sizeof *s->latencies_ms, compare);
    return (double)
        s->latencies_ms[(uint32_t)(q * (double)(s->latency_count - 1))];
}
