#!/usr/bin/perl
# How large updates are beside the code that they replace, as rows of a table: medians of archives.
#
#     sizes.pl ARCHIVE...
use strict;
use warnings;
use Archive::Tar;
use Compress::Zlib qw(compress);

my %all;
for my $archive (@ARGV) {
    my %files;
    for (Archive::Tar->new($archive)->get_files) { $files{$1} = $_->get_content if $_->full_path =~ m{/(.*)} }
    my ($functions, $code) = (0, 0);
    for (split /\n/, $files{manifest} // '') {
        my ($kind, undef, undef, undef, $size, $whole) = split;
        next unless $kind eq 'replace' && ($whole // '-') eq '-';
        $functions++;
        $code += $size;
    }
    # Some hold other things: data, hooks, or nothing that is an update.
    next unless $code;
    my %sizes = (module => 0, objects => 0);
    for (keys %files) {
        $sizes{module} += length $files{$_} if /^update\./;
        $sizes{objects} += length compress($files{$_}) if m{^pre/};
    }
    push @{ $all{functions} }, $functions;
    push @{ $all{code} }, $code;
    push @{ $all{module} }, $sizes{module};
    push @{ $all{objects} }, $sizes{objects};
    push @{ $all{kernel} }, length compress($files{'ksplice.ko'});
    push @{ $all{archive} }, -s $archive;
    push @{ $all{ratio} }, (-s $archive) / $code;
}
sub median { my @sorted = sort { $a <=> $b } @{ $all{ $_[0] } }; return $sorted[$#sorted / 2] }
my $count = @{ $all{code} // die "no archive holds an update\n" };
printf "| code of the functions that it replaces (all: medians of %d updates) | %d bytes in %d function(s) |\n",
    $count, median('code'), median('functions');
printf "| the update module | %d bytes |\n", median('module');
printf "| the archive | %d bytes, %.0f times the code |\n", median('archive'), median('ratio');
printf "| in it, ksplice.ko, the same for all updates of a kernel | %d bytes |\n", median('kernel');
printf "| in it, the pre objects, which the code is matched with | %d bytes |\n", median('objects');
