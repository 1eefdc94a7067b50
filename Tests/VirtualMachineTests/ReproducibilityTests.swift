// The same changes for the same kernel give the same bytes: made again in another clone, in a folder whose path a kernel
// cannot even be built below, by another user with other settings, on one processor, in another year. And `verify
// --rebuild` finds that out for a user, and finds an update that is not what it says.

import Core
import Glibc
import Testing

extension VirtualMachineTests {
    @Suite struct Reproducibility {
        static let changes: [KernelChange] = [.newTexts, .module, .header]

        /// Another repository with the same kernel.
        private struct Elsewhere {
            let folder: String
            var clone: String {
                folder + "/a clone: with = odd (characters) and a path that is rather long/linux"
            }
            let user = 65534

            init(_ laboratory: Laboratory) async throws {
                folder = try Files.temporaryDirectory()
                try Files.createDirectory(clone.directoryPart)
                try Files.createDirectory(folder + "/home")
                try await Command(["git", "clone", "-q", "--shared", "-n", laboratory.repository, clone])
                    .check()
                try await Command([
                    "git", "-C", clone, "update-ref", "--no-deref", "HEAD", laboratory.base,
                ]).check()
                try await Command(["chown", "-R", "\(user):\(user)", folder]).check()
            }

            /// The year in which things are made here.
            let year = 2031

            /// Runs the program as another user, on another day, with settings that must not matter.
            func run(_ program: String, _ arguments: [String]) async throws -> CommandResult {
                let script =
                    "umask 077; exec faketime '\(year)-02-03 04:05:06' setpriv --reuid=\(user) --regid=\(user) --clear-groups taskset -c 0 \"$@\""
                return try await Command(
                    ["sh", "-c", script, "sh", program] + arguments, directory: clone,
                    environment: [
                        "HOME": folder + "/home", "XDG_CACHE_HOME": folder + "/home/cache", "TMPDIR": nil,
                        "TZ": "Asia/Tokyo", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "KCFLAGS": "-O1",
                        "CPATH": "/tmp", "KBUILD_BUILD_USER": "somebody", "GIT_AUTHOR_NAME": "Some Body",
                        "GIT_AUTHOR_EMAIL": "some@example.com", "GIT_COMMITTER_NAME": "Some Body",
                        "GIT_COMMITTER_EMAIL": "some@example.com",
                    ]
                ).check()
            }
        }

        @Test(
            "another clone, folder, user, locale, year and number of processors give the same archives",
            .enabled(if: getuid() == 0, "only root can become another user"))
        func isReproducible() async throws {
            let laboratory = try await Laboratory.shared()
            let elsewhere = try await Elsewhere(laboratory)
            defer { do { try Files.remove(elsewhere.folder) } catch { Issue.record("\(error)") } }
            let pieces = ([Material.oldImage] + Material.headers).flatMap { ["--from", $0] }
            _ = try await elsewhere.run(
                laboratory.program, ["kernel", "add", "elsewhere", "--source", laboratory.base] + pieces)
            for change in Self.changes {
                let update = try await laboratory.update(change)
                let created = try await elsewhere.run(laboratory.program, ["create", update.commit])
                #expect(
                    created.text.hasPrefix("update \(update.id)\n"), "\(created.said)")
                let made = try await Command([
                    "git", "-c", "safe.directory=*", "-C", elsewhere.clone, "for-each-ref",
                    "--format=%(committerdate:format:%Y)",
                    "refs/ksplice/updates/*/*/\(update.id)*",
                ]).check()
                #expect(made.text.trimmed == String(elsewhere.year))
                let file = elsewhere.folder + "/home/\(change.branch).tar.gz"
                _ = try await elsewhere.run(laboratory.program, ["export", "-o", file, update.commit])
                #expect(try Files.read(file) == update.archive, "\(change.name)")
            }
        }

