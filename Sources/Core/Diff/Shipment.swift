// What goes into the update: changed and new functions, the new data and the constants that they use, and the table
// entries that describe them. Everything else that they refer to exists already and becomes an undefined symbol.
//
// Two rules keep later updates and function pointers right: a function that replaces an existing one is never bound
// inside the update, neither for calls nor for addresses, but stays a reference to the original entry, whose redirect
// leads to the newest code; and existing data is never copied, unless it is a constant that changed.

/// The object that is shipped for one unit, and what it leaves to be resolved.
struct Shipment {
    /// Relocatable, before objtool. Code stands in `.text`; names are those of the post object.
    var object: ObjectFile
    /// New code for each replaced function: pre span and post span, with the symbol in `object`.
    var replaced: [(pre: Int, post: Int, symbol: Int)] = []
    /// Symbols of `object` that exist in the kernel, by name: the post span, nil for symbols of other units.
    var references: [String: Int?] = [:]
    /// New symbols that other units may refer to.
    var newGlobals: Set<String> = []
    /// Whether addresses of shipped code or data are stored or passed on, so that they may outlive undo.
    var keepsAddresses = false
    /// New data spans, for findings.
    var newData: [Int] = []
}

struct Shipper {
    private let post: ObjectSpans
    private let correlation: Correlation
    private let changes: [FunctionChange]
    /// Constants (post spans) whose content changed: their new copies are shipped.
    private let changedConstants: Set<Int>
    /// Those of them that replace the old content where it stands: new code refers to the old place.
    private let inPlace: Set<Int>

    /// New spans that modules may use.
    private var exported: Set<Int> = []

    private var out: ObjectFile
    private var shipment: Shipment
    private var outSections: [String: Int] = [:]
    private var sectionSymbols: [Int: Int] = [:]
    private var namedSymbols: [String: Int] = [:]
    /// Where each shipped span stands: output section and offset.
    private var places: [Int: (section: Int, offset: Int)] = [:]
    private var contents: [ContentKey: (section: Int, offset: Int)] = [:]
    private var chunks: [Chunk] = []
    private var deadEnds: DeadEnds

    private struct ContentKey: Hashable {
        var isString: Bool
        var bytes: [UInt8]
    }

    /// A copied stretch whose relocations are to be translated.
    private struct Chunk {
        var source: Int
        var range: Range<Int>
        var section: Int
        var offset: Int
        var isCode: Bool
    }

    init(
        post: ObjectSpans, correlation: Correlation, changes: [FunctionChange], changedConstants: Set<Int>,
        inPlace: Set<Int>
    ) {
        self.post = post
        self.correlation = correlation
        self.changes = changes
        self.changedConstants = changedConstants.union(inPlace)
        self.inPlace = inPlace
        deadEnds = DeadEnds(post)
        out = ObjectFile(machine: post.object.machine, is64Bit: post.object.is64Bit, type: post.object.type)
        shipment = Shipment(object: out)
    }

    static func ship(
        post: ObjectSpans, correlation: Correlation, changes: [FunctionChange], changedConstants: Set<Int>,
        inPlace: Set<Int> = [], exported: Set<Int> = []
    ) throws -> Shipment {
        var shipper = Shipper(
            post: post, correlation: correlation, changes: changes, changedConstants: changedConstants,
            inPlace: inPlace)
        shipper.exported = exported
        return try shipper.run()
    }

    private mutating func run() throws -> Shipment {
        for index in try closure() { try place(index) }
        // Placing a string or a piece of replacement code adds chunks while relocations are translated.
        var next = 0
        while next < chunks.count {
            try translate(chunks[next])
            next += 1
        }
        keepKeysOfStaticCalls()
        shipment.object = out
        for change in changes {
            guard let pre = change.pre else { continue }
            shipment.replaced.append((pre, change.post, namedSymbols[post.spans[change.post].name]!))
        }
        return shipment
    }

    // MARK: - What is shipped

