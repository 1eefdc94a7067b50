// Searching large byte arrays through the C library, whose search is vectorised: an image has tens of megabytes.

import Glibc

extension Array where Element == UInt8 {
    /// The offset of the first occurrence of a pattern at or behind `start`.
    func firstOffset(of pattern: [UInt8], from start: Int = 0) -> Int? {
        guard !pattern.isEmpty, start >= 0, start < count else { return nil }
        return withUnsafeBytes { all -> Int? in
            guard let base = all.baseAddress else { return nil }
            var place = start
            // The candidates begin with the pattern's first byte; memchr jumps from one to the next.
            while place <= all.count - pattern.count,
                let hit = memchr(base + place, Int32(pattern[0]), all.count - pattern.count + 1 - place)
            {
                if memcmp(hit, pattern, pattern.count) == 0 { return UnsafeRawPointer(hit) - base }
                place = UnsafeRawPointer(hit) - base + 1
            }
            return nil
        }
    }

    func contains(text: String) -> Bool { firstOffset(of: Array(text.utf8)) != nil }
}
