// The memory of a kernel as its image would be loaded, before any of its code has run: the other end of the seam
// to a live kernel's memory, so that what reads tables needs to be written once.

/// The content of an image at its link addresses.
public final class ImageMemory: KernelMemory {
    public let image: KernelImage

    public init(_ image: KernelImage) { self.image = image }

    public func read(at address: UInt64, count: Int) throws -> [UInt8] {
        var result: [UInt8] = []
        guard count >= 0 else { throw unmapped(address, count) }
        result.reserveCapacity(count)
        while result.count < count {
            let (place, overflow) = address.addingReportingOverflow(UInt64(result.count))
            guard !overflow,
                let segment = image.segments.first(where: {
                    place >= $0.address && place - $0.address < $0.memorySize
                })
            else { throw unmapped(address, count) }
            let skip = Int(place - segment.address)
            let wanted = min(count - result.count, Int(segment.memorySize) - skip)
            let start = segment.file.lowerBound + skip
            let fromFile = max(0, min(wanted, segment.file.upperBound - start))
            if fromFile > 0 { result += image.bytes[start..<start + fromFile] }
            result += repeatElement(0, count: wanted - fromFile)
        }
        return result
    }

    private func unmapped(_ address: UInt64, _ count: Int) -> Failure {
        Failure("cannot read \(count) bytes at \(hex(address)): not in the image '\(image.name)'")
    }
}
