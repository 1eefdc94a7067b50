#!/usr/bin/perl
# Makes a maintainer's repository and a server's with many updates, in the form in which the program stores them, in a minute
# instead of a day: what `create`, `channel add` and `publish` write is written here into one pack.
#
#     updates.pl FOLDER KERNELS EACH ARCHIVE
#
# FOLDER gets `maintainer`, `server.git` (with the update hook), `key` and `trust`. The first kernel is the running one, which
# `fetch` asks for; it also has six updates that are signed but in no channel yet, as an update is between create and publish.
#
# Every update has the files of ARCHIVE, a real one. So that none is sent in place of another, each has them in an alphabet of
# its own (one byte stands for another everywhere): that compresses as well as the real ones, and is nothing that git could
# take for the same. ksplice.ko is the same for all updates of a kernel. Twenty kernels at a time are builds of one source:
# the same fix has one commit there, and its notes twenty lines.
use strict;
use warnings;
use Archive::Tar;
use Compress::Zlib qw(compress);
use Cwd qw(abs_path);
use Digest::SHA qw(sha1_hex sha256_hex);
use JSON::PP;
use List::Util qw(shuffle);
use POSIX qw(strftime);

my ($folder, $kernels, $each, $archive) = @ARGV;
$folder = abs_path($folder);
my ($spares, $builds) = (6, 20);
my ($repository, $server, $key) = ("$folder/maintainer", "$folder/server.git", "$folder/key");
my $here = abs_path($0) =~ s{[^/]*$}{}r;
my $now = time;
my $person = "A Maintainer <m\@example.org> $now +0000";
srand 1;

sub run { system(@_) == 0 or die "failed: @_\n" }

# Runs a git command of the maintainer's repository with its input.
sub feed {
    my ($input, @command) = @_;
    open my $pipe, '|-:raw', 'git', '-C', $repository, @command or die "git: $!\n";
    print $pipe $input;
    close $pipe or die "failed: git @command\n";
}

run(qw(git init -q -b main --template=), $repository);
run(qw(git init -q --bare --template=), $server);
run('install', '-D', "${here}../../../hooks/update", "$server/hooks/update");
run(qw(ssh-keygen -q -t ed25519 -N), '', '-C', 'alice', '-f', $key);
for (['user.name', 'A Maintainer'], ['user.email', 'm@example.org'], ['gpg.format', 'ssh'],
    ['user.signingKey', "$key.pub"], ['gc.auto', 0]) {
    run('git', '-C', $repository, 'config', @$_);
}
run("cd '$repository' && git ksplice trust init alice >/dev/null 2>&1 && git ksplice trust show > '$folder/trust'");

# Objects, as the pack has them (gitformat-pack(5)).
my %kinds = (commit => 1, tree => 2, blob => 3);
my (%written, @refs);
open my $pack, '+>:raw', "$folder/pack" or die "cannot write: $!\n";
print $pack 'PACK', pack('NN', 2, 0);

sub object {
    my ($kind, $data) = @_;
    my $id = sha1_hex($kind . ' ' . length($data) . "\0" . $data);
    return $id if $written{$id}++;
    my $rest = length $data;
    my $byte = $kinds{$kind} << 4 | $rest & 15;
    my $head = '';
    for ($rest >>= 4; $rest; $rest >>= 7) {
        $head .= chr($byte | 128);
        $byte = $rest & 127;
    }
    print $pack $head, chr $byte, compress($data);
    return $id;
}

# A tree of files, with one level of folders.
sub tree {
    my ($files) = @_;
    my (%blobs, %folders);
    for (keys %$files) {
        if (m{^(\w+)/(.*)}) { $folders{$1}{$2} = $files->{$_} }
        else { $blobs{$_} = object('blob', $files->{$_}) }
    }
    my %entries = map { ("$_/" => "40000 $_\0" . pack('H*', tree($folders{$_}))) } keys %folders;
    $entries{$_} = "100644 $_\0" . pack('H*', $blobs{$_}) for keys %blobs;
    return object('tree', join '', map { $entries{$_} } sort keys %entries);
}

sub commit {
    my ($tree, $parents, $message) = @_;
    return "tree $tree\n" . join('', map { "parent $_\n" } @$parents) . "author $person\ncommitter $person\n\n$message";
}

# The names of commits that are signed as git signs them, all by one call.
sub signed {
    my @names = map { "$folder/payload.$_" } 0 .. $#_;
    for (0 .. $#_) {
        open my $file, '>:raw', $names[$_] or die "cannot write: $!\n";
        print $file $_[$_];
        close $file;
    }
    run("ssh-keygen -Y sign -n git -f '$key' " . join(' ', @names) . ' 2>/dev/null');
    return map {
        open my $file, '<', "$names[$_].sig" or die "not signed: $!\n";
        my $signature = join ' ', <$file>;
        chomp $signature;
        unlink $names[$_], "$names[$_].sig";
        object('commit', $_[$_] =~ s/^(committer .*\n)/$1gpgsig $signature\n/mr);
    } 0 .. $#_;
}

