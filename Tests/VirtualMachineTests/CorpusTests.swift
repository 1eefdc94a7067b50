// A sample of the open corpus (`make evaluate` runs all of it): what the distribution changed in a file between two of its
// kernels, as one commit; each becomes an update, is applied and undone alone, and then all run together in one boot.

import Core
import Testing

extension Material {
    /// Whether the two kernels are those that the sample was chosen from.
    static let isPinned =
        value("KSPLICE_OLD_VERSION") == "6.1.187-1" && value("KSPLICE_NEW_VERSION") == "6.1.190-1"
}

extension VirtualMachineTests {
    @Suite(
        .tags(.long),
        .enabled(
            if: Material.isPinned, "the archive no longer has the kernels that the sample was chosen from"))
    struct CorpusSample {
        /// From all subsystems, built in and in modules, each file alone.
        static let files = [
            "block/blk-cgroup.c", "block/blk-iocost.c", "fs/affs/super.c", "fs/autofs/inode.c",
            "fs/btrfs/extent_io.c", "fs/cachefiles/namei.c", "fs/configfs/dir.c", "fs/erofs/zdata.c",
            "fs/ext4/file.c", "fs/fat/misc.c", "fs/fuse/file.c", "fs/hugetlbfs/inode.c",
            "fs/isofs/compress.c", "fs/jfs/super.c", "fs/lockd/svcsubs.c", "fs/nfsd/nfs4proc.c",
            "fs/notify/fanotify/fanotify_user.c", "fs/notify/inotify/inotify_user.c",
            "fs/smb/client/cifs_debug.c", "io_uring/io-wq.c", "kernel/auditfilter.c",
            "kernel/bpf/bloom_filter.c", "kernel/events/ring_buffer.c",
            "kernel/time/clockevents.c", "mm/backing-dev.c", "net/8021q/vlan_dev.c",
            "net/bridge/br_arp_nd_proxy.c", "net/ceph/messenger_v2.c", "net/core/lwt_bpf.c",
            "net/ipv4/af_inet.c",
        ]

        /// The update of each file.
        private static let updates = Task {
            let laboratory = try await Laboratory.shared()
            var ids: [String] = []
            for file in files { ids.append(try await laboratory.update(KernelChange(file, fixed: file)).id) }
            return ids
        }

        @Test func everyFileBecomesAnUpdate() async throws {
            let ids = try await Self.updates.value
            #expect(ids.count == Self.files.count && Set(ids).count == ids.count)
            #expect(ids.count >= 30)
        }

        @Test func theyAreAppliedAndUndoneAloneAndTogether() async throws {
            let laboratory = try await Laboratory.shared()
            let ids = try await Self.updates.value
            let result = try await Command(
                [
                    laboratory.program, "test", "--kernel", Laboratory.kernel, "--memory", "4096",
                    "--timeout",
                    "2400",
                ] + ids, directory: laboratory.repository
            ).run()
            #expect(result.status == 0, "\(result.said.lines.suffix(40).joined(separator: "\n"))")
            #expect(
                result.text.contains(
                    "\(ids.count) updates were applied and undone; the kernel log has no warning"))
            #expect(result.text.ranges(of: "Done!").count == 2 * ids.count + ids.count + 1)
        }
    }
}
