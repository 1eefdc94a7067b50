# Completion of `git-ksplice` for fish. Where fish's own completion of git asks the completions of git's external
# commands, it serves `git ksplice` too; git-ksplice.conf.fish is for others.

set -l commands init kernel create hook list log show export check apply upgrade undo status journal boot late test match verify explain trust channel tag withdraw publish receive bundle fetch fsck prune bug-report
set -l at_first "not __fish_seen_subcommand_from $commands"
set -l kernel_commands add list show remove
set -l hook_commands install uninstall status run
set -l trust_commands init add remove revoke threshold sign show accept
set -l channel_commands list show log add sign renew pull
set -l boot_commands add remove list release run confirm

function __git_ksplice_kernels
    git-ksplice kernel list 2>/dev/null | string replace -r ' +' \t
end

# Identities with their descriptions.
function __git_ksplice_updates
    git-ksplice list 2>/dev/null | string replace -r ' +' \t
end

function __git_ksplice_loaded
    git-ksplice status 2>/dev/null | string match -r '^[0-9a-f]{12} .*' | string replace -r ' +' \t
end

function __git_ksplice_kept
    git-ksplice boot list 2>/dev/null | string match -r '^  [0-9a-f]{12} .*' | string trim | string replace -r ' +' \t
end

function __git_ksplice_channels
    git-ksplice channel list 2>/dev/null | string replace -r ' .*' '' | sort -u
end

function __git_ksplice_commits
    echo HEAD
    git for-each-ref --format='%(refname:short)' refs/heads refs/tags refs/remotes 2>/dev/null
end

function __git_ksplice_codes
    printf '%s\n' ambiguous assembly boot-code constant-changed data-changed entry-code exists-elsewhere exit-changed export-crc-changed export-crc-mismatch \
        export-removed symbol-missing file-deleted generated-file init-changed kconfig makefile no-room percpu-changed registration-changed sealed-entry \
        type-layout unknown-file
end

# All codes with their summaries.
function __git_ksplice_explained
    git-ksplice explain 2>/dev/null | string replace -r ' +' \t
end

# Whether the command is $argv[1]; the first word that names one decides.
function __git_ksplice_is
    set -l all init kernel create hook list log show export check apply upgrade undo status journal boot late test match verify explain trust channel tag withdraw publish receive bundle fetch fsck prune bug-report
    for word in (commandline -opc)[2..-1]
        if contains -- $word $all
            contains -- $word $argv
            return
        end
    end
    return 1
end

