// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    // One build serves the tests, the virtual machines and daily work: matching in an emulated guest takes a minute
    // without optimisation, and building everything twice takes longer than both. A module at a time: file by file, each of
    // them reads the others anew.
    .unsafeFlags(
        ["-O", "-disable-batch-mode", "-whole-module-optimization", "-num-threads", "2"],
        .when(configuration: .debug)),
]
// Tests are compiled faster as they are, and wait for the program anyway.
let testSettings = Array(settings.dropLast())

let package = Package(
    name: "git-ksplice",
    products: [
        .executable(name: "git-ksplice", targets: ["git-ksplice"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.5.0"),
        // Without its default trait, which would bring Foundation and with it ICU.
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.0", traits: []),
    ],
    targets: [
        .target(
            name: "CShims",
            linkerSettings: [
                .linkedLibrary("git2"), .linkedLibrary("elf"), .linkedLibrary("dw"),
                .linkedLibrary("opcodes"), .linkedLibrary("bfd"), .linkedLibrary("z"),
                .linkedLibrary("crypto"),
            ]),
        .target(
            name: "Core",
            dependencies: [
                "CShims", .product(name: "Subprocess", package: "swift-subprocess"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "git-ksplice",
            dependencies: [
                "Core", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),
        .testTarget(name: "CoreTests", dependencies: ["Core"], swiftSettings: testSettings),
        .testTarget(name: "VirtualMachineTests", dependencies: ["Core"], swiftSettings: testSettings),
    ]
)