    /// Spans to ship: the changes and all new data and functions that they reach, in the order of the post object.
    private mutating func closure() throws -> [Int] {
        var shipped = Set(changes.map(\.post)).union(inPlace).union(post.hookSpans).union(exported)
        var queue = Array(shipped)
        while let index = queue.popLast() {
            let span = post.spans[index]
            var references = post.relocations(of: span).map { ($0, span.section) }
            for entry in post.entries[index] ?? [] {
                references += post.object.sections[entry.section].relocations(in: entry.range).map {
                    ($0, entry.section)
                }
            }
            for (relocation, section) in references {
                guard case .span(let target, _) = post.target(of: relocation, in: section),
                    !shipped.contains(target),
                    isNew(target)
                else { continue }
                guard post.spans[target].role != .initCode, post.spans[target].role != .exitCode,
                    post.spans[target].role != .initData
                else { continue }
                shipped.insert(target)
                queue.append(target)
            }
        }
        shipment.newData = shipped.filter {
            !post.spans[$0].isFunction && !changedConstants.contains($0) && post.spans[$0].role != .hook
        }.sorted()
        return shipped.sorted()
    }

    /// Whether a span has no counterpart in the running kernel that new code could use.
    private func isNew(_ index: Int) -> Bool {
        post.spans[index].names.isEmpty || correlation.preOfPost[index] == nil
            || changedConstants.contains(index)
    }

    // MARK: - Placing

    private mutating func place(_ index: Int) throws {
        let span = post.spans[index]
        let section = post.object.sections[span.section]
        let alignment = span.isFunction ? 16 : max(1, section.alignment)
        let target = outSection(outName(section.name, span), like: section)
        let offset = append(bytes: Array(post.bytes(of: span)), size: span.range.count, alignment, to: target)
        places[index] = (target, offset)
        chunks.append(
            Chunk(
                source: span.section, range: span.range, section: target, offset: offset,
                isCode: span.isFunction))
        for name in span.names.isEmpty ? [] : [span.name] {
            let isNewGlobal = span.isGlobal && correlation.preOfPost[index] == nil
            if isNewGlobal { shipment.newGlobals.insert(name) }
            out.symbols.append(
                Symbol(
                    name: name, value: UInt64(offset), size: UInt64(span.range.count),
                    binding: isNewGlobal ? SymbolBinding.global : SymbolBinding.local,
                    type: span.isFunction ? SymbolType.function : SymbolType.object, section: target))
            namedSymbols[name] = out.symbols.count - 1
        }
        for entry in post.entries[index] ?? [] { try placeEntry(entry) }
    }

    private mutating func placeEntry(_ entry: TableEntry) throws {
        let section = post.object.sections[entry.section]
        if section.name == "__patchable_function_entries" { return }
        guard !section.name.hasPrefix(TableSections.runtimeConstants) else {
            throw Failure(
                "new code holds a constant that the kernel computes at boot (section '\(section.name)')",
                status: .cannotBePatched)
        }
        let target = outSection(section.name, like: section)
        // The padding that the assembler may leave out behind the last entry must be there before the next one.
        let size = TableSections.entrySize(section.name, post.tables) ?? entry.range.count
        let offset = append(
            bytes: Array(section.contents[entry.range]), size: entry.range.count, 1, to: target)
        if size > entry.range.count {
            out.sections[target].contents += [UInt8](repeating: 0, count: size - entry.range.count)
            out.sections[target].size = out.sections[target].contents.count
        }
        chunks.append(
            Chunk(source: entry.section, range: entry.range, section: target, offset: offset, isCode: false))
    }

    /// `.text.f` goes to `.text` (the loader of Linux 6.1 applies `.smp_locks` only there), `.data.x` to `.data`;
    /// sections with a meaning of their own (`.noinstr.text`, `.data..read_mostly`) keep their names.
    private func outName(_ name: String, _ span: ObjectSpan) -> String {
        if name == TableSections.auxiliaryCode { return name }
        if span.isFunction { return name.hasPrefix(".noinstr") ? ".noinstr.text" : ".text" }
        for prefix in [".data", ".bss", ".rodata"]
        where name.hasPrefix(prefix + ".") && !name.hasPrefix(prefix + "..") {
            return prefix
        }
        return name
    }

    private mutating func outSection(_ name: String, like section: Section) -> Int {
        if let known = outSections[name] {
            out.sections[known].alignment = max(out.sections[known].alignment, section.alignment)
            return known
        }
        var made = Section(
            name: name, type: section.type,
            flags: section.flags & ~(SectionFlags.merge | SectionFlags.strings | 0x200),
            alignment: section.alignment)
        if section.isExecutable { made.alignment = max(16, made.alignment) }
        out.sections.append(made)
        let index = out.sections.count - 1
        outSections[name] = index
        out.symbols.append(Symbol(name: name, type: SymbolType.section, section: index))
        sectionSymbols[index] = out.symbols.count - 1
        return index
    }

