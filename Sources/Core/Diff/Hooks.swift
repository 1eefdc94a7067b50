// Code of the patch's author that runs when an update is applied or undone. `kernel/ksplice.h` puts an entry for each
// hook into a section `.ksplice.hooks.KIND`: a pointer to the function, and a number that grows with the source.

/// When a hook runs. The order of the cases is that of KSPLICE_HOOK_* in `kernel/update.h`.
public enum HookKind: String, Sendable, CaseIterable {
    case preApply = "pre_apply"
    case checkApply = "check_apply"
    case apply
    case postApply = "post_apply"
    case failApply = "fail_apply"
    case preReverse = "pre_reverse"
    case checkReverse = "check_reverse"
    case reverse
    case postReverse = "post_reverse"
    case failReverse = "fail_reverse"

    static let sectionPrefix = ".ksplice.hooks."
    static let idSection = ".ksplice.shadow_ids"

    /// The number that `kernel/update.h` gives it.
    var number: UInt32 { UInt32(Self.allCases.firstIndex(of: self)!) }

    /// The kind whose entries a section holds; nil for any other section. Fails on a kind that does not exist.
    init?(section name: String) throws {
        guard name.hasPrefix(Self.sectionPrefix) else { return nil }
        guard let kind = HookKind(rawValue: String(name.dropFirst(Self.sectionPrefix.count))) else {
            throw Failure("'\(name)' names no kind of hook", status: .cannotBePatched)
        }
        self = kind
    }

    static func declaresIDs(_ object: ObjectSpans) -> Bool {
        object.hookSpans.contains { object.object.sections[object.spans[$0].section].name == idSection }
    }

    /// The kinds of hooks that an object declares.
    static func all(in object: ObjectSpans) throws -> Set<HookKind> {
        Set(
            try object.hookSpans.compactMap {
                try HookKind(section: object.object.sections[object.spans[$0].section].name)
            })
    }
}

extension ObjectSpans {
    /// The entries that `ksplice.h` makes.
    var hookSpans: [Int] { spans.indices.filter { spans[$0].role == .hook } }
}

/// Hooks that leave something behind. What one unit begins another may end, so an update is looked at as a whole.
enum HookReview {
    private static let rules: [(kind: HookKind, partners: [HookKind], text: String)] = [
        (.preApply, [.failApply], "what it does stays when the update is refused after it"),
        (.apply, [.reverse, .preReverse, .postReverse], "what it does stays when the update is undone"),
        (.postApply, [.reverse, .preReverse, .postReverse], "what it does stays when the update is undone"),
        (.failApply, [.preApply], "there is nothing that it could take back"),
        (.preReverse, [.failReverse], "what it does stays when undo is refused after it"),
        (.failReverse, [.preReverse], "there is nothing that it could take back"),
    ]

    static func findings(_ units: [UnitDifference]) -> [Finding] {
        unpaired(units) + undeclared(units)
    }

    /// Attaching fails, at run time and without a word, under an id that nobody declares.
    private static func undeclared(_ units: [UnitDifference]) -> [Finding] {
        let attaching: Set = ["ksplice_shadow_attach", "ksplice_shadow_get_or_attach"]
        guard !units.contains(where: \.declaresIDs),
            let unit = units.first(where: { unit in
                unit.shipment.map { !attaching.isDisjoint(with: $0.references.keys) } ?? false
            })
        else { return [] }
        return [
            Finding(
                "shadow-undeclared", .warning, file: unit.path, symbol: "ksplice_shadow_id",
                "new code attaches shadow variables, and the change declares no id",
                advice:
                    "nothing can be attached unless another applied update declares the id; add ksplice_shadow_id"
            )
        ]
    }

    private static func unpaired(_ units: [UnitDifference]) -> [Finding] {
        let kinds = units.reduce(into: Set<HookKind>()) { $0.formUnion($1.hooks) }
        return rules.compactMap { rule in
            guard kinds.contains(rule.kind), kinds.isDisjoint(with: rule.partners),
                let unit = units.first(where: { $0.hooks.contains(rule.kind) })
            else { return nil }
            let partners = rule.partners.map { "ksplice_\($0.rawValue)" }.joined(separator: ", ")
            return Finding(
                "hook-unpaired", .warning, file: unit.path, symbol: "ksplice_\(rule.kind.rawValue)",
                "there is a ksplice_\(rule.kind.rawValue) hook and no \(partners)",
                advice: "\(rule.text); add the other hook, or leave it so if that is meant")
        }
    }
}
