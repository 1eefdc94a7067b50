// What is said of code that does not match: each cause with its code, the window, the reasons and what to do.

import Testing

@testable import Core

@Suite struct MismatchTests {
    static let source = """
        extern int other(const char *text, int x);
        int shared;
        static const int table[4] = {1, 2, 3, 5};
        int below(int x) { return x * 11 + 5; }
        int changed(int x) {
            return other("fifteen letters", x + 77) + table[x & 3] * shared + shared;
        }
        int above(int x) { return x * 13 + shared; }
        int last(int x) { return x * 17 + 9; }
        """
    static let externals: [String: UInt64] = [
        "other": 0xffff_ffff_8200_0000, "__fentry__": 0xffff_ffff_8200_1000,
    ]
    private static let tracing = ["-pg", "-mfentry", "-mrecord-mcount"]
    private static let away: UInt64 = 0xffff_ffff_c010_0000

    private func fixture(tracing: Bool = false) async throws -> MatchFixture {
        try await MatchFixture(
            Self.source, flags: tracing ? Self.tracing : [], externals: Self.externals)
    }

    /// Where an instruction's operand of one byte stands in a function.
    private func operand(_ value: UInt8, of name: String, _ fixture: MatchFixture) throws -> UInt64 {
        let bytes = try fixture.bytes(name)
        return try fixture.address(name) + UInt64(try #require(bytes.firstIndex(of: value)))
    }

    private func failure(
        _ fixture: MatchFixture, isImage: Bool = false, evidence: MatchEvidence = .init(),
        required: Set<Int> = []
    ) throws -> MatchFailure {
        var matcher = try Matcher(
            units: [MatchUnit(path: "u.c", module: nil, object: fixture.object, required: required)],
            tables: MatchFixture.tables, memory: fixture.memory, symbols: KernelSymbols(fixture.listed),
            isImage: isImage, evidence: evidence)
        return try #require(matcher.match().failures.first)
    }

    /// Lets memory say which kernel it is.
    private func say(_ banner: String, _ fixture: MatchFixture) {
        let place: UInt64 = 0xffff_ffff_8300_0000
        let text = Array(banner.utf8)
        fixture.memory.pieces[place] = text + [UInt8](repeating: 0, count: 512 - text.count)
        fixture.listed.append(.init(address: place, kind: UInt8(ascii: "R"), name: "linux_banner"))
    }

    @Test func bothSidesStandSideBySide() async throws {
        let fixture = try await fixture()
        fixture.memory.write([0x4e], at: try operand(0x4d, of: "changed", fixture))
        for (name, address) in [("__start_rodata", 0xffff_ffff_8100_0000), ("__end_rodata", Self.away)] {
            fixture.listed.append(.init(address: address, kind: UInt8(ascii: "R"), name: name))
        }
        let failure = try failure(fixture)
        #expect(failure.cause == .differentCode && failure.function == "changed")
        #expect(failure.preText.contains("$0x4d") || failure.preText.contains("0x4d("))
        #expect(failure.runText.contains("0x4e"))
        let lines = failure.lines
        let window = try #require(lines.firstIndex { $0.contains("pre (what was compiled)") })
        let marked = lines.filter { $0.hasPrefix("    > ") }
        #expect(marked.count == 1 && marked[0].contains("0x4d") && marked[0].contains("0x4e"), "\(lines)")
        for line in lines[window..<window + failure.window.rows.count + 1] { #expect(line.count <= 80) }
        // Relocated operands have names on both sides.
        let (pre, run) = (failure.window.preLines, failure.window.runLines)
        #expect(pre.contains { $0.symbol == "other" && $0.text == "call other" })
        #expect(run.contains { $0.symbol == "other" && $0.text == "call other" })
        for side in [pre, run] {
            #expect(side.contains { $0.text.contains("\"fifteen letters\"") }, "\(side.map(\.text))")
        }
        // Nothing but the one line differs.
        #expect(failure.window.rows.count { $0.pre?.text != $0.run?.text } == 1, "\(lines)")
        #expect(pre.map(\.offset) == pre.map(\.offset).sorted())
        #expect(failure.neighbours.map(\.function).contains("above"))
        #expect(failure.neighbours.allSatisfy { $0.isOfUnit })
        #expect(failure.matched == 3 && failure.compared == 4)
    }

    @Test func oneChangedByteOfARunningKernelWasWrittenThere() async throws {
        let fixture = try await fixture()
        fixture.memory.write([0x4e], at: try operand(0x4d, of: "changed", fixture))
        let live = try failure(fixture)
        #expect(live.reasons.map(\.code) == [.modifiedCode, .otherSource])
        #expect(live.reasons.map(\.isLikely) == [true, false])
        #expect(live.hints.last == "git ksplice explain modified-code")
        // An image has never run.
        let image = try failure(fixture, isImage: true)
        #expect(image.reasons.map(\.code) == [.otherSource] && image.reasons[0].isLikely)
        #expect(image.hints.contains { $0.contains("kernel add") })
        // Two functions: rather another source.
        fixture.memory.write([8], at: try operand(9, of: "last", fixture))
        let two = try failure(fixture)
        #expect(two.reasons.map(\.code) == [.otherSource, .modifiedCode], "\(two.reasons)")
        #expect(two.reasons.map(\.isLikely) == [true, false])
    }

    @Test func theKernelsBannerTellsOfAnotherCompiler() async throws {
        let fixture = try await fixture()
        fixture.memory.write([0x4e], at: try operand(0x4d, of: "changed", fixture))
        let comment = try #require(fixture.object.sections.first { $0.name == ".comment" })
        let mine = MatchDiagnosis.version(
            String(decoding: comment.contents.drop { $0 == 0 }.prefix { $0 != 0 }, as: UTF8.self))
        func banner(_ compiler: some StringProtocol) -> String {
            "Linux version 6.1.0-1-amd64 (a@b) (gcc-12 \(compiler), GNU ld (GNU Binutils) 2.40) #1 SMP x"
        }
        say(banner(mine), fixture)
        #expect(try !failure(fixture).reasons.contains { $0.code == .otherCompiler })
        fixture.listed.removeAll { $0.name == "linux_banner" }
        say(banner("(Other 11.3.0-1) 11.3.0"), fixture)
        let reason = try #require(try failure(fixture).reasons.first)
        #expect(reason.code == .otherCompiler && reason.isLikely)
        #expect(reason.text.contains("Other 11.3.0-1") && reason.text.contains(mine), "\(reason.text)")
        #expect(try failure(fixture).hints.contains { $0.contains("Other 11.3.0-1") })
    }

    @Test func theKernelThatItWasMadeForTellsOfAnotherSource() async throws {
        let fixture = try await fixture()
        fixture.memory.write([0x4e], at: try operand(0x4d, of: "changed", fixture))
        say("Linux version 6.1.0-2-amd64 (a@b) (gcc-12 12.2.0, GNU ld 2.40) #1 SMP x", fixture)
        for comment in fixture.object.sections.indices
        where fixture.object.sections[comment].name == ".comment" {
            let size = fixture.object.sections[comment].contents.count
            fixture.object.sections[comment].contents = [UInt8](repeating: 0, count: size)
        }
        func reasons(_ release: String, _ version: String) throws -> [MatchFailure.Reason] {
            let made = KernelIdentity(
                arch: "x86_64", buildID: "", release: release, version: version, compiler: "",
                configDigest: "")
            return try failure(fixture, evidence: .init(madeFor: made)).reasons
        }
        let other = try reasons("6.1.0-1-amd64", "")
        #expect(other.map(\.code) == [.otherSource] && other[0].isLikely)
        #expect(other[0].text.contains("6.1.0-1-amd64") && other[0].text.contains("6.1.0-2-amd64"))
        #expect(try reasons("6.1.0-2-amd64", "#2 SMP y").map(\.code) == [.otherSource])
        #expect(try reasons("6.1.0-2-amd64", "#1 SMP x").map(\.code) == [.modifiedCode, .otherSource])
    }

    @Test func whereNothingMatchesConfigAndSourceArePossible() async throws {
        let fixture = try await fixture()
        for name in ["below", "changed", "above", "last"] {
            fixture.memory.write([0x31, 0xc0, 0xc3], at: try fixture.address(name))
        }
        let none = try failure(fixture, isImage: true)
        #expect(none.matched == 0 && none.reasons.allSatisfy { !$0.isLikely })
        // Nothing says which compiler made this memory.
        #expect(none.reasons.map(\.code) == [.otherSource, .otherConfig, .otherCompiler])
        #expect(none.lines.contains { $0.contains("possible: another config: no function of the unit") })
    }

    /// A cause of its own each.
    enum Damage: String, CaseIterable {
        case kprobe, optimisedKprobe, redirected, livePatched, otherUpdate, traced, patchSite, symbolConflict
        case constant, unreadable, notUnderstood

        var code: MismatchCode {
            switch self {
            case .kprobe, .optimisedKprobe: .kprobe
            case .redirected: .redirected
            case .livePatched: .livePatched
            case .otherUpdate: .otherUpdate
            case .traced: .traced
            case .patchSite: .patchSite
            case .symbolConflict: .symbolConflict
            case .constant: .differentConstant
            case .unreadable: .unreadable
            case .notUnderstood: .notUnderstood
            }
        }
    }

    @Test(arguments: Damage.allCases) func everyCauseHasItsCodeAndSaysWhatToDo(_ damage: Damage) async throws
    {
        let fixture = try await fixture(tracing: damage == .traced || damage == .patchSite)
        let start = try fixture.address("changed")
        var evidence = MatchEvidence()
        func jump(to module: String, _ name: String = "changed") {
            fixture.listed.append(
                .init(address: Self.away, kind: UInt8(ascii: "t"), name: name, module: module))
            fixture.memory.write(MatchFixture.branch([0xe9], at: start, to: Self.away), at: start)
        }
        switch damage {
        case .kprobe: fixture.memory.write([0xcc], at: start)
        case .optimisedKprobe: jump(to: "__builtin__kprobes", "kprobe_optinsn_page")
        case .redirected: jump(to: "someone")
        case .livePatched:
            jump(to: "someone")
            evidence.livePatches = ["someone": ["changed"]]
        case .otherUpdate:
            fixture.memory.pieces[Self.away] = [UInt8](repeating: 0x90, count: 512)
            jump(to: "ksplice_0123456789ab")
        case .traced: fixture.memory.write(MatchFixture.branch([0xe8], at: start, to: Self.away), at: start)
        case .patchSite: fixture.memory.write([0x0f, 0x0b, 0x90, 0x90, 0x90], at: start)
        case .symbolConflict:
            let index = try #require(fixture.listed.firstIndex { $0.name == "other" })
            fixture.listed[index].address += 64
        case .constant:
            let place = try #require(
                fixture.memory.pieces.first { $0.value.starts(with: [1, 0, 0, 0, 2, 0, 0, 0]) })
            fixture.memory.write([7], at: place.key)
        case .unreadable: fixture.memory.pieces[start] = nil
        case .notUnderstood:
            let section = try #require(fixture.object.symbols.first { $0.name == "changed" }).section
            fixture.object.sections[section].relocations[0].type = 99
        }
        let index = try #require(fixture.object.symbols.firstIndex { $0.name == "changed" })
        let failure = try failure(fixture, evidence: evidence, required: [index])
        #expect(failure.cause.code == damage.code, "\(failure.headline)")
        #expect(failure.function == "changed")
        #expect(failure.headline.hasSuffix("[\(damage.code.rawValue)]"))
        #expect(failure.hints.count >= 2 && failure.hints.last!.hasPrefix("git ksplice explain "))
        #expect(failure.window.rows.isEmpty == (damage == .unreadable))
    }

    @Test func whatIsInNoPlaceAndWhatIsInSeveral() async throws {
        let fixture = try await fixture()
        let index = try #require(fixture.object.symbols.firstIndex { $0.name == "last" })
        let copy = try fixture.bytes("last")
        fixture.memory.pieces[Self.away] = copy
        fixture.listed.append(.init(address: Self.away, kind: UInt8(ascii: "t"), name: "last"))
        let twice = try failure(fixture, required: [index])
        #expect(twice.cause.code == .severalPlaces && !twice.hints.isEmpty && twice.lines.count > 1)
        fixture.listed.removeAll { $0.name == "last" }
        let nowhere = try failure(fixture, required: [index])
        #expect(nowhere.cause.code == .notInKernel && nowhere.hints[0].contains("/proc/kallsyms"))
        #expect(nowhere.json.text.contains("\"address\":null"))
    }

    @Test func aFunctionThatEndsBeforeItsPreDoesIsCompared() async throws {
        let fixture = try await fixture()
        let (start, code) = try (fixture.address("last"), fixture.bytes("last"))
        let end = code.count - 2
        fixture.memory.pieces[start] = Array(code.prefix(end))
        #expect(try failure(fixture).cause == .unreadable)
        // Where the next symbol says that it ends there, it is a shorter function.
        fixture.listed.append(.init(address: start + UInt64(end), kind: UInt8(ascii: "d"), name: "behind"))
        let short = try failure(fixture)
        #expect(short.cause == .differentCode && short.function == "last" && !short.window.rows.isEmpty)
        fixture.memory.pieces[start]![0] ^= 8
        #expect(try failure(fixture).offset == 0)
    }

    @Test func programsGetTheSame() async throws {
        let fixture = try await fixture()
        fixture.memory.write([0x4e], at: try operand(0x4d, of: "changed", fixture))
        let failure = try failure(fixture)
        let json = try JSON(parsing: failure.json.text)
        #expect(json["code"]?.string == "different-code" && json["function"]?.string == "changed")
        #expect(json["offset"]?.number == failure.offset && json["unit"]?.string == "u.c")
        #expect(json["address"]?.string == hex(try fixture.address("changed")))
        for (side, lines) in [
            ("pre_window", failure.window.preLines), ("run_window", failure.window.runLines),
        ] {
            let items = try #require(json[side]?.array)
            #expect(items.count == lines.count && items.count >= 5)
            #expect(items.map { $0["text"]?.string } == lines.map(\.text))
            #expect(items.contains { $0["symbol"]?.string == "other" })
            #expect(items.allSatisfy { $0["bytes"]?.string?.isEmpty == false && $0["offset"]?.number != nil })
        }
        let causes = try #require(json["causes"]?.array)
        #expect(causes.map { $0["code"]?.string } == ["modified-code", "other-source"])
        #expect(causes.map { $0["likely"] } == [.bool(true), .bool(false)])
        #expect(json["hints"]?.array?.count == failure.hints.count)
        #expect(json["near"]?.array?.isEmpty == false)
    }

    @Test func linesArePairedByLikenessBehindTheDifference() {
        func lines(_ texts: String...) -> [WindowLine] {
            texts.enumerated().map {
                WindowLine(offset: $0 * 2, bytes: [0, 0], text: $1, symbol: nil)
            }
        }
        let pre = lines("push", "one", "mov", "add", "ret")
        let run = lines("push", "two", "new", "mov", "ret")
        let window = MismatchWindow(pre, run, 1, 1)
        #expect(window.first == 1)
        #expect(
            window.rows.map { "\($0.pre?.text ?? "-") \($0.run?.text ?? "-")" } == [
                "push push", "one two", "- new", "mov mov", "add -", "ret ret",
            ])
        #expect(MismatchWindow(pre, [], 0, 0).rows.count == 5)
        #expect(MismatchWindow(pre, run, 5, 5).rows.count == 4)
    }
}
