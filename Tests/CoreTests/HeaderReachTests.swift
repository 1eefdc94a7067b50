// How far a header's change reaches, by its text alone. What must not be left out is the more important half.

import Testing

@testable import Core

@Suite struct HeaderChangeTests {
    private func change(_ pre: String, _ post: String) -> HeaderChange {
        HeaderChange(pre: Array(pre.utf8), post: Array(post.utf8))
    }

    @Test(arguments: [
        ("", "int f(int a, struct s *p);", "f"),
        ("", "static inline struct s *g(const struct t *a) { return a->s; }", "g"),
        (
            "static __always_inline int g(int a) { return a; }",
            "static __always_inline int g(int a) { return 0; }", "g"
        ),
        ("", "static inline __printf(1, 2) void say(const char *f, ...) { }", "say"),
        ("#define LIMIT 1", "#define LIMIT 2", "LIMIT"), ("#define F(x) (x)", "#define F(x) -(x)", "F"),
        ("#undef OLD", "", "OLD"),
        ("struct s { int a; } __packed;", "struct s { int a; };", "s"),
        ("enum e { A, B };", "enum e { A, B, C };", "e A B C"),
        ("", "extern struct a *b __read_mostly;", "b"),
        ("", "extern u8 table[];", "table"),
        ("", "extern int size __unknown_attribute(8);", "size __unknown_attribute"),
        ("", "struct forward;", "forward"),
        ("", "typedef struct { int a; } word_t;", "word_t"), ("", "typedef int word_t;", "word_t"),
        ("", "// int a = 1;\n/* asm(\"x\"); */", ""), ("int f(void);", "int  f ( void ) ;", ""),
    ])
    func namesLeadToWhatChanged(_ pre: String, _ post: String, _ names: String) {
        let change = change(pre, post)
        #expect(!change.isOpaque)
        #expect(change.names == Set(names.split(separator: " ").map(String.init)))
    }

    @Test(arguments: [
        // A macro hides what is declared.
        ("", "DECLARE_PER_CPU(int, x);"), ("", "static DEFINE_MUTEX(lock);"), ("", "TRACE_EVENT(a, b);"),
        // Code and data that an including file gets without naming it.
        ("", "static int table[2] = { 1, 2 };"), ("int f(void) { return 1; }", "int f(void) { return 2; }"),
        ("static int f(void) { return 1; }", "static int f(void) { return 2; }"),
        ("", "static inline __used int f(void) { return 1; }"), ("", "struct s { int a; } variable;"),
        ("", "int (*pointer)(void);"), ("", "asm(\".globl x\");"),
        // What these do to others is not known.
        ("", "#include <linux/more.h>"), ("#pragma pack(1)", ""), ("", "#error \"no\""),
        // An order that matters.
        ("#define A 1\n#undef B\nint f(void);", "#undef B\n#define A 1\nint f(void);"),
        // Names that are none.
        ("", "static inline int (f)(int x) { return x; }"),
        // Unread: a brace too many.
        ("", "} int f(void);\nint x = { 1"),
    ])
    func whatHasNoNameReachesEverybody(_ pre: String, _ post: String) {
        #expect(change(pre, post).isOpaque)
    }

    @Test func conditionsBelongToWhatTheyEnclose() {
        let pre = "#ifdef CONFIG_A\nint f(void);\n#else\nint g(void);\n#endif\nint h(void);\n"
        #expect(change(pre, pre.replacing("CONFIG_A", with: "CONFIG_B")).names == ["f", "g"])
        #expect(change(pre, pre.replacing("#else", with: "#elif B")).names == ["g"])
        let body = "static inline int f(void)\n{\n#if A\n\treturn 1;\n#else\n\treturn 2;\n#endif\n}\n"
        #expect(change(body, body.replacing("#if A", with: "#if B")).names == ["f"])
        #expect(change("", "#ifndef X_H\n#define X_H\n#endif\n").names == ["X_H"])
    }

