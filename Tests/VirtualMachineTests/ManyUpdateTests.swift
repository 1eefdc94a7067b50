// A repository that knows a thousand updates, and a kernel in which a hundred are applied at once. `make stress` does it; it
// prints what it measured, for Documentation/benchmarks.md.

import Core
import Testing

extension VirtualMachineTests {
    @Suite(
        .tags(.long),
        .enabled(if: !Material.value("KSPLICE_STRESS_CYCLES").isEmpty, "it takes an hour: make stress"))
    struct ManyUpdates {
        private static let applied = 100
        private static let known = 1000

        /// A change of a file's first exported function, by an instruction without effect; nil where none is found.
        private static func change(_ path: String, _ laboratory: Laboratory) async throws -> KernelChange? {
            let text = try await laboratory.source(path, at: laboratory.base)
            for export in text.matches(of: /\nEXPORT_SYMBOL(_GPL)?\((\w+)\);/) {
                let start = try Regex("\\n[a-z][^\\n;{}#=]*\\b\(export.2)\\([^;{}#]*\\)\\n\\{\\n")
                guard let found = text.firstMatch(of: start) else { continue }
                let old = String(text[found.range])
                guard !["inline", "__init", "notrace", "noinstr"].contains(where: old.contains),
                    text.ranges(of: old).count == 1
                else { continue }
                return KernelChange(
                    "one of many: \(path)", path, old,
                    old + "\tasm volatile(\"nopl 0x12345678(%rax)\");\n")
            }
            return nil
        }

        /// Updates of files of the kernel's image, one each. What create finds no fit change is passed over.
        private static let updates = Task {
            let laboratory = try await Laboratory.shared()
            var made: [TestUpdate] = []
            var refused: [String] = []
            for path in try SourceList.wholeObjects() where made.count < applied {
                guard let change = try await change(path, laboratory) else { continue }
                do { made.append(try await laboratory.update(change)) } catch { refused.append("\(error)") }
            }
            return (made, refused)
        }

        @Test("a thousand are known: each is found, and no command takes long")
        func known() async throws {
            let laboratory = try await Laboratory.shared()
            let (made, refused) = try await Self.updates.value
            #expect(made.count == Self.applied, "\(refused.joined(separator: "\n"))")
            let store = UpdateStore(try await Repository(directory: laboratory.repository))
            let before = try await store.list(arch: nil, buildID: nil).count
            // The same code under other descriptions: another identity each.
            for number in before..<Self.known {
                var update = try Update(archive: made[number % made.count].archive)
                update = Update(
                    manifest: update.manifest.described(as: "number \(number) of many"), files: update.files)
                try await store.store(update)
            }
            let clock = ContinuousClock()
            let last = try #require(made.last)
            for (arguments, limit) in [
                (["list"], 5), (["show", String(last.id.prefix(12))], 5),
                (["create", "--kernel", Laboratory.kernel, last.commit], 10),
                (["export", "-o", laboratory.folder + "/many.tar.gz", last.id], 5),
            ] {
                var result = CommandResult?.none
                let time = try await clock.measure {
                    result = try await Command(
                        [laboratory.program] + arguments, directory: laboratory.repository
                    )
                    .check()
                }
                print("\(Self.known) updates known: \(arguments[0]) takes \(time)")
                #expect(time < .seconds(limit))
                if arguments[0] == "list" { #expect(result?.text.lines.count == Self.known) }
            }
        }

        static let boot = SharedBoot { laboratory in
            let updates = try await updates.value.0
            var guest = Guest(laboratory)
            guest.configure(commandLine: "", memoryMiB: 3072, seconds: 3600)
            // Modules of the kernel that some of the functions are in.
            for (number, update) in updates.enumerated() {
                let modules = try Update(archive: update.archive).manifest.modules
                if modules.isEmpty { guest.add(update, as: "many/\(number)") }
            }
            let memory = """
                echo 3 > /proc/sys/vm/drop_caches; sleep 1; for c in /sys/kernel/slab/*; do echo 1 > $c/shrink; done 2> /dev/null
                awk '/^(MemFree|Slab|VmallocUsed):/ { print $1, $2 }' /proc/meminfo
                awk '/^ksplice/ { n++; s += $2 } END { print "modules:", n + 0; print "bytes:", s + 0 }' /proc/modules
                """
            guest.step("before", memory)
            guest.step(
                "apply",
                """
                cd many; for u in *.tar.gz; do git-ksplice apply -q $u > /tmp/said 2>&1 || { cat /tmp/said; echo "refused $u"; }
                done; cat /sys/kernel/ksplice/*/pause_ns | sort -n | sed -n '1p;$p'
                """)
            guest.step("applied", memory + "; git-ksplice status | grep -c '  applied'")
            guest.step("time of status", "time git-ksplice status > /dev/null")
            guest.step(
                "still works",
                "ls / > /dev/null && ping -c 1 127.0.0.1 > /dev/null && sh -c 'exit 0' && echo works")
            guest.step(
                "undo", "git-ksplice undo -q --all > /tmp/said 2>&1 || cat /tmp/said; git-ksplice status")
            guest.step("undone", memory)
            return try await guest.run()
        }

        private static func numbers(_ text: String) -> [String: Int] {
            var numbers: [String: Int] = [:]
            for line in text.lines {
                let words = line.split(separator: " ")
                if words.count == 2 { numbers[String(words[0].dropLast())] = Int(words[1]) }
            }
            return numbers
        }

        @Test("a hundred are applied at once, and nothing of them is left")
        func applied() async throws {
            let report = try await Self.boot.report()
            let said = try report.output("apply")
            #expect(!said.contains("refused"), "\(said)")
            let texts = try ["before", "applied", "undone"].map { try report.output($0) }
            let (before, after, undone) = (
                Self.numbers(texts[0]), Self.numbers(texts[1]), Self.numbers(texts[2])
            )
            let count = Int(texts[1].lines.last ?? "") ?? 0
            #expect(count >= 80)
            print("\(count) updates applied: modules and ksplice.ko \(after["bytes"] ?? 0) bytes")
            for key in ["Slab", "VmallocUsed", "MemFree"] {
                print(
                    "\(key): \(before[key] ?? 0) kB, applied \(after[key] ?? 0), undone \(undone[key] ?? 0)")
            }
            print("pauses in ns, shortest and longest: \(said.lines.suffix(2).joined(separator: " "))")
            print("status: \(try report.output("time of status"))")
            #expect(try report.output("still works") == "works")
            #expect(try report.output("undo").contains("no update is loaded"))
            #expect(undone["modules"] ?? 9 <= 1)
            // A page an update would be 400 kB.
            #expect((undone["VmallocUsed"] ?? 0) - (before["VmallocUsed"] ?? 0) < 300)
            #expect(report.warnings == [])
        }
    }
}

extension Manifest {
    /// The same with another description, and so another identity.
    func described(as text: String) -> Manifest {
        var manifest = self
        manifest.description = text
        return manifest
    }
}
