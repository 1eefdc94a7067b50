// As much of JSON Schema 2020-12 as the project's own schemas use. A keyword that it does not know is an error: what is not
// checked must not look as if it were.

import Testing

@testable import Core

extension JSONSchema {
    /// Those that are published.
    static var published: JSONSchema { JSONSchema(folder: SourceTree.root + "/Documentation/schemas") }

    /// Each line of an output against a schema. Fails where there is none.
    func check(
        _ output: String, _ name: String, lines count: Int = 1,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        #expect(output.lines.count == count, "\(name): \(output)", sourceLocation: sourceLocation)
        for line in output.lines {
            let found = try problems(JSON(parsing: String(line)), name + ".json")
            #expect(found == [], "\(line)", sourceLocation: sourceLocation)
        }
    }
}

/// The schemas of a folder.
final class JSONSchema {
    private let folder: String
    private var files: [String: JSON] = [:]

    init(folder: String) { self.folder = folder }

    /// What is wrong with a value, each with its place; also members that the schema does not name, though it would allow them.
    func problems(_ value: JSON, _ file: String) throws -> [String] {
        try check(value, try load(file), file, "$")
    }

    private func load(_ file: String) throws -> JSON {
        if let known = files[file] { return known }
        let schema = try JSON(parsing: Files.readText("\(folder)/\(file)"))
        files[file] = schema
        return schema
    }

    private func check(_ value: JSON, _ schema: JSON, _ file: String, _ place: String) throws -> [String] {
        let (errors, named) = try look(value, schema, file, place)
        guard errors.isEmpty, case .object(let members) = value else { return errors }
        return members.filter { !named.contains($0.0) }.map { "\(place): the schema does not name '\($0.0)'" }
    }

    private static let ignored: Set<String> = ["$schema", "$defs", "title", "description", "required"]

    /// What is wrong, and which members are named.
    private func look(_ value: JSON, _ schema: JSON, _ file: String, _ place: String) throws -> (
        errors: [String], named: Set<String>
    ) {
        guard case .object(let keywords) = schema else { throw Failure("\(file): a schema is an object") }
        var (errors, named): ([String], Set<String>) = ([], [])
        let members: [(String, JSON)] = if case .object(let members) = value { members } else { [] }
        let isObject = if case .object = value { true } else { false }
        for case .string(let name) in schema["required"]?.array ?? [] where isObject {
            if !members.contains(where: { $0.0 == name }) { errors.append("\(place): '\(name)' is missing") }
        }
        for (keyword, content) in keywords where !Self.ignored.contains(keyword) {
            switch keyword {
            case "type":
                let types = content.array?.compactMap(\.string) ?? [content.string ?? ""]
                if !types.contains(Self.type(of: value)) { errors.append("\(place): not of type \(types)") }
            case "const": if value != content { errors.append("\(place): not \(content.text)") }
            case "enum":
                if !(content.array ?? []).contains(value) {
                    errors.append("\(place): not one of \(content.text)")
                }
            case "minimum":
                if let number = value.number, number < content.number ?? 0 {
                    errors.append("\(place): too small")
                }
            case "pattern":
                guard let text = value.string else { continue }
                if try text.firstMatch(of: Regex(content.string ?? "")) == nil {
                    errors.append("\(place): '\(text)' has another form")
                }
            case "properties":
                for (name, item) in members {
                    guard let own = content[name] else { continue }
                    named.insert(name)
                    errors += try check(item, own, file, "\(place).\(name)")
                }
            case "additionalProperties":
                for (name, item) in members where schema["properties"]?[name] == nil {
                    named.insert(name)
                    errors += try check(item, content, file, "\(place).\(name)")
                }
            case "items":
                for (index, item) in (value.array ?? []).enumerated() {
                    errors += try check(item, content, file, "\(place)[\(index)]")
                }
            case "$ref":
                let (target, name) = try resolve(content.string ?? "", file)
                let (more, its) = try look(value, target, name, place)
                errors += more
                named.formUnion(its)
            case "allOf":
                for part in content.array ?? [] {
                    let (more, its) = try look(value, part, file, place)
                    errors += more
                    named.formUnion(its)
                }
            case "anyOf", "oneOf":
                let results = try (content.array ?? []).map { try look(value, $0, file, place) }
                let good = results.filter(\.errors.isEmpty)
                if good.isEmpty || keyword == "oneOf" && good.count > 1 {
                    errors.append("\(place): \(good.count) of \(keyword): \(results.flatMap(\.errors))")
                }
                for result in good { named.formUnion(result.named) }
            default: throw Failure("\(file): the keyword '\(keyword)' is not known here")
            }
        }
        return (errors, named)
    }

    private func resolve(_ reference: String, _ file: String) throws -> (JSON, String) {
        let parts = reference.split(separator: "#", omittingEmptySubsequences: false)
        let name = parts[0].isEmpty ? file : String(parts[0])
        var target = try load(name)
        for step in parts[1].split(separator: "/") {
            guard let next = target[String(step)] else { throw Failure("\(file): no '\(reference)'") }
            target = next
        }
        return (target, name)
    }

    private static func type(of value: JSON) -> String {
        switch value {
        case .null: "null"
        case .bool: "boolean"
        case .number: "integer"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }
}