    @Test func membersThatChange() {
        let pre =
            "struct s { int a;\n#ifdef CONFIG_X\n int b;\n#endif\n struct t *c; int (*f)(int), g:3; };\n"
            .replacing("(int), g:3", with: "(int); int g:3")
        func members(_ old: String, _ new: String) -> Set<String>? {
            let change = change(pre, pre.replacing(old, with: new))
            #expect(change.aggregates["struct s"] == nil || change.names.isEmpty)
            return change.aggregates["struct s"].map {
                #expect($0.names == ["s"])
                return $0.members
            }
        }
        #expect(members("struct t *c;", "union { struct t *c; struct t *d; };") == ["d"])
        #expect(members("int a;", "long a, h[2];") == ["a", "h"])
        #expect(members("f)(int)", "f)(long)") == ["f"])
        #expect(members("int g:3", "int g:4") == ["g"])
        #expect(members("struct t *c;", "struct u *c;") == ["c"])
        #expect(members("int b;", "int b __attr;") == ["b", "__attr"])
        // The members of a type with a name inside are compared by nobody, and a condition of one file is seen by one.
        let nested = change(
            "struct s { struct in { int a; } b; };", "struct s { struct in { long a; } b; };")
        #expect(nested.aggregates.isEmpty && nested.names == ["s", "in"])
        let own = pre.replacing("CONFIG_X", with: "OWN")
        #expect(change(own, own.replacing("int b;", with: "long b;")).names == ["s"])
        // Two variants of one type, each with a change.
        let two = "#ifdef CONFIG_A\nstruct s { int a; };\n#else\nstruct s { int b; };\n#endif\n"
        let both = change(two, two.replacing("int", with: "long")).aggregates["struct s"]
        #expect(both?.members == ["a", "b"])
        // Which of them a source sees, is its own matter.
        let chosen = two.replacing("CONFIG_A", with: "A")
        #expect(change(chosen, chosen.replacing("int", with: "long")).names == ["s"])
        // No members of one struct, or not told.
        #expect(members("#ifdef CONFIG_X", "#ifdef CONFIG_Y") == nil)
        #expect(members("};", "} __packed;") == nil)
        #expect(members("int a;", "DECLARE_BITMAP(a, 3);") == nil)
        #expect(members("f)(int)", "f)(int), (*i)(int)") == nil)
    }
}

@Suite struct PastePatternTests {
    private func patterns(_ text: String) -> PastePatterns {
        var words = WordSet()
        for word in ["__PASTE", "CONCAT"] { words.insert(Word(word)) }
        return PastePatterns(PastePatterns.definitions(in: Array(text.utf8), using: words))
    }

    @Test func namesAreMadeFromPieces() {
        let known = patterns(
            """
            #define CALL(name, ...) long sys_##name(void); \\
            \tlong name##_entry(void)
            #define PAIR(a, b) a##_to_##b
            #define PLAIN(x) (x)
            #define __PASTE(a, b) a##b
            #define TWICE(x) __PASTE(__PASTE(pre_, x), _post)
            #define CONCAT(a, b) __PASTE(a, b)
            #define COUNTED(...) CONCAT(counted, COUNT(__VA_ARGS__))(__VA_ARGS__)
            #define object __PASTE(KIND, _add)
            """)
        let making = { (name: String) in
            Set(known.macrosByPieces.filter { PastePattern.ways($0.key, to: name) != nil }.values.joined())
        }
        #expect(making("sys_read") == ["CALL"])
        #expect(making("read_entry") == ["CALL"])
        #expect(making("a_to_b") == ["PAIR"])
        #expect(making("pre_x_post") == ["TWICE"])
        #expect(making("counted12") == ["COUNTED"])
        #expect(making("hash_add") == ["object"])
        #expect(known.operators == ["__PASTE", "CONCAT"])
        #expect(making("other").isEmpty)
        #expect(PastePattern.ways([.literal("sys_"), .word], to: "sys_read") == [[Word("read")]])
        #expect(PastePattern.ways([.literal("sys_"), .anything], to: "sys_read") == [[]])
        #expect(
            PastePattern.ways([.word, .word], to: "ab") == [[Word("ab")], [Word("a"), Word("b")]])
    }
}

@Suite struct HeaderReachTests {
    /// The users of `include/linux/h.h` that a change of it reaches, in a tree of these files.
    private func narrowed(
        _ files: [String: String], _ pre: String, _ post: String, generated: String = "",
        kept: [String: Set<String>] = [:]
    ) async throws -> [String] {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        var files = files
        files["include/linux/h.h"] = pre
        for name in ["compiler-version.h", "kconfig.h", "compiler_types.h"] {
            files["include/linux/\(name)"] = ""
        }
        files["../generated/g.h"] = generated
        let source = folder + "/source"
        for (path, text) in files {
            try Files.createDirectory("\(source)/\(path)".directoryPart)
            try Files.write(text, to: "\(source)/\(path)")
        }
        let graph = IncludeGraph(try await IncludeGraph.search(source), architecture: "x86") {
            Files.exists("\(source)/\($0)")
        }
        let change = HeaderChange(pre: Array(pre.utf8), post: Array(post.utf8))
        return try await HeaderReach(source: source, generated: [folder + "/generated"], graph: graph)
            .narrowed(graph.users(of: ["include/linux/h.h"]), ["include/linux/h.h": change]) { _, _ in kept }
            .all
    }

    private static let include = "#include <linux/h.h>\n"