    private mutating func append(bytes: [UInt8], size: Int, _ alignment: some BinaryInteger, to index: Int)
        -> Int
    {
        let step = Int(alignment)
        let padding = (step - out.sections[index].size % step) % step
        let offset = out.sections[index].size + padding
        if out.sections[index].hasContents {
            let filler: UInt8 = out.sections[index].isExecutable ? 0xcc : 0
            out.sections[index].contents += [UInt8](repeating: filler, count: padding) + bytes
            precondition(bytes.count == size, "a section with content has a span without")
        }
        out.sections[index].size = offset + size
        return offset
    }

    // MARK: - Translating references

    private mutating func translate(_ chunk: Chunk) throws {
        for relocation in post.object.sections[chunk.source].relocations(in: chunk.range) {
            var translated = relocation
            translated.offset += chunk.offset - chunk.range.lowerBound
            let target = post.target(of: relocation, in: chunk.source)
            switch target {
            case .external(let name):
                translated.symbol = reference(name, span: nil)
            case .absolute(let value):
                translated.symbol = absolute(value)
                translated.addend = 0
            case .span(let index, let addend):
                try translateSpan(&translated, index, addend, chunk)
            case .content(let section, let offset):
                let original = post.object.symbols[relocation.symbol]
                let adjustment = Int64(original.value) + relocation.addend - Int64(offset)
                let place = placeContent(section, offset, chunk)
                translated.symbol = sectionSymbols[place.section]!
                translated.addend = Int64(place.offset) + adjustment
                if post.roles[section] == .strings { shipment.keepsAddresses = true }
            }
            out.sections[chunk.section].relocations.append(translated)
        }
    }

    private mutating func translateSpan(
        _ relocation: inout Relocation, _ index: Int, _ addend: Int64, _ chunk: Chunk
    ) throws {
        let span = post.spans[index]
        relocation.addend = addend
        if let place = places[index], isBoundInside(index, addend, relocation, chunk) {
            // As the assembler does it, what is not visible outside is referred to by section: objtool accepts no other
            // form in most tables, and takes a jump to a function's symbol for a sibling call.
            let isByName =
                span.isFunction ? span.isGlobal && isEntry(addend, relocation) : !span.names.isEmpty
            if !isByName || isTable(chunk.source) {
                relocation.symbol = sectionSymbols[place.section]!
                relocation.addend += Int64(place.offset)
            } else {
                relocation.symbol = namedSymbols[span.name]!
            }
            let isBranch =
                chunk.isCode && span.isFunction
                && X86Branch.isTarget(of: relocation, in: out.sections[chunk.section].contents)
            let isHook = post.roles[chunk.source] == .hook
            if !isBranch && !isTable(chunk.source) && !isHook { shipment.keepsAddresses = true }
            return
        }
        if span.role == .initCode || span.role == .initData || (span.role == .exitCode) {
            throw Failure(
                "new code refers to '\(span.name)', which is gone after boot", status: .cannotBePatched,
                hint: "let the new code do without it: what is marked __init or __exit is not in memory",
                finding: "init-reference")
        }
        guard !span.names.isEmpty else {
            throw Failure(
                "new code refers to a nameless place in section '\(post.object.sections[span.section].name)'",
                status: .cannotBePatched,
                hint:
                    "give the object a name, or leave the function that uses it as it is; please report it with the name of the source file",
                finding: "nameless-reference")
        }
        relocation.symbol = reference(span.name, span: index)
        let isCall =
            chunk.isCode && span.isFunction && isEntry(addend, relocation)
            && out.sections[chunk.section].contents[relocation.offset - 1] == 0xe8
        if isCall && deadEnds.contain(index) { endCode(chunk.section, at: relocation.offset + 4) }
    }

    /// Tells objtool that the instruction in front of a place is never left.
    private mutating func endCode(_ section: Int, at offset: Int) {
        let table = outSection(
            ".discard.unreachable", like: Section(name: "", type: 1, flags: SectionFlags.alloc, alignment: 4))
        let entry = append(bytes: [0, 0, 0, 0], size: 4, 1, to: table)
        out.sections[table].relocations.append(
            .init(
                offset: entry, type: out.architecture.pc32.type, symbol: sectionSymbols[section]!,
                addend: Int64(offset)))
    }