complete -c git-ksplice -f
complete -c git-ksplice -s h -l help -d 'Show the usage'
complete -c git-ksplice -n $at_first -l version -d 'Show the version'
complete -c git-ksplice -n $at_first -a init -d 'Prepare a repository for updates'
complete -c git-ksplice -n $at_first -a kernel -d 'Register the kernel builds that updates are made for'
complete -c git-ksplice -n $at_first -a create -d 'Make an update from a commit, a range, or a patch'
complete -c git-ksplice -n $at_first -a hook -d 'Build updates in the background, after each commit'
complete -c git-ksplice -n $at_first -a list -d 'List the updates in this repository'
complete -c git-ksplice -n $at_first -a log -d 'Show which commits have updates, and which cannot have one'
complete -c git-ksplice -n $at_first -a show -d 'Show what an update is and what it holds'
complete -c git-ksplice -n $at_first -a export -d 'Write an update to an archive'
complete -c git-ksplice -n $at_first -a check -d 'Find out whether an update could be applied'
complete -c git-ksplice -n $at_first -a apply -d 'Change the running kernel'
complete -c git-ksplice -n $at_first -a upgrade -d 'Replace applied updates by others in one pause'
complete -c git-ksplice -n $at_first -a undo -d 'Give the old code back'
complete -c git-ksplice -n $at_first -a status -d 'Show which updates the running kernel has'
complete -c git-ksplice -n $at_first -a boot -d 'Let updates come back after a reboot'
complete -c git-ksplice -n $at_first -a late -d 'Give a module that is being loaded its parts of updates'
complete -c git-ksplice -n $at_first -a test -d 'Try an update on its kernel in a virtual machine'
complete -c git-ksplice -n $at_first -a match -d 'Prove that compiled code is the code of a kernel'
complete -c git-ksplice -n $at_first -a verify -d 'Find out whether a stored update is what it says'
complete -c git-ksplice -n $at_first -a explain -d 'Explain a finding of create, or a mismatch'
complete -c git-ksplice -n $at_first -a trust -d 'Say whose signatures count'
complete -c git-ksplice -n $at_first -a channel -d 'Keep the lists of updates that hosts follow'
complete -c git-ksplice -n $at_first -a tag -d 'Say which updates a release has'
complete -c git-ksplice -n $at_first -a withdraw -d 'Take an update out of use'
complete -c git-ksplice -n $at_first -a publish -d 'Send channels and their updates to another repository'
complete -c git-ksplice -n $at_first -a receive -d 'Judge one ref of a push, for a server'
complete -c git-ksplice -n $at_first -a bundle -d 'Write what hosts fetch into a file'
complete -c git-ksplice -n $at_first -a fetch -d 'Get the updates for the running kernel'
complete -c git-ksplice -n $at_first -a journal -d 'Show what was done to this host'
complete -c git-ksplice -n $at_first -a bug-report -d 'Write what a maintainer needs to know'
complete -c git-ksplice -n $at_first -a fsck -d 'Look for damage in what is stored'
complete -c git-ksplice -n $at_first -a prune -d 'Remove stored updates that nothing needs'

complete -c git-ksplice -n '__git_ksplice_is fsck' -a '(__git_ksplice_updates)'
complete -c git-ksplice -n '__git_ksplice_is fsck' -s q -l quiet -d 'Print errors only'
complete -c git-ksplice -n '__git_ksplice_is fsck prune' -l host -d 'Of what this host has fetched'
complete -c git-ksplice -n '__git_ksplice_is fsck prune' -l json -d 'Print JSON, one object a line'
complete -c git-ksplice -n '__git_ksplice_is prune' -l keep -x -d 'The newest ones of each kernel stay'
complete -c git-ksplice -n '__git_ksplice_is prune' -l older-than -x -d 'Only what was stored before'
complete -c git-ksplice -n '__git_ksplice_is prune' -l superseded -d 'What newer ones replace'
complete -c git-ksplice -n '__git_ksplice_is prune' -l withdrawn -d 'What was withdrawn'
complete -c git-ksplice -n '__git_ksplice_is prune' -l kernel -x -a '(__git_ksplice_kernels)' -d 'Only for this kernel'
complete -c git-ksplice -n '__git_ksplice_is prune' -l expire -x -d 'State that was not used since'
complete -c git-ksplice -n '__git_ksplice_is prune' -s n -l dry-run -d 'List only'
complete -c git-ksplice -n '__git_ksplice_is prune' -s f -l force -d 'Remove it'
complete -c git-ksplice -n '__git_ksplice_is prune' -s v -l verbose -d 'Also list what stays, and why'

complete -c git-ksplice -n '__git_ksplice_is init' -l undo -d 'Take back what init has set'

set -l kernel_first "__git_ksplice_is kernel; and not __fish_seen_subcommand_from $kernel_commands"
complete -c git-ksplice -n $kernel_first -a add -d 'Register one exact kernel build'
complete -c git-ksplice -n $kernel_first -a list -d 'List the registered kernels'
complete -c git-ksplice -n $kernel_first -a show -d 'Show what is known of a kernel'
complete -c git-ksplice -n $kernel_first -a remove -d 'Forget a kernel and its workspace'
set -l kernel_add '__git_ksplice_is kernel; and __fish_seen_subcommand_from add'
complete -c git-ksplice -n $kernel_add -l source -x -a '(__git_ksplice_commits)' -d 'The commit that the kernel was built from'
complete -c git-ksplice -n $kernel_add -l from -r -F -d 'What describes the build'
complete -c git-ksplice -n $kernel_add -l release -x -d 'What uname -r says of it'
complete -c git-ksplice -n '__git_ksplice_is kernel; and __fish_seen_subcommand_from show remove' -a '(__git_ksplice_kernels)'

