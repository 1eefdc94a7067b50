// What notes must be. Those for programs have only lines of the project. Those for people are git notes like others, to which
// somebody may have added words of his own: only lines in the project's words are judged.

extension StorageCheck {
    mutating func checkNotes(_ ref: String) {
        guard ref == UpdateStore.programNotes || ref == UpdateStore.peopleNotes else { return }
        guard let tip = refs[ref], let commit = commit(tip, of: ref),
            let files = files(commit.tree, of: ref, keeping: { _ in true })
        else {
            areNotesWhole = false
            return
        }
        for (path, file) in files.sorted(by: { $0.key < $1.key }) {
            let commit = path.split(separator: "/").joined()
            guard ObjectFormat.isName(commit) else {
                add(
                    .notePlace, ref, "'\(path)' is not the name of a commit",
                    hint: "git notes --ref \(ref) list shows what is; remove the rest in a commit of your own"
                )
                continue
            }
            guard let bytes = file.bytes else {
                areNotesWhole = false
                continue
            }
            let text = String(decoding: bytes, as: UTF8.self)
            if !bytes.isEmpty, bytes.last != UInt8(ascii: "\n") {
                add(
                    .noteTorn, ref, "the last line beside \(commit.prefix(12)) has no end",
                    hint: edit(ref, commit))
            }
            for line in text.lines where !line.isEmpty {
                if ref == UpdateStore.programNotes {
                    checkProgramLine(String(line), ref, commit)
                } else if let id = UpdateStore.update(ofPeopleLine: line) {
                    guard id.count >= 12 else {
                        add(
                            .noteTorn, ref,
                            "a line beside \(commit.prefix(12)) ends within the name of an update",
                            hint: edit(ref, commit))
                        continue
                    }
                    noted[commit, default: [:]][id, default: []].insert(ref)
                    if !isStored(id) { dangling(id, ref, commit) }
                }
            }
        }
    }

    private func edit(_ ref: String, _ commit: String) -> String {
        "git notes --ref \(ref) edit \(commit.prefix(12))"
    }

    private func isStored(_ id: String) -> Bool { stored.contains(String(id.prefix(12))) }

    private mutating func dangling(_ id: String, _ ref: String, _ commit: String) {
        add(
            .noteDangling, ref,
            "a line beside \(commit.prefix(12)) names update \(id.prefix(12)), which is not here",
            hint: "fetch it, or take the line away: \(edit(ref, commit))")
    }

    private mutating func checkProgramLine(_ line: String, _ ref: String, _ commit: String) {
        guard let json = try? JSON(parsing: line), let version = json["v"]?.number else {
            return add(
                .noteDamaged, ref, "a line beside \(commit.prefix(12)) cannot be read: '\(line.prefix(60))'",
                hint: edit(ref, commit))
        }
        guard version == 1 else {
            return add(
                .formatUnknown, ref, "a line beside \(commit.prefix(12)) has the version \(version)",
                hint: "install a newer git ksplice")
        }
        let names = ["event", "update", "arch", "build_id", "release", "ref", "pre_tree", "post_tree"]
        if let lacking = names.first(where: { json[$0]?.string == nil }) {
            return add(
                .noteDamaged, ref, "a line beside \(commit.prefix(12)) lacks '\(lacking)'",
                hint: edit(ref, commit))
        }
        let (id, named) = (json["update"]?.string ?? "", json["ref"]?.string ?? "")
        let parts = named.split(separator: "/").suffix(3)
        guard named.hasPrefix(UpdateStore.prefix), parts.count == 3, parts.last.map(String.init) == id,
            parts.first.map(String.init) == json["arch"]?.string
        else {
            return add(
                .noteDamaged, ref,
                "a line beside \(commit.prefix(12)) names an update and the ref of another",
                hint: edit(ref, commit))
        }
        noted[commit, default: [:]][String(id.prefix(12)), default: []].insert(ref)
        if refs[named] == nil { dangling(id, ref, commit) }
    }

    /// Both notes are written in one transaction; where only one has a line about an update that is here, something came between.
    mutating func compareNotes() {
        let both: Set = [UpdateStore.peopleNotes, UpdateStore.programNotes]
        guard areNotesWhole, both.isSubset(of: refs.keys) else { return }
        for (commit, updates) in noted.sorted(by: { $0.key < $1.key }) {
            for (id, found) in updates.sorted(by: { $0.key < $1.key }) where isStored(id) {
                for ref in both.subtracting(found).sorted() {
                    add(
                        .noteHalf, ref, "there is no line beside \(commit.prefix(12)) about update \(id)",
                        hint: "git fetch REMOTE '\(ref):\(ref)' from where it was made")
                }
            }
        }
    }
}
