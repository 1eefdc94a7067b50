// Functions and variables that are new in their unit under a name that the kernel has already: moved from another file,
// or a strong definition for a weak one. The linker would have led everybody to the new one; an update leads only its
// own code there.

enum ExistingNames {
    /// - Parameter symbols: those of the kernel.
    static func findings(_ units: [UnitDifference], _ symbols: KernelSymbols) -> [Finding] {
        units.flatMap { unit in
            (unit.shipment?.newGlobals ?? []).sorted().compactMap { name in
                let holder = units.first { $0.module == unit.module && $0.definedBefore(name) }
                guard
                    holder != nil
                        || unit.module == nil
                            && symbols.named(name, in: nil).contains(where: \.mayBeGlobal)
                else { return nil }
                let place = holder.map { " in '\($0.path)'" } ?? ""
                return unit.places.located(
                    Finding(
                        "exists-elsewhere", .error, file: unit.path, symbol: name,
                        "'\(name)' is new in this file, and the kernel has it already\(place)",
                        advice:
                            "code that the update does not change goes on with the old one; change it where it stands, and leave its move to another commit"
                    ))
            }
        }
    }
}

extension UnitDifference {
    /// Whether the unit lets others use something of a name before the change.
    fileprivate func definedBefore(_ name: String) -> Bool {
        preObject.symbols.contains {
            $0.name == name && $0.isDefinedInSection && $0.binding != SymbolBinding.local
        }
    }
}
