// Constants whose content changes: who can see them decides what becomes of them.
//
// One that only functions of its own file refer to is shipped as a new copy: every function that refers to it counts
// as changed and is replaced. One whose address stands elsewhere - other objects know its name, a variable or a table
// points to it, boot code has handed it to somebody - stays where it is, and so does its content: that is a finding,
// unless the author asks for it to be replaced in place. Then, in the same pause as the redirects, the new content is
// written over the old, and back again by undo.

/// A constant that is replaced where it stands.
public struct InPlaceConstant: Sendable {
    /// In pre.
    public var name: String
    /// In post.
    var shippedName: String
    /// Index into the symbols of the pre object.
    var preSymbol: Int
    /// Span of the post object.
    var post: Int
    /// In bytes.
    public var size: Int

    /// Whether a name given by a person means this symbol; the compiler numbers static locals.
    static func matches(_ symbol: String, _ name: String) -> Bool {
        symbol == name || canonicalName(symbol) == name + ".#"
    }
}

struct ConstantReview {
    /// Post spans of constants of which the new code gets its own copy.
    private(set) var copied: Set<Int> = []
    private(set) var inPlace: [InPlaceConstant] = []
    private(set) var findings: [Finding] = []
    private let pre: ObjectSpans
    private let post: ObjectSpans
    private let module: String?
    private let requested: Set<String>
    /// The spans that refer to each span.
    private let users: [Int: Set<Int>]

    /// Leaves in `comparison` which constants stay where they are.
    init(_ comparison: inout Comparison, path: String, module: String?, requested: Set<String>) {
        pre = comparison.pre
        post = comparison.post
        self.module = module
        self.requested = requested
        users = Self.users(comparison.post)
        var fixed: [Int: ChangeReason] = [:]
        while true {
            let changed = changes(&comparison)
            copied = Set(changed.keys).subtracting(fixed.keys)
            let seen = seen(among: copied)
            if seen.isEmpty { break }
            // Those first that refer to no others: what differs only by referring to them then does not differ.
            let first = seen.filter { index in
                !seen.contains { $0 != index && users[$0, default: []].contains(index) }
            }
            for index in first.isEmpty ? seen : first { fixed[index] = changed[index] }
            comparison.keep(Set(fixed.keys))
        }
        copied.formUnion(unreferred(comparison.correlation))
        for (index, reason) in fixed.sorted(by: { $0.key < $1.key }) {
            settle(index, comparison.correlation.preOfPost[index]!, reason, path)
        }
    }

    /// Names of functions that no code of pre refers to, so that matching cannot tell where they are (`__func__`, which
    /// only a descriptor of pr_debug names): equal ones are copied as well.
    private func unreferred(_ correlation: Correlation) -> Set<Int> {
        var known: Set<Int> = []
        for span in pre.spans where span.isFunction && span.role == .code {
            for relocation in pre.relocations(of: span) {
                if case .span(let target, _) = pre.target(of: relocation, in: span.section) {
                    known.insert(target)
                }
            }
        }
        return Set(
            post.spans.indices.filter { index in
                let span = post.spans[index]
                let section = post.object.sections[span.section]
                guard span.role == .data, !span.isFunction, !span.isGlobal, section.name.hasPrefix(".rodata"),
                    !section.isWritable, section.hasContents, let old = correlation.preOfPost[index]
                else { return false }
                // The name of a function is compared by nobody's address.
                return ["__func__", "__FUNCTION__", "__PRETTY_FUNCTION__"].contains {
                    span.name.hasPrefix($0)
                }
                    && !known.contains(old) && !pre.spans[old].isGlobal
                    && pre.relocations(of: pre.spans[old]).isEmpty && post.relocations(of: span).isEmpty
                    && pre.bytes(of: pre.spans[old]).elementsEqual(post.bytes(of: span))
            })
    }

    private func changes(_ comparison: inout Comparison) -> [Int: ChangeReason] {
        var result: [Int: ChangeReason] = [:]
        for (index, span) in post.spans.enumerated()
        where span.role == .data && !span.names.isEmpty && !post.object.sections[span.section].isWritable {
            guard let counterpart = comparison.correlation.preOfPost[index] else { continue }
            result[index] = comparison.difference(counterpart, index)
        }
        return result
    }

    private func isRequested(_ index: Int) -> Bool {
        post.spans[index].names.contains { name in requested.contains { InPlaceConstant.matches(name, $0) } }
    }

