#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 16, HOST_BYTES = 256 };

/* "host:port", "[v6]:port", ":port" -> host ("" for all) and port text. */
static bool split(const char *listen, char host[HOST_BYTES], const char **port)
{
    const char *colon = strrchr(listen, ':');
    size_t len;
    if (!colon || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        atoi(colon + 1) > 65535)
        return false;
    *port = colon + 1;
    len = (size_t)(colon - listen);
    if (len >= 2 && listen[0] == '[' && listen[len - 1] == ']') {
        listen++;
        len -= 2;
    } else if (memchr(listen, ':', len)) {
        return false; /* an IPv6 address needs its brackets */
    }
    if (len >= HOST_BYTES) return false;
    memcpy(host, listen, len);
    host[len] = 0;
    return true;
}

/* A socket that listens at the address, or -1 and errno. */
static int open_address(const struct addrinfo *at)
{
    int on = 1, saved;
    int fd =
        socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

enum rc listen_open(int *out, const char *key, const char *text, struct err *e)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    char host[HOST_BYTES];
    const char *port;
    int failed, fd;

    if (!split(text, host, &port))
        return ERR(e, RC_STOP, "%s = %s: give host:port, [ipv6]:port or :port",
                   key, text);
    failed = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (failed)
        return ERR(e, RC_STOP, "%s = %s: cannot resolve %s: %s", key, text,
                   host, gai_strerror(failed));
    fd = open_address(list);
    freeaddrinfo(list);
    if (fd < 0)
        return ERR(e, RC_STOP,
                   "%s = %s: cannot listen: %s; another millrace may run on "
                   "this host: set another port, or none",
                   key, text, strerror(errno));
    *out = fd;
    return RC_OK;
}

uint16_t listen_port(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    char port[8];
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0 ||
        getnameinfo((struct sockaddr *)&at, len, NULL, 0, port, sizeof port,
                    NI_NUMERICSERV) != 0)
        return 0;
    return (uint16_t)atoi(port);
}

bool listen_is_loopback(int fd)
{
    struct sockaddr_storage at;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&at;
    const struct sockaddr_in *four = (const struct sockaddr_in *)&at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0) return false;
    if (at.ss_family == AF_INET)
        return ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return at.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}
