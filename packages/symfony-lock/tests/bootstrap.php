<?php

declare(strict_types=1);

// The helpers of the extension's own tests: real processes, a real Redis.
require dirname(__DIR__, 3) . '/php-tests/bootstrap.php';
require __DIR__ . '/autoload.php';
