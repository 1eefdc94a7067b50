#!/usr/bin/perl
# The open corpus: every C file that differs between two versions of the distribution's kernel, in the folders below, as
# one commit on the older version; `git ksplice create` on each; a report of what became of it.
#
#     evaluate.pl CACHE PROGRAM [--jobs N] [--only REGEX] [--list FILE] [--again] [--limit SECONDS] [--report FILE]
#         [--apply N]
#
# --limit ends a create that takes longer; it counts as unfinished and is tried again the next time.
# --apply boots the older kernel in a virtual machine afterwards, where N of the updates that were made, from as many
# folders as possible, are applied and undone one after another, and then all together.
#
# A difference that does not compile without changed headers takes along those that what the compiler says leads to.
# Results are kept in CACHE/evaluation/results, a file each, and taken from there the next time: an interrupted run is
# resumed, and only --again (or another program) repeats what was done. Each job has a clone and a workspace of its own,
# because a workspace serves one create at a time.
use strict;
use warnings;
use Cwd qw(abs_path);
use Digest::SHA qw(sha256_hex);
use File::Find;
use File::Path qw(make_path);
use Getopt::Long;
use IPC::Open3;
use JSON::PP;
use POSIX qw(:sys_wait_h ceil);
use Symbol qw(gensym);
use Time::HiRes qw(time);

my @FOLDERS = qw(kernel mm net fs security block io_uring crypto lib ipc init);

my %option = (jobs => 2);
GetOptions(\%option, 'jobs=i', 'only=s', 'list=s', 'again', 'limit=i', 'report=s', 'apply=i') or exit 2;
my ($cache, $program) = map { abs_path($_) } @ARGV[0, 1];
my $old = $ENV{KSPLICE_SOURCE_OLD} // die "KSPLICE_SOURCE_OLD is not set; use make evaluate\n";
my $new = $ENV{KSPLICE_SOURCE_NEW};
my $state = "$cache/evaluation";
make_path("$state/results");
my $json = JSON::PP->new->canonical->utf8;
my $digest = digest_of_program();

sub slurp {
    my ($path) = @_;
    open my $file, '<:raw', $path or return undef;
    local $/;
    return <$file>;
}

sub put {
    my ($path, $text) = @_;
    open my $file, '>:raw', "$path.tmp" or die "cannot write $path: $!\n";
    print $file $text;
    close $file;
    rename "$path.tmp", $path or die "cannot write $path: $!\n";
}

# The results of another program are not this one's.
sub digest_of_program { return substr sha256_hex(slurp($program)), 0, 16 }

# Runs a command with its input; returns status, output and errors.
sub run {
    my ($input, @command) = @_;
    my $errors = gensym;
    my ($in, $out);
    my $stderr = "$state/stderr.$$";
    open my $err, '>', $stderr or die;
    open my $source, '+>', undef or die;
    print $source $input;
    seek $source, 0, 0;
    my $pid = open3('<&' . fileno($source), $out, '>&' . fileno($err), @command);
    my $text = do { local $/; <$out> } // '';
    waitpid $pid, 0;
    my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
    my $said = slurp($stderr);
    unlink $stderr;
    return ($status, $text, $said);
}

sub git {
    my ($clone, $input, @arguments) = @_;
    my ($status, $text, $errors) = run($input, 'git', '-C', $clone, @arguments);
    die "git @arguments: $errors\n" if $status;
    chomp $text;
    return $text;
}

# Paths that differ between the two sources and end as wanted.
sub differences {
    my ($suffix, @folders) = @_;
    my @found;
    for my $folder (@folders) {
        next unless -d "$new/$folder";
        find({ no_chdir => 1, wanted => sub {
            return unless /\Q$suffix\E$/ && -f;
            my $path = substr $_, length("$new/");
            my $before = slurp("$old/$path");
            return if defined $before && $before eq slurp($_);
            # A file that only the newer version has belongs to a change of others.
            push @found, $path if defined $before || $suffix eq '.h';
        } }, "$new/$folder");
    }
    return sort @found;
}