sub trailers {
    my $text = '';
    while (my ($name, $value) = splice @_, 0, 2) { $text .= "Ksplice-$name: $value\n" }
    return $text;
}

# One byte for another, everywhere.
sub alphabet {
    my $to = join '', map { sprintf '\x%02x', $_ } shuffle(0 .. 255);
    return eval "sub { \$_[0] =~ tr/\\x00-\\xff/$to/r }" // die $@;
}

my %original = map { $_->full_path =~ m{/(.*)} ? ($1 => $_->get_content) : () } Archive::Tar->new($archive)->get_files;
my @template = split /^/, delete $original{manifest} // die "'$archive' holds no update\n";
my ($function) = map { (split)[2] } grep { /^replace / } @template;

# The source: a line of fixes for twenty kernels each, and a few behind them that no update was made from.
my @sources;
my $base = object('commit', commit(tree({ Makefile => "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 0\n" }), [], "Linux 6.1\n"));
sub source {
    my ($series) = @_;
    return $sources[$series] if $sources[$series];
    my %files = (Makefile => "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = $series\n");
    my $pre = tree(\%files);
    my $tip = object('commit', commit($pre, [$base], "Linux 6.1.$series\n"));
    my %source = (base => $tip, fixes => []);
    for my $number (1 .. $each + $spares + 25) {
        my $name = "kernel/fix-$series-$number.c";
        my @lines = map { "int f${_}_$number;\n" } 1 .. 20;
        $files{$name} = join '', @lines;
        my $post = tree(\%files);
        $tip = object('commit', commit($post, [$tip], "fix number $number\n"));
        my $patch = join '', "diff --git a/$name b/$name\nnew file mode 100644\n--- /dev/null\n+++ b/$name\n",
            "\@\@ -0,0 +1,20 \@\@\n", map { "+$_" } @lines;
        push @{ $source{fixes} }, { commit => $tip, pre => $pre, post => $post, patch => $patch, map { ($_ => '') } qw(people programs) };
        $pre = $post;
    }
    push @refs, ["refs/heads/linux-6.1.$series", $tip];
    push @refs, ["refs/tags/fixed-$series", $source{fixes}[$each + $spares - 1]{commit}];
    return $sources[$series] = \%source;
}

sub update {
    my ($kernel, $number) = @_;
    my $fix = $kernel->{source}{fixes}[$number];
    my $alphabet = alphabet();
    my %files = map { ($_ => m{^(pre/|update\.)} ? $alphabet->($original{$_}) : $original{$_}) } keys %original;
    $files{'ksplice.ko'} = $kernel->{module};
    $files{patch} = $fix->{patch};
    my %fields = (
        'build-id' => $kernel->{id}, release => $kernel->{release}, config => $kernel->{config},
        source => $kernel->{source}{base}, trees => "$fix->{pre} $fix->{post}", commit => $fix->{commit},
        description => 'fix%20number%20' . ($number + 1));
    my $manifest = join '', map { /^(\S+) / && $fields{$1} ? "$1 $fields{$1}\n" : $_ } grep { !/^file / } @template;
    $manifest .= join '', map { 'file ' . sha256_hex($files{$_}) . ' ' . length($files{$_}) . " $_\n" } sort keys %files;
    my $id = sha256_hex($manifest);
    my $ref = "refs/ksplice/updates/x86_64/$kernel->{id}/$id";
    my $size = length $manifest;
    $size += length for values %files;
    $fix->{people} .= "$kernel->{release} (x86_64): update " . substr($id, 0, 12) . ", 1 function: $function\n";
    $fix->{programs} .= qq({"v":1,"event":"created","update":"$id","arch":"x86_64","build_id":"$kernel->{id}",)
        . qq("release":"$kernel->{release}","ref":"$ref","pre_tree":"$fix->{pre}","post_tree":"$fix->{post}"}\n);
    my $text = "ksplice: x86_64 $kernel->{release}: fix number " . ($number + 1) . "\n\n" . trailers(
        Format => 1, Update => $id, Ref => $ref, Arch => 'x86_64', 'Build-Id' => $kernel->{id}, Release => $kernel->{release},
        Config => "sha256:$kernel->{config}", Toolchain => 'gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0', Commits => $fix->{commit},
        Trees => "$fix->{pre}..$fix->{post}", Manifest => "sha256:$id");
    my $tree = tree({ %files, manifest => $manifest });
    return { id => $id, ref => $ref, size => $size, number => $number, text => commit($tree, [], $text) };
}

