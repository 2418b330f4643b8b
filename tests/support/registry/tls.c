#include "tls.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const NAMES[] = {"ca", "server", "client", "other"};

struct identity {
    X509 *certificate;
    EVP_PKEY *key;
};

static void need(bool good, const char *what)
{
    if (good) return;
    (void)fprintf(stderr, "tls: %s failed\n", what);
    abort();
}

static void extend(X509 *to, X509 *issuer, int kind, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    X509V3_set_ctx(&context, issuer, to, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, kind, value);
    need(extension && X509_add_ext(to, extension, -1), "an extension");
    X509_EXTENSION_free(extension);
}

/* issuer NULL: signs itself, and may sign others. */
static struct identity identity_make(const char *name, long serial,
                                     const struct identity *issuer)
{
    struct identity out = {X509_new(), EVP_EC_gen("P-256")};
    X509 *x = out.certificate;
    X509 *by = issuer ? issuer->certificate : x;
    need(x && out.key, "a key");
    (void)X509_set_version(x, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(x), serial);
    (void)X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    (void)X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    (void)X509_set_pubkey(x, out.key);
    need(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN",
                                    MBSTRING_ASC, (const unsigned char *)name,
                                    -1, -1, 0) == 1,
         "a name");
    (void)X509_set_issuer_name(x, X509_get_subject_name(by));
    extend(x, by, NID_basic_constraints,
           issuer ? "critical,CA:FALSE" : "critical,CA:TRUE");
    if (issuer) extend(x, by, NID_subject_alt_name, "IP:127.0.0.1");
    need(X509_sign(x, issuer ? issuer->key : out.key, EVP_sha256()) > 0,
         "signing");
    return out;
}

static FILE *create(const char *folder, const char *name, const char *suffix)
{
    char path[512];
    FILE *file;
    (void)snprintf(path, sizeof path, "%s/%s.%s", folder, name, suffix);
    file = fopen(path, "w");
    need(file != NULL, path);
    return file;
}

static void identity_write(const struct identity *i, const char *folder,
                           const char *name)
{
    FILE *file = create(folder, name, "pem");
    need(PEM_write_X509(file, i->certificate) == 1, "writing");
    (void)fclose(file);
    file = create(folder, name, "key");
    need(PEM_write_PrivateKey(file, i->key, NULL, NULL, 0, NULL, NULL) == 1,
         "writing");
    (void)fclose(file);
}

void tls_make(const char *folder)
{
    struct identity all[4];
    all[0] = identity_make(NAMES[0], 1, NULL);
    all[1] = identity_make(NAMES[1], 2, &all[0]);
    all[2] = identity_make(NAMES[2], 3, &all[0]);
    all[3] = identity_make(NAMES[3], 4, NULL);
    for (int i = 0; i < 4; i++) {
        identity_write(&all[i], folder, NAMES[i]);
        X509_free(all[i].certificate);
        EVP_PKEY_free(all[i].key);
    }
}

void tls_remove(const char *folder)
{
    char path[512];
    for (int i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s/%s.pem", folder, NAMES[i]);
        (void)unlink(path);
        (void)snprintf(path, sizeof path, "%s/%s.key", folder, NAMES[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}