    /// Those of changed constants that cannot be copied: others know them, or another such constant refers to them.
    private func seen(among changed: Set<Int>) -> Set<Int> {
        var seen: Set<Int> = []
        while true {
            let inner = changed.subtracting(seen)
            let more = inner.filter {
                post.spans[$0].isGlobal || isRequested($0) || holder($0, changed: inner) != nil
            }
            if more.isEmpty { return seen }
            seen.formUnion(more)
        }
    }

    /// A span through which others reach a constant: anything but the functions of the running kernel, which are
    /// replaced with it, and constants that are copied with it.
    private func holder(_ index: Int, changed: Set<Int>) -> Int? {
        users[index, default: []].sorted().first { user in
            let span = post.spans[user]
            switch span.role {
            case .code, .hook: return false
            case .exitCode: return module != nil
            case .data where span.names.isEmpty: return post.object.sections[span.section].isWritable
            case .data: return user != index && !changed.contains(user)
            default: return true
            }
        }
    }

    private mutating func settle(_ index: Int, _ counterpart: Int, _ reason: ChangeReason, _ path: String) {
        let name = post.spans[index].name
        let obstacle = obstacle(counterpart, index)
        if isRequested(index), obstacle == nil {
            inPlace.append(
                InPlaceConstant(
                    name: pre.spans[counterpart].name, shippedName: name,
                    preSymbol: pre.spans[counterpart].symbol, post: index,
                    size: size(pre, counterpart)))
            return
        }
        let place = holder(index, changed: copied).map { "'\(title($0))' refers to" }
        findings.append(
            Finding(
                "constant-changed", .error, file: path, symbol: name,
                "the constant '\(name)', which \(post.spans[index].isGlobal ? "other objects can use" : place ?? "is in use"), changes (\(describe(reason)))",
                advice: "its users outside of the replaced functions keep the old content; "
                    + (obstacle.map { "it cannot be replaced in place: \($0)" }
                        ?? "--replace-constant \(canonicalName(name).replacing(".#", with: "")) writes the new content over the old")
            ))
    }

    private func title(_ index: Int) -> String {
        post.spans[index].names.isEmpty
            ? post.object.sections[post.spans[index].section].name : post.spans[index].name
    }

    private func describe(_ reason: ChangeReason) -> String {
        switch reason {
        case .size(let old, let new): "\(old) -> \(new) bytes"
        case .code(let offset): "content at offset \(offset)"
        case .reference(let offset, let target): "offset \(offset) refers to \(target)"
        default: "content"
        }
    }

    private func size(_ object: ObjectSpans, _ index: Int) -> Int {
        Int(object.object.symbols[object.spans[index].symbol].size)
    }

    /// Why the content cannot be written over the old; nil where it can.
    private func obstacle(_ a: Int, _ b: Int) -> String? {
        let (old, new) = (size(pre, a), size(post, b))
        guard old == new else { return "its size changes from \(old) to \(new) bytes" }
        guard old > 0, pre.spans[a].range.count >= old, post.spans[b].range.count >= new else {
            return "its size is not known"
        }
        for (object, index) in [(pre, a), (post, b)] {
            let span = object.spans[index]
            let section = object.object.sections[span.section]
            guard section.name.hasPrefix(".rodata"), section.hasContents else {
                return "it is in the section \(section.name), which the kernel treats in a way of its own"
            }
            guard object.relocations(of: span).allSatisfy({ X86Relocation.isAddress($0.type) }) else {
                return "it holds distances between addresses"
            }
            guard !isKey(object, index) else { return "it is a key of jump labels or static calls" }
        }
        return nil
    }

    private func isKey(_ object: ObjectSpans, _ index: Int) -> Bool {
        object.object.sections.indices.contains { section in
            ["__jump_table", ".static_call_sites"].contains(object.object.sections[section].name)
                && object.object.sections[section].relocations.contains {
                    if case .span(let target, _) = object.target(of: $0, in: section) {
                        target == index
                    } else {
                        false
                    }
                }
        }
    }

    private static func users(_ object: ObjectSpans) -> [Int: Set<Int>] {
        var result: [Int: Set<Int>] = [:]
        for (user, span) in object.spans.enumerated() {
            for relocation in object.relocations(of: span) {
                if case .span(let target, _) = object.target(of: relocation, in: span.section) {
                    result[target, default: []].insert(user)
                }
            }
        }
        return result
    }
}