set -l hook_first "__git_ksplice_is hook; and not __fish_seen_subcommand_from $hook_commands"
complete -c git-ksplice -n $hook_first -a install -d 'Let hooks of git queue each new commit'
complete -c git-ksplice -n $hook_first -a uninstall -d 'Take out what install has put in'
complete -c git-ksplice -n $hook_first -a status -d 'Show hooks, queue and results'
complete -c git-ksplice -n $hook_first -a run -d 'Build what waits'
complete -c git-ksplice -n '__git_ksplice_is hook; and __fish_seen_subcommand_from install' -l force -d 'Also where they are shared or in the worktree'
complete -c git-ksplice -n '__git_ksplice_is hook; and __fish_seen_subcommand_from status' -l json -d 'Print the result as JSON'
complete -c git-ksplice -n '__git_ksplice_is hook; and __fish_seen_subcommand_from run' -l background -d 'As the hooks call it'
complete -c git-ksplice -n '__git_ksplice_is hook; and __fish_seen_subcommand_from run' -s q -l quiet -d 'Say nothing but the results'

set -l boot_first "__git_ksplice_is boot; and not __fish_seen_subcommand_from $boot_commands"
complete -c git-ksplice -n $boot_first -a add -d 'Keep updates for the next boots'
complete -c git-ksplice -n $boot_first -a remove -d 'Keep them no longer'
complete -c git-ksplice -n $boot_first -a list -d 'List what is kept, and what is held'
complete -c git-ksplice -n $boot_first -a release -d 'Let held updates be tried again'
complete -c git-ksplice -n $boot_first -a run -d 'Apply what is kept for this kernel'
complete -c git-ksplice -n $boot_first -a confirm -d 'Note that the system came up'
complete -c git-ksplice -n '__git_ksplice_is boot; and __fish_seen_subcommand_from add' -a '(__git_ksplice_updates)'
complete -c git-ksplice -n '__git_ksplice_is boot; and __fish_seen_subcommand_from add' -k -a '(__fish_complete_suffix .tar.gz)'
complete -c git-ksplice -n '__git_ksplice_is boot; and __fish_seen_subcommand_from remove release' -a '(__git_ksplice_kept)'
complete -c git-ksplice -n '__git_ksplice_is boot; and __fish_seen_subcommand_from remove' -l all -d 'Keep no update'
complete -c git-ksplice -n '__git_ksplice_is boot; and __fish_seen_subcommand_from list' -l json -d 'Print the result as JSON'
set -l boot_run '__git_ksplice_is boot; and __fish_seen_subcommand_from run'
complete -c git-ksplice -n $boot_run -l early -d 'Leave to a later call what is refused'
complete -c git-ksplice -n $boot_run -l timeout -x -d 'Seconds to go on trying each'
complete -c git-ksplice -n $boot_run -l limit -x -d 'Seconds that an update may take in all'

complete -c git-ksplice -n '__git_ksplice_is create list log test' -l kernel -x -a '(__git_ksplice_kernels)' -d 'The kernel'
complete -c git-ksplice -n '__git_ksplice_is create' -l description -x -d 'One line that says what the update does'
complete -c git-ksplice -n '__git_ksplice_is create' -l patch -r -F -d 'Take the change from a unified diff'
complete -c git-ksplice -n '__git_ksplice_is create' -l config -x -a '(__fish_complete_directories)' -d 'A folder with .config and System.map'
complete -c git-ksplice -n '__git_ksplice_is create' -l release -x -d 'What uname -r says of that kernel'
complete -c git-ksplice -n '__git_ksplice_is create' -l force -x -a '(__git_ksplice_codes)' -d 'Let a finding through'
complete -c git-ksplice -n '__git_ksplice_is create' -l on -x -d 'Make it on an applied update'
complete -c git-ksplice -n '__git_ksplice_is create' -l replace-constant -x -d 'Write new content over a constant'
complete -c git-ksplice -n '__git_ksplice_is create' -l allow-other-compiler -d 'Use the compiler that is here'
complete -c git-ksplice -n '__git_ksplice_is create' -l max-units -x -d 'Most source files that a changed header may affect'
complete -c git-ksplice -n '__git_ksplice_is create' -a '(__git_ksplice_commits)'

