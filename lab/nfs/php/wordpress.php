<?php

// WordPress' own insert_with_markers(), as it is: many markers into one .htaccess. Only what that function calls of
// the rest of WordPress is replaced, by the least that does.

declare(strict_types=1);

require __DIR__ . '/lab.php';

function apply_filters(string $hook, mixed $value): mixed
{
    return $value;
}

function __(string $text): string
{
    return $text;
}

function get_locale(): string
{
    return 'en_US';
}

function switch_to_locale(string $locale): bool
{
    return false;
}

['variant' => $variant, 'node' => $node, 'path' => $path, 'number' => $number, 'markers' => $markers] = parameters();
if ($variant === 'none') {
    // The job disabled PHP's own for this run: what is left of WordPress' function without its lock.
    eval('function flock($stream, int $operation): bool { return true; }');
}
// WordPress' files are not written for strict types; this declaration holds for this file alone.
require '/usr/share/wordpress/wp-admin/includes/misc.php';

say(['ready' => true]);
await();
for ($i = 0; $i < $markers; $i++) {
    if (!insert_with_markers($path, "$node-$number-$i", ["Redirect /$node-$number-$i /"])) {
        throw new RuntimeException("insert_with_markers() failed at marker $i");
    }
}
say(['not_ours' => not_ours($variant, $markers)]);
