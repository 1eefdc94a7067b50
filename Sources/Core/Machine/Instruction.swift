// Decoding one instruction, through libopcodes.

import CShims

/// The text of the instruction at an offset and its length in bytes; nil where the bytes are no instruction.
public func disassemble(
    _ bytes: [UInt8], at offset: Int, address: UInt64 = 0, is64Bit: Bool
) -> (text: String, length: Int)? {
    guard offset >= 0, offset < bytes.count else { return nil }
    var text = [CChar](repeating: 0, count: 160)
    let length = bytes.withUnsafeBufferPointer {
        ks_disassemble(
            $0.baseAddress! + offset, bytes.count - offset, address, is64Bit ? 64 : 32, &text, text.count)
    }
    guard length > 0 else { return nil }
    let end = text.firstIndex(of: 0) ?? text.count
    return (String(decoding: text[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self), Int(length))
}

/// The length in bytes of the instruction at an offset; 1 for bytes that are none.
func instructionLength(_ bytes: [UInt8], at offset: Int, is64Bit: Bool) -> Int {
    disassemble(bytes, at: offset, is64Bit: is64Bit)?.length ?? 1
}
