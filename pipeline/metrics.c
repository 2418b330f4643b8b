#include "metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct metrics {
    uint32_t workers;
    struct worker_metrics *at;
    const char **stages; /* (workers) NULL: no such label */
    _Atomic uint64_t totals[TOTALS];
    pthread_mutex_t model_lock; /* page and reload; no worker takes it */
    uint64_t budget_bytes;
    bool has_model;
    char model_hash[17], model_family[32];
    double started_s; /* wall clock, for process_start_time_seconds */
};

static const char *const STEP_NAMES[STEPS_COUNT] = {
#define STEP(name) #name,
#include "steps.def"
#undef STEP
};

const char *step_name(enum step s)
{
    assert(s < STEPS_COUNT);
    return STEP_NAMES[s];
}

const char *worker_phase_name(enum worker_phase p)
{
    static const char *const NAMES[PHASES] = {"starting", "restoring",
                                              "folding", "scoring", "draining"};
    assert(p < PHASES);
    return NAMES[p];
}

enum rc metrics_new(struct metrics **out, uint32_t workers, struct err *e)
{
    struct metrics *m = calloc(1, sizeof *m);
    struct timespec now;
    size_t size = sizeof *m->at * workers;

    *out = NULL;
    if (m) m->at = aligned_alloc(64, size);
    if (m) m->stages = calloc(workers, sizeof(char *));
    if (!m || !m->at || !m->stages) {
        if (m) free(m->at);
        if (m) free((void *)m->stages);
        free(m);
        return ERR(e, RC_STOP, "metrics: no memory for %u workers", workers);
    }
    memset(m->at, 0, size);
    m->workers = workers;
    (void)pthread_mutex_init(&m->model_lock, NULL);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    m->started_s = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    for (uint32_t w = 0; w < workers; w++)
        metrics_phase(&m->at[w], PHASE_STARTING);
    *out = m;
    return RC_OK;
}

void metrics_free(struct metrics *m)
{
    if (!m) return;
    (void)pthread_mutex_destroy(&m->model_lock);
    free(m->at);
    free((void *)m->stages);
    free(m);
}

struct worker_metrics *metrics_worker(struct metrics *m, uint32_t worker)
{
    assert(worker < m->workers);
    return &m->at[worker];
}

void metrics_set_model(struct metrics *m, const struct model_info *info)
{
    (void)pthread_mutex_lock(&m->model_lock);
    m->has_model = info != NULL;
    (void)snprintf(m->model_hash, sizeof m->model_hash, "%s",
                   info ? info->hash : "");
    (void)snprintf(m->model_family, sizeof m->model_family, "%s",
                   info ? info->family : "");
    (void)pthread_mutex_unlock(&m->model_lock);
}

void metrics_count(struct metrics *m, enum metrics_process_total t)
{
    (void)atomic_fetch_add_explicit(&m->totals[t], 1, memory_order_relaxed);
}

void metrics_set_stage(struct metrics *m, uint32_t worker, const char *stage)
{
    assert(worker < m->workers);
    m->stages[worker] = stage;
}

void metrics_set_budget(struct metrics *m, uint64_t bytes)
{
    m->budget_bytes = bytes;
}

