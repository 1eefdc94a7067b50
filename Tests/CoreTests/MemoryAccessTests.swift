// The way to a kernel's memory, and ksplice.ko on its way into a kernel whose memory was not read.

import Synchronization
import Testing

@testable import Core

extension Progress {
    /// Where nothing is to be told.
    fileprivate static let unexpected = Progress(
        step: { Issue.record("a step: \($0)") }, warn: { Issue.record("a warning: \($0)") })
}

@Suite struct MemoryAccessTests {
    private let version = CoreModule.versionPath

    /// A host that shows nothing until ksplice.ko is there.
    private func hiding(isLoaded: Bool = false) -> FakeHost {
        let host = FakeHost(isLoaded ? [version: "\(ModuleResolver.tableVersion)\n"] : [:])
        host.behindWindow = FakeWindow()
        return host
    }

    @Test func whatTheHostShowsIsRead() async throws {
        let host = hiding()
        host.shown = FakeMemory()
        let access = try #require(
            try await MemoryAccess(host) { Issue.record("nothing is to be loaded") })
        #expect(access.memory === host.shown)
        await access.end(progress: .unexpected)
        #expect(host.unloaded.isEmpty && host.behindWindow?.isOpen == true)
    }

    @Test func kspliceIsLoadedForTheWindowAndUnloadedAfterIt() async throws {
        let host = hiding()
        let access = try #require(try await MemoryAccess(host) { host.files[version] = "2\n" })
        #expect(try access.memory.read(at: 0, count: 1) == [1])
        #expect(host.unloaded.isEmpty)
        await access.end(progress: .unexpected)
        #expect(host.behindWindow?.isOpen == false && host.unloaded == ["ksplice"])
    }

    @Test func kspliceStaysWhereItWasOrWhereAnUpdateStandsOnIt() async throws {
        let loaded = hiding(isLoaded: true)
        let other = try #require(try await MemoryAccess(loaded, load: nil))
        await other.end(progress: .unexpected)
        #expect(loaded.unloaded.isEmpty && loaded.behindWindow?.isOpen == false)
        let host = hiding()
        let access = try #require(try await MemoryAccess(host) { host.files[version] = "2\n" })
        host.files["/sys/kernel/ksplice/\(String(repeating: "a", count: 64))/state"] = "applied\n"
        await access.end(progress: .unexpected)
        #expect(host.unloaded.isEmpty)
    }

    @Test func thatItStaysIsAWarning() async throws {
        let host = hiding()
        let access = try #require(try await MemoryAccess(host) { host.files[version] = "2\n" })
        host.refusal = Failure("somebody uses it", status: .busy)
        let told = Mutex<[String]>([])
        await access.end(
            progress: Progress(
                step: { Issue.record("no step: \($0)") }, warn: { text in told.withLock { $0.append(text) } })
        )
        #expect(told.withLock { $0 } == ["ksplice.ko stays loaded: somebody uses it"])
    }

    @Test func whereNothingMayBeLoadedThereIsNoAccess() async throws {
        let access = try await MemoryAccess(hiding(), load: nil)
        #expect(access == nil)
        #expect(MemoryAccess.hidden("do something else").hints.last == "do something else")
    }

    @Test func aWindowThatDoesNotOpenTakesKspliceBackToo() async throws {
        let host = FakeHost()
        await #expect(throws: Failure.self) {
            _ = try await MemoryAccess(host) { host.files[version] = "2\n" }
        }
        #expect(host.unloaded == ["ksplice"])
    }

    @Test func confidentialityIsSaidBeforeAnythingIsRead() async throws {
        let host = hiding()
        host.shown = FakeMemory()
        host.files[ModulePolicy.lockdownPath] = "none integrity [confidentiality]\n"
        let failure = try await #require(throws: Failure.self) {
            _ = try await MemoryAccess(host) { Issue.record("nothing is to be loaded") }
        }
        #expect(failure.message.contains("locked down for confidentiality"))
    }

    // MARK: - ksplice.ko

    private static let exports = [
        KernelExport(name: "module_layout", crc: 0x1234, object: "vmlinux", isGPL: false),
        KernelExport(name: "exported", crc: 0x89ab_cdef, object: "vmlinux", isGPL: true),
        KernelExport(name: "hidden", crc: 5, object: "drivers/other", isGPL: false),
        KernelExport(name: "data", crc: 6, object: "vmlinux", isGPL: false, namespace: "SPACE"),
        KernelExport(name: "unneeded", crc: 7, object: "vmlinux", isGPL: false),
    ]

    private func symbols(_ more: [KernelSymbol] = []) -> KernelSymbols {
        let named =
            [
                "hidden": 0xffff_ffff_8112_3456, "data": 0xffff_ffff_8298_7654,
                "exported": 0xffff_ffff_8100_0010,
                "__start___kcrctab": 0xffff_ffff_8200_0000,
            ] as [String: UInt64]
        return KernelSymbols(
            named.map { KernelSymbol(address: $0.value, kind: UInt8(ascii: "T"), name: $0.key) } + more)
    }

    private func resolver() async throws -> ModuleResolver {
        try ModuleResolver(
            ELFWriter.write(try await MatchFixture.compile(ModuleResolverTests.source, flags: [])),
            name: "ksplice.ko")
    }

    @Test func checksumsThatCreateKnewStandInForThoseInMemory() async throws {
        var module = try await resolver()
        #expect(try module.versions().isEmpty)
        try module.setKnownVersions(Self.exports)
        #expect(try module.versions() == ["module_layout": 0x1234, "exported": 0x89ab_cdef])
        let core = try CoreModule(module.bytes, symbols: symbols(), release: "6.1")
        let ready = try ModuleResolver(core.resolved(exports: nil), name: "ksplice.ko")
        // What has a checksum is left to the loader, which compares it.
        #expect(try ready.undefinedNames() == ["exported"])
        #expect(try ready.versions() == ["module_layout": 0x1234, "exported": 0x89ab_cdef])
        let known = try ModuleResolver(
            core.resolved(exports: ["module_layout": 1, "exported": 2, "hidden": 3]), name: "ksplice.ko")
        #expect(Set(try known.undefinedNames()) == ["exported", "hidden"])
        #expect(try known.versions() == ["module_layout": 1, "exported": 2, "hidden": 3])
    }

    @Test func withoutChecksumsAKernelThatWantsThemGetsNothing() async throws {
        let module = try await resolver()
        let core = try CoreModule(module.bytes, symbols: symbols(), release: "6.1")
        let failure = try #require(throws: Failure.self) { try core.resolved(exports: nil) }
        #expect(failure.message.contains("has no checksums") && failure.status == .verificationRefused)
    }

    @Test func anAmbiguousNameIsRefused() async throws {
        var module = try await resolver()
        try module.setKnownVersions(Self.exports)
        let twice = KernelSymbol(address: 0xffff_ffff_8112_0000, kind: UInt8(ascii: "t"), name: "hidden")
        let core = try CoreModule(module.bytes, symbols: symbols([twice]), release: "6.1")
        let failure = try #require(throws: Failure.self) { try core.resolved(exports: nil) }
        #expect(failure.message == "'hidden' is ambiguous in this kernel")
    }

    @Test func aKernelsAnswerInAnotherLanguageIsRefused() async throws {
        #expect(try await CoreModule.isLoaded(FakeHost()) == false)
        #expect(try await CoreModule.isLoaded(FakeHost([version: "\(ModuleResolver.tableVersion)\n"])))
        await #expect(throws: Failure.self) { _ = try await CoreModule.isLoaded(FakeHost([version: "1\n"])) }
    }

    // MARK: - Static calls

    @Test func aTrampolineTellsWhatAHiddenKeyHolds() throws {
        let memory = FakeMemory()
        let (key, trampoline): (UInt64, UInt64) = (0xffff_ffff_8300_0000, 0xffff_ffff_8100_0000)
        let symbols = KernelSymbols([
            KernelSymbol(address: key, kind: UInt8(ascii: "D"), name: "__SCK__call"),
            KernelSymbol(address: trampoline, kind: UInt8(ascii: "T"), name: "__SCT__call"),
            KernelSymbol(
                address: trampoline + 0x100, kind: UInt8(ascii: "T"), name: "__x86_return_thunk"),
        ])
        func target(_ bytes: [UInt8]) -> UInt64? {
            memory.pieces[trampoline] = bytes
            return PatchEnvironment(reading: memory, symbols: symbols, isImage: false, wordSize: 8)
                .staticCall("call")
        }
        #expect(target([0xe9, 0x00, 0x02, 0, 0]) == trampoline + 0x205)
        #expect(target([0xe9, 0xfb, 0, 0, 0]) == 0, "a jump to the return thunk returns")
        #expect(target([0xc3, 0xcc, 0xcc, 0xcc, 0xcc]) == 0)
        #expect(target([0xe8, 0, 0, 0, 0]) == nil)
        #expect(target([0xe9]) == nil)
        // Where the key is shown, it decides.
        memory.pieces[key] = [7, 0, 0, 0, 0, 0, 0, 0]
        #expect(target([0xc3, 0xcc, 0xcc, 0xcc, 0xcc]) == 7)
    }
}
