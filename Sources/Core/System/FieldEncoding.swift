// Fields of the project's own line formats (manifest, kernel descriptor): separated by one blank, so that a blank
// inside of one must be written otherwise.

/// A field of a line of text: blanks, control characters and `%` percent-encoded, nothing as `-`.
func encodeField(_ field: String) -> String {
    if field.isEmpty { return "-" }
    if field == "-" { return "%2d" }
    var out: [UInt8] = []
    for byte in field.utf8 {
        if byte <= 0x20 || byte == 0x7f || byte == UInt8(ascii: "%") {
            out += "%".utf8
            out += hex(CollectionOfOne(byte)).utf8
        } else {
            out.append(byte)
        }
    }
    return String(decoding: out, as: UTF8.self)
}

/// Undoes `encodeField`; nil where the text is not of that form.
func decodeField(_ field: String) -> String? {
    if field == "-" { return "" }
    var out: [UInt8] = []
    let bytes = Array(field.utf8)
    var index = 0
    while index < bytes.count {
        if bytes[index] != UInt8(ascii: "%") {
            out.append(bytes[index])
            index += 1
            continue
        }
        guard index + 2 < bytes.count, let high = hexDigit(bytes[index + 1]),
            let low = hexDigit(bytes[index + 2])
        else {
            return nil
        }
        out.append(high << 4 | low)
        index += 3
    }
    return String(decoding: out, as: UTF8.self)
}
