// The sizes of the entries of an object's tables of patch sites, where no kernel headers are at hand that would say. All
// but one have the same size in every kernel; that one shows it by the places of its relocated fields.

extension ObjectFile {
    /// Bytes of an entry by section name, for `PatchSites`. Fails where the alternatives of the object are not understood.
    func entrySizes() throws -> [String: Int] {
        let word = architecture.wordSize
        var sizes = [
            ".parainstructions": 2 * word, ".smp_locks": 4, "__jump_table": 8 + word, "__mcount_loc": word,
        ]
        // {s32 instruction; s32 replacement; 4 to 6 bytes of numbers}: of Linux up to 5.9, 6.2, and later.
        var possible: Set = [12, 13, 14]
        for section in sections where section.name == ".altinstructions" && section.size > 0 {
            let fields = section.relocations.map(\.offset)
            possible = possible.filter { size in
                section.size % size == 0
                    && fields.elementsEqual(
                        stride(from: 0, to: section.size, by: size).flatMap { [$0, $0 + 4] })
            }
            guard !possible.isEmpty else {
                throw Failure("the entries of .altinstructions are not understood")
            }
        }
        sizes[".altinstructions"] = possible.count == 1 ? possible.first : 12
        return sizes
    }
}
