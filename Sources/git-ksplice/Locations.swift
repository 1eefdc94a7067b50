// Where the program's own files are: installed beside it, or in the source tree that it was built in.

import Core
import Glibc

enum Locations {
    /// The folder with the sources of ksplice.ko.
    static func kernelSources() throws -> String {
        if let given = getenv("GIT_KSPLICE_KERNEL_DIR") { return try Files.absolute(String(cString: given)) }
        let program = try executable()
        var folder = program.directoryPart
        var tried = [folder + "/../share/git-ksplice/kernel"]
        for _ in 0..<6 {
            tried.append(folder + "/kernel")
            folder = folder.directoryPart
        }
        for candidate in tried where Files.exists(candidate + "/update.h") {
            return try Files.absolute(candidate)
        }
        throw Failure(
            "cannot find the sources of ksplice.ko near '\(program)'",
            hint: "set GIT_KSPLICE_KERNEL_DIR to the folder that holds them")
    }

    /// This program's path.
    static func executable() throws -> String { try Files.absolute("/proc/self/exe") }
}
