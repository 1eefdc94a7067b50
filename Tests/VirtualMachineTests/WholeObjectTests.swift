// Matching whole translation units, all functions of each, with the files of a kernel and with its memory after boot:
// with and without mitigations, with one processor and several, for processors of several makers.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite(.tags(.long)) struct WholeObjects {
        /// One way to boot, and what the kernel must say of it so that the test is about what it claims.
        struct Boot: Sendable, CustomTestStringConvertible {
            var name: String
            var processor: String?
            var processors = 2
            var commandLine = ""
            /// A command, and a text that it prints.
            var proof: (command: String, text: String)
            var testDescription: String { name }
        }

        private static let flaws = "cat /sys/devices/system/cpu/vulnerabilities"

        static let boots = [
            Boot(name: "two processors", proof: ("echo $(nproc) processors", "2 processors")),
            Boot(
                name: "one processor", processors: 1, proof: ("echo $(nproc) processors", "1 processors")),
            Boot(
                name: "no mitigations", processor: "EPYC", commandLine: "mitigations=off",
                proof: ("\(flaws)/spectre_v2", "Vulnerable")),
            Boot(
                name: "untrained returns", processor: "EPYC", commandLine: "retbleed=unret",
                proof: ("\(flaws)/retbleed", "untrained return thunk")),
            Boot(
                name: "retpolines", processor: "Skylake-Server", commandLine: "spectre_v2=retpoline",
                proof: ("\(flaws)/spectre_v2", "Retpolines")),
            Boot(
                name: "retpolines with lfence", processor: "EPYC", commandLine: "spectre_v2=retpoline,lfence",
                proof: ("\(flaws)/spectre_v2", "LFENCE")),
        ]

        private static let match =
            "cd /root/pre && find . -name '*.o' | sed 's,^\\./,,' | xargs git-ksplice match --object --json"

        /// Why a function of an object may be absent from the kernel.
        static let reasons = ["a weak definition; the kernel has another one", "it equals the code at "]

        @Test("all functions of all subsystems are the image's and the module files'")
        func files() async throws {
            let objects = try await PreObjects.shared(Laboratory.shared())
            let report = try Report(objects.report)
            #expect(report.units.count >= 150)
            #expect(report.units.filter { $0.isCompared }.count >= 150)
            #expect(Set(report.units.compactMap(\.module)).count >= 12)
            try report.check()
        }

        @Test(
            "a path is taken as git takes it, and what is no source of this kernel is told",
            arguments: [
                ("kernel/groups.c", 0, "kernel/groups.c: "),
                ("./kernel/../kernel/groups.c", 0, "kernel/groups.c: "),
                ("TOP/kernel/groups.c", 0, "kernel/groups.c: "),
                ("kernel", Status.fatal, "is no source file of C"),
                ("include/linux/cred.h", Status.fatal, "name a file that includes it"),
                ("kernel/nothing.c", Status.notFound, "has no file 'kernel/nothing.c'"),
                ("/etc/passwd", Status.fatal, "is outside of the repository"),
                ("", Status.fatal, "is outside"),
                ("arch/arm64/kernel/setup.c", Status.noChange, "does not build 'arch/arm64/kernel/setup.c'"),
            ])
        func paths(_ argument: String, _ status: Int32, _ words: String) async throws {
            let laboratory = try await Laboratory.shared()
            let file = argument.replacing("TOP", with: laboratory.repository)
            let result = try await laboratory.run("match", "--kernel", Laboratory.kernel, file)
            #expect(result.status == status, "\(result.said)")
            #expect(result.said.contains(words), "\(result.said)")
        }

        /// The first with all units of the sample, the others by default with every fourth.
        @Test("functions of all subsystems are in memory, however the kernel has booted", arguments: boots)
        func memory(boot: Boot) async throws {
            let laboratory = try await Laboratory.shared()
            let all = try await PreObjects.shared(laboratory)
            let objects = boot.name == Self.boots[0].name ? all : try all.reduced()
            var guest = Guest(laboratory)
            guest.configure(
                processor: boot.processor, processors: boot.processors, commandLine: boot.commandLine)
            try guest.tryToLoad(objects.modules)
            for (path, content) in objects.files { guest.add(content, as: "pre/" + path) }
            guest.step("proof", boot.proof.command)
            guest.step("match", Self.match)
            let result = try await guest.run()
            #expect(try result.output("proof").contains(boot.proof.text))
            let report = try Report(try #require(result.result("match")).output)
            #expect(report.units.count == objects.files.count)
            #expect(Double(report.units.count { $0.isCompared }) >= 150 * objects.share)
            try report.check(share: objects.share)
            #expect(result.warnings == [])
        }

        /// Each of these kernels compiles its own objects: by default every fourth unit of the sample.
        @Test(
            "functions of all subsystems are in the files and in the memory of the distribution's other kernels",
            arguments: OtherKernel.all)
        func otherKernels(kernel: OtherKernel) async throws {
            let laboratory = try await Laboratory.shared()
            let descriptor = try await kernel.descriptor(laboratory)
            let objects = try await PreObjects.shared(laboratory, kernel: kernel.registered)
            let files = try Report(objects.report)
            // A few are not built by each config.
            let least = try SourceList.otherKernels().count * 6 / 7
            #expect(least >= 37 && files.units.count { $0.isCompared } >= least)
            try files.check(share: objects.share)
            var guest = Guest(laboratory, bootImage: try #require(descriptor.bootImagePath))
            #expect(descriptor.modulesPath != nil)
            try guest.tryToLoad(objects.modules, from: descriptor.modulesPath)
            for (path, content) in objects.files { guest.add(content, as: "pre/" + path) }
            guest.step("release", "uname -r")
            guest.step("match", Self.match)
            let result = try await guest.run()
            #expect(try result.output("release") == descriptor.identity.release)
            let memory = try Report(try #require(result.result("match")).output)
            #expect(memory.units.count { $0.isCompared } >= least)
            try memory.check(share: objects.share)
            #expect(result.warnings == [])
        }

        /// Functions of the sample with one kprobe behind their entry each, and some with probes on many instructions.
        private static let probed = [
            "do_sys_openat2", "vfs_write", "udp_sendmsg", "vfs_statx", "do_dentry_open", "tcp_recvmsg",
            "mmap_region", "do_mprotect_pkey", "kernel_clone", "copy_process", "do_exit", "vfs_fallocate",
            "unix_stream_connect", "ip_route_output_key_hash_rcu", "skb_copy_bits", "netlink_sendmsg",
            "rtnl_newlink", "bio_split", "blk_mq_alloc_request", "sock_setsockopt", "do_msgrcv",
            "security_file_open", "filemap_fault", "n_tty_write",
        ]
        private static let full = ["vfs_rename", "do_tcp_setsockopt", "do_semtimedop", "do_splice"]

        @Test(
            "tracers at entries and probes inside of functions are seen and do no harm; both leave nothing"
        )
        func neighbours() async throws {
            let laboratory = try await Laboratory.shared()
            let objects = try await PreObjects.shared(laboratory)
            var guest = Guest(laboratory)
            guest.configure(commandLine: "")
            try guest.tryToLoad(["ext4", "nf_tables"])
            for (path, content) in objects.files { guest.add(content, as: "pre/" + path) }
            try await guest.add(.fentry)
            let match = Self.match
            let tracing = "cd /sys/kernel/tracing;"
            guest.step(
                "attach",
                """
                \(tracing) echo 'tcp_send*' > set_ftrace_filter; echo function > current_tracer
                echo 'p:entry vfs_read' >> kprobe_events; echo 1 > events/kprobes/entry/enable
                fentry vfs_mkdir > /tmp/fentry 2>&1 & sleep 2; cat /tmp/fentry
                echo 1 > /proc/sys/kernel/sched_schedstats; echo 64 > /proc/sys/net/core/rps_sock_flow_entries
                echo 1 > events/sched/enable; echo 1 > events/syscalls/enable
                """)
            guest.step("traced", match)
            guest.step(
                "probe",
                """
                \(tracing) mount -t debugfs debugfs /sys/kernel/debug
                probe() { echo "p:inside_$1_$2 $1+$2" >> kprobe_events 2>/dev/null; }
                for f in \(Self.probed.joined(separator: " ")); do
                    for o in $(seq 12 60); do probe $f $o && break; done
                done
                for f in \(Self.full.joined(separator: " ")); do
                    for o in $(seq 5 120); do probe $f $o; done
                done
                for e in events/kprobes/inside_*; do echo 1 > $e/enable; done
                sleep 3; cat /sys/kernel/debug/kprobes/list
                """)
            guest.step("optimised", match)
            guest.step(
                "slow probe",
                "echo 0 > /proc/sys/debug/kprobes-optimization; sleep 1; cat /sys/kernel/debug/kprobes/list")
            guest.step("breakpoints", match)
            guest.step("no list", "umount /sys/kernel/debug")
            guest.step("unlisted", match)
            guest.step(
                "detach",
                """
                \(tracing) echo 0 > events/enable; echo > kprobe_events; echo nop > current_tracer
                echo > set_ftrace_filter; kill $(pidof fentry); sleep 1
                """)
            guest.step("left", match)
            let result = try await guest.run()
            #expect(try result.output("attach").contains("attached"))
            func report(_ step: String) throws -> Report {
                try Report(try #require(result.result(step)).output)
            }
            let traced = Set(try report("traced").units.flatMap(\.traced))
            #expect(traced.isSuperset(of: ["tcp_sendmsg", "tcp_sendmsg_locked", "vfs_read", "vfs_mkdir"]))
            try report("traced").check()
            let probes = try (result.output("probe"), result.output("slow probe"))
            #expect(probes.0.lines.count { $0.contains("[OPTIMIZED]") } >= 8, "\(probes.0)")
            #expect(!probes.1.contains("[OPTIMIZED]"), "\(probes.1)")
            let wanted = Set(Self.probed + Self.full)
            let probed = Set(try report("breakpoints").units.flatMap(\.probed))
            #expect(probed == wanted, "\(probed)")
            try report("breakpoints").check()
            // Of optimised probes, some hide a part of a reference that nothing else tells of.
            let optimised = try report("optimised").units
            let hidden = optimised.flatMap(\.failures)
            #expect(hidden.count <= 3, "\(hidden)")
            #expect(hidden.allSatisfy { $0.contains("an optimised kprobe covers a part of") }, "\(hidden)")
            #expect(optimised.flatMap(\.probed).count + hidden.count == wanted.count)
            let unlisted = try report("unlisted").units
            let failures = unlisted.flatMap(\.failures)
            #expect(unlisted.allSatisfy { $0.probed.isEmpty })
            #expect(failures.count == wanted.count, "\(failures)")
            for name in wanted {
                #expect(
                    failures.contains { $0.hasPrefix(name + "+") && $0.contains("kprobe") },
                    "\(name): \(failures)")
            }
            let left = try report("left").units
            #expect(left.allSatisfy { $0.traced.isEmpty && $0.probed.isEmpty })
            try report("left").check()
            #expect(result.warnings == [])
        }
    }
}

/// What `git ksplice match --json` says.
struct Report {
    struct Unit {
        var path: String
        var module: String?
        var skipped: String?
        var functions: Int
        var traced: [String]
        var probed: [String]
        var absent: [(name: String, reason: String)]
        var failures: [String]
        var isCompared: Bool { skipped == nil }
    }

    let units: [Unit]

    init(_ text: String) throws {
        let line = text.lines.map { String($0) }.last { $0.hasPrefix("{") } ?? ""
        let json: JSON
        do { json = try JSON(parsing: line) } catch {
            throw Failure("no report of match: \(text.suffix(2000))")
        }
        units = (json["units"]?.array ?? []).map { unit in
            Unit(
                path: unit["unit"]?.string ?? "", module: unit["module"]?.string,
                skipped: unit["skipped"]?.string, functions: unit["functions"]?.number ?? 0,
                traced: (unit["traced"]?.array ?? []).compactMap(\.string),
                probed: (unit["probed"]?.array ?? []).compactMap(\.string),
                absent: (unit["absent"]?.array ?? []).map {
                    ($0["name"]?.string ?? "", $0["reason"]?.string ?? "")
                },
                failures: (unit["failures"]?.array ?? []).map {
                    "\($0["function"]?.string ?? "")+\($0["offset"]?.number ?? 0): \($0["explanation"]?.string ?? "")"
                        + " pre: \($0["pre"]?.string ?? "") run: \($0["run"]?.string ?? "")"
                })
        }
    }

    /// No function differs, each that is absent is absent for a known reason, and these are few.
    /// - Parameter share: which part of the sample it is about.
    func check(share: Double = 1, sourceLocation: SourceLocation = #_sourceLocation) throws {
        var functions = 0
        var ambiguous = 0
        for unit in units {
            functions += unit.functions
            for failure in unit.failures {
                Issue.record("\(unit.path): \(failure)", sourceLocation: sourceLocation)
            }
            for (name, reason) in unit.absent {
                #expect(
                    VirtualMachineTests.WholeObjects.reasons.contains { reason.hasPrefix($0) },
                    "\(unit.path): \(name): \(reason)", sourceLocation: sourceLocation)
                if reason.hasPrefix("it equals") { ambiguous += 1 }
            }
        }
        #expect(Double(functions) > 10_000 * share, "\(functions)", sourceLocation: sourceLocation)
        #expect(ambiguous * 1000 <= functions, "\(ambiguous) of \(functions)", sourceLocation: sourceLocation)
    }
}

