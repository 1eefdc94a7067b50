// The module of StackCheckTests by which tasks of all kinds get into functions of the kernel, and out again.

enum StackCheckModule {
    /// A writer of /dev/inside, or somebody whom it sends, waits inside of a function of the kernel until `l` is written.
    /// Read, it says who is inside.
    static let code = """
        #include <linux/kthread.h>
        #include <linux/list_sort.h>
        #include <linux/miscdevice.h>
        #include <linux/module.h>
        #include <linux/objtool.h>
        #include <linux/sched.h>
        #include <linux/seq_file.h>
        #include <linux/wait.h>
        #include <asm/orc_types.h>
        #include <trace/events/power.h>

        static bool leave;
        static void (*volatile blindly)(void);	/* objtool wants functions to call functions */
        static struct task_struct *inside;
        static atomic_t wanted;	/* an idle task */
        static struct hlist_node ring;
        static DECLARE_WAIT_QUEUE_HEAD(queue);

        /* What the idle loop does: it gives the processor away when somebody wants it, and never sleeps. */
        static void idle(void)
        {
        	int count = preempt_count();

        	local_irq_enable();
        	while (!READ_ONCE(leave)) {
        		if (need_resched()) {
        			preempt_count_set(0);
        			schedule();
        			preempt_count_set(count);
        		}
        		cpu_relax();
        	}
        	local_irq_disable();
        }

        void blind_wait(void);
        void blind_wait(void)
        {
        	wait_event(queue, READ_ONCE(leave));
        }

        /* Calls it. The unwinder is told that a stack ends here, as the kernel tells it of its retpolines. */
        void blind(void);
        asm(".pushsection .text\\n"
            ".type blind, @notype\\n"
            "blind:\\n"
            UNWIND_HINT(ORC_REG_UNDEFINED, 0, UNWIND_HINT_TYPE_CALL, 1)
            "sub $8, %rsp\\n"
            "call blind_wait\\n"
            "add $8, %rsp\\n"
            ASM_RET
            ".popsection\\n");

        /* Called by list_sort(). */
        static noinline int inside_wait(void *how, const struct list_head *a, const struct list_head *b)
        {
        	WRITE_ONCE(inside, current);
        	if (*(char *)how == 'i')
        		idle();
        	else if (*(char *)how == 'r')
        		while (!READ_ONCE(leave))
        			cpu_relax();
        	else if (*(char *)how == 'h')
        		blindly();
        	else
        		wait_event(queue, READ_ONCE(leave));
        	return 0;
        }

        static int enter(void *how)
        {
        	struct list_head a, b;
        	LIST_HEAD(head);

        	list_add(&a, &head);
        	list_add(&b, &head);
        	list_sort(how, &head, inside_wait);
        	WRITE_ONCE(inside, NULL);
        	return 0;
        }

        static void enter_alone(void)
        {
        	struct hlist_head head = { &ring };

        	WRITE_ONCE(inside, current);
        	seq_hlist_start(&head, LLONG_MAX);
        	WRITE_ONCE(inside, NULL);
        }

        static void at_idle(void *data, unsigned int state, unsigned int cpu)
        {
        	if (state == 1 && atomic_cmpxchg(&wanted, 1, 0) == 1)
        		enter("i");
        }

        static ssize_t inside_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
        {
        	char how;

        	if (get_user(how, from))
        		return -EFAULT;
        	if (how == 'l') {
        		WRITE_ONCE(leave, true);
        		WRITE_ONCE(ring.next, NULL);
        		wake_up(&queue);
        		while (READ_ONCE(inside))
        			schedule_timeout_uninterruptible(1);
        		WRITE_ONCE(leave, false);
        		WRITE_ONCE(ring.next, &ring);
        	} else if (how == 'i') {
        		atomic_set(&wanted, 1);
        	} else if (how == 't') {
        		kthread_run(enter, "s", "inside");
        	} else if (how == 'a') {
        		enter_alone();
        	} else {
        		enter(&how);
        	}
        	return size;
        }

        static ssize_t inside_read(struct file *file, char __user *to, size_t size, loff_t *pos)
        {
        	struct task_struct *task = READ_ONCE(inside);
        	char text[64];
        	int length = task ? sprintf(text, "%d %s\\n", task->pid, task->comm) : 0;

        	return simple_read_from_buffer(to, size, pos, text, length);
        }

        static const struct file_operations operations = {
        	.owner = THIS_MODULE, .read = inside_read, .write = inside_write,
        };
        static struct miscdevice device = {
        	.minor = MISC_DYNAMIC_MINOR, .name = "inside", .fops = &operations,
        };

        static int __init begin(void)
        {
        	ring.next = &ring;
        	blindly = blind;
        	return register_trace_cpu_idle(at_idle, NULL) ?: misc_register(&device);
        }
        static void __exit end(void)
        {
        	misc_deregister(&device);
        	unregister_trace_cpu_idle(at_idle, NULL);
        	tracepoint_synchronize_unregister();
        }
        module_init(begin);
        module_exit(end);
        MODULE_LICENSE("GPL");

        """
}
