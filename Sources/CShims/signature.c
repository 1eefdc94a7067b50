// Public-key signatures, with the library that also computes SHA-256. Keys and signatures come as the numbers that SSH has in
// them (RFC 4253, 5656, 8709); what does not fit the algorithm is a bad signature, never an error that could be passed over.
// SPDX-License-Identifier: GPL-3.0-or-later
#include "cshims.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <string.h>

static int verify(EVP_PKEY *key, const EVP_MD *digest, const uint8_t *signature, size_t size, const uint8_t *data, size_t count)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int good = key && context && EVP_DigestVerifyInit(context, NULL, digest, NULL, key) == 1 &&
               EVP_DigestVerify(context, signature, size, data, count) == 1;

    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return good;
}

int ks_verify_ed25519(const uint8_t *key, const uint8_t *signature, const uint8_t *data, size_t count)
{
    return verify(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key, 32), NULL, signature, 64, data, count);
}

static EVP_PKEY *from_data(const char *algorithm, OSSL_PARAM_BLD *builder)
{
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, algorithm, NULL);
    EVP_PKEY *key = NULL;

    if (!parameters || !context || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    return key;
}

int ks_verify_ecdsa(const char *group, const char *digest, const uint8_t *point, size_t point_size,
                    const uint8_t *r, size_t r_size, const uint8_t *s, size_t s_size, const uint8_t *data, size_t count)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    ECDSA_SIG *numbers = ECDSA_SIG_new();
    uint8_t *der = NULL;
    EVP_PKEY *key = NULL;
    int size = 0, good = 0;

    if (builder && OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, point_size) == 1)
        key = from_data("EC", builder);
    // The signature owns both numbers afterwards.
    BIGNUM *first = BN_bin2bn(r, (int)r_size, NULL), *second = BN_bin2bn(s, (int)s_size, NULL);
    if (numbers && first && second && ECDSA_SIG_set0(numbers, first, second) == 1) {
        size = i2d_ECDSA_SIG(numbers, &der);
    } else {
        BN_free(first);
        BN_free(second);
    }
    if (key && size > 0)
        good = verify(key, EVP_get_digestbyname(digest), der, (size_t)size, data, count);
    else
        EVP_PKEY_free(key);
    OPENSSL_free(der);
    ECDSA_SIG_free(numbers);
    OSSL_PARAM_BLD_free(builder);
    ERR_clear_error();
    return good;
}

int ks_verify_rsa(const uint8_t *modulus, size_t modulus_size, const uint8_t *exponent, size_t exponent_size,
                  const char *digest, const uint8_t *signature, size_t signature_size, const uint8_t *data, size_t count)
{
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    BIGNUM *n = BN_bin2bn(modulus, (int)modulus_size, NULL);
    BIGNUM *e = BN_bin2bn(exponent, (int)exponent_size, NULL);
    EVP_PKEY *key = NULL;

    // What is shorter can be factored.
    if (builder && n && e && BN_num_bits(n) >= 2048 && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
        key = from_data("RSA", builder);
    BN_free(n);
    BN_free(e);
    OSSL_PARAM_BLD_free(builder);
    ERR_clear_error();
    return key ? verify(key, EVP_get_digestbyname(digest), signature, signature_size, data, count) : 0;
}

int ks_sha512(const void *bytes, size_t count, uint8_t *digest)
{
    unsigned length = 64;
    return EVP_Digest(bytes, count, digest, &length, EVP_sha512(), NULL) == 1 ? 0 : -1;
}
