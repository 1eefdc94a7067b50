// Remarks from the text of a change: each kind with a case that it is for and cases that it must leave alone.

import Testing

@testable import Core

@Suite struct SourceReviewTests {
    private func file(_ text: String, path: String = "u.c") -> SourceFile {
        SourceFile(path: path, text: Array(text.utf8))
    }

    // MARK: - Reading C

    @Test func functionsAreFound() {
        let source = file(
            """
            /* int no(void) { */
            #define F(x) { x
            struct s { int a; };
            static const struct ops o = { .f = g };
            static inline __attribute__((cold)) int one(int a, int (*f)(int))
            {
            	return "}" [0] + '{' + f(a);
            }
            #ifdef A
            void two(int a) {
            #else
            void two(long a) {
            #endif
            	g(a);
            }
            SYSCALL_DEFINE2(three, int, a, int, b)
            { return a; }
            BPF_CALL_1(four, int, a) { return h(a, k(1, 2)); }
            """)
        #expect(source.functions.map(\.name) == ["one", "two", "__do_sys_three", "four"])
        #expect(source["one"]?.isInline == true && source["two"]?.isInline == false)
        #expect(source["one"]?.line == 5)
        #expect(source["two"]?.calls.map(\.name) == ["g"])
        #expect(source["four"]?.calls.first?.argumentTexts == ["a", "k(1,2)"])
    }

    @Test func branchesOfOneNameAreOneFunction() {
        let source = file(
            "#if A\nvoid f(void) { a(); }\n#else\nvoid f(void) { b(); }\n#endif\nvoid g(void) { }\n")
        #expect(source.functions.map(\.name) == ["f", "g"])
        #expect(source["f"]?.calls.map(\.name) == ["a", "b"])
    }

    @Test func linesAreThoseOfTheText() {
        let source = file(
            "/* a\n * b */ int x;\n#define A \\\n  b\nvoid f(void)\n{\n\tg(\"a\\\n\");\n\th();\n}\n")
        #expect(source["f"]?.calls.map(\.line) == [7, 9])
    }

    // MARK: - Balance

    private func balance(_ pre: String, _ post: String) -> [Finding] {
        BalanceReview(pre: file(pre), post: file(post)).findings()
    }

    @Test func aReferenceThatMovesBetweenFunctionsIsRemarked() throws {
        let found = balance(
            "void q(struct s *s) { add(s); } void r(struct s *s) { del(s); }",
            "void q(struct s *s) { dev_hold(s->d);\n add(s); }\nvoid r(struct s *s) {\n del(s); dev_put(s->d); }"
        )
        let finding = try #require(found.first)
        #expect(found.count == 1 && finding.code == "lock-imbalance" && finding.severity == .warning)
        #expect(finding.symbol == "q" && finding.line == 1)
        #expect(finding.message.contains("1 more dev_hold in line 1"), "\(finding.message)")
        #expect(finding.message.contains("'r' (1 more dev_put in line 4)"), "\(finding.message)")
    }

    @Test func memoryThatAnotherFunctionFreesIsRemarked() {
        let found = balance(
            "void a(struct s *s) { use(s); kfree(s); } void b(struct s *s) { done(s); }",
            "void a(struct s *s) { use(s); } void b(struct s *s) { done(s); kfree(s); }")
        #expect(found.map(\.symbol) == ["a"])
        #expect(found.first?.message.contains("1 fewer kfree") == true, "\(found)")
    }

