import Testing

@testable import Core

@Suite struct MatcherTests {
    static let source = """
        extern int other(const char *text, int x);
        static int counter;
        static const int table[4] = {1, 2, 3, 5};
        int first(int x) { counter += x; return other("hello", counter) + 1; }
        int second(int x) { return other("world", x * 3) + table[x & 3]; }
        __attribute__((noinline)) static int helper(int x) { return x * 7 + counter; }
        int third(int x) { return helper(x) + helper(x + 1); }
        """
    static let externals: [String: UInt64] = ["other": 0xffff_ffff_8200_0000]

    @Test func identicalCodeMatchesAndTeachesSymbols() async throws {
        let fixture = try await MatchFixture(Self.source, externals: Self.externals)
        fixture.listed.removeAll { $0.name == "counter" }
        let result = try fixture.match()
        #expect(result.failures.map(\.description) == [])
        #expect(Set(result.functions[0].map(\.name)) == ["first", "second", "third", "helper"])
        #expect(try result.resolve("other", unit: 0).address == 0xffff_ffff_8200_0000)
        // Not in kallsyms: only the code says where it is.
        #expect(try result.resolve("counter", unit: 0).address >= 0xffff_ffff_8100_0000)
        #expect(throws: Failure.self) { try result.resolve("nowhere", unit: 0) }
        for function in result.functions[0] { #expect(function.mask.allSatisfy { $0 == 0xff }) }
    }

    @Test func everyFlippedBitOfCodeIsRefused() async throws {
        let fixture = try await MatchFixture(Self.source, externals: Self.externals)
        // In `second` every field is known: the string and the table by content, `other` by kallsyms.
        let bytes = try fixture.bytes("second")
        #expect(try fixture.toleratedFlips(of: bytes, at: fixture.address("second")) == [])
    }

    @Test func differentStringsAndConflictingValuesAreRefused() async throws {
        let fixture = try await MatchFixture(Self.source, externals: Self.externals)
        let start = try #require(fixture.memory.pieces.first { $0.value.starts(with: Array("hello\0".utf8)) })
            .key
        #expect(try !fixture.accepts(Array("hellO".utf8), at: start))
        let hits = try #require(
            fixture.memory.pieces.first { $0.value.starts(with: [1, 0, 0, 0, 2, 0, 0, 0]) }
        ).key
        #expect(try !fixture.accepts([9], at: hits))
        // `counter` not in kallsyms: then two functions must agree on it.
        fixture.listed.removeAll { $0.name == "counter" }
        let first = try fixture.address("first")
        let field = try #require(
            fixture.object.sections[fixture.object.symbols.first { $0.name == "first" }!.section].relocations
                .first)
        var bytes = try fixture.memory.read(at: first + UInt64(field.offset), count: 4)
        bytes[0] ^= 0x40
        #expect(try !fixture.accepts(bytes, at: first + UInt64(field.offset)))
    }

    @Test func ambiguousStaticsAreToldApartByTheirCallers() async throws {
        let fixture = try await MatchFixture(Self.source, externals: Self.externals)
        let real = try fixture.address("helper")
        // The same code somewhere else under the same name.
        let twin: UInt64 = 0xffff_ffff_8300_0000
        var copy = try fixture.bytes("helper")
        let section = fixture.object.sections[fixture.object.symbols.first { $0.name == "helper" }!.section]
        let field = try #require(section.relocations.first)
        let old = try #require(copy.load(UInt32.self, at: field.offset))
        copy.store(old &- UInt32(truncatingIfNeeded: twin &- real), at: field.offset)
        fixture.memory.pieces[twin] = copy
        fixture.listed.append(.init(address: twin, kind: UInt8(ascii: "t"), name: "helper"))
        let result = try fixture.match()
        #expect(result.failures.map(\.description) == [])
        #expect(result.functions[0].first { $0.name == "helper" }?.entry == real)
        // Without the caller nothing decides: a failure where the function is needed.
        fixture.listed.removeAll { $0.name == "third" || $0.name == "first" || $0.name == "second" }
        let open = try fixture.match()
        #expect(open.failures.isEmpty && open.notPresent.contains { $0.name == "helper" })
        let index = try #require(fixture.object.symbols.firstIndex { $0.name == "helper" })
        #expect(try fixture.match(required: [index]).failures.map(\.cause) == [.ambiguous])
    }

    @Test func aShortJumpInMemoryIsFollowed() async throws {
        // Pre: jz over `call far`, a jump out through a relocation. Run: the jump is short, as in one section.
        let source = """
            int far_(int);
            int leaf(int x) { if (x > 5) return far_(x); return x + 1; }
            """
        let fixture = try await MatchFixture(source, externals: ["far_": 0xffff_ffff_8100_0020])
        let start = try fixture.address("leaf")
        var bytes = try fixture.bytes("leaf")
        let section = fixture.object.sections[fixture.object.symbols.first { $0.name == "leaf" }!.section]
        let field = try #require(section.relocations.first)
        #expect(bytes[field.offset - 1] == 0xe9)
        // This compiler puts the tail jump last, so that only its own length changes.
        try #require(field.offset + 4 == bytes.count)
        let target = 0xffff_ffff_8100_0020 as UInt64
        let end = start + UInt64(field.offset + 1)
        bytes.replaceSubrange(
            field.offset - 1..<bytes.count,
            with: [0xeb, UInt8(truncatingIfNeeded: target &- end), 0xcc, 0xcc, 0xcc])
        fixture.memory.write(bytes, at: start)
        let result = try fixture.match()
        #expect(result.failures.map(\.description) == [])
        #expect(result.functions[0].first?.runSize == field.offset + 1)
        #expect(result.statistics.walked == 1)
        bytes[field.offset] ^= 4
        #expect(try !fixture.accepts(bytes, at: start))
    }

    @Test func weakOverriddenFunctionsAreAbsentUnlessRequired() async throws {
        let fixture = try await MatchFixture("__attribute__((weak)) int w(int x) { return x + 1; }")
        fixture.memory.write([0x90, 0xc3], at: try fixture.address("w"))
        let result = try fixture.match()
        #expect(result.failures.isEmpty && result.notPresent.map(\.name) == ["w"])
        let index = try #require(fixture.object.symbols.firstIndex { $0.name == "w" })
        var matcher = try Matcher(
            units: [MatchUnit(path: "u.c", module: nil, object: fixture.object, required: [index])],
            tables: [:],
            memory: fixture.memory, symbols: KernelSymbols(fixture.listed), isImage: false)
        #expect(matcher.match().failures.count == 1)
    }

    @Test func breakpointsAndForeignRedirectsAreNamed() async throws {
        let fixture = try await MatchFixture(Self.source, externals: Self.externals)
        let start = try fixture.address("second")
        fixture.memory.write([0xcc], at: start)
        #expect(try fixture.match().failures.map(\.cause) == [.kprobe])
        let away: UInt64 = 0xffff_ffff_c010_0000
        fixture.listed.append(.init(address: away, kind: UInt8(ascii: "t"), name: "second", module: "klp_x"))
        fixture.memory.write(MatchFixture.branch([0xe9], at: start, to: away), at: start)
        let failure = try #require(try fixture.match().failures.first)
        #expect(failure.cause == .redirected && failure.explanation.contains("klp_x"))
    }

    @Test func aRedirectOfAnEarlierUpdateIsFollowed() async throws {
        let fixture = try await MatchFixture("int f(int x) { return x * 5 + 77; }")
        let start = try fixture.address("f")
        let code = try fixture.bytes("f")
        let away: UInt64 = 0xffff_ffff_c010_0000
        fixture.memory.pieces[away] = code
        fixture.listed.append(
            .init(address: away, kind: UInt8(ascii: "t"), name: "f", module: "ksplice_0123456789ab"))
        var old = [UInt8](repeating: 0x90, count: code.count)
        old.replaceSubrange(0..<5, with: MatchFixture.branch([0xe9], at: start, to: away))
        fixture.memory.write(old, at: start)
        let function = try #require(try fixture.match().functions[0].first)
        #expect(function.address == away && function.entry == start)
    }

    @Test("redirects of several updates are followed to the newest, and no circle holds matching up")
    func aChainOfRedirectsIsFollowed() async throws {
        let fixture = try await MatchFixture("int f(int x) { return (x * 5 + 77) * (x + 3) ^ (x >> 2); }")
        let start = try fixture.address("f")
        let code = try fixture.bytes("f")
        let places: [UInt64] = [start, 0xffff_ffff_c010_0000, 0xffff_ffff_c020_0000, 0xffff_ffff_c030_0000]
        for (index, place) in places.enumerated().dropFirst() {
            fixture.memory.pieces[place] = code
            fixture.listed.append(
                .init(
                    address: place, kind: UInt8(ascii: "t"), name: "f", module: "ksplice_00000000000\(index)")
            )
        }
        func redirect(_ from: UInt64, to target: UInt64) {
            var old = [UInt8](repeating: 0x90, count: code.count)
            old.replaceSubrange(0..<5, with: MatchFixture.branch([0xe9], at: from, to: target))
            fixture.memory.write(old, at: from)
        }
        for (from, target) in zip(places, places.dropFirst()) { redirect(from, to: target) }
        let function = try #require(try fixture.match().functions[0].first)
        #expect(function.address == places[3] && function.entry == start)
        // The newest code is another's.
        fixture.memory.write([0x90], at: places[3])
        let failure = try #require(try fixture.match().failures.first)
        #expect(failure.cause == .otherUpdate && failure.explanation.contains("ksplice_000000000003"))
        redirect(places[3], to: places[1])
        #expect(try fixture.match().failures.count == 1)
    }

    @Test func damagedObjectsNeverTrap() async throws {
        let fixture = try await MatchFixture(
            Self.source, flags: ["-pg", "-mfentry", "-mrecord-mcount"],
            externals: Self.externals.merging(["__fentry__": 0xffff_ffff_8200_1000]) { a, _ in a })
        let good = fixture.object
        for index in good.symbols.indices {
            for value in [UInt64.max, 1 << 63, 0x7fff_ffff_ffff_ffff, 64, 3] {
                fixture.object = good
                fixture.object.symbols[index].value = value
                fixture.object.symbols[index].size = value &- 5
                do { _ = try fixture.match() } catch is Failure {}
            }
        }
        for section in good.sections.indices {
            for relocation in good.sections[section].relocations.indices {
                for addend in [Int64.max, .min, -1, 1 << 31] {
                    fixture.object = good
                    fixture.object.sections[section].relocations[relocation].addend = addend
                    fixture.object.sections[section].entrySize = UInt64(bitPattern: addend)
                    do { _ = try fixture.match() } catch is Failure {}
                }
            }
            fixture.object = good
            fixture.object.sections[section].entrySize = .max
            fixture.object.sections[section].contents = Array(good.sections[section].contents.prefix(2))
            do { _ = try fixture.match() } catch is Failure {}
        }
    }
}
