<?php

// The same requests in a worker: a script that serves them one after the other.

declare(strict_types=1);

while (frankenphp_handle_request(static fn () => require __DIR__ . '/threads.php')) {
}
