// Why the functions of real fixes change, as the program says it: causes, lines of the new source, and code.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct Why {
        @Test("an edited function and one with an edited inlined callee")
        func realFix() async throws {
            let laboratory = try await Laboratory.shared()
            let id = try await laboratory.update(.fanotify).id
            let shown = try await laboratory.run("show", "--why", id)
            #expect(shown.status == 0, "\(shown.said)")
            let file = "fs/notify/fanotify/fanotify_user.c"
            let source = try SourceFile(file, Material.newSource)
            let lines = shown.text.lines.map { String($0) }
            #expect(lines.contains { $0.hasPrefix("\(file): fanotify_ioctl: changed, ") }, "\(shown.said)")
            let edited = try #require(lines.firstIndex(of: "  edited: its own lines change"), "\(shown.said)")
            try source.expectQuote(lines[edited + 1])
            let inlined = try #require(
                lines.firstIndex(of: "  inlined: 'fanotify_mark_add_to_mask' is inlined and changes"),
                "\(shown.said)")
            try source.expectQuote(lines[inlined + 1])
            // The first difference of each function, in both versions, and the marked row.
            #expect(lines.filter { $0.hasPrefix("    before \(file):") }.count == 2, "\(shown.said)")
            #expect(lines.filter { $0.hasPrefix("    > +0x") && $0.contains(" | +0x") }.count == 2)
            for line in lines where line.hasPrefix("    after  \(file):") {
                try source.expectQuote("    " + line.dropFirst("    after  ".count))
            }
        }

        @Test("as JSON, for one function, and from an archive outside of a repository")
        func forms() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.fanotify)
            let json = try await laboratory.run("show", "--why", "--json", update.id, "fanotify_ioctl")
            let value = try JSON(parsing: json.text)
            let changes = try #require(value["changes"]?.array, "\(json.said)")
            #expect(changes.count == 1)
            #expect(changes.first?["function"]?.string == "fanotify_ioctl")
            #expect(changes.first?["reasons"]?.array?.first?["kind"]?.string == "edited")
            #expect(!json.text.contains(laboratory.repository))

            let file = laboratory.folder + "/why.tar.gz"
            try Files.write(update.archive, to: file)
            let outside = try await Command(
                [laboratory.program, "show", "--why", file, "fanotify_add_mark"], directory: "/"
            ).run()
            #expect(outside.text.contains("'fanotify_mark_add_to_mask' is inlined"), "\(outside.said)")

            let unknown = try await laboratory.run("show", "--why", update.id, "no_such_function")
            #expect(unknown.status == Status.notFound)
            #expect(unknown.errorText.contains("does not change 'no_such_function'"), "\(unknown.said)")
        }

        @Test("create -v says it in a line")
        func verbose() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.fanotify)
            #expect(!update.output.contains("  why  "))
            let again = try await laboratory.run(
                "create", "-v", "--kernel", Laboratory.kernel, update.commit)
            #expect(
                again.text.contains(
                    "  why        fanotify_add_mark: 'fanotify_mark_add_to_mask' is inlined and changes (fs/notify/"
                ), "\(again.said)")
        }

        /// A source file, to compare with what the program quotes.
        private struct SourceFile {
            let path: String
            let lines: [String]

            init(_ path: String, _ folder: String) throws {
                self.path = path
                lines = try Files.readText("\(folder)/\(path)").lines.map { String($0) }
            }

            /// `    PATH:LINE: TEXT` must be what stands on that line.
            func expectQuote(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
                let parts = text.split(separator: ":", maxSplits: 2)
                try #require(parts.count == 3, "\(text)", sourceLocation: sourceLocation)
                #expect(String(parts[0]).trimmed == path, sourceLocation: sourceLocation)
                let number = try #require(Int(parts[1]), "\(text)", sourceLocation: sourceLocation)
                let quoted = String(parts[2].prefix { $0 != "," }).trimmed
                #expect(
                    !quoted.isEmpty && lines[number - 1].contains(quoted), "\(text): \(lines[number - 1])",
                    sourceLocation: sourceLocation)
            }
        }
    }
}