    @Test func whatOneFunctionBalancesIsNot() {
        // An error path that gave nothing back; a lock with its release; a leak that is mended.
        #expect(
            balance(
                "int f(void) { p = kmalloc(1, G); if (x) return 1; kfree(p); return 0; }",
                "int f(void) { p = kmalloc(1, G); if (x) { kfree(p); return 1; } kfree(p); return 0; }"
            ).isEmpty)
        #expect(
            balance("void f(void) { a(); }", "void f(void) { spin_lock(&l); a(); spin_unlock(&l); }").isEmpty)
        #expect(balance("void f(void) { a(); }", "void f(void) { a(); kfree_skb(s); }").isEmpty)
    }

    @Test func aHelperOfTheSameRunIsNot() {
        // Called, and handed on.
        for use in ["h(s);", "call_rcu(&s->rcu, h);"] {
            #expect(
                balance(
                    "void f(struct s *s) { a(s); kfree(s); }",
                    "void h(struct s *s) { kfree(s); } void f(struct s *s) { a(s); \(use) }"
                )
                .isEmpty)
        }
    }

    @Test func functionsOfOneRunAreNot() {
        // One caller calls both.
        #expect(
            balance(
                "void a(S s) { x(s); } void b(S s) { y(s); } void r(S s) { a(s); b(s); }",
                "void a(S s) { dev_hold(s); } void b(S s) { dev_put(s); } void r(S s) { a(s); b(s); }"
            ).isEmpty)
        // A function under another name.
        #expect(balance("void a(S s) { kfree(s); }", "void b(S s) { kfree(s); }").isEmpty)
        // Two functions, each with a helper of its own.
        #expect(
            balance(
                "void a(S s) { kfree(s); } void b(S s) { kfree(s); }",
                "void c(S s) { kfree(s); } void a(S s) { c(s); } void d(S s) { kfree(s); } void b(S s) { d(s); }"
            ).isEmpty)
    }

    @Test func oneFunctionAloneIsNot() {
        #expect(balance("void f(void) { a(); }", "void f(void) { a(); mutex_unlock(&m); }").isEmpty)
    }

    // MARK: - Sleeping

    private func sleeping(_ pre: String, _ post: String) -> [Finding] {
        AtomicReview(pre: file("int f(int x)\n{\n\(pre)\n}"), post: file("int f(int x)\n{\n\(post)\n}"))
            .findings()
    }

    @Test func aCallThatSleepsBehindALockIsRemarked() throws {
        let found = sleeping(
            "spin_lock(&l);\na();\nspin_unlock(&l);",
            "spin_lock(&l);\np = kmalloc(8, GFP_KERNEL);\na();\nspin_unlock(&l);")
        let finding = try #require(found.first)
        #expect(found.count == 1 && finding.line == 4 && finding.symbol == "f")
        #expect(finding.message.contains("'kmalloc'") && finding.message.contains("spin_lock(&l)"))
    }

    @Test func aLockAroundACallThatSleepsIsRemarked() {
        let found = sleeping(
            "mutex_lock(&m); a();", "rcu_read_lock(); mutex_lock(&m); a(); rcu_read_unlock();")
        #expect(found.map(\.code) == ["sleeping-in-atomic"])
    }

    @Test(arguments: [
        // Known before.
        ("spin_lock(&l); msleep(1); spin_unlock(&l);", "spin_lock(&l); msleep(1); b(); spin_unlock(&l);"),
        // Released before.
        ("", "spin_lock(&l); a(); spin_unlock(&l); msleep(1);"),
        // Released on the way out.
        ("", "spin_lock(&l); if (x) { spin_unlock(&l); msleep(1); return 1; } spin_unlock(&l); msleep(2);"),
        // Only an error path has the lock.
        ("", "if (x) { spin_lock(&l); goto out; } msleep(1); return 0; out: spin_unlock(&l);"),
        // Behind a label nothing is known.
        ("", "spin_lock(&l); a(); goto b; c: msleep(1); return x ? 1 : 2; b: spin_unlock(&l);"),
        // Allocation that does not sleep, a lock under which one may.
        ("", "spin_lock(&l); p = kmalloc(8, GFP_ATOMIC); spin_unlock(&l);"),
        ("", "mutex_lock(&m); msleep(1); mutex_unlock(&m);"),
        // Another function releases it.
        ("", "spin_lock(&l); msleep(1);"),
        // Held on one path only.
        ("", "if (x) spin_lock(&l); msleep(1); if (x) spin_unlock(&l);"),
        ("", "if (x) { spin_lock(&l); a(); } msleep(1); if (x) { spin_unlock(&l); }"),
        ("", "switch (x) { case 1: spin_lock(&l); a(); spin_unlock(&l); break; case 2: msleep(1); }"),
    ]) func whatDoesNotSleepIsNot(_ pre: String, _ post: String) {
        #expect(sleeping(pre, post).isEmpty)
    }

    // MARK: - Contexts

    private func contexts(_ text: String, _ replaced: String...) -> [String] {
        ContextReview(pre: file(text), post: file(text)).findings(replaced: replaced).map(\.code)
    }

    @Test func threadsAreAlwaysOnAStack() {
        let main = "int w(void *x) { for (;;) a(); } int s(void) { t = kthread_run(w, NULL, \"w\"); }"
        #expect(contexts(main, "w") == ["always-on-stack"])
        #expect(contexts(main, "s").isEmpty)
        #expect(contexts(main, "w.isra.0") == ["always-on-stack"])
        let loop = "int l(void *x) { while (!kthread_should_stop()) { a(); schedule(); } }"
        #expect(contexts(loop, "l") == ["always-on-stack"])
        #expect(contexts("int l(void *x) { while (a()) schedule(); }", "l").isEmpty)
        #expect(contexts("void __schedule(int x) { a(); }", "__schedule") == ["always-on-stack"])
        // Only what is replaced counts.
        #expect(contexts(main).isEmpty)
    }

    @Test("who is inside of a function that never returns stays there")
    func functionsThatNeverReturn() {
        for text in [
            "static void __noreturn idle(int c)\n{ a(); for (;;) b(c); }",
            "__attribute__((noreturn)) void idle(void) { a(); }",
            "void idle(void) __attribute__((__noreturn__));\n#if A\nvoid idle(void) { a(); }\n#else\nvoid __noreturn idle(void) { b(); }\n#endif",
        ] {
            #expect(contexts(text, "idle") == ["always-on-stack"], "\(text)")
            #expect(contexts(text, "a").isEmpty)
        }
        #expect(contexts("void noreturn_idle(int c) { a(\"noreturn\"); }", "noreturn_idle").isEmpty)
        // What runs at the end of a task is no waiting place.
        #expect(contexts("void __noreturn do_exit(long c) { a(); }", "do_exit") == ["exit-path"])
    }

    @Test func otherContexts() {
        let handler =
            "int h(int c, void *r) { } int s(void) { return register_nmi_handler(NMI_LOCAL, h, 0, \"h\"); }"
        #expect(contexts(handler, "h") == ["nmi-context"])
        #expect(contexts(handler, "s").isEmpty)
        #expect(contexts("void do_exit(long c) { }", "do_exit") == ["exit-path"])
    }

    // MARK: - Static data in inline functions

    private func inline(_ pre: String, _ post: String, path: String = "u.h") -> [Finding] {
        InlineReview(pre: file(pre, path: path), post: file(post, path: path)).findings()
    }

    @Test func staticDataInAnInlineFunctionOfAHeader() {
        let pre = "static inline int f(void) { return 1; }"
        let post = "static inline int f(void)\n{\n static int count = 0;\n return ++count; }"
        let found = inline(pre, post)
        #expect(found.map(\.code) == ["static-in-inline"] && found.first?.line == 3)
        #expect(found.first?.message.contains("'count'") == true)
        #expect(inline(pre, post, path: "u.c").isEmpty)
        #expect(inline(post, post.replacing("++count", with: "count += 2")).isEmpty)
        #expect(inline("", "int f(void) { static int count; return ++count; }").isEmpty)
    }

    @Test func onceMacrosInAnInlineFunction() {
        let pre = "static inline void f(void) { a(); READ_ONCE(x); }"
        let found = inline(
            pre,
            "static inline void f(void) { pr_warn_once(\"x\"); net_get_random_once(&k, 4); READ_ONCE(x); }")
        #expect(found.map(\.severity) == [.warning, .note])
    }
}