        @Test("verify --rebuild makes the same, and leaves what is stored alone")
        func verifies() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.newTexts)
            let before = try await laboratory.traces(of: update.commit)
            let plain = try await laboratory.run("verify", update.commit)
            #expect(plain.status == 0 && plain.text.contains("intact"), "\(plain.said)")
            let rebuilt = try await laboratory.run("verify", "--rebuild", "--progress", update.commit)
            #expect(rebuilt.status == 0 && rebuilt.text.contains("the same, byte by byte"), "\(rebuilt.said)")
            #expect(rebuilt.errorText.contains("building ksplice.ko"), "\(rebuilt.said)")
            let cached = try await laboratory.run("verify", "--rebuild", "--cached", "--quiet", update.commit)
            #expect(cached.status == 0 && cached.errorText.isEmpty, "\(cached.said)")
            #expect(try await laboratory.traces(of: update.commit) == before)
        }

        @Test("an update that is intact and not what it says")
        func findsAForgery() async throws {
            let laboratory = try await Laboratory.shared()
            var made = try Update(archive: await laboratory.update(.newTexts).archive)
            var files = made.files
            var module = try made.file(Update.Path.module)
            // In the middle of the code that it ships.
            module[module.count / 2] ^= 1
            files[Update.Path.module] = module
            made = Update(manifest: made.manifest, files: files)
            let archive = laboratory.folder + "/forged.tar.gz"
            try Files.write(try made.archive(), to: archive)
            let plain = try await laboratory.run("verify", archive)
            #expect(plain.status == 0, "\(plain.said)")
            let rebuilt = try await laboratory.run("verify", "--rebuild", "--cached", archive)
            #expect(rebuilt.status == Status.no, "\(rebuilt.said)")
            let rows = rebuilt.text.lines.filter { $0.contains("differs") }
            #expect(rows.map { String($0).trimmed } == ["differs    update.ko"], "\(rebuilt.said)")
            let told = try await laboratory.run("verify", "--rebuild", "--cached", "--json", archive)
            #expect(
                told.text.contains("\"differences\":[{\"path\":\"update.ko\",\"state\":\"differs\"}]"),
                "\(told.said)")
        }

        @Test("a damaged archive, and one whose kernel is not here")
        func refuses() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try Update(archive: await laboratory.update(.newTexts).archive)
            var other = update.manifest
            other.kernel.buildID = String(repeating: "7", count: 40)
            let archive = laboratory.folder + "/unregistered.tar.gz"
            try Files.write(try Update(manifest: other, files: update.files).archive(), to: archive)
            let unknown = try await laboratory.run("verify", "--rebuild", archive)
            #expect(
                unknown.status == Status.notFound && unknown.errorText.contains("is not registered"),
                "\(unknown.said)")
            try Files.write(Array(try update.archive().dropLast(100)), to: archive)
            let damaged = try await laboratory.run("verify", archive)
            #expect(damaged.status == Status.no && damaged.text.contains("damaged"), "\(damaged.said)")
        }
    }
}

extension KernelChange {
    /// New strings, a new WARN, a static variable with a number in its name, in the image.
    static let newTexts = KernelChange(
        "sys: new texts", "kernel/sys.c", "\tcase PR_GET_DUMPABLE:\n",
        "\tcase 0x6b7309:\n\t\tpr_info_once(\"new text of %s in %s\\n\", __func__, __FILE__);\n"
            + "\t\tWARN_ONCE(arg2 > 7, \"too many: %lu\\n\", arg2);\n\t\tbreak;\n\tcase PR_GET_DUMPABLE:\n")
    static let module = KernelChange(
        "sch_sfq: another limit", "net/sched/sch_sfq.c", "if (ctl->divisor &&\n",
        "if (ctl->divisor == 3)\n\t\treturn -EDOM;\n\tif (ctl->divisor &&\n")
    /// Reaches units of two modules.
    static let header = KernelChange(
        "net: a header of few users", "include/net/gue.h", "\tif (flags & ~GUE_FLAGS_ALL)\n",
        "\tif (flags & ~GUE_FLAGS_ALL & 0x7fff)\n")
}
