// Every kind of damage to what is stored, each made as simply as it can be, and what fsck must say of it.

import Glibc

@testable import Core

struct Damage: Sendable {
    let name: String
    let codes: Set<StorageProblem.Code>
    /// Whether it is looked at a year later.
    var isLater = false
    let make: @Sendable (StorageFixture) async throws -> Void

    init(
        _ name: String, _ codes: Set<StorageProblem.Code>, isLater: Bool = false,
        make: @escaping @Sendable (StorageFixture) async throws -> Void
    ) {
        (self.name, self.codes, self.isLater, self.make) = (name, codes, isLater, make)
    }

    static let all = objects + references + updates + kernels + notes + formats + channels + trust + state

    private static let nobody = String(repeating: "0", count: 63) + "1"
    private static let build = "refs/ksplice/kernels/x86_64/"

    private static let objects: [Damage] = [
        Damage("a file of an update is missing", [.objectMissing]) {
            try await Files.remove($0.file(of: $0.git("rev-parse", $0.ref($0.three) + ":update.ko")))
        },
        Damage("a commit is missing", [.objectMissing]) {
            try await Files.remove($0.file(of: $0.git("rev-parse", $0.ref($0.three))))
        },
        Damage("a tree is missing", [.objectMissing]) {
            try await Files.remove($0.file(of: $0.git("rev-parse", $0.ref($0.three) + ":pre")))
        },
        Damage("an older state of the channel is missing", [.objectMissing, .channelUntrusted]) {
            try await $0.appendState()
            try await Files.remove($0.file(of: $0.git("rev-parse", StorageFixture.channel + "^")))
        },
        Damage("a note is missing", [.objectMissing]) {
            try await Files.remove(
                $0.file(of: $0.git("rev-parse", "refs/notes/ksplice/builds:" + $0.commits[1])))
        },
        Damage("a file of an update is no object", [.objectCorrupt]) {
            try await Files.write(
                "garbage", to: $0.file(of: $0.git("rev-parse", $0.ref($0.three) + ":update.ko")))
        },
        Damage("a file of an update is another object", [.objectCorrupt]) {
            try await Files.write(
                Files.read($0.file(of: $0.git("rev-parse", "HEAD:f"))),
                to: $0.file(of: $0.git("rev-parse", $0.ref($0.three) + ":update.ko")))
        },
        Damage("an object is empty", [.objectCorrupt]) {
            try await Files.write("", to: $0.file(of: $0.git("rev-parse", $0.ref($0.three) + "^{tree}")))
        },
        Damage("a ref names a tree", [.objectKind]) {
            try await $0.git(
                "update-ref", $0.ref($0.three), $0.git("rev-parse", $0.ref($0.three) + "^{tree}"))
        },
        Damage("a file is a link", [.objectKind]) {
            let blob = try await $0.git("rev-parse", $0.ref($0.three) + ":patch")
            let listing = try await $0.git("ls-tree", $0.ref($0.three))
            let tree = try await $0.git(
                "mktree", input: listing.replacing("100644 blob \(blob)", with: "120000 blob \(blob)") + "\n")
            let commit = try await $0.git("log", "-1", "--format=%B", $0.ref($0.three))
            try await $0.git("update-ref", $0.ref($0.three), $0.git("commit-tree", tree, input: commit))
        },
    ]

