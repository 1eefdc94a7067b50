#!/bin/sh
# Makes the disk and the initial file system of a small Debian machine from this one's systemd and initramfs-tools, with
# git ksplice installed as `make install PREFIX=/usr` does it. This machine itself is not changed: what mkinitramfs is to
# see is laid over /usr and /boot in a mount namespace.
#
#     boot-disk.sh FOLDER PROGRAM PACKAGE RELEASE PROBE ARCHIVE...
#
# PACKAGE is an unpacked kernel image package, PROBE a static program that the machine runs when it is up, before it
# prints the state of its updates and ends. Makes FOLDER/disk and FOLDER/initrd.
set -eu

folder=$1
program=$2
package=$3
release=$4
probe=$5
shift 5
here=$(cd "$(dirname "$0")" && pwd)
root=$folder/root
installed=$folder/installed

# Copies files with the libraries that they need.
with_libraries() {
	for file; do
		mkdir -p "$root/${file%/*}"
		[ -e "$root/$file" ] || cp -a "$file" "$root/$file"
		[ ! -L "$file" ] || with_libraries "$(readlink -f "$file")"
		ldd "$file" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
			[ -e "$root/$library" ] || { mkdir -p "$root/${library%/*}" && cp -L "$library" "$root/$library"; }
		done
	done
}

rm -rf "$root"
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc/systemd/system" \
	"$root/var/lib" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/root"
for name in bin sbin lib lib64; do ln -s usr/$name "$root/$name"; done

# systemd and its units, without what describes them.
for package_name in systemd udev; do
	dpkg -L "$package_name" | grep -E '^(/usr)?/(lib|bin|sbin)/|^/etc/systemd/' |
		grep -vE '/(catalog|hwdb\.d|boot)(/|$)'
done | while read -r file; do
	[ ! -d "$file" ] || [ -L "$file" ] || continue
	case "$file" in
	/usr/* | /etc/*) ;;
	*) file=/usr$file ;;
	esac
	mkdir -p "$root/${file%/*}"
	cp -a "$file" "$root/$file"
done
find "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib/systemd" -type f -perm -100 | while read -r file; do
	with_libraries "${file#"$root"}"
done
with_libraries /usr/bin/mount /usr/bin/umount /usr/bin/kmod
ln -s ../bin/kmod "$root/usr/sbin/modprobe"
ln -s ../lib/systemd/systemd "$root/usr/sbin/init"
cp -L "$(command -v busybox)" "$root/usr/bin/busybox"
for name in sh cat ls grep sync echo; do ln -sf busybox "$root/usr/bin/$name"; done

rm -rf "$installed"
make -s -C "$here/../.." install-boot PREFIX=/usr DESTDIR="$installed" >&2
mkdir "$installed/usr/bin"
strip -o "$installed/usr/bin/git-ksplice" "$program"
cp -a "$installed/usr" "$root"
with_libraries "$program"
rm "$root/$program"
install -m 755 "$probe" "$root/usr/bin/probe"

echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
echo '/dev/vda / ext4 errors=remount-ro 0 1' > "$root/etc/fstab"
cp /usr/lib/os-release "$root/usr/lib/os-release"
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
ln -s /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
cat > "$root/etc/systemd/system/report.service" <<'END'
[Unit]
After=multi-user.target ksplice-boot-confirm.service
[Service]
Type=oneshot
ExecStart=/usr/bin/report
END
mkdir "$root/etc/systemd/system/multi-user.target.wants"
ln -s ../report.service "$root/etc/systemd/system/multi-user.target.wants/report.service"
cat > "$root/usr/bin/report" <<'END'
#!/bin/sh
exec >/dev/ttyS1 2>&1
echo "probe: $(probe)"
for unit in ksplice-boot ksplice-boot-confirm; do
	echo "$unit: $(systemctl show --value -p Result $unit.service) $(systemctl show --value -p ExecMainStatus $unit.service)"
	journalctl -q -o cat -u $unit.service _PID="$(systemctl show --value -p ExecMainPID $unit.service)"
done
git-ksplice boot list
git-ksplice status
echo "marks: $(ls /var/lib/git-ksplice/boot/marks)"
echo "root: $(grep ' / ' /proc/mounts)"
echo "taken as up"
sync
systemctl reboot -f -f
END
chmod 755 "$root/usr/bin/report"
GIT_KSPLICE_STATE_DIR="$root/var/lib/git-ksplice" "$program" boot add "$@" >&2
chown -R 0:0 "$root"
rm -f "$folder/disk"
/sbin/mke2fs -q -t ext4 -d "$root" -F "$folder/disk" 512M

mkdir -p "$folder/conf/conf.d" "$folder/conf/hooks" "$folder/conf/scripts"
printf '%s\n' MODULES=list BUSYBOX=auto COMPRESS=gzip FSTYPE=ext4 KEYMAP=n > "$folder/conf/initramfs.conf"
printf '%s\n' virtio_pci virtio_blk ext4 > "$folder/conf/modules"
export folder installed package release
# shellcheck disable=SC2016
unshare -m sh -euc '
	mount --make-rprivate /
	mount --bind "$package/boot" /boot
	mount -t overlay -o "lowerdir=$installed/usr:$package:/usr" ksplice /usr
	TMPDIR=$folder mkinitramfs -d "$folder/conf" -o "$folder/initrd" "$release"
' >&2
