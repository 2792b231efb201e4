<?php

declare(strict_types=1);

// Servers and processes are those of the extension's suite.
require dirname(__DIR__, 3) . '/php-tests/bootstrap.php';
require __DIR__ . '/Sides.php';
