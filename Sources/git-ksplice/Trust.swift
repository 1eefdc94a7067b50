import ArgumentParser
import Core
import Glibc

struct Trust: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trust", abstract: "Say whose signatures count.",
        subcommands: [
            TrustInit.self, TrustAdd.self, TrustRemove.self, TrustRevoke.self, TrustThreshold.self,
            TrustSign.self,
            TrustShow.self, TrustAccept.self,
        ])

    static func chain() async throws -> TrustChain { TrustChain(try await Repository()) }

    static func said(_ policy: TrustPolicy) {
        print("policy of trust \(policy.serial): \(policy.signers.count) signer(s)")
        if policy.threshold(.root) > 1 {
            print("\(policy.threshold(.root)) must agree: git ksplice trust sign, by another signer")
        }
    }
}

struct KeyOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "A public key of SSH (a .pub file), or an exported one of GPG; by default, the key that your git signs with.",
            valueName: "file"))
    var key: String?

    @Option(
        name: .customLong("role"),
        help: ArgumentHelp(
            "What the signer may do: root, release or renew; can be given several times.", valueName: "role"))
    var roles: [String] = []

    func signer(_ name: String, _ repository: Repository, roles usual: [TrustRole]) async throws -> Signer {
        guard !name.isEmpty, !name.contains(where: \.isWhitespace) else {
            throw Failure("'\(name)' cannot be the name of a signer", status: .usage, hint: "it is one word")
        }
        let given = try roles.flatMap { $0.split(separator: ",") }.map { word -> TrustRole in
            guard let role = TrustRole(rawValue: String(word)) else {
                throw Failure("there is no role '\(word)'", status: .usage, hint: "root, release or renew")
            }
            return role
        }
        let key = try await TrustKey.load(file: key, repository: repository)
        return Signer(name: name, roles: given.isEmpty ? usual : given, key: key)
    }
}

struct TrustInit: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Begin: you are the first signer.",
        usage: "git ksplice trust init [--key <file>] <name>")

    @OptionGroup var options: KeyOptions

    @Argument(help: "What the signer is called: one word.")
    var name: String

    func run() async throws {
        let chain = try await Trust.chain()
        guard try await chain.policy() == nil else {
            throw Failure("there is a policy of trust already", status: .no, hint: "git ksplice trust show")
        }
        let signer = try await options.signer(name, chain.repository, roles: TrustRole.allCases)
        Trust.said(try await chain.append("\(name) is the first signer") { $0.signers = [signer] })
        Talk.line(
            "hint: what 'git ksplice trust show' prints goes to the hosts, in a way that they trust: "
                + "git ksplice trust accept FILE")
    }
}

struct TrustAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Add a signer, or a further key of one.",
        usage: "git ksplice trust add --key <file> [--role <role>]... <name>")

    @OptionGroup var options: KeyOptions

    @Argument(help: "What the signer is called: one word.")
    var name: String

    func run() async throws {
        let chain = try await Trust.chain()
        let signer = try await options.signer(name, chain.repository, roles: [.release])
        Trust.said(
            try await chain.append("\(name) signs as \(signer.roles.map(\.rawValue).joined(separator: ", "))")
            { policy in
                policy.signers.removeAll { $0.key.fingerprint == signer.key.fingerprint }
                policy.signers.append(signer)
            })
    }
}

struct TrustRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Take a signer out; what was signed before counts no more, either.",
        usage: "git ksplice trust remove <name>")

    @Argument(help: "The signer's name.")
    var name: String

    func run() async throws {
        Trust.said(
            try await Trust.chain().append("\(name) signs no more") { policy in
                guard policy.signers.contains(where: { $0.name == name }) else {
                    throw Failure(
                        "there is no signer '\(name)'", status: .notFound, hint: "git ksplice trust show")
                }
                policy.signers.removeAll { $0.name == name }
            })
    }
}

