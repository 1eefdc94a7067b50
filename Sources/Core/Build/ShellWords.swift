// Splitting a recorded command line into words, as a POSIX shell does it. kbuild's `.cmd` files hold commands for
// a shell; run as argument vectors they need no shell and can be changed safely.

/// The words of a command line. Knows single and double quotes and backslashes; `;` stands as a word of its own.
/// Expansions (`$`, globs) do not occur in compile commands; a word that holds one is kept as it is.
func shellWords(_ line: some StringProtocol) -> [String] {
    var words: [String] = []
    var word = ""
    var started = false
    var quote: Character?
    var escaped = false
    for c in line {
        if escaped {
            if quote == "\"" && c != "\"" && c != "\\" && c != "$" { word.append("\\") }
            word.append(c)
            escaped = false
        } else if c == "\\" && quote != "'" {
            escaped = true
            started = true
        } else if let open = quote {
            if c == open { quote = nil } else { word.append(c) }
        } else if c == "'" || c == "\"" {
            quote = c
            started = true
        } else if c == " " || c == "\t" || c == "\n" || c == ";" {
            if started || !word.isEmpty { words.append(word) }
            (word, started) = ("", false)
            if c == ";" { words.append(";") }
        } else {
            word.append(c)
        }
    }
    if started || !word.isEmpty { words.append(word) }
    return words
}
