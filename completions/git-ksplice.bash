# Completion of `git ksplice` and `git-ksplice` for bash. Git's own completion finds the function _git_ksplice and
# calls it with its variables `words`, `cword` and `cur`; for `git-ksplice` they are made here. Words that are
# files are left to readline. Neither git's completion nor bash-completion is needed.

# Offers the words of $1 that begin with what is typed, each with a blank behind it.
__git_ksplice_offer ()
{
	local word IFS=$' \t\n'
	for word in $1; do
		case "$word" in
		"$__git_ksplice_cur"*) COMPREPLY+=("$word ") ;;
		esac
	done
}

# The names of the registered kernels.
__git_ksplice_kernels ()
{
	git-ksplice kernel list 2>/dev/null | cut -d' ' -f1
}

# The identities of the updates in the repository.
__git_ksplice_updates ()
{
	git-ksplice list 2>/dev/null | cut -d' ' -f1
}

# The identities of the updates of the running kernel.
__git_ksplice_loaded ()
{
	git-ksplice status 2>/dev/null | grep -E '^[0-9a-f]{12} ' | cut -d' ' -f1
}

# The identities of the updates that are kept for a boot.
__git_ksplice_kept ()
{
	git-ksplice boot list 2>/dev/null | grep -oE '^  [0-9a-f]{12} ' | cut -d' ' -f3
}

# The names of the channels of this repository.
__git_ksplice_channels ()
{
	git-ksplice channel list 2>/dev/null | cut -d' ' -f1 | sort -u
}

__git_ksplice_refs ()
{
	echo HEAD
	git for-each-ref --format='%(refname:short)' refs/heads refs/tags refs/remotes 2>/dev/null
}

# The codes that --force takes.
__git_ksplice_codes="ambiguous assembly boot-code constant-changed data-changed entry-code exists-elsewhere exit-changed export-crc-changed
	export-crc-mismatch export-removed symbol-missing file-deleted generated-file init-changed kconfig makefile no-room percpu-changed registration-changed sealed-entry type-layout
	unknown-file"

# $1: what an option takes.
__git_ksplice_value ()
{
	case "$1" in
	--kernel) __git_ksplice_offer "$(__git_ksplice_kernels)" ;;
	--source) __git_ksplice_offer "$(__git_ksplice_refs)" ;;
	--force) __git_ksplice_offer "$__git_ksplice_codes" ;;
	--channel) __git_ksplice_offer "$(__git_ksplice_channels)" ;;
	--role) __git_ksplice_offer "root release renew" ;;
	--supersedes) __git_ksplice_offer "$(__git_ksplice_updates)" ;;
	--late) __git_ksplice_offer "refuse allow" ;;
	--patch | --config | --from | --output | -o | --copy | --key) ;; # files
	*) return 0 ;; # free text and numbers
	esac
}

