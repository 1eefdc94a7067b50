// Names that the compiler numbers.

/// A name without the numbers that the compiler gives: `count.12` and `count.7` are the same variable in pre and post,
/// `find.isra.0` the same clone of the same function. What remains ambiguous is told apart by use and content.
func canonicalName(_ name: String) -> String {
    var result = name
    if name.contains(".") {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        let kept = parts.enumerated().filter { $0.offset == 0 || !$0.element.allSatisfy(\.isNumber) }.map(
            \.element)
        if kept.count < parts.count { result = kept.joined(separator: ".") + ".#" }
    }
    // __UNIQUE_ID() of compiler.h; BTF_ID() of btf_ids.h: both end in __COUNTER__, the latter also in __LINE__.
    if result.hasPrefix("__UNIQUE_ID_") || result.hasPrefix("__BTF_ID__") {
        var end = result[...]
        if end.hasSuffix(".#") { end = end.dropLast(2) }
        while end.last?.isNumber == true { end.removeLast() }
        result = end + "#"
    }
    return result
}
