/* tls.h - certificates for tests, made anew each time, so that none ever
 * expires: ca.pem signs server.pem (127.0.0.1) and client.pem, each with its
 * key in NAME.key; other.pem is another CA. */
#ifndef MILLRACE_TEST_REGISTRY_TLS_H
#define MILLRACE_TEST_REGISTRY_TLS_H

void tls_make(const char *folder);
void tls_remove(const char *folder); /* the files, then the folder */

#endif
