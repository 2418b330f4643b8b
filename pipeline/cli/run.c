/* run - scores live topics until it is told to stop. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "log.h"
#include "service.h"

enum {
    WATCH_MS = 100, /* how soon a fault or a signal is noticed */
    CLOSE_MS = 500, /* beyond drain.timeout, for closing clients */
    STATUS_PERIOD_S = 10,
};

static const struct cli_usage USAGE = {
    .synopsis = "run [options]",
    .about = "Scores the events of input.topic until SIGTERM or SIGINT, which "
             "commits,\nleaves the group and exits. A second signal exits at "
             "once; nothing is lost.\nSIGHUP reads configuration and model "
             "again. Metrics and health are at admin.listen.",
    .uses = CLI_CONFIG,
    .example = "millrace run --config millrace.conf --set workers=2",
};

/* Blocked in every thread to come, so that only watch() takes them. */
static sigset_t block_signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    return set;
}

/* 0 if none came within WATCH_MS. */
static int next_signal(const sigset_t *set)
{
    const struct timespec wait = {.tv_nsec = WATCH_MS * 1000000L};
    int got = sigtimedwait(set, NULL, &wait);
    return got > 0 ? got : 0;
}

static void log_status(struct service *s)
{
    static uint64_t before_events, before_ns;
    uint64_t events = metrics_sum(service_metrics(s), COUNT_events);
    uint64_t now_ns = metrics_now_ns();
    double seconds = (double)(now_ns - before_ns) / 1e9;

    if (before_ns > 0)
        LOG(INFO, "STATUS",
            "events=%llu events_per_second=%.0f lag=%llu p99_ms=%.1f",
            (unsigned long long)events,
            (double)(events - before_events) / seconds,
            (unsigned long long)service_lag(s), service_latency_ms(s, 0.99));
    before_events = events;
    before_ns = now_ns;
}

static void watch(struct service *s, const sigset_t *set)
{
    uint64_t next_ns = 0;

    while (service_running(s)) {
        int got = next_signal(set);
        if (got == SIGHUP) {
            service_reload(s);
        } else if (got) {
            LOG(INFO, "STOPPING", "signal=%s", strsignal(got));
            service_stop(s);
        } else if (metrics_now_ns() >= next_ns) {
            log_status(s);
            next_ns = metrics_now_ns() + STATUS_PERIOD_S * UINT64_C(1000000000);
        }
    }
}

/* A second signal, or too long a wait: what is not committed is folded or
 * scored again by whoever comes next, as after a crash. */
static enum rc drain(struct service *s, const sigset_t *set, struct err *e)
{
    uint64_t wait_ms = (uint64_t)service_drain_ms(s) + CLOSE_MS;
    uint64_t until_ns = metrics_now_ns() + wait_ms * 1000000;
    enum rc rc;

    while ((rc = service_join(s, WATCH_MS / 2, e)) == RC_AGAIN) {
        const struct timespec now = {0};
        int got = sigtimedwait(set, NULL, &now);
        if ((got > 0 && got != SIGHUP) || metrics_now_ns() > until_ns) {
            LOG(WARN, "UNDRAINED", "workers did not end in time; exiting");
            _exit(EXIT_FAILED);
        }
    }
    return rc;
}

/* What the command line says still counts. */
static enum rc read_again(void *user, struct config **out, struct err *e)
{
    const struct cli *cli = user;
    return config_load(out, cli->config_path, cli->sets.at, cli->sets.count, e);
}

/* A core file, or a debugger of the same user, would show the passwords that
 * librdkafka, libcurl and this program hold. */
static void close_memory(const struct config *c)
{
    const struct rlimit none = {0, 0};
    if (c->core_dumps) return;
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        LOG(WARN, "DUMPABLE", "a crash may leave a core file: %s",
            strerror(errno));
}

static int run(struct cli *cli, const struct config *c)
{
    const struct service_reread reread = {read_again, cli};
    sigset_t set = block_signals();
    struct service *s;
    struct err e, later;
    enum rc rc = service_open(&s, c, reread, &e), drained;

    if (rc != RC_OK) return cli_fail(cli, EXIT_CONFIG, &e);
    LOG(INFO, "START", "version=%s topic=%s group=%s workers=%u delivery=%s",
        MILLRACE_VERSION, c->input_topic, c->group_id, c->workers,
        c->delivery == EXACTLY_ONCE ? "exactly_once" : "at_least_once");
    rc = service_start(s, &e);
    if (rc == RC_OK)
        watch(s, &set);
    else
        service_stop(s);
    drained = drain(s, &set, rc == RC_OK ? &e : &later);
    if (rc == RC_OK) rc = drained;
    if (rc == RC_OK)
        LOG(INFO, "STOPPED", "events=%llu",
            (unsigned long long)metrics_sum(service_metrics(s), COUNT_events));
    service_close(s);
    return rc == RC_OK ? EXIT_OK : cli_fail(cli, EXIT_FAILED, &e);
}

int command_run(int argc, char **argv)
{
    struct cli cli;
    struct config *c;
    int status = cli_parse(&cli, &USAGE, argc, argv);

    if (status != CLI_GO) return status;
    if (cli.arg_count > 0)
        return cli_complain(&cli, EXIT_USAGE, "takes no argument '%s'",
                            cli.args[0]);
    c = cli_config(&cli);
    if (!c) return EXIT_CONFIG;
    close_memory(c);
    status = run(&cli, c);
    config_free(c);
    return status;
}
