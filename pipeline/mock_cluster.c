#include "mock_cluster.h"

#include <stdlib.h>

struct mock_cluster {
    rd_kafka_t *rk; /* the cluster runs on the threads of this client */
    rd_kafka_mock_cluster_t *cluster;
};

enum rc mock_cluster_start(struct mock_cluster **out, uint32_t brokers,
                           struct err *e)
{
    struct mock_cluster *m = calloc(1, sizeof *m);
    rd_kafka_conf_t *conf;
    char text[512];

    if (!m) return ERR(e, RC_STOP, "in-process cluster: no memory");
    conf = rd_kafka_conf_new();
    /* This client has no servers of its own, and would say so. */
    rd_kafka_conf_set_log_cb(conf, NULL);
    m->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    if (!m->rk) {
        rd_kafka_conf_destroy(conf);
        free(m);
        return ERR(e, RC_STOP, "in-process cluster: %s", text);
    }
    m->cluster = rd_kafka_mock_cluster_new(m->rk, (int)brokers);
    if (!m->cluster) {
        mock_cluster_stop(m);
        return ERR(e, RC_STOP,
                   "in-process cluster of %u brokers: cannot listen "
                   "on loopback",
                   brokers);
    }
    *out = m;
    return RC_OK;
}

const char *mock_cluster_servers(const struct mock_cluster *m)
{
    return rd_kafka_mock_cluster_bootstraps(m->cluster);
}

enum rc mock_cluster_topic(struct mock_cluster *m, const char *topic,
                           uint32_t partitions, struct err *e)
{
    rd_kafka_resp_err_t error =
        rd_kafka_mock_topic_create(m->cluster, topic, (int)partitions, 1);
    if (!error) return RC_OK;
    return ERR(e, RC_STOP, "in-process cluster: topic '%s': %s", topic,
               rd_kafka_err2str(error));
}

rd_kafka_mock_cluster_t *mock_cluster_handle(struct mock_cluster *m)
{
    return m->cluster;
}

void mock_cluster_stop(struct mock_cluster *m)
{
    if (!m) return;
    if (m->cluster) rd_kafka_mock_cluster_destroy(m->cluster);
    rd_kafka_destroy(m->rk);
    free(m);
}