    private static let references: [Damage] = [
        Damage("a ref is no name of an object", [.refBroken]) {
            try Files.write("junk\n", to: $0.directory + "/.git/" + $0.ref(nobody))
        },
        Damage("a ref is empty", [.refBroken]) {
            try Files.write("", to: $0.directory + "/.git/" + $0.ref(nobody))
        },
        Damage("a ref is another name of nothing", [.refBroken]) {
            try await $0.git("symbolic-ref", $0.ref(nobody), "refs/heads/nothing")
        },
        Damage("a ref is another name of an update", [.refSymbolic, .refName]) {
            try await $0.git("symbolic-ref", $0.ref(nobody), $0.ref($0.three))
        },
        Damage("an update has the name of another", [.refName]) {
            try await $0.git("update-ref", $0.ref(nobody), $0.ref($0.three))
        },
        Damage("an update stands at another kernel", [.refName, .kernelMissing]) {
            try await $0.git("update-ref", $0.ref($0.three).replacing("ab12", with: "cd34"), $0.ref($0.three))
        },
        Damage("an update's ref is not as deep as others", [.refName]) {
            try await $0.git("update-ref", "refs/ksplice/updates/short", $0.ref($0.three))
        },
        Damage("a kernel stands at another build", [.refName, .kernelDuplicate]) {
            try await $0.git("update-ref", build + "ee", build + "ab12")
        },
        Damage("a channel's ref is not as deep as others", [.refName]) {
            try await $0.git("update-ref", "refs/ksplice/channels/stable", StorageFixture.channel)
        },
        Damage("a ref that nobody knows", [.refUnknown]) {
            try await $0.git("update-ref", "refs/ksplice/strange/thing", "HEAD")
        },
        Damage("a ref of this clone that nobody knows", [.refUnknown]) {
            try await $0.git("update-ref", "refs/ksplice-local/strange", "HEAD")
        },
        Damage("what an interrupted fetch has left", [.refLeftover]) {
            try await $0.git("update-ref", "refs/ksplice-incoming/trust/root", TrustChain.ref)
        },
        Damage("what an interrupted merge of notes has left", [.refLeftover]) {
            try await $0.git("update-ref", "refs/notes/ksplice-merge", "refs/notes/ksplice/builds")
            try await $0.git("update-ref", "refs/notes/ksplice-incoming/builds", "refs/notes/ksplice/builds")
        },
        Damage("the lock of a killed git", [.refLock]) {
            for name in [$0.ref($0.one), "packed-refs"] {
                try Files.write("", to: "\($0.directory)/.git/\(name).lock")
                StorageFixture.age("\($0.directory)/.git/\(name).lock")
            }
        },
        Damage("a mark of a signature that is another one", [.localStale]) {
            try await $0.git("update-ref", ChannelMark.ref(of: $0.ref($0.three)), $0.ref($0.two))
        },
        Damage("a mark of an update that is gone", [.localStale]) {
            try await $0.git("update-ref", ChannelMark.ref(of: $0.ref(nobody)), $0.ref($0.two))
        },
    ]

    private static let updates: [Damage] = [
        Damage("a manifest is altered", [.updateManifest]) {
            let text = try await $0.git("show", $0.ref($0.three) + ":manifest")
            try await $0.rewrite(
                $0.ref($0.three), files: ["manifest": text.replacing("three", with: "tree") + "\n"])
        },
        Damage("an update has no manifest", [.updateManifest]) {
            try await $0.rewrite($0.ref($0.three), files: ["manifest": nil])
        },
        Damage("a manifest that is none", [.updateManifest]) {
            let text = "ksplice-update \(Manifest.formatVersion)\nnonsense\n"
            try await $0.git("update-ref", $0.ref(sha256(text)), $0.ref($0.three))
            try await $0.rewrite($0.ref(sha256(text)), files: ["manifest": text])
        },
        Damage("a file is altered", [.updateFile]) {
            try await $0.rewrite($0.ref($0.three), files: ["update.ko": "\u{1}\u{2}\u{4}"])
        },
        Damage("a file is longer", [.updateFile]) {
            try await $0.rewrite($0.ref($0.three), files: ["patch": "more"])
        },
        Damage("a file is not there", [.updateFile]) {
            try await $0.rewrite($0.ref($0.three), files: ["update.ko": nil])
        },
        Damage("a file that nobody lists", [.updateFile]) {
            try await $0.rewrite($0.ref($0.three), files: ["pre/more": "x"])
        },
        Damage("a commit says otherwise than its manifest", [.updateTrailer]) {
            try await $0.rewrite($0.ref($0.three)) {
                $0.replacing("Ksplice-Arch: x86_64", with: "Ksplice-Arch: i686")
            }
        },
        Damage("a commit lacks its ref", [.updateTrailer]) {
            try await $0.rewrite($0.ref($0.three)) {
                $0.lines.filter { !$0.hasPrefix("Ksplice-Ref:") }.joined(separator: "\n")
            }
        },
        Damage("an update has a parent", [.updateParents]) {
            try await $0.rewrite($0.ref($0.three), parents: [$0.commits[0]])
        },
        Damage(
            "an update that another stands on is gone",
            [.dependsMissing, .channelUpdateMissing, .noteDangling]
        ) {
            try await $0.git("update-ref", "-d", $0.ref($0.one))
        },
    ]

    private static let kernels: [Damage] = [
        Damage("a kernel is gone", [.kernelMissing, .workspaceUnregistered, .kernelPaths]) {
            try await $0.git("update-ref", "-d", build + "ab12")
        },
        Damage("a kernel has another config", [.kernelDamaged]) {
            try await $0.rewrite(build + "ab12", files: ["config": "CONFIG_X=y\n"])
        },
        Damage("a kernel lacks its symbols", [.kernelDamaged]) {
            try await $0.rewrite(build + "ab12", files: ["symbols": nil])
        },
        Damage("a kernel has a file of nobody", [.kernelDamaged]) {
            try await $0.rewrite(build + "ab12", files: ["more": "x"])
        },
        Damage("two kernels of one name", [.kernelDuplicate]) {
            let fixture = try await GitFixture()
            let base = try await fixture.commit("base", ["f": "1\n"])
            try await fixture.register("kernel", source: base, buildID: "ee")
            try await $0.git(
                "fetch", "-q", fixture.directory, "+\(build)ee:\(build)ee", "main:refs/heads/other")
        },
        Damage("a kernel whose source is not here", [.kernelSource]) {
            let fixture = try await GitFixture()
            try await fixture.register("other", source: String(repeating: "9", count: 40), buildID: "ee")
            try await $0.git("fetch", "-q", fixture.directory, "+\(build)ee:\(build)ee")
        },
    ]

