// What these tests need and cannot make themselves: two versions of a distribution's kernel, as source and as binary
// packages. The Makefile fetches them and names them in the environment; without them the tests are skipped.

import Core
import Glibc
import Testing

enum Material {
    /// Whether samples are as large as they can be (`make test-whole`).
    static let isWhole = !value("KSPLICE_TEST_WHOLE").isEmpty

    /// Whether nothing is measured or repeated (`make bench`, `make stress`).
    static let isQuick = ["KSPLICE_FIGURES", "KSPLICE_STRESS_CYCLES", "KSPLICE_DEBUG_KERNEL"].allSatisfy {
        value($0).isEmpty
    }

    private static let required = [
        "KSPLICE_SOURCE_OLD", "KSPLICE_SOURCE_NEW", "KSPLICE_IMAGE_OLD", "KSPLICE_IMAGE_NEW",
        "KSPLICE_HEADERS",
        "KSPLICE_KERNEL_REPOSITORY",
    ]

    static func value(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }

    static let missing = required.filter { value($0).isEmpty }
    static let isThere = missing.isEmpty
    static let reason: Comment = "these variables are not set: \(missing.joined(separator: ", "))"

    /// The unpacked source of the older kernel, and of the newer one.
    static let oldSource = value("KSPLICE_SOURCE_OLD")
    static let newSource = value("KSPLICE_SOURCE_NEW")
    /// Their image packages.
    static let oldImage = value("KSPLICE_IMAGE_OLD")
    static let newImage = value("KSPLICE_IMAGE_NEW")
    /// A git repository whose HEAD holds the older source.
    static let repository = value("KSPLICE_KERNEL_REPOSITORY")
    /// The older kernel's headers packages with a build's description; the part common to all flavours has none.
    static let headers = value("KSPLICE_HEADERS").split(whereSeparator: {
        $0 == " " || $0 == ":" || $0 == "\n"
    }).map { String($0) }
        .filter { !$0.lastPathComponent.contains("-common") }
}

/// Everything that boots a kernel or compiles a part of one. A test that waits for what never comes fails under its name; what is
/// measured or repeated for hours has a day.
@Suite(
    .places(2), .enabled(if: Material.isThere, Material.reason),
    .timeLimit(.minutes(Material.isQuick ? 30 : 24 * 60)))
struct VirtualMachineTests {}
