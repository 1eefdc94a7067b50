#!/usr/bin/perl
# Many hosts that fetch from one server at once, each with a folder of its own, through `git daemon`, started for each connection
# as inetd or systemd do it. Prints rows of a table.
#
#     clients.pl FOLDER HOSTS [AT-ONCE]
#
# FOLDER is one that updates.pl has made. No more than AT-ONCE run at a time: each is a program and its git, on the same machine
# as the server. The server's memory is what its processes have for themselves and their shares of what several have (Pss).
use strict;
use warnings;
use Cwd qw(abs_path);
use IO::Socket::INET;
use File::Path qw(remove_tree);
use POSIX qw(setsid :sys_wait_h);
use Time::HiRes qw(time sleep);

my ($folder, $hosts, $limit) = @ARGV;
$folder = abs_path($folder);
$limit //= 25;
my $state = "$folder/hosts";
remove_tree($state);
mkdir $state or die "$state: $!\n";

my $socket = IO::Socket::INET->new(Listen => 1024, LocalAddr => '127.0.0.1') or die "listen: $!\n";
my $url = 'git://127.0.0.1:' . $socket->sockport . '/server.git';
my $server = fork // die "fork: $!\n";
if (!$server) {
    setsid;
    $SIG{CHLD} = 'IGNORE';
    while (1) {
        my $connection = $socket->accept or next;
        next if fork // die "fork: $!\n";
        $SIG{CHLD} = 'DEFAULT';
        open STDIN, '<&', $connection;
        open STDOUT, '>&', $connection;
        exec qw(git daemon --inetd --export-all), "--base-path=$folder";
    }
}
close $socket;
$SIG{TERM} = $SIG{INT} = sub { exit 1 };
END { kill 'TERM', -$server if $server }

# KiB of all processes of the server's session, and their number.
sub memory {
    my ($sum, $count) = (0, 0);
    for my $process (glob '/proc/[0-9]*') {
        open my $stat, '<', "$process/stat" or next;
        my ($session) = (<$stat> // '') =~ /.*\) \S+ \d+ \d+ (\d+)/;
        next unless ($session // 0) == $server;
        open my $maps, '<', "$process/smaps_rollup" or next;
        while (<$maps>) { $sum += $1 if /^Pss:\s+(\d+)/ }
        $count++;
    }
    return ($sum, $count);
}

my ($begin, $next, $failed, $most, $busiest, %running, %results, @times) = (time, 0, 0, 0, 0);
while ($next < $hosts || %running) {
    while ($next < $hosts && keys %running < $limit) {
        my $place = "$state/" . $next++;
        my $child = fork // die "fork: $!\n";
        if (!$child) {
            mkdir $place;
            $ENV{GIT_KSPLICE_STATE_DIR} = $place;
            open STDOUT, '>', '/dev/null';
            exec 'sh', '-c', "git-ksplice trust accept '$folder/trust' && exec git-ksplice fetch $url";
        }
        $running{$child} = [$place, time];
    }
    while ((my $child = waitpid -1, WNOHANG) > 0) {
        my ($place, $since) = @{ delete $running{$child} // next };
        push @times, time - $since;
        $failed++ if $?;
        $results{ $? ? 'failed' : `git --git-dir=$place/repo.git for-each-ref` }++;
        remove_tree($place);
    }
    my ($memory, $count) = memory();
    ($most, $busiest) = ($memory > $most ? $memory : $most, $count > $busiest ? $count : $busiest);
    sleep 0.1;
}
my $time = time - $begin;
@times = sort { $a <=> $b } @times;
print "| $hosts hosts fetch from one server, $limit at a time | $failed failed, ", scalar(keys %results), " result(s) |\n";
printf "| all of them | %.1f s, %.0f a second |\n", $time, $hosts / $time;
printf "| one of them | %.1f s in the middle, %.1f s at most |\n", $times[$#times / 2], $times[-1];
printf "| the server meanwhile | %.0f MiB at most, in %d processes at most |\n", $most / 1024, $busiest;
remove_tree($state);
exit($failed || keys %results > 1 ? 1 : 0);
