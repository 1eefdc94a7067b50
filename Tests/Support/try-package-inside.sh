#!/bin/sh
# The inside of try-package.sh: runs as root in the root of a small Debian, with /git-ksplice.deb. Ends with the first thing
# that is not as it should be.
set -eu
cd /

fail() {
	echo "fatal: $*" >&2
	exit 1
}
# $1 must be in the text of file $2.
has() { grep -qF -e "$1" "$2" || { cat "$2" >&2; fail "'$1' is not in what was printed by $3"; }; }

# All files but those in which apt, dpkg, man-db and others note what they do.
files() {
	find / -xdev \( -path /proc -o -path /dev -o -path /sys -o -path /run -o -path /tmp -o -path /var/cache -o -path /var/log \
		-o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /root \) -prune -o -printf '%y %p\n' | LC_ALL=C sort
}

apt() { apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" > /tmp/apt 2>&1; }

# What was fetched may have left the archive's lists.
install_package() { apt install /git-ksplice.deb || { apt update && apt install /git-ksplice.deb; }; }

# Types $2 into the interactive shell $1 and waits until a line of what it prints begins with $3.
types() {
	rm -f /tmp/keys /tmp/screen
	mkfifo /tmp/keys
	timeout 300 script -qefc "stty cols 120 rows 40; cd /tmp/repository; exec $1" /tmp/screen < /tmp/keys > /dev/null 2>&1 &
	exec 3> /tmp/keys
	# Some forget what was typed before they read, so it is typed until it is answered.
	waits ready "$1" 'echo re""ady\n'
	printf '%b' "$2" >&3
	waits "$3" "$1"
	printf 'exit\n' >&3
	exec 3>&-
	wait $! || true
}

# Waits for a line that begins with $1 on the screen of $2; types $3, if it is given, each five seconds.
waits() {
	tries=0
	until shows "$1"; do
		[ $tries -lt 600 ] || { cat -v /tmp/screen >&2; fail "$2 does not print '$1'"; }
		[ -z "${3-}" ] || [ $((tries % 50)) != 0 ] || printf '%b' "$3" >&3
		tries=$((tries + 1))
		sleep 0.1
	done
}

# Whether a line on the screen begins with $1: without titles, the choice of a character set, and what moves the cursor or
# sets a colour. Some begin a line with a return alone.
shows() {
	sed 's/\x1b][^\x07]*\x07//g; s/\x1b[()].//g; s/\x1b[^a-zA-Z]*[a-zA-Z]//g' /tmp/screen 2>/dev/null | tr '\r' '\n' |
		grep -q "^$1"
}

! command -v swift git > /tmp/out || fail "there is a $(cat /tmp/out) before anything was installed"
files > /tmp/before

echo "installation"
install_package || { cat /tmp/apt >&2; fail "apt cannot install the package"; }
has "Processing triggers for initramfs-tools" /tmp/apt "apt"
dpkg --verify git-ksplice > /tmp/out
[ ! -s /tmp/out ] || fail "files differ from the package's sums: $(cat /tmp/out)"
find / -xdev -xtype l -path '*git-ksplice*' -o -xdev -xtype l -path '*/ksplice-*' > /tmp/out
[ ! -s /tmp/out ] || fail "links lead nowhere: $(cat /tmp/out)"

echo "commands"
status=0
git ksplice -h > /tmp/out 2>&1 || status=$?
[ $status = 129 ] || fail "git ksplice -h ends with $status"
has "git ksplice <command>" /tmp/out "git ksplice -h"
git init -q /tmp/repository
cd /tmp/repository
git ksplice list > /tmp/out || fail "git ksplice list fails"
[ ! -s /tmp/out ] || fail "git ksplice list finds updates"
git ksplice explain > /tmp/codes
[ "$(wc -l < /tmp/codes)" -gt 40 ] || fail "git ksplice explain lists few codes"
while read -r code _; do
	git ksplice explain "$code" > /tmp/out
	has "# $code" /tmp/out "git ksplice explain"
done < /tmp/codes
# It gets as far as the module's sources: they are found.
git -c user.name=x -c user.email=x@localhost commit -q --allow-empty -m x
! git ksplice create HEAD 2> /tmp/out || fail "git ksplice create makes an update without a kernel"
! grep -q "cannot find" /tmp/out || fail "$(cat /tmp/out)"
cd /

echo "manual pages"
# Runs $2... and looks for $1 in what it prints.
prints() {
	wanted=$1
	shift
	MANPAGER=cat "$@" > /tmp/out 2>&1 || true
	has "$wanted" /tmp/out "$*"
}
prints "change a running Linux kernel without a reboot" git help ksplice
prints "change a running Linux kernel without a reboot" git ksplice --help
dpkg -L git-ksplice | sed -n 's,.*/man1/\(git-.*\)\.1\.gz$,\1,p' > /tmp/pages
[ "$(wc -l < /tmp/pages)" -gt 10 ] || fail "the package has few manual pages"
while read -r page; do
	prints "$page — " man "$page"
	prints "$page (1)" whatis "$page"
done < /tmp/pages

echo "initial file system"
# As mkinitramfs lays it out.
for folder in bin sbin lib lib64; do
	mkdir -p /tmp/initial/usr/$folder
	ln -s usr/$folder /tmp/initial/$folder
done
DESTDIR=/tmp/initial verbose=n /usr/share/initramfs-tools/hooks/git-ksplice
mkdir /tmp/initial/proc
mount -t proc proc /tmp/initial/proc
chroot /tmp/initial /usr/bin/git-ksplice --version > /tmp/out || fail "the program lacks libraries in the initial file system"
umount /tmp/initial/proc
rm -rf /tmp/initial

version=$(git ksplice --version)
cp -r /etc/skel /tmp/home
export HOME=/tmp/home
echo 'autoload -Uz compinit; compinit' > /tmp/home/.zshrc
for shell in "bash -i" "zsh -i" "fish -i"; do
	echo "completion in ${shell%% *}"
	for command in "git ksplice" "git-ksplice"; do
		types "$shell" "$command expl\tno-ro\t\n" "# no-room"
		types "$shell" "$command --vers\t\n" "$version"
		types "$shell" "$command list --he\t\n" "OVERVIEW: .*"
	done
	types "$shell" "git ksp\texplain no-room\n" "# no-room"
done
export HOME=/root

echo "removal"
mkdir -p /var/lib/git-ksplice/boot /var/lib/ksplice/trust /etc/ksplice
dpkg -i /git-ksplice.deb > /tmp/apt 2>&1 || { cat /tmp/apt >&2; fail "the package does not replace itself"; }
apt purge git-ksplice || { cat /tmp/apt >&2; fail "apt cannot purge the package"; }
has "Processing triggers for initramfs-tools" /tmp/apt "apt"
for folder in /var/lib/git-ksplice /var/lib/ksplice /etc/ksplice; do
	[ ! -e "$folder" ] || fail "folders without data are left: $folder"
done
install_package || { cat /tmp/apt >&2; fail "apt cannot install the package again"; }
mkdir /var/lib/git-ksplice /etc/ksplice
echo '{}' > /var/lib/git-ksplice/journal
echo 'a policy' > /etc/ksplice/trust
apt purge git-ksplice
has "left in /var/lib/git-ksplice: kept updates and the journal" /tmp/apt "apt"
has "left in /etc/ksplice: whom this host trusts" /tmp/apt "apt"
apt autoremove --purge
! dpkg-query -W git-ksplice > /dev/null 2>&1 || fail "dpkg knows the package after its purge"
printf '%s\n' "d /var/lib/git-ksplice" "f /var/lib/git-ksplice/journal" \
	"d /etc/ksplice" "f /etc/ksplice/trust" >> /tmp/before
LC_ALL=C sort -o /tmp/before /tmp/before
files > /tmp/after
diff /tmp/before /tmp/after > /tmp/out || fail "other files than before: $(cat /tmp/out)"