set -l trust_first "__git_ksplice_is trust; and not __fish_seen_subcommand_from $trust_commands"
complete -c git-ksplice -n $trust_first -a init -d 'Begin: you are the first signer'
complete -c git-ksplice -n $trust_first -a add -d 'Add a signer, or a further key of one'
complete -c git-ksplice -n $trust_first -a remove -d 'Take a signer out'
complete -c git-ksplice -n $trust_first -a revoke -d 'Say that a key is trusted no more'
complete -c git-ksplice -n $trust_first -a threshold -d 'Say how many signers must agree'
complete -c git-ksplice -n $trust_first -a sign -d 'Agree to the newest policy'
complete -c git-ksplice -n $trust_first -a show -d 'Print the policy of trust'
complete -c git-ksplice -n $trust_first -a accept -d 'Let this host trust the signers of a policy'
set -l trust_key '__git_ksplice_is trust; and __fish_seen_subcommand_from init add'
complete -c git-ksplice -n $trust_key -l key -r -F -d 'A public key'
complete -c git-ksplice -n $trust_key -l role -x -a 'root release renew' -d 'What the signer may do'
complete -c git-ksplice -n '__git_ksplice_is trust; and __fish_seen_subcommand_from revoke' -l reason -x -d 'Why'
complete -c git-ksplice -n '__git_ksplice_is trust; and __fish_seen_subcommand_from show' -l host -d 'The one that this host follows'
complete -c git-ksplice -n '__git_ksplice_is trust; and __fish_seen_subcommand_from show' -l json -d 'Print JSON'
complete -c git-ksplice -n '__git_ksplice_is trust; and __fish_seen_subcommand_from threshold' -a 'root release'
complete -c git-ksplice -n '__git_ksplice_is trust; and __fish_seen_subcommand_from accept' -F

