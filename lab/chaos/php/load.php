<?php

declare(strict_types=1);

require __DIR__ . '/History.php';
require __DIR__ . '/Hold.php';
require __DIR__ . '/Actor.php';

// Waits and losses are told to the history; what is left over is told to the log.
ini_set('display_errors', '0');
ini_set('log_errors', '1');
