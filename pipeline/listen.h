/* listen.h - a socket that listens at an address of the configuration.
 *
 * Address  "127.0.0.1:9464", "[::1]:0", "host:80"; ":9464" is every address
 *          of this host.
 * Threads  Any thread. */
#ifndef MILLRACE_LISTEN_H
#define MILLRACE_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

/* *out: the descriptor, non-blocking, closed on exec. key names the option
 * in errors. RC_STOP where text is no address or it cannot be had. */
enum rc listen_open(int *out, const char *key, const char *text,
                    struct err *e) MUST_USE;
/* The port that was bound: the address may ask for 0, any that is free. */
uint16_t listen_port(int fd);
/* Whether only this host can reach it. */
bool listen_is_loopback(int fd);

#endif