    @Test func whoNamesIt() async throws {
        let files = [
            "fs/a.c": Self.include + "int a(void) { return f(); }",
            "fs/b.c": Self.include + "int b(void) { return ff(); }",
            "fs/not.c": "int f(void);",
        ]
        #expect(try await narrowed(files, "", "int f(void);") == ["fs/a.c"])
        #expect(try await narrowed(files, "", "int unknown(void);") == [])
        #expect(try await narrowed(files, "", "int x = 1;") == ["fs/a.c", "fs/b.c"])
    }

    @Test func throughInlineFunctionsAndMacros() async throws {
        let files = [
            "include/linux/i.h": Self.include
                + "static inline int outer(void) { return f(); }\n#define MACRO(x) outer() + (x)\n",
            "fs/a.c": "#include <linux/i.h>\nint a(void) { return MACRO(1); }",
            "fs/b.c": "#include <linux/i.h>\nint b(void) { return 1; }",
        ]
        #expect(try await narrowed(files, "int f(int);", "int f(long);") == ["fs/a.c"])
        // In the changed header itself, too.
        let pre = "int f(int);\nstatic inline int again(void) { return f(1); }\n"
        let others = ["fs/c.c": Self.include + "int c(void) { return again(); }", "fs/d.c": Self.include]
        #expect(try await narrowed(others, pre, pre.replacing("f(int)", with: "f(long)")) == ["fs/c.c"])
    }

