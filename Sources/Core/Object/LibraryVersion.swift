// The version of elfutils, for reports of bugs.

import CShims

enum ObjectLibrary {
    static var version: String { dwfl_version(nil).map { String(cString: $0) } ?? "unknown" }
}
