// Damage to channels, to the policy of trust, and to the folder of state.

import Glibc

@testable import Core

extension Damage {
    private static let channel = StorageFixture.channel

    static let channels: [Damage] = [
        Damage("a state holds another index than it says", [.channelState]) {
            let tip = try await $0.git("rev-parse", channel)
            try await $0.rewrite(channel, files: ["channel": "ksplice-channel 1\n"], parents: [tip])
        },
        Damage("a state is one of another channel", [.channelState]) {
            try await $0.git("update-ref", channel.replacing("stable", with: "testing"), channel)
        },
        Damage("an update is listed twice", [.channelState]) {
            try await $0.appendState { $0 + ($0.lines.first { $0.hasPrefix("update") } ?? "") + "\n" }
        },
        Damage("a state leaves out a number", [.channelSerial, .channelUntrusted]) {
            try await $0.appendState(serial: 7)
        },
        Damage("lines in another order", [.channelForm]) {
            try await $0.appendState { text in
                let lines = text.lines.map { String($0) }
                let id = lines.first { $0.hasPrefix("update") }?.split(separator: " ")[1] ?? ""
                return text + "cve \(id) CVE-2026-1234\n"
            }
        },
        Damage("an update replaces one that is not listed", [.channelForm]) { fixture in
            try await fixture.appendState {
                $0.replacing(
                    "depends \(fixture.two)",
                    with: "supersedes \(fixture.two) \(fixture.three)\ndepends \(fixture.two)")
            }
        },
        Damage("a release is named twice", [.channelForm]) {
            try await $0.appendState { $0 + "release v1\n" }
        },
        Damage("an update is listed before what it needs", [.channelOrder]) { fixture in
            try await fixture.appendState { text in
                let lines = text.lines.map { String($0) }
                let first = lines.filter { $0.contains(fixture.one) && $0.hasPrefix("update") }
                let rest = lines.filter {
                    $0.hasPrefix("update") && !first.contains($0) || $0.hasPrefix("depends")
                }
                return ([lines[0]] + rest + first + ["release v1"]).joined(separator: "\n") + "\n"
            }
        },
        Damage("a listed update has another commit", [.channelUpdateOther]) {
            try await $0.rewrite($0.ref($0.two), isSigned: true) { $0 + "Ksplice-More: x\n" }
        },
        Damage("a listed update has another size", [.channelUpdateOther]) {
            try await $0.appendState {
                $0.replacing(/(?m)^(update .*) [0-9]+$/, with: { "\($0.output.1) 5" })
            }
        },
        Damage("a channel says otherwise on what an update stands", [.channelUpdateOther]) { fixture in
            try await fixture.appendState {
                $0.replacing("depends \(fixture.two) \(fixture.one)\n", with: "")
            }
        },
        Damage("a state that nobody has signed", [.channelUntrusted]) {
            try await $0.appendState(isSigned: false) { $0 + "release v2\n" }
        },
        Damage("a state that one of two has signed", [.channelSigners]) {
            let bob = try await StorageFixture.trust.signer("bob", [.release])
            try await TrustChain($0.repository).append("test") {
                $0.signers.append(bob)
                $0.thresholds[.release] = 2
            }
        },
        Damage("a channel that nobody has renewed", [.channelExpired], isLater: true) { _ in },
        Damage("a listed update that nobody has signed", [.updateUntrusted]) { fixture in
            let old = try await fixture.git("rev-parse", fixture.ref(fixture.two))
            let new = try await fixture.rewrite(fixture.ref(fixture.two))
            try await fixture.appendState { $0.replacing(old, with: new) }
        },
    ]