my (%changed_header, %changed_source);

# The changed headers that a file reaches in the newer source, as its include lines say.
sub headers_of {
    my ($path) = @_;
    my (%seen, %wanted);
    my @queue = ($path);
    while (defined(my $file = shift @queue)) {
        next if $seen{$file}++;
        my $text = slurp("$new/$file") // next;
        $wanted{$file} = 1 if $changed_header{$file};
        (my $folder = $file) =~ s,[^/]*$,,;
        while ($text =~ /^\s*#\s*include\s*[<"]([^>"]+)[>"]/mg) {
            my $name = $1;
            for my $base ($folder, 'include/', 'arch/x86/include/', 'include/uapi/', 'arch/x86/include/uapi/', "") {
                my $candidate = clean("$base$name");
                if (-f "$new/$candidate") { push @queue, $candidate; last }
            }
        }
    }
    return sort keys %wanted;
}

# What else the commit must hold, as what create says leads to it: another file that no longer fits a header taken along,
# a header, or the file that defines a function.
sub companions {
    my ($said, %taken) = @_;
    # Several files may not compile; what each needs.
    my @parts = split /^(?:fatal: )?(?='[^']+' does not compile$)/m, $said;
    my %more;
    $more{$_} = 1 for map { companions_of($_, %taken) } grep { /does not compile|does not have/ } @parts;
    return sort keys %more;
}

sub companions_of {
    my ($said, %taken) = @_;
    if (my ($name) = $said =~ /new code refers to '(\w+)', which this kernel does not have/) {
        return grep { !$taken{$_} && slurp("$new/$_") =~ /^\w[^;=\n]*\b\Q$name\E\(/m } values %changed_source;
    }
    if (my ($missing) = $said =~ /fatal error: (\S+): No such file/) {
        return grep { -f "$new/$_" && !$taken{$_} } "include/$missing";
    }
    my ($broken) = $said =~ /'([^']+)' does not compile/ or return;
    return $broken if !$taken{$broken} && $changed_source{$broken};
    my %names = map { $_ => 1 } missing_names($said);
    # An unknown macro among a function's attributes is only a missing semicolon to the compiler.
    %names = map { $_ => 1 } added_words($broken) unless %names;
    # Headers that declare what is missing; else those that have to do with it, private ones first: a name that is
    # common is mostly in the others by chance.
    my @left = grep { !$taken{$_} } headers_of($broken);
    my @defining = grep { declares_name($_, keys %names) } @left;
    return @defining if @defining;
    my @candidates = grep { changes_name($_, \%names) } @left;
    my @private = grep { !m,^include/, } @candidates;
    return @private if @private;
    return @candidates if @candidates;
    # What is taken along already may be reached through another header only.
    my @leading = grep { includes_more($_, keys %taken) } @left;
    return @leading if @leading;
    return grep { !m,^include/, } @left;
}

# The names that a compiler's errors are about. Types in messages about pointers are only looked at where there is no more.
sub missing_names {
    my ($said) = @_;
    my (%names, %others);
    for my $line ($said =~ /error: ([^\n]*)/g) {
        if ($line =~ /no member named '(\w+)'|implicit declaration of function '(\w+)'|'(\w+)' undeclared|arguments to function '[^']*?(\w+)'/) {
            $names{ $1 // $2 // $3 // $4 } = 1;
        } else {
            for my $quoted ($line =~ /'([^']+)'/g) { $others{$_} = 1 for $quoted =~ /(\w+)/g }
        }
    }
    delete @others{qw(const struct union enum static inline unsigned int long char void size_t bool)};
    return %names ? keys %names : keys %others;
}

