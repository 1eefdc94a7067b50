// The architecture of a kernel, for those who build for it or lay it out.

extension KernelIdentity {
    /// Fails where the kernel is of a machine that this program does not know.
    func architecture() throws -> X86Architecture {
        guard let architecture = X86Architecture(arch: arch) else {
            throw Failure(
                "the kernel is for '\(arch)', which is not known", status: .wrongKernel,
                hint: "known are " + X86Architecture.allCases.map(\.name).joined(separator: ", "))
        }
        return architecture
    }
}
