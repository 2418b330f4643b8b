#include "sink_null.h"

static enum rc null_send(struct sink *k, const struct message *m,
                         uint32_t count, struct err *e)
{
    (void)k;
    (void)m;
    (void)count;
    (void)e;
    return RC_OK;
}

static enum rc null_commit(struct sink *k, const struct source_position *next,
                           uint32_t count, struct err *e)
{
    (void)k;
    (void)next;
    (void)count;
    (void)e;
    return RC_OK;
}

static enum rc null_abort(struct sink *k, struct err *e)
{
    (void)k;
    (void)e;
    return RC_OK;
}

static void null_close(struct sink *k)
{
    free(k);
}

static const struct sink_ops OPS = {
    .send = null_send,
    .commit = null_commit,
    .abort = null_abort,
    .close = null_close,
};

enum rc sink_null_new(struct sink **out, struct err *e)
{
    struct sink *k = calloc(1, sizeof *k);
    if (!k) return ERR(e, RC_STOP, "no memory");
    k->ops = &OPS;
    k->ignores = (1u << OUTPUTS) - 1;
    *out = k;
    return RC_OK;
}