set -l channel_first "__git_ksplice_is channel; and not __fish_seen_subcommand_from $channel_commands"
complete -c git-ksplice -n $channel_first -a list -d 'List the channels'
complete -c git-ksplice -n $channel_first -a show -d 'Show what a channel lists'
complete -c git-ksplice -n $channel_first -a log -d 'Show what was done to a channel'
complete -c git-ksplice -n $channel_first -a add -d 'Put updates at the end of a channel'
complete -c git-ksplice -n $channel_first -a sign -d 'Agree to what a channel says'
complete -c git-ksplice -n $channel_first -a renew -d 'Say that channels still stand as they are'
complete -c git-ksplice -n $channel_first -a pull -d 'Take over what others have published'
complete -c git-ksplice -n '__git_ksplice_is channel; and __fish_seen_subcommand_from show log sign renew' -a '(__git_ksplice_channels)'
complete -c git-ksplice -n '__git_ksplice_is channel; and __fish_seen_subcommand_from list show log' -l json -d 'Print JSON'
complete -c git-ksplice -n '__git_ksplice_is channel; and __fish_seen_subcommand_from add' -a '(__git_ksplice_updates)'
complete -c git-ksplice -n '__git_ksplice_is channel; and __fish_seen_subcommand_from pull' -a '(git remote 2>/dev/null)'
set -l lists '__git_ksplice_is tag; or __git_ksplice_is channel; and __fish_seen_subcommand_from add'
complete -c git-ksplice -n $lists -l supersedes -x -a '(__git_ksplice_updates)' -d 'An update that the new ones replace'
complete -c git-ksplice -n "$lists renew" -l days -x -d 'For how many days hosts may believe it'
complete -c git-ksplice -n '__git_ksplice_is channel publish bundle tag' -l kernel -x -a '(__git_ksplice_kernels)' -d 'Only this kernel'
complete -c git-ksplice -n '__git_ksplice_is tag withdraw publish bundle fetch apply upgrade status channel' -l channel -x -a '(__git_ksplice_channels)' -d 'Which channel'
complete -c git-ksplice -n '__git_ksplice_is tag' -a '(git tag 2>/dev/null)'
complete -c git-ksplice -n '__git_ksplice_is tag withdraw' -a '(__git_ksplice_updates)'
complete -c git-ksplice -n '__git_ksplice_is withdraw' -l reason -x -d 'Why'
complete -c git-ksplice -n '__git_ksplice_is publish' -a '(git remote 2>/dev/null)'
complete -c git-ksplice -n '__git_ksplice_is publish' -s n -l dry-run -d 'Send nothing, but ask'
complete -c git-ksplice -n '__git_ksplice_is publish' -l repair -d 'Send also what may have been lost'
complete -c git-ksplice -n '__git_ksplice_is publish fetch' -s q -l quiet -d 'Say less'
complete -c git-ksplice -n '__git_ksplice_is trust; and __fish_seen_subcommand_from accept' -l replace -d 'In place of a newer one'
complete -c git-ksplice -n '__git_ksplice_is fetch' -l release -x -d 'Also what this older release has'
complete -c git-ksplice -n '__git_ksplice_is fetch' -l json -d 'Print JSON'
complete -c git-ksplice -n '__git_ksplice_is fetch bundle' -F
complete -c git-ksplice -n '__git_ksplice_is apply' -l all -d 'Apply all that was fetched'
complete -c git-ksplice -n '__git_ksplice_is upgrade' -l to -x -d 'Have what this release has'

complete -c git-ksplice -n '__git_ksplice_is apply upgrade undo check match status journal' -l host -x -d 'Work on another machine'
complete -c git-ksplice -n '__git_ksplice_is check' -l window -d 'Load ksplice.ko where the kernel shows no memory'
complete -c git-ksplice -n '__git_ksplice_is create list log show check apply undo status match verify' -l json -d 'Print the result as JSON'
complete -c git-ksplice -n '__git_ksplice_is create apply upgrade undo test match verify' -s q -l quiet -d 'Say nothing but the result'
complete -c git-ksplice -n '__git_ksplice_is show' -l patch -d 'Print the change of the source'
complete -c git-ksplice -n '__git_ksplice_is show' -l disassemble -d 'Print the new code'
complete -c git-ksplice -n '__git_ksplice_is show' -l why -d 'Print why each function changed'
complete -c git-ksplice -n '__git_ksplice_is create' -s v -l verbose -d 'Say why each function changed'
complete -c git-ksplice -n '__git_ksplice_is export' -s o -l output -r -F -d 'The archive'
complete -c git-ksplice -n '__git_ksplice_is apply upgrade undo test' -l timeout -x -d 'Seconds to go on trying'
complete -c git-ksplice -n '__git_ksplice_is upgrade' -l undo -x -a '(__git_ksplice_loaded)' -d 'Undo this one, too'
complete -c git-ksplice -n '__git_ksplice_is upgrade' -l boot -d 'At each boot, too'
complete -c git-ksplice -n '__git_ksplice_is upgrade' -l all -d 'Undo all other updates'
complete -c git-ksplice -n '__git_ksplice_is apply' -l boot -d 'Apply it at each boot, too'
complete -c git-ksplice -n '__git_ksplice_is undo' -l boot -d 'Do not apply it at boot any more'
complete -c git-ksplice -n '__git_ksplice_is apply upgrade undo' -l nudge -d 'Take sleeping tasks out for a moment'
complete -c git-ksplice -n '__git_ksplice_is apply upgrade' -l late -x -a 'refuse allow' -d 'What becomes of a module that cannot get its part'
complete -c git-ksplice -n '__git_ksplice_is undo' -l all -d 'Undo all updates, the newest first'
complete -c git-ksplice -n '__git_ksplice_is test' -l run -x -d 'The command to run three times'
complete -c git-ksplice -n '__git_ksplice_is test' -l copy -r -F -d 'Put a file into the virtual machine'
complete -c git-ksplice -n '__git_ksplice_is match' -l object -d 'The arguments are object files'
complete -c git-ksplice -n '__git_ksplice_is match' -l module -x -d 'The module that the objects belong to'
complete -c git-ksplice -n '__git_ksplice_is match' -l save -x -a '(__fish_complete_directories)' -d 'Keep what was compiled'
complete -c git-ksplice -n '__git_ksplice_is match' -s v -l verbose -d 'Explain each function that does not match'
complete -c git-ksplice -n '__git_ksplice_is match' -l allow-other-compiler -d 'Use the compiler that is here'
complete -c git-ksplice -n '__git_ksplice_is match' -F
complete -c git-ksplice -n '__git_ksplice_is verify' -l rebuild -d 'Make the update anew and compare'
complete -c git-ksplice -n '__git_ksplice_is verify' -l cached -d 'Take what was compiled earlier'
complete -c git-ksplice -n '__git_ksplice_is test' -l memory -x -d 'MiB of the virtual machine'

