// The hooks of git with the real create: commits are made with `git commit` in a worktree of their own, and what becomes
// of them is waited for. No kernel is booted.

import Core
import Glibc
import Testing

extension VirtualMachineTests {
    @Suite struct CommitHooks {
        private static let fix = KernelChange(
            "prctl: a range that is built in the background", "kernel/sys.c",
            "if (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER) {", "if (arg2 > 77) {")
        private static let refused = KernelChange(
            "sys: an initial value that is refused in the background", "kernel/sys.c",
            "int overflowuid = DEFAULT_OVERFLOWUID;", "int overflowuid = 4777;")
        private static let settings = ["ksplice.hook.kernel": Laboratory.kernel, "ksplice.hook.delay": "1"]

        /// Makes the commit of a change, as its author would, in a worktree that has no files.
        private func commit(_ change: KernelChange, in tree: String, _ laboratory: Laboratory) async throws
            -> String
        {
            let parent = try await Laboratory.git(["-C", tree, "rev-parse", "HEAD"])
            for (path, content) in try await change.files(laboratory, parent) {
                let blob = try await Laboratory.git(["hash-object", "-w", "--stdin"], input: content)
                _ = try await Laboratory.git(
                    ["-C", tree, "update-index", "--cacheinfo", "100644,\(blob),\(path)"])
            }
            let said = try await Command(
                ["git", "-C", tree, "commit", "-q", "--no-status", "-m", change.name],
                directory: laboratory.repository,
                environment: [
                    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "C",
                    "GIT_COMMITTER_EMAIL": "c@d",
                ]
            ).check()
            #expect(said.output.isEmpty && said.errorOutput.isEmpty, "\(said.said)")
            return try await Laboratory.git(["-C", tree, "rev-parse", "HEAD"])
        }

        /// What log says of a commit for the kernel, once that is known.
        private func answer(_ commit: String, _ laboratory: Laboratory) async throws -> String {
            let arguments = ["log", "--kernel", Laboratory.kernel, "--json", "-1", commit]
            while true {
                let said = try await Command(
                    [laboratory.program] + arguments, directory: laboratory.repository
                ).check().text
                if !["waiting", "building"].contains(where: { said.contains("\"state\":\"\($0)\"") }) {
                    return said
                }
                try await Task.sleep(for: .seconds(1))
            }
        }

        private func withHooks(_ laboratory: Laboratory, _ body: (String) async throws -> Void) async throws {
            let tree = laboratory.folder + "/background"
            func clean() async throws {
                _ = try await laboratory.run("hook", "uninstall")
                for key in Self.settings.keys {
                    _ = try await Command(
                        ["git", "config", "--unset-all", key], directory: laboratory.repository
                    ).run()
                }
                if Files.exists(tree) {
                    _ = try await Laboratory.git(["worktree", "remove", "--force", tree])
                }
            }
            try await clean()
            for (key, value) in Self.settings { _ = try await Laboratory.git(["config", key, value]) }
            let installed = try await laboratory.run("hook", "install")
            #expect(installed.status == 0, "\(installed.said)")
            _ = try await Laboratory.git([
                "worktree", "add", "-q", "--no-checkout", "--detach", tree, laboratory.base,
            ])
            _ = try await Laboratory.git(["-C", tree, "read-tree", laboratory.base])
            do { try await body(tree) } catch {
                try await clean()
                throw error
            }
            try await clean()
        }

        @Test func aCommitIsBuiltWhileItsAuthorGoesOn() async throws {
            let laboratory = try await Laboratory.shared()
            try await withHooks(laboratory) { tree in
                let fix = try await commit(Self.fix, in: tree, laboratory)
                let refused = try await commit(Self.refused, in: tree, laboratory)
                let made = try await answer(fix, laboratory)
                #expect(made.contains("\"state\":\"update\""), "\(made)")
                let known = try await answer(refused, laboratory)
                #expect(
                    known.contains("\"state\":\"refused\",\"updates\":[],\"codes\":[\"data-changed\"]"),
                    "\(known)")
                #expect(try await laboratory.traces(of: fix).contains("__do_sys_prctl"))
                #expect(try await laboratory.traces(of: refused).isEmpty)
                let status = try await laboratory.run("hook", "status")
                #expect(status.status == 0 && status.text.contains("data-changed"), "\(status.said)")
            }
        }
    }
}
