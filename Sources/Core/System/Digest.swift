// SHA-256, which names updates and their files, and keys of caches.

import CShims
import Glibc

/// SHA-256 as 64 lower-case hexadecimal digits.
public func sha256(_ bytes: [UInt8]) -> String {
    var digest = [UInt8](repeating: 0, count: 32)
    let status = ks_sha256(bytes, bytes.count, &digest)
    precondition(status == 0, "libcrypto refused to compute SHA-256")
    return hex(digest)
}

/// SHA-512, 64 bytes.
func sha512(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 64)
    let status = ks_sha512(bytes, bytes.count, &digest)
    precondition(status == 0, "libcrypto refused to compute SHA-512")
    return digest
}

public func sha256(_ text: String) -> String { sha256([UInt8](text.utf8)) }

/// Lower-case hexadecimal digits, two a byte.
public func hex(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    for byte in bytes {
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
}

/// `0x` and lower-case hexadecimal digits.
public func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

/// The bytes of hexadecimal digits; nil where they are not such, or not a whole number of bytes.
func unhex(_ text: String) -> [UInt8]? {
    let digits = text.utf8.map { hexDigit($0) }
    guard digits.count % 2 == 0, !digits.contains(nil) else { return nil }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0]! << 4 | digits[$0 + 1]! }
}

/// gzip framing without a time stamp: equal input gives equal output.
public func gzip(_ bytes: [UInt8]) throws -> [UInt8] {
    var out: UnsafeMutablePointer<UInt8>?
    var size = 0
    let status = ks_gzip(bytes, bytes.count, &out, &size)
    guard status == Z_OK, let out else { throw Failure("cannot compress: zlib error \(status)") }
    defer { free(out) }
    return Array(UnsafeBufferPointer(start: out, count: size))
}

/// Undoes `gzip`. Fails on truncated or altered input, and where the result would be larger than `limit` bytes.
public func gunzip(_ bytes: [UInt8], limit: Int) throws -> [UInt8] {
    var out: UnsafeMutablePointer<UInt8>?
    var size = 0
    let status = ks_gunzip(bytes, bytes.count, limit, &out, &size)
    guard status == Z_OK, let out else {
        throw Failure(
            "truncated or altered gzip data (zlib error \(status))", status: .verificationRefused)
    }
    defer { free(out) }
    return Array(UnsafeBufferPointer(start: out, count: size))
}

/// The value of a hexadecimal digit.
@inline(__always)
func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
