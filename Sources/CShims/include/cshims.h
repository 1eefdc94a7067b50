// The C libraries that Core uses, and small functions where a header cannot be imported as it is.
// SPDX-License-Identifier: GPL-3.0-or-later
#ifndef KSPLICE_CSHIMS_H
#define KSPLICE_CSHIMS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <dwarf.h>
#include <elf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <gelf.h>
#include <git2.h>
#include <libelf.h>
#include <zlib.h>

// Disassembles the one instruction at the start of `bytes` as AT&T text into `text` (always terminated).
// `bits` is 32 or 64. Returns the instruction's length in bytes, or -1 if it is not a valid instruction.
int ks_disassemble(const uint8_t *bytes, size_t count, uint64_t address, int bits, char *text, size_t text_size);

// SHA-1, 20 bytes, as git names objects. Returns 0 on success.
int ks_sha1(const void *bytes, size_t count, uint8_t *digest);

// SHA-256 of `bytes` into `digest` (32 bytes). Returns 0, or -1 if the library refuses.
int ks_sha256(const void *bytes, size_t count, uint8_t *digest);

// The same with SHA-512, 64 bytes.
int ks_sha512(const void *bytes, size_t count, uint8_t *digest);

// Whether a signature of `data` is good: 1, or 0. Ed25519: a key of 32 bytes, a signature of 64. ECDSA: the curve as OpenSSL
// names it, the hash, the point, both numbers of the signature, big-endian. RSA with PKCS #1 1.5: modulus, of at least 2,048 bits, and
// exponent, big-endian.
int ks_verify_ed25519(const uint8_t *key, const uint8_t *signature, const uint8_t *data, size_t count);
int ks_verify_ecdsa(const char *group, const char *digest, const uint8_t *point, size_t point_size,
                    const uint8_t *r, size_t r_size, const uint8_t *s, size_t s_size, const uint8_t *data, size_t count);
int ks_verify_rsa(const uint8_t *modulus, size_t modulus_size, const uint8_t *exponent, size_t exponent_size,
                  const char *digest, const uint8_t *signature, size_t signature_size, const uint8_t *data, size_t count);

// Compresses with gzip framing and no time stamp, so that equal input gives equal output.
// `*out` is allocated with malloc. Returns 0, or a zlib error code.
int ks_gzip(const uint8_t *in, size_t in_size, uint8_t **out, size_t *out_size);

// Decompresses gzip framing; stops with Z_BUF_ERROR when the output would exceed `limit` or the input is truncated.
int ks_gunzip(const uint8_t *in, size_t in_size, size_t limit, uint8_t **out, size_t *out_size);

// Sets what libgit2 must know before a repository is opened. Returns 0 or a libgit2 error code.
int ks_git_configure(void);

// How many processors this process may use, as nproc(1) counts them.
int ks_processors(void);

// The type of the file system that a path lies on (statfs(2)), or -1.
int64_t ks_file_system_type(const char *path);

// System calls that glibc does not wrap.
int ks_init_module(const void *image, size_t size, const char *parameters);
int ks_delete_module(const char *name, unsigned flags);

// Holds tasks where they leave the kernel, until they are let go or the calling thread ends, for a second at most. Waits at most about so many
// milliseconds for them to get there. Tasks that cannot be held run on. Returns NULL where there can be no holder.
struct ks_holder;
struct ks_holder *ks_hold(const pid_t *tasks, size_t count, int milliseconds);
void ks_let_go(struct ks_holder *holder);

// A file in memory without a name, closed at exec; -1 where there can be none.
int ks_unnamed_file(void);

// Runs a program with pipes: what is written to `input` is its standard input, what it prints is read from `output`. Both are
// non-blocking and closed at exec. `changes` are those of its environment (`NAME=value`, or `NAME` to remove it), `errors` its standard
// error, or -1 for this process's own; `directory` may be NULL. Returns an error number or 0; then the caller closes both and waits for
// the child.
int ks_spawn(char *const *words, char *const *changes, const char *directory, int errors, pid_t *child, int *input,
             int *output);

#endif