# The options of a command.
__git_ksplice_options ()
{
	local own=""
	case "$1" in
	init) own="--undo" ;;
	kernel-add) own="--source --from --release" ;;
	create) own="--kernel --description --patch --config --release --force --replace-constant --on --allow-other-compiler --max-units --quiet --verbose --json --stdin --null --progress --no-progress" ;;
	hook-install) own="--force" ;;
	hook-status) own="--json" ;;
	hook-run) own="--background --quiet" ;;
	list) own="--kernel --json --porcelain --null --stdin --color --no-color" ;;
	log) own="--kernel --json --porcelain --null --stdin --color --no-color" ;;
	show) own="--patch --disassemble --why --json --stdin --null --color --no-color" ;;
	export) own="--output --stdin --null" ;;
	check) own="--window --json --host" ;;
	apply) own="--all --channel --boot --late --timeout --nudge --quiet --json --host" ;;
	upgrade) own="--to --channel --undo --all --boot --late --timeout --nudge --quiet --json --host" ;;
	undo) own="--all --boot --timeout --nudge --quiet --json --host" ;;
	boot-remove) own="--all" ;;
	boot-list) own="--json" ;;
	boot-run) own="--early --timeout --limit" ;;
	status) own="--channel --json --porcelain --null --color --no-color --host" ;;
	journal) own="--max-count --since --json --color --no-color --host" ;;
	bug-report) own="--output" ;;
	test) own="--run --copy --kernel --memory --timeout --quiet" ;;
	match) own="--kernel --object --module --save --allow-other-compiler --quiet --verbose --json --host" ;;
	verify) own="--rebuild --cached --quiet --json --stdin --null --progress --no-progress" ;;
	trust-init | trust-add) own="--key --role" ;;
	trust-revoke) own="--reason" ;;
	trust-show) own="--host --json" ;;
	trust-accept) own="--replace" ;;
	channel-list | channel-show) own="--kernel --json" ;;
	kernel-list | kernel-show) own="--json" ;;
	channel-log) own="--kernel --json" ;;
	channel-sign) own="--kernel" ;;
	channel-renew) own="--kernel --days" ;;
	channel-add | tag) own="--channel --kernel --supersedes --days --stdin --null" ;;
	withdraw) own="--reason --channel --stdin --null" ;;
	publish) own="--channel --kernel --dry-run --repair --quiet --json --progress --no-progress" ;;
	bundle) own="--channel --kernel" ;;
	fetch) own="--channel --release --quiet --json --progress --no-progress" ;;
	fsck) own="--host --quiet --json" ;;
	prune) own="--keep --older-than --superseded --withdrawn --kernel --expire --host --dry-run --force --verbose --json" ;;
	"") own="--version" ;;
	esac
	echo "$own --help"
}

# Whether option $2 of command $1 takes a value.
__git_ksplice_takes_value ()
{
	case "$1:$2" in
	show:--patch | trust-show:--host | fsck:--host | prune:--host) return 1 ;;
	prune:--keep | prune:--older-than | prune:--expire) return 0 ;;
	*:--channel | *:--reason | *:--key | *:--role | *:--supersedes | *:--days | *:--to) return 0 ;;
	*:--kernel | *:--description | *:--patch | *:--config | *:--force | *:--replace-constant | *:--on | *:--max-units) return 0 ;;
	match:--module | match:--save) return 0 ;;
	*:--source | *:--from | *:--release | *:--output | export:-o | *:--timeout | *:--late | *:--host) return 0 ;;
	journal:--max-count | journal:-n | journal:--since | bug-report:-o) return 0 ;;
	boot-run:--limit | test:--run | test:--copy | test:--memory) return 0 ;;
	esac
	return 1
}

