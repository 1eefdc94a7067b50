// Damaged code is refused in memory as it is after boot, too, where the kernel has rewritten its patch sites: the memory that
// matching reads is copied out of a guest, and then each byte of each function is damaged in the copy.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite struct BootedRejection {
        /// What is damaged of one kernel.
        struct Sample: Sendable, CustomTestStringConvertible {
            /// Nil for the kernel of the other tests.
            var kernel: OtherKernel?
            /// Small ones that have sites of all kinds together.
            var units: [String]
            /// Of these, every bit; of the others, one of each byte.
            var thorough: Set<String>
            /// What the kernel must have rewritten in them.
            var rewritten: [String]
            var flips: Int
            var testDescription: String { kernel?.name ?? "6.1" }
        }

        static let samples = [
            Sample(
                units: ["kernel/groups.c", "kernel/cred.c", "ipc/msg.c", "kernel/softirq.c"],
                thorough: ["kernel/groups.c"],
                rewritten: [
                    "alternative", "paravirtual call", "return thunk", "fentry site", "static call",
                    "jump label",
                ], flips: 20_000),
            // Paravirtual calls are alternatives there.
            Sample(
                kernel: OtherKernel.all.last,
                units: ["kernel/groups.c", "ipc/msg.c", "kernel/softirq.c"],
                thorough: [],
                rewritten: ["alternative", "return thunk", "fentry site", "static call", "jump label"],
                flips: 8_000),
        ]

        @Test(
            "a function with one flipped bit is refused in memory after boot, whichever byte it is in",
            arguments: samples)
        func flippedBits(sample: Sample) async throws {
            let laboratory = try await Laboratory.shared()
            let kernel =
                if let other = sample.kernel { try await other.descriptor(laboratory) } else {
                    try await laboratory.descriptor()
                }
            let objects = try await PreObjects.shared(
                laboratory, kernel: sample.kernel?.registered ?? Laboratory.kernel)
            let units = try sample.units.map { path in
                let name = String(path.dropLast(2)) + ".o"
                let content = try #require(objects.files.first { $0.path == name }).content
                return MatchUnit(path: path, module: nil, object: try ObjectFile(content, name: path))
            }
            let offline = try #require(try await OfflineKernel(kernel, modules: []))
            let ranges = try ReadRanges(units, offline)
            var guest = Guest(laboratory)
            if sample.kernel != nil {
                guest = Guest(laboratory, bootImage: try #require(kernel.bootImagePath))
            }
            // Addresses are those of the image.
            guest.configure(commandLine: "nokaslr")
            try await guest.add(.peek)
            guest.add(Array(ranges.text.utf8), as: "ranges")
            guest.step("peek", "peek < ranges")
            let memory = try CopiedMemory(try await guest.run().output("peek"))
            var rewritten: [String: Int] = [:]
            var flips = 0
            var unnoticed: [String] = []
            for unit in units {
                let damage = try Damage(unit, memory, offline.symbols, isImage: false)
                rewritten.merge(damage.rewritten()) { $0 + $1 }
                let result = try damage.everywhere(allBits: sample.thorough.contains(unit.path))
                flips += result.flips
                unnoticed += result.unnoticed
            }
            #expect(unnoticed == [], "\(unnoticed.count) of \(flips)")
            #expect(flips > sample.flips)
            // It is about memory that the kernel has rewritten.
            for kind in sample.rewritten {
                #expect(rewritten[kind] ?? 0 > 0, "\(kind): \(rewritten)")
            }
        }
    }
}

/// What matching some units reads of a kernel.
private struct ReadRanges {
    private final class Recorder: KernelMemory {
        let base: any KernelMemory
        var ranges: [Range<UInt64>] = []

        init(_ base: any KernelMemory) { self.base = base }

        func read(at address: UInt64, count: Int) throws -> [UInt8] {
            let bytes = try base.read(at: address, count: count)
            ranges.append(address..<address + UInt64(count))
            return bytes
        }
    }

    /// An address and a count of bytes a line.
    let text: String

    init(_ units: [MatchUnit], _ kernel: OfflineKernel) throws {
        let memory = Recorder(kernel.memory)
        for unit in units {
            for isImage in [true, false] {
                var matcher = try Matcher(
                    units: [unit], tables: try unit.object.entrySizes(), memory: memory,
                    symbols: kernel.symbols, isImage: isImage)
                _ = matcher.match()
                // What the sites of the other functions depend on.
                let code = matcher.codes[0]
                for (section, sites) in code.sites.sites {
                    for site in sites { _ = code.variants(site, section: section, matcher.state.environment) }
                }
            }
        }
        var merged: [Range<UInt64>] = []
        for range in memory.ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = merged.last, range.lowerBound <= last.upperBound {
                merged[merged.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
            } else {
                merged.append(range)
            }
        }
        text = merged.map { "\(hex($0.lowerBound)) \($0.count)\n" }.joined()
    }
}

/// Memory that a guest has printed: an address and bytes in hexadecimal a line.
private final class CopiedMemory: KernelMemory {
    private var pieces: [(address: UInt64, bytes: [UInt8])] = []

    init(_ text: String) throws {
        for line in text.lines {
            let fields = line.split(separator: " ")
            guard fields.count == 2, let address = UInt64(fields[0], radix: 16) else {
                throw Failure("not memory: '\(line.prefix(100))'")
            }
            let digits = Array(fields[1].utf8)
            let bytes = stride(from: 0, to: digits.count - 1, by: 2).map { index in
                UInt8(String(decoding: digits[index..<index + 2], as: UTF8.self), radix: 16) ?? 0
            }
            pieces.append((address, bytes))
        }
        pieces.sort { $0.address < $1.address }
    }

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        let next = pieces.firstIndex { $0.address > address } ?? pieces.count
        guard next > 0, case let piece = pieces[next - 1],
            address - piece.address <= UInt64(piece.bytes.count),
            Int(address - piece.address) + count <= piece.bytes.count
        else { throw Failure("\(hex(address)) was not copied") }
        let start = Int(address - piece.address)
        return Array(piece.bytes[start..<start + count])
    }
}

extension GuestProgram {
    /// Prints pieces of the kernel's memory: reads lines of an address and a count of bytes.
    static let peek = GuestProgram(
        name: "peek",
        code: """
            #include <elf.h>
            #include <fcntl.h>
            #include <stdio.h>
            #include <unistd.h>
            static unsigned char buffer[1 << 20];
            int main(void) {
                static Elf64_Phdr part[64];
                Elf64_Ehdr head;
                unsigned long address, count;
                int fd = open("/proc/kcore", O_RDONLY);
                if (pread(fd, &head, sizeof head, 0) != sizeof head || head.e_phnum > 64) { puts("no kcore"); return 1; }
                pread(fd, part, head.e_phnum * sizeof *part, head.e_phoff);
                while (scanf("%lx %lu", &address, &count) == 2) {
                    int i, found = 0;
                    for (i = 0; i < head.e_phnum && !found; i++) {
                        if (part[i].p_type != PT_LOAD || address < part[i].p_vaddr
                            || address + count > part[i].p_vaddr + part[i].p_memsz || count > sizeof buffer) continue;
                        found = pread(fd, buffer, count, part[i].p_offset + address - part[i].p_vaddr) == (long)count;
                    }
                    if (!found) { printf("cannot read %lx\\n", address); return 1; }
                    printf("%lx ", address);
                    for (unsigned long n = 0; n < count; n++) printf("%02x", buffer[n]);
                    puts("");
                }
                return 0;
            }
            """)
}