# The words of the lines that a file's difference adds.
sub added_words {
    my ($path) = @_;
    my ($status, $text) = run('', 'diff', '-U0', "$old/$path", "$new/$path");
    return map { /(\w+)/g } $text =~ /^\+(?!\+\+)(.*)$/mg;
}

# Whether a line that a header's difference adds declares one of the names: a macro, function, type, member or constant.
sub declares_name {
    my ($header, @names) = @_;
    my ($status, $text) = run('', 'diff', '-N', '-U0', "$old/$header", "$new/$header");
    my $any = join '|', map { quotemeta } @names or return 0;
    return $text =~ /^\+(?:
        \#\s*define\s+(?:$any)\b
        | \w[^;=]*\b(?:$any)\s*\(
        | (?:struct|union|enum)\s+(?:$any)\s*\{
        | \s+[^()]*\b(?:$any)\s*(?:\[[^\]]*\]|:\s*\d+)?\s*;
        | \s+(?:$any)\s*(?:=[^;]*)?,?\s*$
    )/mx;
}

# Whether a header's difference adds an include of one of some files.
sub includes_more {
    my ($header, @files) = @_;
    my ($status, $text) = run('', 'diff', '-N', '-U0', "$old/$header", "$new/$header");
    my $any = join '|', map { quotemeta s,^.*/,,r } @files;
    return $text =~ /^\+\s*#\s*include\s*[<"](?:[^>"]*\/)?(?:$any)[>"]/m;
}

# Whether a header's difference, with what stands around it, holds one of the names.
sub changes_name {
    my ($header, $names) = @_;
    my ($status, $text) = run('', 'diff', '-N', '-U8', "$old/$header", "$new/$header");
    $text =~ s/^(?:---|\+\+\+|\@\@).*$//mg;
    return scalar grep { $names->{$_} } $text =~ /(\w+)/g;
}

sub clean {
    my ($path) = @_;
    1 while $path =~ s,[^/]+/\.\./,,;
    $path =~ s,\./,,g;
    return $path;
}

# A clone with the older kernel registered.
sub prepare_clone {
    my ($number) = @_;
    my $clone = "$state/clone-$number";
    unless (-e "$clone/.git/evaluation-ready") {
        run('', 'rm', '-rf', $clone);
        my ($status, undef, $errors) = run('', 'git', 'clone', '-q', '--shared', '-n', "$cache/linux", $clone);
        die $errors if $status;
        git($clone, '', 'config', 'gc.auto', 0);
        put("$clone/.git/evaluation-ready", "");
    }
    git($clone, '', 'update-ref', 'HEAD', "v$ENV{KSPLICE_OLD_VERSION}^{commit}");
    my ($status) = run('', 'git', '-C', $clone, 'ksplice', 'kernel', 'show', 'debian');
    if ($status) {
        my @from = ('--from', $ENV{KSPLICE_IMAGE_OLD}, '--from', $ENV{KSPLICE_HEADERS});
        git($clone, '', 'ksplice', 'kernel', 'add', 'debian', '--source', 'HEAD', @from);
    }
    # What another program made is not found again.
    if ((slurp("$clone/.git/evaluation-program") // '') ne $digest) {
        my $refs = git($clone, '', 'for-each-ref', '--format=delete %(refname)', 'refs/ksplice/updates', 'refs/notes/ksplice');
        git($clone, "$refs\n", 'update-ref', '--stdin') if $refs;
        put("$clone/.git/evaluation-program", $digest);
    }
    return $clone;
}

# A commit that takes files from the newer source.
sub commit {
    my ($clone, $subject, @paths) = @_;
    local $ENV{GIT_INDEX_FILE} = "$clone/.git/evaluation-index";
    local @ENV{map { ("GIT_${_}_NAME", "GIT_${_}_EMAIL", "GIT_${_}_DATE") } 'AUTHOR', 'COMMITTER'} =
        ('A U Thor', 'author@example.com', '1700000000 +0000') x 2;
    git($clone, '', 'read-tree', 'HEAD');
    for my $path (@paths) {
        my $blob = git($clone, '', 'hash-object', '-w', "$new/$path");
        git($clone, '', 'update-index', '--add', '--cacheinfo', "100644,$blob,$path");
    }
    my $tree = git($clone, '', 'write-tree');
    return git($clone, "$subject\n", 'commit-tree', $tree, '-p', 'HEAD');
}

sub create {
    my ($clone, $commit) = @_;
    my $begin = time;
    my ($status, $text, $said) =
        run('', 'timeout', $option{limit} // 0, 'git', '-C', $clone, 'ksplice', 'create', '--json', '--quiet', '--kernel', 'debian', $commit);
    my $answer = eval { $json->decode($text) } // {};
    return { status => $status, seconds => time - $begin, said => $said, answer => $answer };
}

sub evaluate {
    my ($clone, $path) = @_;
    my @paths = ($path);
    my $commit = commit($clone, $path, @paths);
    my $result = create($clone, $commit);
    my $alone = $result->{said};
    for (1 .. 15) {
        last if !$result->{status} || $result->{status} == 124;
        my @more = companions($result->{said}, map { $_ => 1 } @paths);
        last unless @more;
        push @paths, @more;
        $commit = commit($clone, "$path and what it needs", @paths);
        $result = create($clone, $commit);
        $result->{alone} = $alone;
    }
    $result->{path} = $path;
    $result->{companions} = [ @paths[1 .. $#paths] ];
    $result->{commit} = $commit;
    $result->{program} = $digest;
    if (my $ref = $result->{answer}{ref}) {
        $result->{bytes} = 0;
        for my $line (split /\n/, git($clone, '', 'ls-tree', '-r', '-l', $ref)) {
            $result->{bytes} += $1 if $line =~ /^\S+ blob \S+ +(\d+)/;
        }
    }
    return $result;
}

# created, refused, no change, not built, or failed
sub outcome {
    my ($result) = @_;
    my $status = $result->{status};
    return 'created' if $status == 0;
    return 'unfinished' if $status == 124;
    return 'refused' if $status == 6 && ($result->{said} =~ /\[[a-z-]+\]/ || codes($result));
    return 'not built' if $status == 8 && $result->{said} =~ /builds none of the changed files/;
    return 'no change' if $status == 8;
    # The file needs other files of the newer source; nothing is wrong with create.
    return 'incomplete' if $status && $result->{said} =~ /does not compile/;
    return 'failed';
}

# The codes of the findings that stopped it.
sub codes {
    my ($result) = @_;
    my %codes;
    $codes{ $_->{code} } = 1 for grep { $_->{severity} eq 'error' } @{ $result->{answer}{findings} // [] };
    unless (%codes) { $codes{$1} = 1 while $result->{said} =~ /: error: .* \[([a-z-]+)\]$/mg }
    return sort keys %codes;
}

sub result_file {
    my ($path) = @_;
    (my $name = $path) =~ s,/,--,g;
    return "$state/results/$name.json";
}

sub known {
    my ($path) = @_;
    return undef if $option{again};
    my $text = slurp(result_file($path)) // return undef;
    my $result = eval { $json->decode($text) } // return undef;
    return $result->{program} eq $digest && outcome($result) ne 'unfinished' ? $result : undef;
}

# Each job takes every Nth of the files that are left; the parent tells how it goes.
sub run_all {
    my (@paths) = @_;
    # Mixed, so that the estimate holds and a part of the run stands for the whole.
    my @left = sort { sha256_hex($a) cmp sha256_hex($b) } grep { !known($_) } @paths;
    my $done = @paths - @left;
    print STDERR "$done of " . @paths . " are done already\n" if $done;
    return unless @left;
    my $jobs = $option{jobs};
    my %running;
    for my $job (0 .. $jobs - 1) {
        my $pid = fork // die "cannot fork: $!\n";
        if ($pid) { $running{$pid} = 1; next }
        my $clone = prepare_clone($job);
        for (my $i = $job; $i < @left; $i += $jobs) {
            my $result = eval { evaluate($clone, $left[$i]) }
                // { path => $left[$i], status => 255, said => "$@", seconds => 0, program => $digest };
            put(result_file($left[$i]), $json->encode($result));
        }
        exit 0;
    }
    my $begin = time;
    my $failures = 0;
    while (%running) {
        sleep 5;
        my $now = grep { known_quickly($_, $begin) } @left;
        my $rest = $now ? ceil((time - $begin) / $now * (@left - $now) / 60) : '?';
        printf STDERR "\r%d of %d, about %s min left   ", $done + $now, scalar @paths, $rest if -t STDERR;
        while ((my $pid = waitpid -1, WNOHANG) > 0) { $failures++ if $?; delete $running{$pid} }
    }
    print STDERR "\n" if -t STDERR;
    die "a job ended before its work was done\n" if $failures;
}

sub known_quickly {
    my ($path, $begin) = @_;
    my @stat = stat result_file($path);
    return @stat && $stat[9] >= int $begin;
}

sub quantile {
    my ($part, @values) = @_;
    return 0 unless @values;
    @values = sort { $a <=> $b } @values;
    return $values[ ceil($part * @values) - 1 ];
}

# What create itself took: without kbuild's first compilation of a file, the compiler and objtool.
sub own_seconds {
    my ($result) = @_;
    my $times = $result->{answer}{milliseconds};
    return ($times->{total} - ($times->{units} // 0) - ($times->{compiler} // 0) - ($times->{objtool} // 0)) / 1000;
}

sub row { return '| ' . join(' | ', @_) . " |\n" }

sub report {
    my (@results) = @_;
    my @outcomes = ('created', 'refused', 'no change', 'not built', 'incomplete', 'unfinished', 'failed');
    my (%table, %total);
    for my $result (@results) {
        my ($system) = split m,/,, $result->{path};
        my $outcome = outcome($result);
        push @{ $table{$system}{$outcome} }, $result;
        push @{ $total{$outcome} }, $result;
    }
    my $text = row('subsystem', 'files', @outcomes, 'functions', 'median s', '95 % s', 'own s', 'median KB');
    $text .= row(('---') x (@outcomes + 7));
    for my $system ((sort keys %table), 'all') {
        my $part = $system eq 'all' ? \%total : $table{$system};
        my @created = @{ $part->{created} // [] };
        my $functions = 0;
        $functions += @{ $_->{answer}{functions} // [] } for @created;
        my @times = map { $_->{seconds} } @created;
        my $files = 0;
        $files += @{ $part->{$_} // [] } for @outcomes;
        $text .= row($system, $files, (map { scalar @{ $part->{$_} // [] } } @outcomes), $functions,
            sprintf('%.1f', quantile(0.5, @times)), sprintf('%.1f', quantile(0.95, @times)),
            sprintf('%.2f', quantile(0.5, map { own_seconds($_) } @created)),
            int(quantile(0.5, map { $_->{bytes} // 0 } @created) / 1024));
    }
    my %by_code;
    for my $result (@{ $total{refused} // [] }) {
        my ($system) = split m,/,, $result->{path};
        $by_code{$_}{$system}++, $by_code{$_}{all}++ for codes($result);
    }
    my @systems = ((grep { $table{$_}{refused} } sort keys %table), 'all');
    $text .= "\n" . row('refused by', @systems) . row(('---') x (@systems + 1));
    for my $code (sort { $by_code{$b}{all} <=> $by_code{$a}{all} || $a cmp $b } keys %by_code) {
        $text .= row($code, map { $by_code{$code}{$_} // 0 } @systems);
    }
    for my $outcome ('refused', 'incomplete', 'failed') {
        for my $result (@{ $total{$outcome} // [] }) {
            my @lines = grep { !/^hint: / } split /\n/, $result->{said};
            @lines = (@lines[0 .. 11], '...') if @lines > 12;
            my $more = @{ $result->{companions} // [] } ? " with @{ $result->{companions} }" : '';
            $text .= "\n$outcome: $result->{path}$more\n" . join('', map { "    $_\n" } @lines);
        }
    }
    return $text;
}

# Modules that the virtual machine cannot load: they want EFI, and another host.
my @NOT_LOADABLE = ('fs/efivarfs/', 'net/vmw_vsock/hyperv_transport.c');

# N created updates of single files, taking turns among the folders.
sub choose_updates {
    my ($count, @results) = @_;
    my %folders;
    for my $result (grep { outcome($_) eq 'created' && !@{ $_->{companions} } } @results) {
        next if grep { 0 == index $result->{path}, $_ } @NOT_LOADABLE;
        my ($folder) = $result->{path} =~ m,^(.*)/,;
        push @{ $folders{$folder} }, $result;
    }
    my @chosen;
    while (@chosen < $count && %folders) {
        for my $folder (sort keys %folders) {
            push @chosen, shift @{ $folders{$folder} } if @chosen < $count;
            delete $folders{$folder} unless @{ $folders{$folder} };
        }
    }
    return @chosen;
}

sub apply_updates {
    my (@chosen) = @_;
    my $clone = prepare_clone(0);
    for my $other (grep { $_ ne $clone } glob "$state/clone-*") {
        git($clone, '', 'fetch', '-q', $other, '+refs/ksplice/updates/*:refs/ksplice/updates/*');
    }
    printf STDERR "applying %d updates in a virtual machine\n", scalar @chosen;
    my $begin = time;
    my ($status, $text, $said) = run('', 'git', '-C', $clone, 'ksplice', 'test', '--kernel', 'debian', '--memory', 4096,
        '--timeout', 3600, map { $_->{answer}{update} } @chosen);
    put("$state/apply.txt", "$text\n$said");
    my @failed = $text =~ /^((?:apply|undo)[^\n]*) \(exit status [1-9]/mg;
    my $functions = 0;
    $functions += @{ $_->{answer}{functions} } for @chosen;
    my %folders = map { $_->{path} =~ m,^(.*)/,; $1 => 1 } @chosen;
    my $report = sprintf "\n%d updates of %d folders (%d functions): %s in %d s; %s\n", scalar @chosen, scalar keys %folders,
        $functions, $status ? 'FAILED' : 'applied and undone one after another, then all together', time - $begin,
        ($text . $said) =~ /the kernel log has no warning/ ? 'no warning in the kernel log' : 'see apply.txt';
    $report .= "failed: $_\n" for @failed;
    return ($status, $report);
}

$changed_header{$_} = 1 for differences('.h', @FOLDERS, 'include', 'arch/x86/include');
my @paths = differences('.c', @FOLDERS);
%changed_source = map { $_ => $_ } @paths, differences('.c', qw(drivers sound virt arch/x86));
if ($option{list}) {
    my %wanted = map { $_ => 1 } split ' ', slurp($option{list});
    @paths = grep { $wanted{$_} } @paths;
}
@paths = grep { /$option{only}/ } @paths if $option{only};
$ENV{PATH} = ($program =~ s,/[^/]*$,,r) . ":$ENV{PATH}";
run_all(@paths);
my @results = map { $json->decode(slurp(result_file($_)) // die "no result for $_\n") } @paths;
my $text = report(@results);
my $status = $text =~ /^failed: /m ? 1 : 0;
if ($option{apply}) {
    my ($failed, $more) = apply_updates(choose_updates($option{apply}, @results));
    $text .= $more;
    $status ||= $failed;
}
put($option{report} // "$state/report.md", $text);
print $text;
exit $status;
