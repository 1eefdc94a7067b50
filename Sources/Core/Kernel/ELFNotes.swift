// ELF notes as they stand in an image's PT_NOTE segment and in /sys/kernel/notes (System V ABI, "Note Section").

/// The GNU build-id in a run of notes, lower-case hexadecimal; nil where there is none. Each note is a header of
/// three words (name size, descriptor size, type), the name and the descriptor, each padded to four bytes.
func gnuBuildID(inNotes notes: [UInt8]) -> String? {
    let typeBuildID: UInt32 = 3
    var position = 0
    while let nameSize = notes.load(UInt32.self, at: position),
        let size = notes.load(UInt32.self, at: position + 4),
        let type = notes.load(UInt32.self, at: position + 8)
    {
        let name = position + 12
        let content = name + (Int(nameSize) + 3) / 4 * 4
        let end = content + (Int(size) + 3) / 4 * 4
        guard content + Int(size) <= notes.count else { return nil }
        if type == typeBuildID, notes[name..<name + Int(nameSize)].elementsEqual(Array("GNU\0".utf8)) {
            return hex(notes[content..<content + Int(size)])
        }
        position = end
    }
    return nil
}