    @Test func wherePlacesSayNothing() async throws {
        let event = "TRACE_EVENT(happened, f())\n"
        let files = [
            "include/linux/i.h": Self.include + event, "fs/a.c": "#include <linux/i.h>\n",
            "fs/b.c": Self.include,
            "include/linux/j.h": Self.include + "#if LIMIT > 1\nint g(void);\n#endif\n",
            "fs/c.c": "#include <linux/j.h>\n",
        ]
        #expect(try await narrowed(files, "int f(int);", "int f(long);") == ["fs/a.c"])
        #expect(try await narrowed(files, "#define LIMIT 1", "#define LIMIT 2") == ["fs/c.c"])
        // A generated header is not followed.
        #expect(
            try await narrowed(files, "int f(int);", "int f(long);", generated: "int g = f();")
                == ["fs/a.c", "fs/b.c", "fs/c.c"])
    }

    @Test func namesThatAreMade() async throws {
        let files = [
            "include/linux/m.h": "#define CALL(name) sys_##name()\n#define OUTER(x) CALL(x)\n",
            "fs/a.c": Self.include + "#include <linux/m.h>\nint a(void) { return OUTER(read); }",
            "fs/b.c": Self.include + "#include <linux/m.h>\nint b(void) { return OUTER(write); }",
            "fs/c.c": Self.include + "int read;",
        ]
        #expect(try await narrowed(files, "", "int sys_read(void);") == ["fs/a.c"])
        // From a number in a macro, from what another macro makes, and by an operator in plain code.
        let others = [
            "include/linux/m.h":
                "#define PASTE(a, b) a##b\n#define MAP(n) map##n()\n#define THREE(x) MAP(3)\n"
                + "#define COUNTED(...) PASTE(counted, COUNT(__VA_ARGS__))()\n",
            "fs/a.c": Self.include + "#include <linux/m.h>\nint a(void) { return THREE(x); }",
            "fs/b.c": Self.include + "#include <linux/m.h>\nint b(void) { return COUNTED(1, 2); }",
            "fs/c.c": Self.include + "#include <linux/m.h>\nint c(void) { return PASTE(di, rect)(); }",
        ]
        #expect(try await narrowed(others, "", "int map3(void);") == ["fs/a.c"])
        #expect(try await narrowed(others, "", "int counted2(void);") == ["fs/b.c"])
        #expect(try await narrowed(others, "", "int direct(void);") == ["fs/c.c"])
    }

    @Test func typesThatAreKnownByPointers() async throws {
        let files = [
            "include/linux/i.h": Self.include
                + "struct t { struct s *link; int b; };\nstruct u { struct s whole; };\n"
                + "struct v { int (*act)(struct s *p); struct s *(*get)(void); };\n"
                + "#define alias link->a\n#define SHOW(field) ((p)->field->a)\n"
                + "struct both { struct s *one, two; int c; };\n"
                + "int take(struct s *p);\nstruct s *give(void);\n"
                + "static inline int look(struct s *p) { return p->a; }\n",
            "fs/t.c": "#include <linux/i.h>\nint t(struct t *p) { return p->b; }",
            "fs/link.c": "#include <linux/i.h>\nint t(struct t *p) { return p->link->a; }",
            "fs/alias.c": "#include <linux/i.h>\nint t(struct t *p) { return p->alias; }",
            "fs/own.c": "#include <linux/i.h>\n#define mine link->a\nint t(struct t *p) { return p->mine; }",
            "fs/show.c": "#include <linux/i.h>\nint t(struct t *p) { return SHOW(link); }",
            "fs/w.c": "#include <linux/i.h>\nint t(struct both *p) { return p->c; }",
            "fs/local.c": "#include <linux/i.h>\nint l(void) { int link = 1; return link; }",
            "fs/u.c": "#include <linux/i.h>\nint u(struct u *p) { return sizeof(*p); }",
            "fs/act.c": "#include <linux/i.h>\nint v(struct v *p) { return p->act(NULL); }",
            "fs/get.c": "#include <linux/i.h>\nint v(struct v *p) { return p->get()->a; }",
            "fs/take.c": "#include <linux/i.h>\nint w(void) { return take(NULL); }",
            "fs/give.c": "#include <linux/i.h>\nint w(void) { return give()->a; }",
            "fs/look.c": "#include <linux/i.h>\nint w(void *p) { return look(p); }",
        ]
        let reached = try await narrowed(files, "struct s { int a; };", "struct s { long z; int a; };")
        #expect(
            reached == [
                "fs/alias.c", "fs/get.c", "fs/give.c", "fs/link.c", "fs/look.c", "fs/own.c", "fs/show.c",
                "fs/u.c", "fs/w.c",
            ])
    }

    @Test func namesThatAreMadeFromLists() async throws {
        let files = [
            "include/linux/m.h":
                "#define CALL(name) sys_##name()\n#define EACH(op) op(read) op(write)\n"
                + "#define OTHER(op) op(open)\n#define ALIAS CALL\n#define KIND read\n#define SORT KIND\n"
                + "#define PASTE(a, b) a##b\n",
            "fs/a.c": Self.include + "#include <linux/m.h>\nvoid a(void) { EACH(CALL); }",
            "fs/b.c": Self.include + "#include <linux/m.h>\nvoid b(void) { OTHER(CALL); }",
            "fs/c.c": Self.include + "#include <linux/m.h>\nvoid c(void) { ALIAS(read); }",
            "fs/d.c": Self.include + "#include <linux/m.h>\nvoid d(void) { CALL(SORT); }",
            "fs/e.c": Self.include + "#include <linux/m.h>\nvoid e(void) { PASTE(PASTE(sys, _re), ad)(); }",
            "fs/f.c": Self.include + "#include <linux/m.h>\nvoid f(void) { PASTE(sys, write)(KIND); }",
        ]
        #expect(
            try await narrowed(files, "int sys_read(int);", "int sys_read(long);")
                == ["fs/a.c", "fs/c.c", "fs/d.c", "fs/e.c"])
    }

    @Test func sourcesThatOthersInclude() async throws {
        let files = [
            "fs/part.c": Self.include + "int p(void) { return f(); }", "fs/whole.c": "#include \"part.c\"\n",
            "fs/other.c": Self.include,
        ]
        #expect(try await narrowed(files, "int f(int);", "int f(long);") == ["fs/part.c", "fs/whole.c"])
        // A part need not include anything itself.
        let silent = [
            "fs/part.c": "int p(void) { return f(); }", "fs/whole.c": Self.include + "#include \"part.c\"\n",
        ]
        #expect(try await narrowed(silent, "int f(int);", "int f(long);") == ["fs/whole.c"])
        // What asm-offsets.c makes of a name stands elsewhere under another.
        let offsets = ["fs/asm-offsets.c": Self.include + "DEFINE(F, f);", "fs/other.c": Self.include]
        #expect(
            try await narrowed(offsets, "int f(int);", "int f(long);") == ["fs/asm-offsets.c", "fs/other.c"])
    }

    @Test func typesWhoseMembersStay() async throws {
        let (pre, post) = ("struct s { int a; };", "struct s { int a; int b; };")
        let files = [
            "fs/a.c": Self.include + "int a(struct s *p) { return p->a; }",
            "fs/b.c": Self.include + "int b(void) { return get()->b; }",
        ]
        #expect(try await narrowed(files, pre, post, kept: ["struct s": ["b"]]) == ["fs/b.c"])
        #expect(try await narrowed(files, pre, post) == ["fs/a.c"])
        // To declare a member of the name is not to use it; to use it in a size is.
        let other = [
            "include/linux/i.h": Self.include + "struct t { int b; };\nstruct u { char c[OF(s, b)]; };\n"
                + "struct v { int b; char d[OF(s, b)]; };\n",
            "fs/v.c": "#include <linux/i.h>\nint v(struct v *p);",
            "fs/t.c": "#include <linux/i.h>\nint t(struct t *p);",
            "fs/u.c": "#include <linux/i.h>\nint u(struct u *p);",
        ]
        #expect(try await narrowed(other, pre, post, kept: ["struct s": ["b"]]) == ["fs/u.c", "fs/v.c"])
    }
}