/// The units of the sample, compiled once for a kernel and matched with its files.
actor PreObjects {
    struct Made: Sendable {
        var files: [(path: String, content: [UInt8])]
        var report: String
        /// Which part of the sample they are.
        var share: Double
        /// The modules that the units belong to.
        var modules: [String]

        /// Those of the units that the distribution's other kernels are matched with, too.
        func reduced() throws -> Made {
            let kept = Set(try SourceList.otherKernels().map { String($0.dropLast(2)) + ".o" })
            var made = self
            made.files = files.filter { kept.contains($0.path) }
            made.share = share * Double(made.files.count) / Double(files.count)
            return made
        }
    }

    private static let made = PreObjects()
    private var running: [String: Task<Made, any Error>] = [:]

    /// - Parameter kernel: a registered name.
    static func shared(_ laboratory: Laboratory, kernel: String = Laboratory.kernel) async throws -> Made {
        try await made.get(laboratory, kernel)
    }

    private func get(_ laboratory: Laboratory, _ kernel: String) async throws -> Made {
        if let running = running[kernel] { return try await running.value }
        let task = Task { try await Self.make(laboratory, kernel) }
        running[kernel] = task
        return try await task.value
    }

    private static func make(_ laboratory: Laboratory, _ kernel: String) async throws -> Made {
        let all = try SourceList.wholeObjects()
        let list = kernel == Laboratory.kernel ? all : try SourceList.otherKernels()
        let folder = "\(laboratory.folder)/pre-\(kernel)"
        try Files.remove(folder)
        let result = try await Command(
            [laboratory.program, "match", "--kernel", kernel, "--save", folder, "--json"] + list,
            directory: laboratory.repository
        ).run()
        guard result.status == 0 || result.status == Status.verificationRefused else {
            throw Failure("match ended with \(result.status)\n\(result.errorText)")
        }
        let files = try list.map { String($0.dropLast(2)) + ".o" }.filter { Files.exists("\(folder)/\($0)") }
            .map { ($0, try Files.read("\(folder)/\($0)")) }
        let modules = Set(try Report(result.text).units.compactMap(\.module))
        return Made(
            files: files, report: result.text, share: Double(list.count) / Double(all.count),
            modules: modules.sorted())
    }
}

enum SourceList {
    /// The sources whose units are matched as a whole.
    static func wholeObjects() throws -> [String] {
        let here = #filePath.directoryPart.directoryPart
        return try Files.readText(here + "/Support/whole-objects.list").lines.map { String($0) }
            .filter { !$0.isEmpty }
    }

    /// Those of them that are also matched with each of the distribution's other kernels.
    static func otherKernels() throws -> [String] {
        let all = try wholeObjects()
        if Material.isWhole { return all }
        // And those that other tests take from among them.
        let wanted = Set(VirtualMachineTests.BootedRejection.samples.flatMap(\.units))
        return all.indices.filter { $0 % 4 == 0 || wanted.contains(all[$0]) }.map { all[$0] }
    }
}
