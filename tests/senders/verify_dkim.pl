# What Mail::DKIM says of each signature of the mail on standard input, a line each. The argument is JSON: the DNS, as an object with
# the strings of the TXT record of each name. No other DNS is asked.
use strict;
use warnings;
use JSON::PP;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;
use Net::DNS;

my $records = decode_json($ARGV[0]);

package Zone {
    sub new { return bless {}, shift }
    sub errorstring { return 'NOERROR' }

    sub send {
        my ($self, $name, $type) = @_;
        my $packet = Net::DNS::Packet->new($name, $type);
        if (my $strings = $records->{$name}) {
            $packet->push(answer => Net::DNS::RR->new(name => $name, type => 'TXT', txtdata => $strings));
        }
        else {
            $packet->header->rcode('NXDOMAIN');
        }
        # As it comes off the wire.
        return scalar Net::DNS::Packet->decode(\$packet->encode);
    }
}

Mail::DKIM::DNS::resolver(Zone->new);
binmode STDIN;
my $mail = do { local $/; <STDIN> };
my $verifier = Mail::DKIM::Verifier->new;
$verifier->PRINT($mail);
$verifier->CLOSE;
print $_->domain, ' ', $_->selector, ' ', $_->algorithm, ' ', $_->result_detail, "\n" for $verifier->signatures;
