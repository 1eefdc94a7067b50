#!/usr/bin/perl
# What the daily commands cost in repositories that updates.pl has made, as rows of a table: milliseconds (median of 5), those in
# which a processor worked for it or for what it calls (also median; that depends less on what else the machine does), the largest
# process's memory, bytes that go over the wire.
#
#     measure.pl FOLDER...
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(remove_tree);
use Time::HiRes qw(time);

my $here = abs_path($0) =~ s{[^/]*$}{}r;
my (@names, %rows);

# Runs a command; its milliseconds, those of processors, and KiB of its largest process: getrusage(RUSAGE_CHILDREN).
sub once {
    my ($place, @command) = @_;
    pipe my $from, my $to or die "pipe: $!\n";
    my $begin = time;
    my $child = fork // die "fork: $!\n";
    if (!$child) {
        chdir $place or die "$place: $!\n";
        open my $errors, '>&', \*STDERR;
        open STDOUT, '>', '/dev/null';
        open STDERR, '+>', undef;
        my $status = system @command;
        my $usage = "\0" x 144;
        syscall(98, -1, $usage) == 0 or die "getrusage: $!\n";
        syswrite $to, join(' ', $status, unpack 'q5', $usage) . "\n";
        seek STDERR, 0, 0;
        print $errors <STDERR> if $status;
        close $errors;
        exec '/bin/true';
    }
    close $to;
    my ($status, $user, $u, $system, $s, $memory) = split ' ', scalar <$from>;
    my $time = 1000 * (time - $begin);
    waitpid $child, 0;
    $status == 0 or die "failed: @command\n";
    return ($time, 1000 * ($user + $system) + ($u + $s) / 1000, $memory);
}

sub row {
    my ($name, $value) = @_;
    push @names, $name unless $rows{$name};
    push @{ $rows{$name} }, $value;
}

# A row for a command, run five times, each time after a preparation.
sub measure {
    my ($name, $place, $prepare, @command) = @_;
    my (@times, @works, $most);
    for my $number (1 .. 5) {
        my @more = $prepare ? $prepare->($number) : ();
        my ($time, $work, $memory) = once($place, @command, @more);
        push @times, $time;
        push @works, $work;
        $most = $memory if !$most || $memory > $most;
    }
    my ($time, $work) = map { (sort { $a <=> $b } @$_)[2] } \@times, \@works;
    row($name, sprintf '%.0f ms (%.0f of work), %.0f MiB', $time, $work, $most / 1024);
}

# A row for what a command sends and gets.
sub wire {
    my ($name, $place, @command) = @_;
    local $ENV{KSPLICE_WIRE} = "$place/wire";
    local $ENV{GIT_SSH_COMMAND} = "${here}wire.sh";
    local $ENV{GIT_SSH_VARIANT} = 'ssh';
    unlink "$place/wire";
    once($place, @command);
    select undef, undef, undef, 0.3;
    my %bytes = (up => 0, down => 0);
    open my $file, '<', "$place/wire" or die "nothing was counted: @command\n";
    while (<$file>) { $bytes{$1} += $2 if /(\w+) (\d+)/ }
    unlink "$place/wire";
    row($name, "$bytes{up} bytes up, $bytes{down} down");
}

sub host {
    my ($folder) = @_;
    remove_tree("$folder/host");
    mkdir "$folder/host" or die "$folder/host: $!\n";
    $ENV{GIT_KSPLICE_STATE_DIR} = "$folder/host";
    once($folder, qw(git-ksplice trust accept trust));
    return ();
}

for my $folder (map { abs_path($_) } @ARGV) {
    my ($repository, $server) = ("$folder/maintainer", "$folder/server.git");
    open my $list, '<', "$folder/spare" or die "$folder/spare: $!\n";
    my @spare = map { [split] } <$list>;
    # As create leaves it, with a line beside its commit, and then listed.
    my $listed = sub {
        my ($id, $commit) = @{ shift @spare };
        once($repository, 'git', 'notes', "--ref=ksplice/$_", 'append', '-m', "update $id", $commit) for qw(updates builds);
        return $id;
    };
    my $add = sub { once($repository, qw(git-ksplice channel add --kernel k0), $listed->()); () };
    my @publish = qw(git-ksplice publish --kernel k0);
    measure('publish one update', $repository, $add, @publish, $server);
    $add->();
    wire('what it sends and gets', $repository, @publish, "host:$server");
    measure('publish again, nothing is new', $repository, undef, @publish, $server);
    measure('publish all channels, nothing is new', $repository, undef, qw(git-ksplice publish), $server);
    measure('fetch for one kernel, first time', $folder, sub { host($folder) }, qw(git-ksplice fetch), $server);
    host($folder);
    wire('what that sends and gets', $folder, qw(git-ksplice fetch), "host:$server");
    measure('fetch, nothing is new', $folder, undef, qw(git-ksplice fetch), $server);
    wire('the same, nothing new', $folder, qw(git-ksplice fetch), "host:$server");
    measure('status on that host', $folder, undef, qw(git-ksplice status));
    delete $ENV{GIT_KSPLICE_STATE_DIR};
    my $id = (split ' ', `git -C $repository for-each-ref --count=1 --format='%(refname:lstrip=5)' refs/ksplice/updates`)[0];
    measure('list one kernel\'s', $repository, undef, qw(git-ksplice list --kernel k0));
    measure('list all', $repository, undef, qw(git-ksplice list));
    measure('show an update', $repository, undef, qw(git-ksplice show), substr $id, 0, 12);
    my @log = qw(git-ksplice log --kernel k0);
    measure('log of 25 commits with updates, one kernel', $repository, undef, @log, 'fixed-0~25..fixed-0');
    measure('log of 25 commits without, one kernel', $repository, undef, @log, 'fixed-0..linux-6.1.0');
}
for my $name (@names) { print '| ', join(' | ', $name, @{ $rows{$name} }), " |\n" }
