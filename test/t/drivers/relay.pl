#!/usr/bin/perl
# Stands in for the relay: takes frames from descriptor 3, answers PING and each event, and
# tells in the server's log as what it was born.  A file MODE beside it changes how it
# behaves: "malformed" answers the greeting with nonsense, "exit" ends at once, "refuse"
# answers events with a failure.

use strict;
use warnings;

my $directory = $0 =~ s{/[^/]*\z}{}r;
my $mode = '';
if (open my $file, '<', "$directory/MODE")
{
	chomp($mode = <$file> // '');
	close $file;
}
$SIG{TERM} = sub { exit 0 };
exit 3 if $mode eq 'exit';

open my $socket, '+<&=', 3 or die "no socket: $!";
binmode $socket;

sub send_frame
{
	my ($type, @fields) = @_;
	my $body = $type;

	while (my ($tag, $value) = splice @fields, 0, 2)
	{
		$body .= pack('C N/a*', $tag, $value);
	}
	syswrite $socket, pack('N/a*', $body);
	return;
}

sub number { return pack 'q>', shift }

sub slurp
{
	my ($name) = @_;

	open my $file, '<', $name or return '';
	local $/;
	return scalar <$file>;
}

# Descriptors beside the script's own, session, directory, and what it inherited of signals.
sub birth
{
	my $status = slurp('/proc/self/status');
	my @descriptors;

	for my $link (glob '/proc/self/fd/*')
	{
		my $to = readlink $link // next;
		push @descriptors, $link =~ s{.*/}{}r unless $to =~ /\Q$0\E\z/ || $to =~ m{\A/proc};
	}
	my ($session) = slurp('/proc/self/stat') =~ /\) \S \d+ \d+ (\d+)/;
	return sprintf 'born: descriptors %s, %s, directory %s, oom %d, blocked %d, ignored %d',
	  join(' ', sort { $a <=> $b } @descriptors), $session == $$ ? 'own session' : 'session of another',
	  readlink '/proc/self/cwd', slurp('/proc/self/oom_score_adj'),
	  hex(($status =~ /^SigBlk:\s*(\w+)/m)[0]), hex(($status =~ /^SigIgn:\s*(\w+)/m)[0]) & ~0x80;    # Perl itself ignores SIGFPE
}

my $buffer = '';
while (sysread $socket, $buffer, 65536, length $buffer)
{
	while (length $buffer >= 4 && length $buffer >= 4 + unpack 'N', $buffer)
	{
		my ($type, %field) = unpack 'a1 (C N/a*)*', substr $buffer, 4, unpack 'N', $buffer;

		substr $buffer, 0, 4 + unpack('N', $buffer), '';
		if ($type eq 'H' && $mode eq 'malformed')
		{
			syswrite $socket, "\xff\xff\xff\xff" x 4;
		}
		elsif ($type eq 'H')
		{
			print STDERR "stderr reaches the log\n";
			send_frame('l', 31, 'log', 27, birth());
		}
		elsif ($type eq 'P')
		{
			send_frame('p', 8, $field{8});
		}
		elsif ($type eq 'D')
		{
			send_frame('d', 3, $field{3}, 4, $field{4}, 24, number(1));
		}
		elsif ($type eq 'E')
		{
			my @outcome = $mode eq 'refuse'
			  ? (24, number(0), 25, number(422), 26, 'status', 27, 'no ' x 150, 30, 'why ' x 200)
			  : (24, number(1), 25, number(200), 26, '');

			send_frame('r', 8, $field{8}, @outcome, 29, number(1000));
		}
	}
}
exit 0;