# The running kernel is the first.
mkdir "$folder/state";
my $running = decode_json(`cd / && GIT_KSPLICE_STATE_DIR='$folder/state' git-ksplice status --json`);
$running->{build_id} or die "the running kernel has no build-id\n";
my @kernels;
for my $number (0 .. $kernels - 1) {
    my %kernel = (
        name => "k$number", id => $number ? sha1_hex("kernel $number") : $running->{build_id},
        release => "6.1.0-$number-amd64", source => source(int($number / $builds)));
    my $config = "CONFIG_LOCALVERSION=\"-$number-amd64\"\n";
    $kernel{config} = sha256_hex($config);
    $kernel{module} = alphabet()->($original{'ksplice.ko'});
    my $descriptor = join '', map { "$_\n" } 'ksplice-kernel 1', "name $kernel{name}", 'arch x86_64', "build-id $kernel{id}",
        "release $kernel{release}", 'version #1', 'compiler gcc-12', "config $kernel{config}", "source $kernel{source}{base}";
    push @refs, ["refs/ksplice/kernels/x86_64/$kernel{id}", object('commit', commit(
        tree({ descriptor => $descriptor, config => $config, symbols => '', exports => '' }), [],
        "ksplice: kernel $kernel{name}: x86_64 $kernel{release}\n"))];
    my @updates = map { update(\%kernel, $_) } 0 .. $each - 1 + ($number ? 0 : $spares);
    my @commits = signed(map { $_->{text} } @updates);
    for (0 .. $#updates) {
        delete $updates[$_]{text};
        push @refs, [$updates[$_]{ref}, $updates[$_]{commit} = $commits[$_]];
    }
    push @kernels, { %kernel{qw(id)}, updates => \@updates, index => "ksplice-channel 1\n", source => $kernel{source} };
}
my @spare = splice @{ $kernels[0]{updates} }, $each;

# Channels: a state for each update.
my $until = strftime '%Y-%m-%dT%H:%M:%SZ', gmtime $now + 30 * 86400;
for my $number (0 .. $each - 1) {
    my @states = map {
        my $update = $_->{updates}[$number];
        $_->{index} .= "update $update->{id} $update->{commit} $update->{size}\n";
        my $text = 'ksplice: stable: add ' . substr($update->{id}, 0, 12) . "\n\n" . trailers(
            Format => 1, Channel => "refs/ksplice/channels/x86_64/$_->{id}/stable", Serial => $number + 1,
            'Valid-Until' => $until, Index => 'sha256:' . sha256_hex($_->{index}));
        commit(tree({ channel => $_->{index} }), $_->{tip} ? [$_->{tip}] : [], $text);
    } @kernels;
    my @tips = signed(@states);
    $kernels[$_]{tip} = $tips[$_] for 0 .. $#kernels;
}
push @refs, map { ["refs/ksplice/channels/x86_64/$_->{id}/stable", $_->{tip}] } @kernels;
for (['updates', 'people'], ['builds', 'programs']) {
    my ($name, $kind) = @$_;
    my %lines = map { ($_->{commit} => $_->{$kind}) } grep { $_->{$kind} } map { @{ $_->{fixes} } } @sources;
    push @refs, ["refs/notes/ksplice/$name", object('commit', commit(tree(\%lines), [], "ksplice: create\n"))];
}

seek $pack, 8, 0;
print $pack pack 'N', scalar keys %written;
seek $pack, 0, 0;
my $digest = Digest::SHA->new(1)->addfile($pack)->digest;
seek $pack, 0, 2;
print $pack $digest;
close $pack;
run("git -C '$repository' index-pack --stdin < '$folder/pack' > /dev/null");
unlink "$folder/pack";
feed(join("", map { "create $_->[0] $_->[1]\n" } @refs), qw(update-ref --stdin));
run('git', '-C', $repository, 'pack-refs', '--all');
# The server has what was published: everything but the spare ones, and no source.
my %isSpare = map { ($_->{ref} => 1) } @spare;
my @places = (map({ "refs/ksplice/$_" } qw(updates channels trust)), 'refs/notes/ksplice');
my @published = grep { !$isSpare{$_} } split /\n/, `git -C '$repository' for-each-ref --format='%(refname)' @places`;
open my $fetch, '|-', 'git', '-C', $server, qw(fetch -q --no-tags --no-write-fetch-head --stdin), $repository or die "git: $!\n";
print $fetch "$_:$_\n" for @published;
close $fetch or die "cannot fill the server\n";
run('git', '-C', $server, 'pack-refs', '--all');
open my $list, '>', "$folder/spare" or die "cannot write: $!\n";
print $list "$_->{id} $kernels[0]{source}{fixes}[$_->{number}]{commit}\n" for @spare;
