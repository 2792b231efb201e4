"""What runs that start real servers share, in bench, lab and docs/tests: those servers, and a client for php-fpm."""
