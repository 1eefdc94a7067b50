// SPDX-License-Identifier: GPL-3.0-or-later
#define _GNU_SOURCE
#include "cshims.h"

#include <openssl/evp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

int ks_sha1(const void *bytes, size_t count, uint8_t *digest)
{
    unsigned length = 20;
    return EVP_Digest(bytes, count, digest, &length, EVP_sha1(), NULL) == 1 ? 0 : -1;
}

int ks_sha256(const void *bytes, size_t count, uint8_t *digest)
{
    unsigned length = 32;
    return EVP_Digest(bytes, count, digest, &length, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

int ks_gzip(const uint8_t *in, size_t in_size, uint8_t **out, size_t *out_size)
{
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    int status = deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY);
    if (status != Z_OK)
        return status;
    size_t bound = deflateBound(&stream, in_size);
    *out = malloc(bound ? bound : 1);
    if (!*out) {
        deflateEnd(&stream);
        return Z_MEM_ERROR;
    }
    stream.next_in = (Bytef *)in;
    stream.avail_in = (uInt)in_size;
    stream.next_out = *out;
    stream.avail_out = (uInt)bound;
    status = deflate(&stream, Z_FINISH);
    *out_size = stream.total_out;
    deflateEnd(&stream);
    if (status == Z_STREAM_END)
        return Z_OK;
    free(*out);
    return status == Z_OK ? Z_BUF_ERROR : status;
}

int ks_gunzip(const uint8_t *in, size_t in_size, size_t limit, uint8_t **out, size_t *out_size)
{
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    int status = inflateInit2(&stream, 15 + 16);
    if (status != Z_OK)
        return status;
    size_t capacity = in_size * 4 + 4096;
    if (capacity > limit)
        capacity = limit;
    *out = malloc(capacity ? capacity : 1);
    stream.next_in = (Bytef *)in;
    stream.avail_in = (uInt)in_size;
    while (*out) {
        stream.next_out = *out + stream.total_out;
        stream.avail_out = (uInt)(capacity - stream.total_out);
        status = inflate(&stream, Z_NO_FLUSH);
        if (status == Z_STREAM_END || (status != Z_OK && status != Z_BUF_ERROR))
            break;
        if (stream.avail_out != 0 || capacity >= limit) {
            status = Z_BUF_ERROR; // the input ended early, or the limit is reached
            break;
        }
        capacity = capacity * 2 > limit ? limit : capacity * 2;
        uint8_t *larger = realloc(*out, capacity);
        if (!larger) {
            status = Z_MEM_ERROR;
            break;
        }
        *out = larger;
    }
    *out_size = stream.total_out;
    inflateEnd(&stream);
    if (status == Z_STREAM_END)
        return Z_OK;
    free(*out);
    *out = NULL;
    return status;
}

int ks_init_module(const void *image, size_t size, const char *parameters)
{
    return (int)syscall(SYS_init_module, image, size, parameters);
}

int ks_delete_module(const char *name, unsigned flags)
{
    return (int)syscall(SYS_delete_module, name, flags);
}

int ks_processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

int64_t ks_file_system_type(const char *path)
{
    struct statfs info;
    return statfs(path, &info) == 0 ? (int64_t)(uint32_t)info.f_type : -1;
}
