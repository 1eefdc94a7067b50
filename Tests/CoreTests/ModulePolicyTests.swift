import Testing

@testable import Core

@Suite struct ModulePolicyTests {
    private let lockdown = "/sys/kernel/security/lockdown"

    private func policy(_ files: [String: String]) async throws -> ModulePolicy {
        try await ModulePolicy(of: FakeHost(files))
    }

    @Test func whereNothingIsSaidNothingIsInTheWay() async throws {
        #expect(try await policy([:]) == ModulePolicy())
        let open = try await policy([
            lockdown: "[none] integrity confidentiality\n",
            "/sys/module/module/parameters/sig_enforce": "N\n",
            "/proc/sys/kernel/modules_disabled": "0\n", "/proc/sys/kernel/kptr_restrict": "1\n",
        ])
        #expect(open == ModulePolicy(lockdown: ModulePolicy.Lockdown.none, pointerRestriction: 1))
        #expect(open.refusals.isEmpty && ModulePolicy().refusals.isEmpty)
    }

    @Test func integrityRefusesUnsignedModulesAndLetsMemoryBeRead() async throws {
        let policy = try await policy([lockdown: "none [integrity] confidentiality\n"])
        #expect(policy.lockdown == .integrity)
        let refusal = try #require(policy.loadingRefusal)
        #expect(refusal.message.hasPrefix("this kernel is locked down for integrity: "))
        #expect(refusal.message.contains("signed") && refusal.status == .verificationRefused)
        #expect(policy.memoryRefusal == nil && policy.refusals.count == 1)
    }

    @Test func confidentialityRefusesMemoryToo() async throws {
        let policy = try await policy([lockdown: "none integrity [confidentiality]\n"])
        #expect(policy.lockdown == .confidentiality)
        #expect(policy.loadingRefusal != nil)
        let refusal = try #require(policy.memoryRefusal)
        #expect(refusal.message.contains("lets nobody read its memory"))
        #expect(refusal.hints.contains { $0.contains("Secure Boot") })
    }

    @Test func demandedSignaturesAreToldFromLockdown() async throws {
        let policy = try await policy(["/sys/module/module/parameters/sig_enforce": "Y\n"])
        let refusal = try #require(policy.loadingRefusal)
        #expect(policy.lockdown == nil && !refusal.message.contains("locked down"))
        #expect(refusal.hints.contains { $0.contains("CONFIG_MODULE_SIG_FORCE") })
        #expect(refusal.status == .verificationRefused)
    }

    @Test func switchedOffLoadingComesFirst() async throws {
        let policy = try await policy([
            lockdown: "none [integrity] confidentiality", "/proc/sys/kernel/modules_disabled": "1\n",
        ])
        #expect(policy.refusals.map(\.message) == ["loading modules is switched off until the next boot"])
    }

    @Test func hiddenAddressesNameTheSysctl() async throws {
        let refusal = try #require(
            try await policy(["/proc/sys/kernel/kptr_restrict": "2\n"]).symbolsRefusal)
        #expect(refusal.message.contains("kernel.kptr_restrict is 2"))
        #expect(refusal.hints == ["sysctl kernel.kptr_restrict=1, which hides them from others only"])
    }

    @Test(
        "a text that names no level gives none",
        arguments: ["", "none integrity", "none [integrity", "[strict]", "] integrity ["])
    func malformed(_ text: String) async throws {
        #expect(try await policy([lockdown: text]).lockdown == nil)
    }
}
