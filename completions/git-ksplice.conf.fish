# `git ksplice` in fish: installed where fish reads it at its start, because the completion of git that fish 3.6 has, in
# Debian 12, does not ask those of git's external commands. Where it does, the same is offered, and shown once.

# Prints the command line as that of `git-ksplice`; fails where it is not one of `git ksplice`.
function __git_ksplice_line
    set -l words (commandline -opc)[2..]
    while set -q words[1]
        switch $words[1]
            case ksplice
                set -l line git-ksplice $words[2..]
                echo (string escape -- $line)
                return 0
            case -C -c --git-dir --work-tree --namespace --super-prefix --config-env
                set -e words[1..2]
            case '-*'
                set -e words[1]
            case '*'
                return 1
        end
    end
    return 1
end

# Whether no command of git is named yet.
function __git_ksplice_first
    set -l words (commandline -opc)[2..]
    not string match -qv -- '-*' $words
end

complete -c git -n __git_ksplice_first -a ksplice -d 'Change a running Linux kernel without a reboot'
complete -c git -f -n __git_ksplice_line -a '(complete -C (__git_ksplice_line)" "(commandline -ct))'