    static let trust: [Damage] = [
        Damage("a policy that cannot be read", [.trustPolicy]) {
            let tip = try await $0.git("rev-parse", TrustChain.ref)
            try await $0.rewrite(
                TrustChain.ref, files: ["policy": "ksplice-trust 1\n"], parents: [tip], isSigned: true)
        },
        Damage("a policy that nobody could change", [.trustPolicy, .trustSigners]) {
            let tip = try await $0.git("rev-parse", TrustChain.ref)
            let text = try await $0.git("show", TrustChain.ref + ":policy").replacing(
                "serial 1", with: "serial 2")
            try await $0.rewrite(
                TrustChain.ref, files: ["policy": text + "\nthreshold root 2\n"], parents: [tip],
                isSigned: true
            ) { $0.replacing("Trust-Serial: 1", with: "Trust-Serial: 2") }
        },
        Damage("a policy that nobody has signed", [.trustChain]) {
            let tip = try await $0.git("rev-parse", TrustChain.ref)
            let text = try await $0.git("show", TrustChain.ref + ":policy").replacing(
                "serial 1", with: "serial 2")
            try await $0.rewrite(TrustChain.ref, files: ["policy": text + "\n"], parents: [tip]) {
                $0.replacing("Trust-Serial: 1", with: "Trust-Serial: 2")
            }
        },
        Damage("a policy of the number that was there", [.trustChain]) {
            let tip = try await $0.git("rev-parse", TrustChain.ref)
            let text = try await $0.git("show", TrustChain.ref + ":policy")
            try await $0.rewrite(
                TrustChain.ref, files: ["policy": text + "\nrevoked SHA256:x lost\n"], parents: [tip],
                isSigned: true)
        },
        Damage("a commit that says another number than its policy", [.trustChain]) {
            try await $0.rewrite(TrustChain.ref, isSigned: true) {
                $0.replacing("Trust-Serial: 1", with: "Trust-Serial: 4")
            }
        },
        Damage("a policy that one of two has signed", [.trustSigners]) {
            let bob = try await StorageFixture.trust.signer("bob", [.root])
            try await TrustChain($0.repository).append("test") {
                $0.signers.append(bob)
                $0.thresholds[.root] = 2
            }
        },
    ]

    static let state: [Damage] = [
        Damage("a source that was not written to its end", [.workspaceUnfinished]) {
            try Files.remove($0.stateFolder + "/workspaces/x86_64-ab12/tree")
        },
        Damage("an object tree that was not prepared", [.workspaceUnfinished]) {
            try Files.remove($0.stateFolder + "/workspaces/x86_64-ab12/prepared")
        },
        Damage("a workspace of a kernel that is gone", [.workspaceUnregistered]) {
            try Files.createDirectory($0.stateFolder + "/workspaces/x86_64-ff")
        },
        Damage("what killed processes have left", [.leftover]) {
            try Files.createDirectory($0.stateFolder + "/workspaces/x86_64-ab12/work/99999999")
            for name in [
                "import/x.deb-1.tmp.99999999", "queue/results.tmp", "kernels/x86_64-ab12.tmp.99999999",
            ] {
                try Files.write("", to: $0.stateFolder + "/" + name)
                StorageFixture.age($0.stateFolder + "/" + name)
            }
        },
        Damage("an image that is not there any more", [.kernelPaths]) {
            try Files.remove($0.stateFolder + "/import/image")
        },
        Damage("a record of a kernel's files that cannot be read", [.kernelPaths]) {
            try Files.append("nonsense\n", to: $0.stateFolder + "/kernels/x86_64-ab12")
        },
        Damage("an entry of the queue that is no commit", [.queueEntry]) {
            try Files.write("", to: $0.stateFolder + "/queue/waiting/HEAD")
        },
        Damage("half a result", [.queueRecord]) {
            try Files.append("{\"v\":1,", to: $0.stateFolder + "/queue/results")
        },
        Damage("a record of what is built that cannot be read", [.queueRecord]) {
            try Files.write("{", to: $0.stateFolder + "/queue/building")
        },
        Damage("a worker was killed", [.queueInterrupted]) {
            try await BuildQueue($0.repository).begin(
                .init(commit: $0.commits[1], kernel: "k", tries: 1, since: 1))
        },
    ]
}
