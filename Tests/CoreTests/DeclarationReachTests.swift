// Which changes of a header can reach a unit's code. What must be found to matter is the more important half.

import Testing

@testable import Core

@Suite struct DeclarationReachTests {
    /// A unit behind a header's text.
    private static let unit = """
        typedef unsigned long size_t;
        struct known { int a; struct inner *b; };
        extern int counter;
        int helper(struct known *k);
        static inline int wrap(struct known *k) { return helper(k) + LIMIT; }
        static int table[3] = { 1, 2, 3 };
        int f(struct known *k) { return wrap(k) + counter; }

        """

    private func isSame(_ before: String, _ after: String, unit: String = unit) -> Bool {
        DeclarationReach.isSameCode(
            DeclarationReach(Array((before + "\n" + unit).utf8)),
            DeclarationReach(Array((after + "\n" + unit).utf8)))
    }

    @Test(arguments: [
        ("", "int newly(int x, struct known *k) __attribute__((pure));"),
        ("int gone(void);", ""),
        ("void other(int);", "void other(int, size_t);"),
        ("", "static inline int unused(int x) { return x ? unused(x - 1) : 0; }"),
        (
            "static __inline__ __attribute__((__always_inline__)) void u(void) { x(1); }",
            "static __inline__ __attribute__((__always_inline__)) void u(void) { x(2); }"
        ),
        ("struct apart { int a; };", "struct apart { int a; int b; } __attribute__((packed));"),
        ("enum apart { A = 1, B };", "enum apart { A = 1, B, C };"),
        ("", "struct forward;"), ("", "extern struct list_head many, others[4];"),
        ("", "_Static_assert(sizeof(int) == 4, \"int\");"),
        ("# 1 \"a.h\"\nint x(void);", "# 1 \"b.h\"\nint x(void);"),
        ("int x(void);", "int x\n(\nvoid );"),
    ]) func whatNobodyUsesDoesNotMatter(_ before: String, _ after: String) {
        #expect(isSame(before, after))
    }

    @Test(arguments: [
        // Code and data of its own.
        ("", "int newly(void) { return 1; }"), ("static int v;", "static long v;"),
        ("int v = 1;", "int v = 2;"), ("", "asm(\".globl x\");"),
        ("", "static inline __attribute__((__used__)) void u(void) { }"),
        ("", "static int (*pointer)(void) __attribute__((section(\"x\")));"),
        ("static void s(void) { g(\"a\"); }", "static void s(void) { g(\"b\"); }"),
        // What the unit names, directly and through others.
        ("int helper(int);", "int helper(long);"), ("enum { LIMIT = 1 };", "enum { LIMIT = 2 };"),
        ("struct inner { int a; };", "struct inner { long a; };"),
        (
            "typedef int inner_t; struct inner { inner_t a; };",
            "typedef long inner_t; struct inner { inner_t a; };"
        ),
        ("extern int counter;", "extern long counter;"),
        (
            "static inline int LIMIT(void) { return deep(); } int deep(void);",
            "static inline int LIMIT(void) { return deep(); } long deep(void);"
        ),
        ("union inner { struct { int a; } b; };", "union inner { struct { long a; } b; };"),
        (
            "typedef int (*call)(int); struct inner { call c; };",
            "typedef int (*call)(long); struct inner { call c; };"
        ),
        // Names inside of parentheses, pragmas, and what is easily misread.
        ("extern struct known *(*counter)(int);", "extern struct known *(*counter)(long);"),
        ("int (helper)(int);", "int (helper)(long);"),
        (
            "static inline struct known *(*LIMIT(int a))(int) { return a; }",
            "static inline struct known *(*LIMIT(int a))(int) { return 0; }"
        ),
        (
            "struct known *(*get(void))(int) { return 0; } extern int z;",
            "struct known *(*get(void))(int) { return 1; } extern int z;"
        ),
        ("#pragma pack(1)\nstruct apart { int a; };", "#pragma pack(2)\nstruct apart { int a; };"),
        ("enum apart : long { LIMIT = 1 };", "enum apart : long { LIMIT = 2 };"),
        (
            "static inline int LIMIT(int a, int b) { return a - -b; }",
            "static inline int LIMIT(int a, int b) { return a -- b; }"
        ),
    ]) func whatTheUnitReachesMatters(_ before: String, _ after: String) {
        #expect(!isSame(before, after))
    }

    @Test func theOrderOfWhatStaysMatters() {
        #expect(!isSame("int x(void); int y(void);", "int y(void); int x(void);"))
        #expect(isSame("int x(void); int y(void);", "int x(void); int z(void); int y(void);"))
    }

    @Test func literalsAndBracesInThemAreNoStructure() {
        let text = "static inline char c(void) { return '}' + \"{\\\"(\"[0]; } "
        #expect(isSame(text, text + "int more(void);"))
        #expect(!isSame(text, text + "int more = 1;"))
    }

    @Test("types of functions that are named matter, and nothing else")
    func interfaces() {
        let text = """
            struct s { struct t *a; enum e b[LAST]; };
            # 7 "u.c"
            struct alone { int a; };
            static int helper(struct alone *p) { return p->a; }
            int f(struct s *p)
            {
                return helper(0);
            }
            int x = 1;
            """
        func isSame(_ old: String, _ new: String) -> Bool {
            let other = text.replacing(old, with: new)
            return other != text
                && DeclarationReach.isSameInterface(
                    DeclarationReach(Array(text.utf8)), DeclarationReach(Array(other.utf8)), of: ["f", "x"])
        }
        for (old, new) in [
            ("helper(0)", "helper(0) + g({ 1; })"), ("# 7", "# 9"), ("int a;", "int a, b;"),
            ("static int helper", "int added(int);\nstatic int helper"), ("alone *p", "alone *q"),
        ] { #expect(isSame(old, new), "\(old) -> \(new)") }
        for (old, new) in [
            ("*a;", "*a, *c;"), ("int f", "long f"), ("*p)\n", "*q)\n"), ("int x", "long x"),
            ("struct s {", "struct t { int a; };\nstruct s {"),
            ("struct s {", "struct __attribute__((packed)) s {"),
            ("struct s {", "enum { FIRST, LAST };\nstruct s {"), ("struct s {", "typedef int s;\nstruct s {"),
        ] { #expect(!isSame(old, new), "\(old) -> \(new)") }
    }
}
