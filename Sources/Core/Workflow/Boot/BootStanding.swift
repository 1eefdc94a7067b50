// Whether an update may be tried at a boot, from the marks of earlier attempts. An update is tried once; until somebody
// says that the system came up with it, the mark of that attempt stays, and where a later boot finds it, the update is
// held.
//
// Who is to blame? An update that was being applied when the machine died is, and the others of that boot are tried
// again: they are not to be lost for it. Where none was, the machine died later, and each that was applied then may be the
// cause: all are held. So every boot that fails holds at least one update more, and the last one has none left to fail
// with.

/// How an update stands at this boot.
public enum BootStanding: Sendable, Equatable {
    /// It may be tried.
    case ready
    /// It was applied at this boot, and nobody has said yet that the system came up.
    case unconfirmed
    /// The host refused it when it was tried last; it may be tried again.
    case refused(String)
    /// It is not tried; why.
    case held(String)

    var isHeld: Bool { if case .held = self { true } else { false } }

    /// - Parameters:
    ///   - boot: this one.
    ///   - applied: identities of what is applied now.
    /// - Returns: one for each entry, in their order.
    static func all(
        of list: BootList, marks: [String: BootMark], boot: String, applied: Set<String>
    ) -> [BootStanding] {
        let died = list.entries.contains { entry in
            if case .trying(let when) = marks[entry.id] {
                return when != boot || !applied.contains(entry.id)
            }
            return false
        }
        var result: [BootStanding] = []
        var held: Set<String> = []
        for entry in list.entries {
            var standing = of(marks[entry.id], boot, applied.contains(entry.id), otherDied: died)
            if let ground = entry.depends.first(where: held.contains), !standing.isHeld {
                standing = .held("it stands on update \(ground.prefix(12)), which is held")
            }
            if standing.isHeld { held.insert(entry.id) }
            result.append(standing)
        }
        return result
    }

    private static func of(_ mark: BootMark?, _ boot: String, _ isApplied: Bool, otherDied: Bool)
        -> BootStanding
    {
        switch mark {
        case nil: .ready
        case .held(let why): .held(why)
        case .refused(_, let why): .refused(why)
        case .trying(let when) where when == boot:
            isApplied ? .unconfirmed : .held("the program did not survive the attempt to apply it")
        case .trying: .held("the machine did not survive the attempt to apply it at an earlier boot")
        case .applied(let when) where when == boot: isApplied ? .unconfirmed : .ready
        case .applied:
            otherDied ? .ready : .held("an earlier boot, at which it was applied, did not come up")
        }
    }
}
