// Where the program's own files are: installed beside it, or in the source tree that it was built in.

import Core
import Glibc

enum Locations {
    /// The folder with the sources of ksplice.ko.
    static func kernelSources() throws -> String {
        try find(
            "the sources of ksplice.ko", installed: "kernel", inTree: "kernel", holding: "update.h",
            variable: "GIT_KSPLICE_KERNEL_DIR")
    }

    /// The folder with the pages that explain findings.
    static func findings() throws -> String {
        try find(
            "the pages of the findings", installed: "findings", inTree: "Documentation/findings",
            holding: "type-layout.md", variable: "GIT_KSPLICE_FINDINGS_DIR")
    }

    /// The folder with the pages that explain mismatches.
    static func mismatches() throws -> String {
        try find(
            "the pages of the mismatches", installed: "mismatches", inTree: "Documentation/mismatches",
            holding: "different-code.md", variable: "GIT_KSPLICE_MISMATCHES_DIR",
            beside: getenv("GIT_KSPLICE_FINDINGS_DIR").map {
                String(cString: $0).directoryPart + "/mismatches"
            })
    }

    static let stateVariable = "GIT_KSPLICE_STATE_DIR"

    /// The folder with the journal, and with what is kept for the next boot.
    static var state: String {
        getenv(stateVariable).map { String(cString: $0) } ?? LocalHost.journalPath.directoryPart
    }

    static var journal: String { state + "/journal" }

    /// This machine, with its journal.
    static var host: LocalHost { LocalHost(journal: journal) }

    /// What this host follows.
    static var subscription: Subscription {
        guard let state = getenv(stateVariable).map({ String(cString: $0) }) else { return Subscription() }
        return Subscription(folder: state, anchor: state + "/trust.anchor")
    }

    /// How updates wait on this machine for modules that are not loaded.
    static var late: LateUpdates {
        get throws { LateUpdates(host: host, program: try executable()) }
    }

    private static func find(
        _ what: String, installed: String, inTree: String, holding file: String, variable: String,
        beside sibling: String? = nil
    ) throws -> String {
        if let given = getenv(variable) { return try Files.absolute(String(cString: given)) }
        let program = try executable()
        var folder = program.directoryPart
        var tried = (sibling.map { [$0] } ?? []) + [folder + "/../share/git-ksplice/" + installed]
        for _ in 0..<6 {
            tried.append(folder + "/" + inTree)
            folder = folder.directoryPart
        }
        for candidate in tried where Files.exists("\(candidate)/\(file)") {
            return try Files.absolute(candidate)
        }
        throw Failure(
            "cannot find \(what) near '\(program)'", hint: "set \(variable) to the folder that holds them")
    }

    /// This program's path.
    static func executable() throws -> String { try Files.absolute("/proc/self/exe") }
}
