<?php
/**
 * Holds locks until its standard input ends: php hold.php, with a first line of JSON: {"names": [base64, ...],
 * "mode": 2}. Prints a line when it has them all.
 */

declare( strict_types=1 );

$request = json_decode( fgets( STDIN ), true, 4, JSON_THROW_ON_ERROR );
foreach ( $request['names'] as $name ) {
	if ( ! cluster_lock( base64_decode( $name, true ), 30, $request['mode'], $request['ttl'] ) ) {
		fwrite( STDERR, "not held: $name\n" );
		exit( 1 );
	}
}
echo "held\n";
stream_get_contents( STDIN );
