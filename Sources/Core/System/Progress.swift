// What is told while something goes on.

/// Whom to tell. Steps may be left out where nobody looks; a warning is about something that went wrong, and never is.
public struct Progress: Sendable {
    /// One step of what takes time: "matching the code that runs".
    public let step: @Sendable (String) -> Void
    /// Something that went wrong beside what was to be done.
    public let warn: @Sendable (String) -> Void

    public init(step: @escaping @Sendable (String) -> Void, warn: @escaping @Sendable (String) -> Void) {
        self.step = step
        self.warn = warn
    }

    /// Tells a step.
    func callAsFunction(_ text: String) { step(text) }
}