    /// Puts a text in the place of a note.
    private static func note(_ name: String, _ fixture: StorageFixture, _ change: (String) -> String)
        async throws
    {
        let ref = "refs/notes/ksplice/" + name
        let text = try await fixture.git("show", "\(ref):\(fixture.commits[1])") + "\n"
        try await fixture.rewrite(
            ref, files: [fixture.commits[1]: change(text)], parents: [fixture.git("rev-parse", ref)])
    }

    private static let notes: [Damage] = [
        Damage("a note beside nothing", [.notePlace]) {
            try await $0.rewrite("refs/notes/ksplice/builds", files: ["readme": "x\n"])
        },
        Damage("a line for programs that is none", [.noteDamaged]) {
            try await note("builds", $0) { $0 + "mine\n" }
        },
        Damage("half a line for programs", [.noteDamaged]) {
            try await note("builds", $0) { $0 + $0.prefix(100) + "\n" }
        },
        Damage("a line for programs without its trees", [.noteDamaged]) {
            try await note("builds", $0) { $0 + $0.replacing("pre_tree", with: "tree") }
        },
        Damage("a line for programs with another's ref", [.noteDamaged]) { fixture in
            try await note("builds", fixture) {
                $0 + $0.replacing(fixture.ref(fixture.one), with: fixture.ref(fixture.two))
            }
        },
        Damage("a line for programs without its end", [.noteTorn]) {
            try await note("builds", $0) { $0.trimmed }
        },
        Damage("a line for people that is cut off", [.noteTorn]) {
            try await note("updates", $0) { $0 + "6.1.0-1 (x86_64): update 0123\n" }
        },
        Damage("lines about an update that is not here", [.noteDangling]) { fixture in
            try await note("builds", fixture) { $0 + $0.replacing(fixture.one, with: nobody) }
            try await note("updates", fixture) {
                $0 + "6.1.0-1 (x86_64): update 000000000000, 1 function: f\n"
            }
        },
        Damage("a line for programs alone", [.noteHalf]) {
            try await $0.git("notes", "--ref=ksplice/updates", "remove", $0.commits[1])
        },
    ]

    private static let formats: [Damage] = [
        Damage("a repository of another format", [.formatUnknown]) {
            try await $0.git("config", "ksplice.repositoryFormatVersion", "2")
        },
        Damage("an update of a newer format", [.formatUnknown]) {
            try await $0.rewrite($0.ref($0.three)) {
                $0.replacing("Ksplice-Format: 1", with: "Ksplice-Format: 2")
            }
        },
        Damage("a manifest of a newer format", [.formatUnknown]) {
            try await $0.git("update-ref", $0.ref(sha256("ksplice-update 99\n")), $0.ref($0.three))
            try await $0.rewrite(
                $0.ref(sha256("ksplice-update 99\n")), files: ["manifest": "ksplice-update 99\n"])
        },
        Damage("a manifest of an older format", [.formatOld]) {
            try await $0.git("update-ref", $0.ref(sha256("ksplice-update 1\n")), $0.ref($0.three))
            try await $0.rewrite(
                $0.ref(sha256("ksplice-update 1\n")), files: ["manifest": "ksplice-update 1\n"])
        },
        Damage("a kernel of a newer format", [.formatUnknown]) {
            try await $0.rewrite(build + "ab12", files: ["descriptor": "ksplice-kernel 2\n"])
        },
        Damage("a line for programs of a newer format", [.formatUnknown]) {
            try await note("builds", $0) { $0 + "{\"v\":2}\n" }
        },
        Damage("a channel of a newer format", [.formatUnknown]) {
            let tip = try await $0.git("rev-parse", StorageFixture.channel)
            try await $0.rewrite(StorageFixture.channel, parents: [tip]) {
                $0.replacing("Ksplice-Format: 1", with: "Ksplice-Format: 2")
            }
        },
        Damage("a policy of trust of a newer format", [.formatUnknown]) {
            let tip = try await $0.git("rev-parse", TrustChain.ref)
            try await $0.rewrite(TrustChain.ref, parents: [tip]) {
                $0.replacing("Ksplice-Format: 1", with: "Ksplice-Format: 2")
            }
        },
    ]
}
