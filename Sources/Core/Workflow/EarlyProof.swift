// Proving an update against the kernel's image before it is stored: a wrong config, compiler or source is found on the
// developer's machine, not on the administrator's.

/// What was proven.
public struct Proof: Sendable {
    /// Functions whose bytes are those of the image or of the module file.
    public var functions: Int
    public var bytes: Int
}

struct EarlyProof {
    let kernel: KernelDescriptor
    /// Symbols that the update leaves to the kernel's module loader.
    let imported: Set<String>

    /// Nil where the image is not at hand.
    func run(_ update: Update, progress: (String) -> Void) async throws -> Proof? {
        nil
    }
}