    private func isTable(_ section: Int) -> Bool {
        post.roles[section] == .codeTable || post.roles[section] == .objtoolTable
    }

    /// Inside: what is new, table entries' references to their own code, and jumps between the parts of one function.
    private func isBoundInside(_ index: Int, _ addend: Int64, _ relocation: Relocation, _ chunk: Chunk)
        -> Bool
    {
        let span = post.spans[index]
        if inPlace.contains(index) { return false }
        guard span.isFunction, correlation.preOfPost[index] != nil else { return true }
        if isTable(chunk.source) { return true }
        if post.roles[chunk.source] == .replacementCode
            || post.object.sections[chunk.source].name == TableSections.auxiliaryCode
        {
            return !isEntry(addend, relocation)
        }
        guard chunk.isCode, let from = post.span(at: chunk.range.lowerBound, section: chunk.source) else {
            return false
        }
        guard Comparison.family(post.spans[from].name) == Comparison.family(span.name) else { return false }
        // Recursion goes through the original entry; anything else in the same function stays inside.
        return !isEntry(addend, relocation) || Comparison.isPart(span.name)
    }

    /// Whether a reference leads to a function's first byte: the addend of a PC-relative field in code is 4 less than
    /// its target's offset.
    private func isEntry(_ addend: Int64, _ relocation: Relocation) -> Bool {
        addend + (X86Relocation.isPC32(relocation.type) ? 4 : 0) == 0
    }

    private mutating func reference(_ name: String, span: Int?) -> Int {
        if let known = namedSymbols[name] {
            // An external name is never that of a shipped local one: the post object has one scope for both.
            if out.symbols[known].isUndefined { return known }
        }
        let key = "undefined " + name
        if let known = namedSymbols[key] { return known }
        out.symbols.append(Symbol(name: name, binding: SymbolBinding.global))
        namedSymbols[key] = out.symbols.count - 1
        shipment.references.updateValue(span, forKey: name)
        return out.symbols.count - 1
    }

    private mutating func absolute(_ value: UInt64) -> Int {
        let key = "absolute \(value)"
        if let known = namedSymbols[key] { return known }
        var symbol = Symbol(name: "", value: value, section: SectionIndex.absolute)
        symbol.binding = SymbolBinding.local
        out.symbols.append(symbol)
        namedSymbols[key] = out.symbols.count - 1
        return out.symbols.count - 1
    }

    /// Ships a string, a constant, or the piece of replacement code that a table entry names.
    private mutating func placeContent(_ index: Int, _ offset: Int, _ chunk: Chunk) -> (
        section: Int, offset: Int
    ) {
        let section = post.object.sections[index]
        if post.roles[index] == .replacementCode {
            let entry = TableEntry(section: chunk.source, range: chunk.range, offset: 0)
            let size = min(post.replacementSize(entry), section.contents.count - offset)
            let target = outSection(section.name, like: section)
            let place = append(
                bytes: Array(section.contents[offset..<offset + size]), size: size, 1, to: target)
            chunks.append(
                Chunk(
                    source: index, range: offset..<offset + size, section: target, offset: place,
                    isCode: false))
            return (target, place)
        }
        let isString = post.roles[index] == .strings
        let bytes = post.content(section: index, offset: offset)
        let key = ContentKey(isString: isString, bytes: bytes)
        let inner = isString ? 0 : offset % max(1, Int(section.entrySize))
        if let known = contents[key] { return (known.section, known.offset + inner) }
        let target = outSection(isString ? ".rodata.str" : ".rodata.cst\(section.entrySize)", like: section)
        let place = append(bytes: bytes, size: bytes.count, max(1, section.alignment), to: target)
        contents[key] = (target, place)
        return (target, place + inner)
    }

    /// objtool looks for the key of each static call by name; without it, it takes the trampoline for the key.
    private mutating func keepKeysOfStaticCalls() {
        for name in shipment.references.keys.sorted() where name.hasPrefix("__SCT__") {
            let key = "__SCK__" + name.dropFirst("__SCT__".count)
            if post.object.symbols.contains(where: { $0.name == key }) {
                let index = post.object.symbols.firstIndex { $0.name == key }!
                _ = reference(key, span: post.spanOfSymbol[index])
            } else {
                _ = reference(key, span: nil)
            }
        }
    }
}
