// SPDX-License-Identifier: GPL-3.0-or-later
// libopcodes behind one function: bfd.h insists on PACKAGE, and its callbacks take variable arguments,
// which Swift cannot define.
#define PACKAGE "git-ksplice"
#include "cshims.h"

#include <bfd.h>
#include <dis-asm.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct sink {
    char *text;
    size_t used, size;
};

static int append(struct sink *sink, const char *format, va_list arguments)
{
    if (sink->used >= sink->size)
        return 0;
    int n = vsnprintf(sink->text + sink->used, sink->size - sink->used, format, arguments);
    if (n > 0)
        sink->used += (size_t)n;
    return n;
}

static int print(void *stream, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = append(stream, format, arguments);
    va_end(arguments);
    return n;
}

static int print_styled(void *stream, enum disassembler_style style, const char *format, ...)
{
    (void)style;
    va_list arguments;
    va_start(arguments, format);
    int n = append(stream, format, arguments);
    va_end(arguments);
    return n;
}

static void ignore_memory_error(int status, bfd_vma address, struct disassemble_info *info)
{
    (void)status, (void)address, (void)info;
}

int ks_disassemble(const uint8_t *bytes, size_t count, uint64_t address, int bits, char *text, size_t text_size)
{
    struct sink sink = {text, 0, text_size};
    struct disassemble_info info;
    unsigned long machine = bits == 64 ? bfd_mach_x86_64 : bfd_mach_i386_i386;

    if (text_size == 0)
        return -1;
    text[0] = '\0';
    init_disassemble_info(&info, &sink, print, print_styled);
    info.arch = bfd_arch_i386;
    info.mach = machine;
    info.endian = BFD_ENDIAN_LITTLE;
    info.buffer = (bfd_byte *)bytes;
    info.buffer_vma = address;
    info.buffer_length = count;
    info.memory_error_func = ignore_memory_error;
    disassemble_init_for_target(&info);
    disassembler_ftype decode = disassembler(info.arch, false, machine, NULL);
    if (!decode)
        return -1;
    int length = decode(address, &info);
    if (length <= 0 || strstr(text, "(bad)"))
        return -1;
    size_t end = strlen(text);
    while (end > 0 && text[end - 1] == ' ')
        text[--end] = '\0';
    return length;
}
