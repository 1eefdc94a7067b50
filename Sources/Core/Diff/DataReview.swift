// Differences that are not code: variables, constants, tables, boot code. Most cannot be made to a running kernel by
// replacing functions, and silence about them would be the worst answer.

struct DataReview {
    private var comparison: Comparison
    private let pre: ObjectSpans
    private let post: ObjectSpans
    private let path: String
    private let module: String?
    private(set) var findings: [Finding] = []

    init(comparison: Comparison, path: String, module: String?) {
        self.comparison = comparison
        self.pre = comparison.pre
        self.post = comparison.post
        self.path = path
        self.module = module
    }

    /// - Parameter exports: before and after the change.
    mutating func review(_ exports: (pre: [UnitExport], post: [UnitExport])) {
        for index in post.spans.indices where !post.spans[index].names.isEmpty {
            guard let counterpart = comparison.correlation.preOfPost[index] else {
                reviewNew(index)
                continue
            }
            reviewPair(counterpart, index)
        }
        reviewRemoved()
        reviewTables()
        reviewExports(exports.pre, exports.post)
    }

    private mutating func add(
        _ code: String, _ severity: Finding.Severity, _ symbol: String, _ message: String, _ advice: String
    ) {
        findings.append(Finding(code, severity, file: path, symbol: symbol, message, advice: advice))
    }

    private mutating func reviewPair(_ a: Int, _ b: Int) {
        let span = post.spans[b]
        switch span.role {
        case .data, .perCPU, .initCode, .exitCode, .initData: break
        default: return
        }
        guard let difference = comparison.difference(a, b) else { return }
        let name = span.name
        let section = post.object.sections[span.section]
        switch span.role {
        case .initCode, .initData:
            add(
                "init-changed", .error, name,
                "'\(name)' runs or is read only at boot or when the module is loaded, and it changes",
                "it has already run; let a function that is called later do what the running system needs, or let it through with --force init-changed"
            )
        case .exitCode:
            guard module != nil else { return }
            add(
                "exit-changed", .warning, name,
                "'\(name)' runs only when the module is unloaded, and it changes",
                "a module with an update cannot be unloaded, and after undo its old function runs; what the new code leaves behind must be what the old function clears"
            )
        case .perCPU:
            add(
                "percpu-changed", .error, name,
                "the per-CPU variable '\(name)' changes (\(describe(difference)))",
                "existing instances keep their content; let the code that uses them set them")
        default:
            // Constants are the subject of ConstantReview.swift.
            if section.isWritable {
                add(
                    "data-changed", .error, name,
                    "the variable '\(name)' changes its size or initial value (\(describe(difference)))",
                    "the running kernel keeps the old one and its state; leave the initial value alone and let a hook of ksplice.h (Documentation/hooks.md) or a function set it"
                )
            }
        }
    }

    private func describe(_ reason: ChangeReason) -> String {
        switch reason {
        case .size(let old, let new): "\(old) -> \(new) bytes"
        case .code(let offset): "content at offset \(offset)"
        case .reference(let offset, let target): "offset \(offset) refers to \(target)"
        default: "content"
        }
    }

    private mutating func reviewNew(_ index: Int) {
        let span = post.spans[index]
        switch span.role {
        case .initCode:
            add(
                "init-changed", .error, span.name,
                "'\(span.name)' is new and runs only at boot or when the module is loaded",
                "it will never run in this kernel; let a function that is called later do its work, or let it through with --force init-changed"
            )
        default: return
        }
    }

    /// A variable that is gone is harmless unless its removal hides that another one has taken its state over.
    private mutating func reviewRemoved() {
        for (index, span) in pre.spans.enumerated()
        where !span.names.isEmpty && comparison.correlation.postOfPre[index] == nil && span.role == .data {
            guard pre.object.sections[span.section].isWritable, !span.name.hasPrefix("__UNIQUE_ID_"),
                !Correlation.isHarmless("d " + canonicalName(span.name))
            else { continue }
            add(
                "data-removed", .note, span.name, "the variable '\(span.name)' is gone",
                "the running kernel keeps it; make sure that no new variable stands for its state")
        }
    }

    /// Registration tables are read at boot or at load: what is added in an update is never seen.
    private mutating func reviewTables() {
        let names = Set((pre.object.sections + post.object.sections).map(\.name))
        for name in names.sorted() {
            let a = pre.object.sections.indices.filter { pre.object.sections[$0].name == name }
            let b = post.object.sections.indices.filter { post.object.sections[$0].name == name }
            let role = a.first.map { pre.roles[$0] } ?? b.first.map { post.roles[$0] }
            guard role == .registration else { continue }
            let left = a.map { registrations(pre, $0) }.joined()
            let right = b.map { registrations(post, $0) }.joined()
            if Array(left).sorted() != Array(right).sorted() {
                add(
                    "registration-changed", .error, name,
                    "entries of the table '\(name)' are added, removed or changed",
                    "the kernel reads this table at boot or when the module is loaded; what an update adds to it is never seen"
                )
            }
        }
    }

    private func registrations(_ object: ObjectSpans, _ index: Int) -> [String] {
        let section = object.object.sections[index]
        let references = section.relocations.map { relocation in
            switch object.target(of: relocation, in: index) {
            case .external(let name): "\(name)"
            case .span(let span, let offset): "\(canonicalName(object.spans[span].name))+\(offset)"
            case .content(let s, let o): hex(object.content(section: s, offset: o))
            case .absolute(let value): "\(value)"
            }
        }
        return references + (references.isEmpty && section.size > 0 ? [hex(section.contents)] : [])
    }

    private mutating func reviewExports(_ before: [UnitExport], _ after: [UnitExport]) {
        for old in before {
            let new = after.first { $0.name == old.name }
            if let new, new.isGPL == old.isGPL, new.namespace == old.namespace { continue }
            add(
                "export-removed", .error, old.name,
                new == nil
                    ? "'\(old.name)' is no longer exported"
                    : "'\(old.name)' is exported with another licence or namespace",
                "modules that are loaded use it; keep the export")
        }
        for new in after where !before.contains(where: { $0.name == new.name }) {
            add(
                "export-added", .note, new.name,
                "'\(new.name)' is newly exported: modules that are loaded after the update can use it",
                "undo is refused while such a module is loaded")
        }
    }
}