void metrics_dead_letter(struct worker_metrics *m, enum bad_reason reason)
{
    _Atomic uint64_t *at = &m->dead_letters[reason];
    assert(reason > BAD_NONE && reason < BAD_REASONS);
    atomic_store_explicit(at,
                          atomic_load_explicit(at, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* ------------------------------------------------------------ reading it */

static uint64_t read_u64(const _Atomic uint64_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static double read_gauge(const struct worker_metrics *w, enum metrics_gauge g)
{
    return atomic_load_explicit(&w->gauges[g], memory_order_relaxed);
}

uint32_t metrics_workers(const struct metrics *m)
{
    return m->workers;
}

struct worker_health metrics_health(const struct metrics *m, uint32_t worker)
{
    const struct worker_metrics *w = &m->at[worker];
    uint64_t turned = read_u64(&w->turned_ns), now = metrics_now_ns();
    assert(worker < m->workers);
    return (struct worker_health){
        .phase = atomic_load_explicit(&w->phase, memory_order_relaxed),
        .quiet_seconds = now > turned ? (double)(now - turned) * 1e-9 : 0,
        .partitions = (uint64_t)read_gauge(w, GAUGE_partitions),
        .partitions_folding = (uint64_t)read_gauge(w, GAUGE_partitions_folding),
        .partitions_held = (uint64_t)read_gauge(w, GAUGE_partitions_held),
        .partitions_restoring =
            (uint64_t)read_gauge(w, GAUGE_partitions_restoring),
        .restored = read_gauge(w, GAUGE_restore_done),
    };
}

uint64_t metrics_sum(const struct metrics *m, enum metrics_counter c)
{
    uint64_t sum = 0;
    for (uint32_t w = 0; w < m->workers; w++)
        sum += read_u64(&m->at[w].counters[c]);
    return sum;
}

void metrics_steps(const struct metrics *m, enum step s, struct histogram *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t w = 0; w < m->workers; w++)
        histogram_merge(out, &m->at[w].steps[s]);
}

/* --------------------------------------------------- the Prometheus text */

/* A page under way; last: the family whose head was written last. */
struct page {
    const struct metrics *m;
    FILE *to;
    const char *last;
};

/* HELP text escapes backslash and line feed, label values quotes as well. */
static void put_escaped(FILE *to, const char *text, bool quotes)
{
    for (; *text; text++) {
        if (*text == '\\' || (quotes && *text == '"'))
            (void)fprintf(to, "\\%c", *text);
        else if (*text == '\n')
            (void)fputs("\\n", to);
        else
            (void)fputc(*text, to);
    }
}

/* HELP and TYPE, once for the rows of a name. */
static void put_head(struct page *p, const char *name, const char *type,
                     const char *help)
{
    if (p->last && strcmp(p->last, name) == 0) return;
    p->last = name;
    (void)fprintf(p->to, "# HELP %s ", name);
    put_escaped(p->to, help, false);
    (void)fprintf(p->to, "\n# TYPE %s %s\n", name, type);
}

/* "{labels,stage="items",worker="3"}" */
static void put_labels(struct page *p, const char *name, const char *labels,
                       uint32_t w)
{
    const char *stage = p->m->stages[w];
    (void)fprintf(p->to, "%s{%s%s", name, labels, *labels ? "," : "");
    if (stage) (void)fprintf(p->to, "stage=\"%s\",", stage);
    (void)fprintf(p->to, "worker=\"%u\"}", w);
}

static void put_counter(struct page *p, enum metrics_counter c,
                        const char *name, const char *labels, const char *help)
{
    put_head(p, name, "counter", help);
    for (uint32_t w = 0; w < p->m->workers; w++) {
        put_labels(p, name, labels, w);
        (void)fprintf(p->to, " %llu\n",
                      (unsigned long long)read_u64(&p->m->at[w].counters[c]));
    }
}

static void put_gauge(struct page *p, enum metrics_gauge g, const char *name,
                      const char *labels, const char *help)
{
    put_head(p, name, "gauge", help);
    for (uint32_t w = 0; w < p->m->workers; w++) {
        put_labels(p, name, labels, w);
        (void)fprintf(p->to, " %.17g\n", read_gauge(&p->m->at[w], g));
    }
}

static void put_total(struct page *p, enum metrics_process_total t,
                      const char *name, const char *labels, const char *help)
{
    put_head(p, name, "counter", help);
    (void)fprintf(p->to, "%s%s%s%s %llu\n", name, *labels ? "{" : "", labels,
                  *labels ? "}" : "",
                  (unsigned long long)read_u64(&p->m->totals[t]));
}

/* A dead letter has a reason; BAD_NONE is none. Sums over workers. */
static void put_reasons(struct page *p, const char *name, const char *help)
{
    put_head(p, name, "counter", help);
    for (uint32_t r = BAD_NONE + 1; r < BAD_REASONS; r++) {
        uint64_t sum = 0;
        for (uint32_t w = 0; w < p->m->workers; w++)
            sum += read_u64(&p->m->at[w].dead_letters[r]);
        (void)fprintf(p->to, "%s{reason=\"%s\"} %llu\n", name,
                      bad_reason_name(r), (unsigned long long)sum);
    }
}

/* Two of eight buckets of an octave are shown: what a dashboard needs, at a
 * quarter of the text. The counts are cumulative, so none is lost. */
static void put_buckets(struct page *p, const char *name, const char *labels,
                        const struct histogram *h)
{
    enum { SHOWN_EVERY = HISTOGRAM_PER_OCTAVE / 2 };
    const char *comma = *labels ? "," : "";
    uint64_t below = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        below += read_u64(&h->counts[i]);
        if (i % SHOWN_EVERY == 0)
            (void)fprintf(p->to, "%s_bucket{%s%sle=\"%.9g\"} %llu\n", name,
                          labels, comma, (double)histogram_bound_ns(i) * 1e-9,
                          (unsigned long long)below);
    }
    below += read_u64(&h->counts[HISTOGRAM_BUCKETS - 1]);
    (void)fprintf(p->to, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels,
                  comma, (unsigned long long)below);
    (void)fprintf(p->to, "%s_sum%s%s%s %.9f\n", name, *labels ? "{" : "",
                  labels, *labels ? "}" : "",
                  (double)read_u64(&h->sum_ns) * 1e-9);
    (void)fprintf(p->to, "%s_count%s%s%s %llu\n", name, *labels ? "{" : "",
                  labels, *labels ? "}" : "", (unsigned long long)below);
}

static void put_steps(struct page *p, const char *name, const char *help)
{
    put_head(p, name, "histogram", help);
    for (uint32_t s = 0; s < STEPS_COUNT; s++) {
        struct histogram sum;
        char label[64];
        metrics_steps(p->m, s, &sum);
        (void)snprintf(label, sizeof label, "step=\"%s\"", step_name(s));
        put_buckets(p, name, label, &sum);
    }
}

static void put_histogram(struct page *p, enum metrics_histogram which,
                          const char *name, const char *help)
{
    struct histogram sum = {0};
    put_head(p, name, "histogram", help);
    for (uint32_t w = 0; w < p->m->workers; w++)
        histogram_merge(&sum, &p->m->at[w].times[which]);
    put_buckets(p, name, "", &sum);
}

static void put_infos(struct page *p)
{
    char hash[sizeof p->m->model_hash], family[sizeof p->m->model_family];
    pthread_mutex_t *lock = (pthread_mutex_t *)&p->m->model_lock;
    bool has_model;

    (void)pthread_mutex_lock(lock);
    has_model = p->m->has_model;
    memcpy(hash, p->m->model_hash, sizeof hash);
    memcpy(family, p->m->model_family, sizeof family);
    (void)pthread_mutex_unlock(lock);
    put_head(p, "millrace_build_info", "gauge",
             "Always 1; the label says which version runs.");
    (void)fprintf(p->to, "millrace_build_info{version=\"%s\"} 1\n",
                  MILLRACE_VERSION);
    if (!has_model) return;
    put_head(p, "millrace_model_info", "gauge",
             "Always 1; the labels say which model and kernels score. Hosts "
             "of one group should agree.");
    (void)fputs("millrace_model_info{hash=\"", p->to);
    put_escaped(p->to, hash, true);
    (void)fputs("\",family=\"", p->to);
    put_escaped(p->to, family, true);
    (void)fputs("\"} 1\n", p->to);
}

/* The names that Prometheus' own client libraries give these. */
static void put_process(struct page *p)
{
    struct timespec cpu;
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm) {
        if (fscanf(statm, "%*u %lu", &pages) != 1) pages = 0;
        (void)fclose(statm);
    }
    put_head(p, "process_resident_memory_bytes", "gauge",
             "Memory in use. It stays below millrace_memory_budget_bytes; if "
             "it does not, report it.");
    (void)fprintf(p->to, "process_resident_memory_bytes %llu\n",
                  (unsigned long long)pages *
                      (unsigned long long)sysconf(_SC_PAGESIZE));
    if (p->m->budget_bytes > 0) {
        put_head(p, "millrace_memory_budget_bytes", "gauge",
                 "The most that the options may ask for; `millrace config "
                 "explain memory.max` shows the sum.");
        (void)fprintf(p->to, "millrace_memory_budget_bytes %llu\n",
                      (unsigned long long)p->m->budget_bytes);
    }
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    put_head(p, "process_cpu_seconds_total", "counter",
             "Processor time used, all threads.");
    (void)fprintf(p->to, "process_cpu_seconds_total %.6f\n",
                  (double)cpu.tv_sec + (double)cpu.tv_nsec * 1e-9);
    put_head(p, "process_start_time_seconds", "gauge",
             "When the process started, seconds since 1970.");
    (void)fprintf(p->to, "process_start_time_seconds %.3f\n", p->m->started_s);
}

enum rc metrics_write(const struct metrics *m, char **out, size_t *len,
                      struct err *e)
{
    struct page page = {.m = m}, *p = &page;

    *out = NULL;
    p->to = open_memstream(out, len);
    if (!p->to) return ERR(e, RC_AGAIN, "metrics: no memory for the page");
    put_infos(p);
#define COUNTER(field, name, labels, help)                                     \
    put_counter(p, COUNT_##field, name, labels, help);
#define GAUGE(field, name, labels, help)                                       \
    put_gauge(p, GAUGE_##field, name, labels, help);
#define STEPS(name, help)            put_steps(p, name, help);
#define HISTOGRAM(field, name, help) put_histogram(p, TIME_##field, name, help);
#define REASONS(name, help)          put_reasons(p, name, help);
#define TOTAL(field, name, labels, help)                                       \
    put_total(p, TOTAL_##field, name, labels, help);
#include "../config/metrics.def"
#undef COUNTER
#undef GAUGE
#undef STEPS
#undef HISTOGRAM
#undef REASONS
#undef TOTAL
    put_process(p);
    if (fclose(p->to) == 0 && *out) return RC_OK;
    free(*out);
    *out = NULL;
    return ERR(e, RC_AGAIN, "metrics: no memory for the page");
}