struct TrustRevoke: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke", abstract: "Say that a key is trusted no more.",
        usage: "git ksplice trust revoke --reason <text> <name> | <fingerprint>")

    @Option(help: ArgumentHelp("Why.", valueName: "text"))
    var reason: String

    @Argument(help: "The signer's name, for all keys of that, or a key's fingerprint.")
    var key: String

    func run() async throws {
        Trust.said(
            try await Trust.chain().append("keys of \(key) are revoked") { policy in
                let keys = policy.signers.filter { $0.name == key || $0.key.fingerprint == key }
                guard !keys.isEmpty else {
                    throw Failure(
                        "there is no signer or key '\(key)'", status: .notFound,
                        hint: "git ksplice trust show")
                }
                for signer in keys {
                    policy.revoked[signer.key.fingerprint] =
                        reason.split(whereSeparator: \.isNewline).joined(separator: " ")
                }
            })
    }
}

struct TrustThreshold: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "threshold", abstract: "Say how many signers must agree.",
        usage: "git ksplice trust threshold <role> <count>")

    @Argument(help: "root or release.")
    var role: String

    @Argument(help: "How many.")
    var count: Int

    func run() async throws {
        guard let role = TrustRole(rawValue: role), role != .renew, count > 0 else {
            throw Failure(
                "'\(role) \(count)' is no threshold", status: .usage,
                hint: "root or release, and a number from 1")
        }
        Trust.said(
            try await Trust.chain().append("\(count) must agree as \(role.rawValue)") {
                $0.thresholds[role] = count
            })
    }
}

struct TrustSign: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sign", abstract: "Agree to the newest policy of trust, as a further signer.")

    func run() async throws {
        let chain = try await Trust.chain()
        guard try await chain.policy() != nil else {
            throw Failure(
                "there is no policy of trust", status: .notFound, hint: "git ksplice trust init NAME")
        }
        Trust.said(try await chain.append("agreed", cosign: true) { _ in })
    }
}

struct TrustShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Print the policy of trust.",
        usage: "git ksplice trust show [--host] [--json]")

    @Flag(help: "The one that this host follows, instead of the repository's.")
    var host = false

    @Flag(help: "Print JSON.")
    var json = false

    func run() async throws {
        let policy: TrustPolicy
        if host {
            policy = try Locations.subscription.policy()
        } else {
            guard let found = try await Trust.chain().policy() else {
                throw Failure(
                    "there is no policy of trust", status: .notFound, hint: "git ksplice trust init NAME")
            }
            policy = found
        }
        if !json { return print(policy.text, terminator: "") }
        let signers = policy.signers.map { signer in
            JSON.object([
                ("name", .string(signer.name)), ("roles", .strings(signer.roles.map(\.rawValue))),
                ("fingerprint", .string(signer.key.fingerprint)),
                ("revoked", policy.revoked[signer.key.fingerprint].map { .string($0) } ?? .null),
            ])
        }
        print(
            JSON.object([
                ("v", .number(1)), ("serial", .number(policy.serial)),
                ("threshold_root", .number(policy.threshold(.root))),
                ("threshold_release", .number(policy.threshold(.release))), ("signers", .array(signers)),
            ]).text)
    }
}

struct TrustAccept: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "accept", abstract: "Let this host trust the signers of a policy.",
        usage: "git ksplice trust accept [--replace] <file>")

    @Flag(help: "Also in place of a newer policy that this host has learned since.")
    var replace = false

    @Argument(help: "A policy of trust, which came here in a way that you trust; - for standard input.")
    var file: String

    func run() async throws {
        let text = try Files.readText(file == "-" ? "/dev/stdin" : file)
        let policy = try TrustPolicy(parsing: text)
        try policy.validate()
        try await Locations.subscription.accept(policy, replacing: replace)
        for signer in try Locations.subscription.policy().signers {
            print(
                "\(signer.name)  \(signer.roles.map(\.rawValue).joined(separator: ","))  \(signer.key.fingerprint)"
            )
        }
    }
}
