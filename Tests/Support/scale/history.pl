#!/usr/bin/perl
# Writes a stream for git fast-import: many commits on a commit of the repository, each of which changes a line of a small file
# somewhere in the tree, and beside them a branch of a hundred commits on an older one, to be rebased.
#
#     history.pl BASE COMMITS | git fast-import
use strict;
use warnings;

my ($base, $count) = @ARGV;
my $each = 200;
my @small = grep { /\.c$/ } map { /^\S+ blob \S+ +(\d+)\t(.*)/ && $1 > 300 && $1 < 2500 ? $2 : () } split /\n/,
    `git ls-tree -r -l $base`;
my $files = $count / $each;
my ($mark, $time, $parent, $older) = (0, 1_600_000_000, $base, 0);

sub commit {
    my ($branch, $from, $path, $text, $subject) = @_;
    $mark++;
    $time += 600;
    my $message = "$subject\n";
    print "commit refs/heads/$branch\nmark :$mark\nauthor A Developer <d\@example.org> $time +0000\n",
        "committer A Developer <d\@example.org> $time +0000\ndata ", length $message, "\n$message", "from $from\n",
        "M 100644 inline $path\ndata ", length $text, "\n$text\n";
    return ":$mark";
}

# Those that change the same file stand together: fast-import finds little in common otherwise.
for my $number (0 .. $files - 1) {
    my $path = $small[$number * @small / $files];
    my $text = `git show '$base:$path'`;
    for (1 .. $each) {
        $text .= "/* $_ */\n";
        $parent = commit('deep', $parent, $path, $text, "$path: remark $_");
    }
    $older = $parent if $number == $files - 2;
}
for (1 .. 100) { $older = commit('topic', $older, "kernel/topic-$_.c", "int topic_$_;\n", "kernel: topic $_") }
print "done\n";
