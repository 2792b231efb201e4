<?php

declare(strict_types=1);

require __DIR__ . '/History.php';
require __DIR__ . '/Hold.php';
require __DIR__ . '/Actor.php';
require __DIR__ . '/interrupts.php';

// Waits and losses are told to the history; what is left over is told to the log.
ini_set('display_errors', '0');
ini_set('log_errors', '1');

// Where PHP code stands in the extension's place, its settings are no ini entries: packages/polyfill/tests/prepend.php.
if (function_exists('polyfill_ini_set')) {
    require __DIR__ . '/settings.php';
}