complete -c git-ksplice -n '__git_ksplice_is show export check apply upgrade test verify' -a '(__git_ksplice_updates)'
complete -c git-ksplice -n '__git_ksplice_is show export check apply upgrade test verify' -a '(__git_ksplice_commits)'
complete -c git-ksplice -n '__git_ksplice_is show check apply test verify' -k -a '(__fish_complete_suffix .tar.gz)'
complete -c git-ksplice -n '__git_ksplice_is list log create show export verify withdraw tag' -l stdin -d 'Read names from standard input'
complete -c git-ksplice -n '__git_ksplice_is channel; and __fish_seen_subcommand_from add' -l stdin -d 'Read names from standard input'
complete -c git-ksplice -n '__git_ksplice_is list log status create show export verify withdraw tag' -s z -l null -d 'Lines and names end with NUL'
complete -c git-ksplice -n '__git_ksplice_is channel; and __fish_seen_subcommand_from add' -s z -l null -d 'Names end with NUL'
complete -c git-ksplice -n '__git_ksplice_is list log status' -l porcelain -d 'Print lines for scripts'
complete -c git-ksplice -n '__git_ksplice_is list log show status journal' -l color -d 'Use colours'
complete -c git-ksplice -n '__git_ksplice_is list log show status journal' -l no-color -d 'Use no colours'
complete -c git-ksplice -n '__git_ksplice_is create verify publish fetch' -l progress -d 'Tell each step'
complete -c git-ksplice -n '__git_ksplice_is create verify publish fetch' -l no-progress -d 'Tell no step'
complete -c git-ksplice -n '__git_ksplice_is journal' -s n -l max-count -x -d 'Most events'
complete -c git-ksplice -n '__git_ksplice_is journal' -l since -x -d 'Only what was done after this'
complete -c git-ksplice -n '__git_ksplice_is bug-report' -s o -l output -r -F -d 'The file'
complete -c git-ksplice -n '__git_ksplice_is upgrade publish journal' -l json -d 'Print JSON'
complete -c git-ksplice -n '__git_ksplice_is kernel; and __fish_seen_subcommand_from list show' -l json -d 'Print JSON'
complete -c git-ksplice -n '__git_ksplice_is status log' -a '(__git_ksplice_commits)'
complete -c git-ksplice -n '__git_ksplice_is undo' -a '(__git_ksplice_loaded)'
complete -c git-ksplice -n '__git_ksplice_is explain' -a '(__git_ksplice_explained)'