# $1: the position in `words` of the word `ksplice` or `git-ksplice`.
__git_ksplice_complete ()
{
	local i command="" word previous="" arguments=0
	local __git_ksplice_cur="$cur"
	for ((i = $1 + 1; i < cword; i++)); do
		word="${words[i]}"
		case "$word" in
		"=" | -*) ;;
		*)
			if [ -z "$command" ]; then
				command="$word"
			elif [ "$command" = kernel ] || [ "$command" = boot ] || [ "$command" = trust ] || [ "$command" = channel ] || [ "$command" = hook ]; then
				command="$command-$word"
			elif ! __git_ksplice_takes_value "$command" "${words[i - 1]}"; then
				arguments=$((arguments + 1))
			fi
			;;
		esac
	done
	previous="${words[cword - 1]}"
	# Bash divides a word at "=".
	if [ "$cur" = "=" ]; then
		__git_ksplice_cur=""
	elif [ "$previous" = "=" ]; then
		previous="${words[cword - 2]}"
	fi
	COMPREPLY=()
	case "$cur" in
	--*=*)
		previous="${cur%%=*}"
		__git_ksplice_cur="${cur#*=}"
		;;
	esac
	if __git_ksplice_takes_value "$command" "$previous"; then
		__git_ksplice_value "$previous"
		return
	fi
	case "$cur" in
	-*)
		__git_ksplice_offer "$(__git_ksplice_options "$command")"
		return
		;;
	esac
	case "$command" in
	"") __git_ksplice_offer "init kernel create hook list log show export check apply upgrade undo status journal boot late test match verify explain trust channel tag withdraw publish receive bundle fetch fsck prune bug-report help" ;;
	help) __git_ksplice_offer "init kernel create hook list log show export check apply upgrade undo status journal boot late test match verify explain trust channel tag withdraw publish receive bundle fetch fsck prune bug-report" ;;
	kernel) __git_ksplice_offer "add list show remove" ;;
	boot) __git_ksplice_offer "add remove list release run confirm" ;;
	hook) __git_ksplice_offer "install uninstall status run" ;;
	trust) __git_ksplice_offer "init add remove revoke threshold sign show accept" ;;
	channel) __git_ksplice_offer "list show log add sign renew pull" ;;
	trust-threshold) [ "$arguments" -gt 0 ] || __git_ksplice_offer "root release" ;;
	channel-show | channel-log | channel-sign | channel-renew) [ "$arguments" -gt 0 ] || __git_ksplice_offer "$(__git_ksplice_channels)" ;;
	channel-add) __git_ksplice_offer "$(__git_ksplice_updates; __git_ksplice_refs)" ;;
	channel-pull | publish) [ "$arguments" -gt 0 ] || __git_ksplice_offer "$(git remote 2>/dev/null)" ;;
	tag)
		if [ "$arguments" -eq 0 ]; then
			__git_ksplice_offer "$(git tag 2>/dev/null)"
		else
			__git_ksplice_offer "$(__git_ksplice_updates; __git_ksplice_refs)"
		fi
		;;
	fsck) __git_ksplice_offer "$(__git_ksplice_updates; git for-each-ref --format='%(refname)' refs/ksplice/channels refs/ksplice/kernels refs/ksplice/trust 2>/dev/null)" ;;
	withdraw) [ "$arguments" -gt 0 ] || __git_ksplice_offer "$(__git_ksplice_updates)" ;;
	boot-add) __git_ksplice_offer "$(__git_ksplice_updates; __git_ksplice_refs)" ;;
	boot-remove | boot-release) __git_ksplice_offer "$(__git_ksplice_kept)" ;;
	kernel-show | kernel-remove) __git_ksplice_offer "$(__git_ksplice_kernels)" ;;
	create | log)
		if declare -F __git_complete_revlist >/dev/null && [ -n "${__git_ksplice_by_git-}" ]; then
			__git_complete_revlist
		else
			__git_ksplice_offer "$(__git_ksplice_refs)"
		fi
		;;
	show | export | check | apply | test | verify)
		[ "$arguments" -gt 0 ] && return
		__git_ksplice_offer "$(__git_ksplice_updates; __git_ksplice_refs)"
		;;
	status) [ "$arguments" -gt 0 ] || __git_ksplice_offer "$(__git_ksplice_refs)" ;;
	upgrade)
		if [ "$previous" = --undo ]; then
			__git_ksplice_offer "$(__git_ksplice_loaded)"
		else
			__git_ksplice_offer "$(__git_ksplice_updates; __git_ksplice_refs)"
		fi
		;;
	undo) __git_ksplice_offer "$(__git_ksplice_loaded)" ;;
	explain) [ "$arguments" -gt 0 ] || __git_ksplice_offer "$(git-ksplice explain 2>/dev/null | cut -d' ' -f1)" ;;
	esac
}

# Called by git's completion.
_git_ksplice ()
{
	local i __git_ksplice_by_git=1
	for ((i = 1; i < cword; i++)); do
		[ "${words[i]}" = ksplice ] && break
	done
	__git_ksplice_complete "$i"
}

# Called by bash.
__git_ksplice_main ()
{
	local words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur="${COMP_WORDS[COMP_CWORD]}"
	__git_ksplice_complete 0
}

complete -o bashdefault -o default -o nospace -F __git_ksplice_main git-ksplice
